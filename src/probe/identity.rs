//! Identity of the listening socket at an address of this host: a new socket means a new process, however fast the
//! restart was.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::net::TcpStream;

use crate::net::listening::{self, Listening};

/// Inode of the listening socket that accepted this connection; `None` if it is on another host or unknown.
pub(super) fn of_tcp(stream: &TcpStream) -> Option<u64> {
    let (local, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    // A connection to an own address of this host also comes from that address.
    if !peer.ip().is_loopback() && local.ip() != peer.ip() {
        return None;
    }
    find_listener(listening::on_port(peer.port()), peer)
}

/// Identity of the socket file at a path. Its inode number alone may be reused after a new bind, so its modification
/// time, which is that of the bind, counts, too.
pub(super) fn of_unix(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    let mut hasher = DefaultHasher::new();
    (metadata.dev(), metadata.ino()).hash(&mut hasher);
    (metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
    Some(hasher.finish())
}

/// The one listening socket that the kernel chooses for this address. Several sockets of the same rank (SO_REUSEPORT)
/// have no common identity.
fn find_listener(listening: impl IntoIterator<Item = Listening>, peer: SocketAddr) -> Option<u64> {
    match crate::net::serving::accepting(listening, peer).as_slice() {
        [one] => Some(*one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_listener_wins() {
        let table = [
            ("0.0.0.0:8080", 111),
            ("127.0.0.1:8080", 222),
            ("127.0.0.1:8081", 333),
            ("127.0.0.1:8081", 444),
            ("[::]:8083", 666),
            ("[::1]:8080", 777),
        ];
        let table = table.map(|(address, inode)| Listening {
            address: address.parse().unwrap(),
            inode,
        });
        let find = |address: &str| find_listener(table, address.parse().unwrap());
        assert_eq!(find("127.0.0.1:8080"), Some(222));
        assert_eq!(find("192.0.2.1:8080"), Some(111));
        assert_eq!(find("[::1]:8080"), Some(777));
        assert_eq!(find("127.0.0.1:8081"), None, "two share the port");
        assert_eq!(find("127.0.0.1:8083"), Some(666), "dual stack");
        assert_eq!(find("127.0.0.1:9"), None);
    }

    #[tokio::test]
    async fn a_new_listener_on_the_same_port_is_another_one() {
        // Of its own, so that no other test gets the port in between.
        let listener = tokio::net::TcpListener::bind("127.78.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let look = async || of_tcp(&TcpStream::connect(address).await.unwrap());
        let first = look().await;
        assert!(first.is_some());
        assert_eq!(look().await, first);
        drop(listener);
        let _again = tokio::net::TcpListener::bind(address).await.unwrap();
        let second = look().await;
        assert!(second.is_some());
        assert_ne!(second, first);
    }

    #[test]
    fn a_unix_socket_bound_again_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        assert_eq!(of_unix(&path), None);
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let first = of_unix(&path);
        assert!(first.is_some());
        assert_eq!(of_unix(&path), first);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        // File times are only as precise as the kernel's tick (up to 10 ms).
        std::thread::sleep(std::time::Duration::from_millis(20));
        let _again = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_ne!(of_unix(&path), first);
    }
}
