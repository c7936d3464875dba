//! Finds the listening TCP sockets of this host, with their inodes.
//!
//! The kernel is asked over netlink (`sock_diag(7)`), and then looks at listening sockets only. Where netlink is not
//! available, `/proc/net/tcp` is read instead. It is slower: the kernel walks through its whole table of connections,
//! which takes a millisecond of CPU time or more, and a thousand backends that start at once ask ten thousand times a
//! second.
//!
//! [`accept_queue`](super::accept_queue) uses the same query for one connection; [`serving`](super::serving) finds the
//! processes of a listening socket.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// One listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Address at which it listens.
    pub address: SocketAddr,
    /// Inode of the socket: `/proc/PID/fd/*` of the processes that have it link to `socket:[INODE]`.
    pub inode: u64,
}

/// All listening sockets of this network namespace, in no order; empty if neither netlink nor `/proc` is available.
pub fn all() -> Vec<Listening> {
    // Port 0 means any port.
    by_netlink(0).unwrap_or_else(|_| by_tables().collect())
}

/// Listening sockets on this port, in no order.
pub fn on_port(port: u16) -> Vec<Listening> {
    by_netlink(port).unwrap_or_else(|_| by_tables().filter(|s| s.address.port() == port).collect())
}

/// The `NETLINK_SOCK_DIAG` protocol: linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
pub(super) mod netlink {
    use std::io;

    use socket2::{Domain, Protocol, Socket, Type};

    const FAMILY: i32 = 16;
    const SOCK_DIAG: i32 = 4;
    pub(crate) const BY_FAMILY: u16 = 20;
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    /// `NLM_F_REQUEST`.
    pub(crate) const REQUEST_ONE: u16 = 1;
    /// `NLM_F_REQUEST | NLM_F_DUMP`.
    pub(crate) const DUMP: u16 = 0x301;
    const TCP: u8 = 6;
    pub(crate) const LISTEN: u32 = 1 << 10;
    /// Length of the header of any message, and of the description of a socket, in bytes.
    pub(crate) const HEADER: usize = 16;
    pub(crate) const DESCRIPTION: usize = 72;

    pub(crate) fn open() -> io::Result<Socket> {
        let protocol = Protocol::from(SOCK_DIAG);
        Socket::new(Domain::from(FAMILY), Type::DGRAM, Some(protocol))
    }

    /// A `struct nlmsghdr` and a `struct inet_diag_req_v2` that ask for TCP sockets of this family in these states.
    pub(crate) fn question(flags: u16, family: u8, states: u32) -> [u8; 72] {
        let mut bytes = [0; 72];
        bytes[..4].copy_from_slice(&72u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[16] = family;
        bytes[17] = TCP;
        bytes[20..24].copy_from_slice(&states.to_ne_bytes());
        bytes
    }

    /// Inode in a `struct inet_diag_msg`; 0: no process has the socket.
    pub(crate) fn inode(description: &[u8]) -> Option<u32> {
        Some(u32::from_ne_bytes(
            description.get(68..72)?.try_into().ok()?,
        ))
    }
}

/// Longest wait for the kernel's answer.
const LISTEN_TIMEOUT: Duration = Duration::from_millis(100);

fn by_netlink(port: u16) -> io::Result<Vec<Listening>> {
    if !cfg!(target_os = "linux") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let socket = netlink::open()?;
    socket.set_read_timeout(Some(LISTEN_TIMEOUT))?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        socket.send(&question(family as u8, port))?;
        // The kernel has answered by now, and no datagram is longer than this.
        let mut buffer = [0; 16 * 1024];
        let mut more = true;
        while more {
            let count = (&socket).read(&mut buffer)?;
            more = read_answers(&buffer[..count], &mut found)?;
        }
    }
    Ok(found)
}

/// A request for all listening TCP sockets of this family on this port.
fn question(family: u8, port: u16) -> [u8; 72] {
    let mut bytes = netlink::question(netlink::DUMP, family, netlink::LISTEN);
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Reads one datagram of answers; returns whether there are more.
fn read_answers(mut bytes: &[u8], found: &mut Vec<Listening>) -> io::Result<bool> {
    let number = |bytes: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    while let Some(length) = number(bytes, 0).map(|length| length as usize) {
        let Some(message) = bytes.get(..length).filter(|m| m.len() >= netlink::HEADER) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match u16::from_ne_bytes([message[4], message[5]]) {
            netlink::DONE => return Ok(false),
            netlink::ERROR => return Err(io::ErrorKind::Other.into()),
            netlink::BY_FAMILY => found.extend(parse_description(&message[netlink::HEADER..])),
            _ => {}
        }
        // Messages are aligned to four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(true)
}

/// Parses a `struct inet_diag_msg`.
fn parse_description(bytes: &[u8]) -> Option<Listening> {
    let bytes = bytes.get(..netlink::DESCRIPTION)?;
    let port = u16::from_be_bytes([bytes[4], bytes[5]]);
    let ip = match i32::from(bytes[0]) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(&bytes[8..12]).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?),
        _ => return None,
    };
    Some(Listening {
        address: SocketAddr::new(ip, port),
        inode: u64::from(netlink::inode(bytes)?),
    })
}

/// Most bytes that are read of a table, for hosts with more than a thousand listening sockets.
const MAX_READ: u64 = 256 << 10;
/// State `TCP_LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

fn by_tables() -> impl Iterator<Item = Listening> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    tables.into_iter().flat_map(by_table)
}

/// Only the start of the table is read: listening sockets come first.
fn by_table(path: &str) -> impl Iterator<Item = Listening> {
    let file = File::open(path).ok();
    let lines = file.map(|file| BufReader::new(file.take(MAX_READ)).lines());
    let lines = lines.into_iter().flatten().map_while(Result::ok).skip(1);
    lines.map_while(|line| parse_line(&line))
}

/// Parses a line of the table; `None` if it is not a listening socket's.
fn parse_line(line: &str) -> Option<Listening> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let address = parse_address(columns.next()?)?;
    (columns.nth(1)? == LISTEN).then_some(())?;
    let inode = columns.nth(5)?.parse().ok()?;
    Some(Listening { address, inode })
}

/// Parses an address such as `0100007F:1F90`: its words in the host's byte order, then the port.
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
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_is_read_as_the_kernel_writes_it() {
        let four = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0";
        let six = "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0 100 0 0 10 0";
        let open = four.replace(" 0A ", " 01 ");
        let listening = |address: &str, inode| {
            let address = address.parse().unwrap();
            Some(Listening { address, inode })
        };
        assert_eq!(parse_line(four), listening("127.0.0.1:8080", 222));
        assert_eq!(parse_line(six), listening("[::1]:8080", 777));
        assert_eq!(parse_line(&open), None);
        assert_eq!(parse_line("nonsense : here"), None);
    }

    /// Both sources show the same sockets. Where netlink is not available there is nothing to compare.
    #[test]
    #[cfg(target_os = "linux")]
    fn netlink_says_what_the_table_says() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let of_tables: Vec<_> = by_tables()
                .filter(|other| other.address.port() == address.port())
                .collect();
            assert_eq!(on_port(address.port()), of_tables, "{address}");
            assert_eq!(of_tables.len(), 1);
            assert!(all().contains(&of_tables[0]), "{address}");
            let connected = std::net::TcpStream::connect(address).unwrap();
            let port = connected.local_addr().unwrap().port();
            assert_eq!(on_port(port), [], "a connection is no listener");
        }
    }

    #[test]
    fn a_broken_answer_is_an_error_and_not_a_loop() {
        for bytes in [&[0; 16][..], &[1; 16], &[200; 40]] {
            assert!(read_answers(bytes, &mut Vec::new()).is_err());
        }
        assert!(read_answers(&[], &mut Vec::new()).unwrap());
    }
}
