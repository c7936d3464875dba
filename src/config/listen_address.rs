//! Address of a listener: an IP address and a port, or a unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Config;
use super::address::{AddressError, listen, unix_path};

/// Address to which clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An IP address and a port; 0: any free port.
    Tcp(SocketAddr),
    /// The absolute path of a unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns the IP address and port, if it has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// Returns the path of the socket, if it is one.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            ListenAddress::Tcp(_) => None,
            ListenAddress::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        ListenAddress::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path, "unix:/run/lameduck/http.sock").map(ListenAddress::Unix);
        }
        if text.starts_with('/') {
            return Err(AddressError {
                message: "a unix socket needs its prefix".into(),
                remedy: format!("write `unix:{text}`"),
            });
        }
        listen(text).map(ListenAddress::Tcp)
    }
}

impl Config {
    /// Returns the listeners that have an IP address.
    pub fn tcp_listeners(&self) -> impl Iterator<Item = SocketAddr> + Clone {
        let listeners = self.listeners.iter();
        listeners.filter_map(|listener| listener.address.tcp())
    }

    /// Returns the listeners that are unix sockets.
    pub fn unix_listeners(&self) -> impl Iterator<Item = &Path> + Clone {
        let listeners = self.listeners.iter();
        listeners.filter_map(|listener| listener.address.unix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows_both_kinds() {
        for text in ["127.0.0.1:80", "[::]:0", "unix:/run/lameduck/http.sock"] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let long = format!("unix:/{}", "a".repeat(107));
        for text in [
            "unix:",
            "unix:http.sock",
            "/run/http.sock",
            "unix:/a/",
            "localhost:80",
            &long,
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(!error.remedy.is_empty(), "{text}");
        }
    }
}
