//! Checks whether an address leads back to this very process: a backend there would receive each request again and
//! again.
//!
//! The same check is used wherever addresses come in: in the check of a configuration, at registrations and leases,
//! when a host name is resolved, and at each connection ([`crate::registry::own_listeners`]), since a name may
//! resolve to this process later and a reload may listen where a backend was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::ports::{takes_all, takes_ipv4_of};
use super::{Address, Config, ListenAddress};

/// Error: an address leads to this process.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OwnAddressError {
    /// To a listener: requests would loop.
    #[error("it leads to lameduck's own listener {0}: each request would go round and round")]
    Listener(ListenAddress),
    /// To the admin socket: every client could do what only its owner may.
    #[error("it is lameduck's own admin socket {}: every client could drain and register backends", .0.display())]
    Admin(PathBuf),
}

/// Checks that a backend of this configuration does not lead to one of its own listeners, as far as possible without
/// resolving host names.
///
/// # Errors
/// The address leads to a listener or the admin socket; the error names it.
pub fn check_in(config: &Config, address: &Address) -> Result<(), OwnAddressError> {
    if let (Address::Unix(path), Some(own)) = (address, &config.admin.socket)
        && is_same(own, path)
    {
        return Err(OwnAddressError::Admin(path.clone()));
    }
    if let Address::Unix(path) = address {
        check_listener_path(path, config.unix_listeners())?;
    }
    candidates(address).try_for_each(|to| check_socket(to, config.tcp_listeners()))
}

/// Checks that a connection to a unix socket does not reach one of these listeners.
///
/// # Errors
/// The connection reaches a listener; the error names it.
pub fn check_listener_path<'l>(
    path: &Path,
    listeners: impl IntoIterator<Item = &'l Path>,
) -> Result<(), OwnAddressError> {
    match listeners.into_iter().find(|own| is_same(own, path)) {
        Some(own) => Err(OwnAddressError::Listener(ListenAddress::Unix(own.into()))),
        None => Ok(()),
    }
}

/// Checks that a connection to `to` does not reach one of these listeners.
///
/// # Errors
/// The connection reaches a listener; the error names it.
pub fn check_socket(
    to: SocketAddr,
    listeners: impl IntoIterator<Item = SocketAddr, IntoIter: Clone>,
) -> Result<(), OwnAddressError> {
    let all = listeners.into_iter();
    // Beside a listener on IPv4, `[::]` accepts IPv6 only ([`Config::takes_ipv6_alone`]).
    let is_taken = |on: SocketAddr| {
        let is_other_family = to.ip().to_canonical().is_ipv4() && takes_all(on);
        is_other_family && all.clone().any(|other| takes_ipv4_of(on.port(), other))
    };
    let leads_here = |on: &SocketAddr| reaches(to, *on, is_of_this_host) && !is_taken(*on);
    match all.clone().find(leads_here) {
        Some(listener) => Err(OwnAddressError::Listener(listener.into())),
        None => Ok(()),
    }
}

/// Returns the socket addresses to which an address certainly leads.
pub fn candidates(address: &Address) -> impl Iterator<Item = SocketAddr> {
    let (first, second) = match address {
        Address::Socket(address) => (Some(*address), None),
        // RFC 6761, section 6.3: names below `localhost` lead to this host, too.
        Address::Name(host, port) => {
            let host = host.strip_suffix('.').unwrap_or(host);
            let is_local = host == "localhost" || host.ends_with(".localhost");
            let to = |ip: IpAddr| is_local.then(|| SocketAddr::new(ip, *port));
            (
                to(Ipv4Addr::LOCALHOST.into()),
                to(Ipv6Addr::LOCALHOST.into()),
            )
        }
        Address::Unix(_) => (None, None),
    };
    first.into_iter().chain(second)
}

/// Whether a connection to `to` arrives at a listener on `on`. `is_of_this_host` is called only if the result depends
/// on it.
pub fn reaches(
    to: SocketAddr,
    on: SocketAddr,
    is_of_this_host: impl FnOnce(IpAddr) -> bool,
) -> bool {
    if to.port() != on.port() || on.port() == 0 {
        return false;
    }
    let takes_both = on.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let (to, on) = (to.ip().to_canonical(), on.ip().to_canonical());
    // Linux treats a connection to the unspecified address as one to this host.
    let to = match to {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        to => to,
    };
    if !on.is_unspecified() {
        return to == on;
    }
    (takes_both || to.is_ipv4() == on.is_ipv4()) && (to.is_loopback() || is_of_this_host(to))
}

/// Whether one of this host's interfaces has the address: only then can a socket be bound to it.
fn is_of_this_host(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether two paths lead to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let file = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    one == other || file(one).is_some_and(|one| file(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_all_addresses_leaves_ipv4_to_the_one_beside_it() {
        let check = |to: &str, on: &[&str]| {
            let on = on.iter().map(|on| on.parse().unwrap());
            check_socket(to.parse().unwrap(), on.collect::<Vec<_>>()).is_err()
        };
        assert!(check("127.0.0.1:80", &["[::]:80"]));
        assert!(check("127.0.0.1:80", &["[::]:80", "192.0.2.7:81"]));
        assert!(!check("127.0.0.1:80", &["[::]:80", "192.0.2.7:80"]));
        assert!(check("[::1]:80", &["[::]:80", "192.0.2.7:80"]));
        assert!(check("127.0.0.1:80", &["[::]:80", "0.0.0.0:80"]));
    }

    #[test]
    fn an_address_reaches_a_listener_whatever_it_is_called() {
        let here = |ip: IpAddr| ip.to_string() == "192.0.2.7" || ip.to_string() == "2001:db8::7";
        let ask = |to: &str, on: &str| reaches(to.parse().unwrap(), on.parse().unwrap(), here);
        for (to, on) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "0.0.0.0:80"),
            ("127.9.9.9:80", "0.0.0.0:80"),
            ("127.0.0.1:80", "[::]:80"),
            ("[::1]:80", "[::]:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::ffff:127.0.0.1]:80", "0.0.0.0:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.7:80", "0.0.0.0:80"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("[2001:db8::7]:80", "[::]:80"),
        ] {
            assert!(ask(to, on), "{to} on {on}");
        }
        for (to, on) in [
            ("127.0.0.1:81", "127.0.0.1:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.2:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "192.0.2.7:80"),
            ("192.0.2.8:80", "0.0.0.0:80"),
            ("[::1]:80", "0.0.0.0:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("192.0.2.7:80", "127.0.0.1:80"),
        ] {
            assert!(!ask(to, on), "{to} on {on}");
        }
    }
}
