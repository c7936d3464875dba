//! A new listener that replaces one on an overlapping address: `0.0.0.0:80` after `127.0.0.1:80`, or the other way
//! round.
//!
//! The kernel lets two sockets listen on overlapping addresses if both have `SO_REUSEPORT` while the second one binds
//! and starts to listen. The old socket gets that option for this time. It accepts until the new one does, and is then
//! closed in order.
//!
//! Linux remembers that a port was shared: until nobody listens on it any more, another process of the same user that
//! sets `SO_REUSEPORT` can listen on it, too. But that user could also stop this process.

use std::net::{SocketAddr, TcpListener};

use socket2::SockRef;
use tracing::debug;

/// Whether sockets on these two addresses would overlap.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let for_all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (for_all || a.ip() == b.ip())
}

/// Our sockets that share their port until this is dropped.
#[derive(Debug, Default)]
pub(super) struct SharedPort(Vec<TcpListener>);

impl SharedPort {
    /// Lets a socket share its port.
    ///
    /// # Errors
    /// The system does not support it.
    pub(super) fn add(&mut self, socket: &TcpListener) -> std::io::Result<()> {
        let socket = socket.try_clone()?;
        if !SockRef::from(&socket).reuse_port()? {
            SockRef::from(&socket).set_reuse_port(true)?;
            self.0.push(socket);
        }
        Ok(())
    }

    /// Ends the sharing of a socket that shares its port already, together with the others.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn adopt(&mut self, socket: &TcpListener) -> std::io::Result<()> {
        self.0.push(socket.try_clone()?);
        Ok(())
    }
}

impl Drop for SharedPort {
    fn drop(&mut self) {
        for socket in &self.0 {
            // Other processes could not bind this port before, and must not be able to afterwards.
            if let Err(error) = SockRef::from(socket).set_reuse_port(false) {
                debug!(%error, "a listener goes on sharing its port");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_one_takes_all_of_the_same_port() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        assert!(overlaps("127.0.0.1:80", "0.0.0.0:80"));
        assert!(overlaps("[::]:80", "127.0.0.1:80"));
        assert!(overlaps("127.0.0.1:80", "127.0.0.1:80"));
        assert!(!overlaps("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlaps("127.0.0.1:80", "0.0.0.0:81"));
        assert!(!overlaps("127.0.0.1:0", "0.0.0.0:0"));
    }

    #[test]
    fn port_is_shared_until_the_guard_is_dropped() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut shared = SharedPort::default();
        shared.add(&socket).unwrap();
        assert!(SockRef::from(&socket).reuse_port().unwrap());
        drop(shared);
        assert!(!SockRef::from(&socket).reuse_port().unwrap());
    }
}
