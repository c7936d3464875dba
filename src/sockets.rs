//! The listening TCP sockets of this host, as the kernel's tables show them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bounds the reading on a host with more than a thousand listening sockets.
const MAX_READ: u64 = 256 << 10;
/// `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// One listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// Its inode: `/proc/PID/fd/*` of its owners lead to `socket:[INODE]`.
    pub inode: u64,
}

/// All listening sockets of this network namespace; none where there is no `/proc`.
pub fn listening() -> impl Iterator<Item = Listening> {
    table("/proc/self/net/tcp").chain(table("/proc/self/net/tcp6"))
}

/// The lines of the listening sockets come first: on a busy host the rest is long.
fn table(path: &str) -> impl Iterator<Item = Listening> {
    let file = File::open(path).ok();
    let lines = file.map(|file| BufReader::new(file.take(MAX_READ)).lines());
    lines
        .into_iter()
        .flatten()
        .map_while(Result::ok)
        .skip(1)
        .map_while(|line| parse(&line))
}

/// One line of such a table; `None`: that one does not listen.
pub fn parse(line: &str) -> Option<Listening> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let address = parse_address(columns.next()?)?;
    (columns.nth(1)? == LISTEN).then_some(())?;
    let inode = columns.nth(5)?.parse().ok()?;
    Some(Listening { address, inode })
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
