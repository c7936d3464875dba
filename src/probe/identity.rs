//! Which listening socket is behind an address on this host: another one means another process, however fast
//! the restart was.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::net::TcpStream;

/// Bounds the reading on a host with more than a thousand listening sockets.
const MAX_READ: u64 = 256 << 10;
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// The inode of the socket that accepted this connection; `None` if it is another host's or can't be told.
pub(super) fn of_tcp(stream: &TcpStream) -> Option<u64> {
    let (local, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    // A host that talks to an address of its own does so from that address.
    if !peer.ip().is_loopback() && local.ip() != peer.ip() {
        return None;
    }
    let (four, six) = (
        listening("/proc/self/net/tcp"),
        listening("/proc/self/net/tcp6"),
    );
    listener(four.chain(six), peer)
}

/// The lines of the listening sockets, which come first: on a busy host the rest is long.
fn listening(path: &str) -> impl Iterator<Item = String> {
    let file = File::open(path).ok();
    let lines = file.map(|file| BufReader::new(file.take(MAX_READ)).lines());
    lines
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .skip(1)
        .take_while(|line| line.split_ascii_whitespace().nth(3) == Some(LISTEN))
}

/// What the path leads to. Its inode number alone may come back after a re-bind, so its birth counts too.
pub(super) fn of_unix(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    let mut hasher = DefaultHasher::new();
    (metadata.dev(), metadata.ino()).hash(&mut hasher);
    (metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
    Some(hasher.finish())
}

/// The most specific listener for this address, as the kernel chooses it. Several of the same rank
/// (SO_REUSEPORT) have no one identity.
fn listener(lines: impl Iterator<Item = impl AsRef<str>>, peer: SocketAddr) -> Option<u64> {
    let mut best: Option<(u8, u64)> = None;
    let mut tied = false;
    for line in lines {
        let mut columns = line.as_ref().split_ascii_whitespace().skip(1);
        let Some(local) = columns.next().and_then(parse_address) else {
            continue;
        };
        if columns.nth(1) != Some(LISTEN) || local.port() != peer.port() {
            continue;
        }
        let Some(rank) = rank(local.ip(), peer.ip()) else {
            continue;
        };
        let Some(inode) = columns.nth(5).and_then(|column| column.parse().ok()) else {
            continue;
        };
        match best {
            Some((known, _)) if known > rank => {}
            Some((known, _)) if known == rank => tied = true,
            _ => {
                best = Some((rank, inode));
                tied = false;
            }
        }
    }
    best.filter(|_| !tied).map(|(_, inode)| inode)
}

/// How well a listening address fits, if it does: its own, then any of its family, then any at all (`::`).
fn rank(listening: IpAddr, peer: IpAddr) -> Option<u8> {
    let (plain, wanted) = (listening.to_canonical(), peer.to_canonical());
    match listening {
        _ if plain == wanted => Some(3),
        IpAddr::V4(address) if address.is_unspecified() && wanted.is_ipv4() => Some(2),
        IpAddr::V6(address) if address.is_unspecified() => {
            Some(if wanted.is_ipv6() { 2 } else { 1 })
        }
        _ => None,
    }
}

/// `0100007F:1F90`: words of the address as the host's byte order shows them, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (at, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1 0 100 0 0 10 0
   4: 0100007F:1F92 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 555 1 0 100 0 0 10 0
   0: 00000000000000000000000000000000:1F93 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 666 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0
nonsense : here";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_most_specific_listener_wins() {
        let find = |address: &str| listener(TABLE.lines(), address.parse().unwrap());
        assert_eq!(find("127.0.0.1:8080"), Some(222));
        assert_eq!(find("192.0.2.1:8080"), Some(111));
        assert_eq!(find("[::1]:8080"), Some(777));
        assert_eq!(find("127.0.0.1:8081"), None, "two share the port");
        assert_eq!(find("127.0.0.1:8082"), None, "that one doesn't listen");
        assert_eq!(find("127.0.0.1:8083"), Some(666), "dual stack");
        assert_eq!(find("127.0.0.1:9"), None);
    }

    #[tokio::test]
    async fn a_new_listener_on_the_same_port_is_another_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
        // File times are as coarse as the kernel's tick (up to 10 ms).
        std::thread::sleep(std::time::Duration::from_millis(20));
        let _again = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_ne!(of_unix(&path), first);
    }
}
