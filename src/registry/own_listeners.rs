//! The addresses at which this process listens, so that backend addresses that lead back to it are recognised.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::own_address::{self, OwnAddressError};
use crate::config::{Address, Config, ListenAddress};

/// The addresses at which this process listens.
#[derive(Debug, Clone, Default)]
pub struct OwnListeners(Arc<OwnAddresses>);

#[derive(Debug, Default)]
struct OwnAddresses {
    /// Addresses in the present configuration: some may not be bound yet, and some have port 0.
    configured: ArcSwap<Vec<ListenAddress>>,
    /// Addresses as bound.
    bound: ArcSwap<Vec<ListenAddress>>,
    admin: ArcSwap<Vec<PathBuf>>,
}

impl OwnListeners {
    /// Sets the addresses of a new configuration.
    pub fn configure(&self, config: &Config) {
        let listeners = config.listeners.iter();
        let listeners = listeners.map(|listener| listener.address.clone());
        self.0.configured.store(Arc::new(listeners.collect()));
    }

    /// Sets the addresses that are bound.
    pub fn bound(&self, listeners: Vec<ListenAddress>) {
        self.0.bound.store(Arc::new(listeners));
    }

    /// Sets the path of the admin API's unix socket.
    pub fn admin(&self, socket: Option<PathBuf>) {
        self.0.admin.store(Arc::new(socket.into_iter().collect()));
    }

    /// Checks that a connection to `to` would not reach this process.
    ///
    /// # Errors
    /// The connection would reach this process; the error names the listener.
    pub fn check(&self, to: SocketAddr) -> Result<(), OwnAddressError> {
        for listeners in [&self.0.bound, &self.0.configured] {
            let listeners = listeners.load();
            own_address::check_socket(to, listeners.iter().filter_map(ListenAddress::tcp))?;
        }
        Ok(())
    }

    /// Checks that a backend's address does not lead to this process, as far as possible without resolving host
    /// names.
    ///
    /// # Errors
    /// The address leads to this process; the error names the listener.
    pub fn check_address(&self, address: &Address) -> Result<(), OwnAddressError> {
        match address {
            Address::Unix(path) => self.check_path(path),
            address => own_address::candidates(address).try_for_each(|to| self.check(to)),
        }
    }

    /// Checks that a unix socket is neither a listener's nor the admin API's.
    ///
    /// # Errors
    /// The socket is this process's own; the error names it.
    pub fn check_path(&self, path: &Path) -> Result<(), OwnAddressError> {
        for listeners in [&self.0.bound, &self.0.configured] {
            let listeners = listeners.load();
            own_address::check_listener_path(
                path,
                listeners.iter().filter_map(ListenAddress::unix),
            )?;
        }
        let admin = self.0.admin.load();
        match admin.iter().any(|own| own_address::is_same(own, path)) {
            true => Err(OwnAddressError::Admin(path.to_owned())),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_host_and_its_own_sockets_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("s"), dir.path().join("link"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let own = OwnListeners::default();
        let check = |address: &str| own.check_address(&address.parse().unwrap());
        assert_eq!(check("localhost:8080"), Ok(()));
        let public = dir.path().join("http");
        std::fs::write(&public, "").unwrap();
        let unix = ListenAddress::Unix(public.clone());
        own.bound(vec!["127.0.0.1:8080".parse().unwrap(), unix]);
        let error = check(&format!("unix:{}", public.display())).unwrap_err();
        assert!(error.to_string().contains("round and round"), "{error}");
        own.admin(Some(socket));
        for name in ["localhost:8080", "a.localhost:8080", "localhost.:8080"] {
            let error = check(name).unwrap_err();
            assert!(error.to_string().contains("127.0.0.1:8080"), "{error}");
        }
        assert_eq!(check("localhost:8081"), Ok(()));
        assert_eq!(check("notlocalhost:8080"), Ok(()));
        let error = check(&format!("unix:{}", link.display())).unwrap_err();
        assert!(matches!(error, OwnAddressError::Admin(_)));
        assert_eq!(check("unix:/run/other.sock"), Ok(()));
    }
}
