//! Tells whether a connection that lameduck opened is still in its listener's accept queue.
//!
//! A connect succeeds as soon as the listener's kernel has room in the queue. The process may accept the connection
//! much later, or die before that; then its kernel resets a connection whose bytes it has acknowledged. Where both ends
//! are in one network namespace, this kernel knows more: an end that was not accepted belongs to no file, and so has no
//! inode. One netlink query tells, which the kernel answers within the call, in a few microseconds.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};

use crate::net::listening::netlink;

/// Position of the other end of a connection that lameduck opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptState {
    /// It is in the accept queue of its listener: no process has it. If the listening process dies now, it never had
    /// it.
    Queue,
    /// A process has accepted it.
    Process,
}

/// Position of the other end of the connection between these addresses. `None` if that is unknown: the connection is
/// closed, its other end is in another network namespace, or netlink is not available.
pub fn peer_accept_state(ours: SocketAddr, theirs: SocketAddr) -> Option<AcceptState> {
    query_socket(ours, theirs, parse_accept_state)
        .ok()
        .flatten()
}

/// Whether the process at the other end of the connection between these addresses has closed it in both directions, and
/// not only for sending. `false` if that is unknown: see [`peer_accept_state`].
pub fn is_abandoned(ours: SocketAddr, theirs: SocketAddr) -> bool {
    query_socket(ours, theirs, |bytes| {
        let (state, inode) = parse_state_and_inode(bytes)?;
        Some(inode == 0 && CLOSING.contains(&state))
    })
    .is_ok_and(|answer| answer == Some(true))
}

/// TCP states of a socket that has sent its FIN: FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING.
const CLOSING: [u8; 5] = [4, 5, 6, 9, 11];

fn query_socket<T>(
    ours: SocketAddr,
    theirs: SocketAddr,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let socket = netlink::open()?;
    // This never blocks: the kernel has answered when `send` returns.
    socket.set_nonblocking(true)?;
    socket.send(&socket_query(ours, theirs))?;
    let mut buffer = [0; 1024];
    let count = (&socket).read(&mut buffer)?;
    Ok(read(&buffer[..count]))
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2` that ask for one socket, with the addresses as that socket sees
/// them.
fn socket_query(ours: SocketAddr, theirs: SocketAddr) -> [u8; 72] {
    let family = match theirs {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let mut bytes = netlink::question(netlink::REQUEST_ONE, family as u8, u32::MAX);
    bytes[24..26].copy_from_slice(&theirs.port().to_be_bytes());
    bytes[26..28].copy_from_slice(&ours.port().to_be_bytes());
    for (at, ip) in [(28, theirs.ip()), (44, ours.ip())] {
        match ip {
            IpAddr::V4(ip) => bytes[at..at + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    // The cookie stays at "any".
    bytes[64..].fill(0xff);
    bytes
}

/// Reads the kernel's description of that socket. `None` for three cases that say nothing: a socket that is being
/// closed belongs to no process and no queue; once the connection is gone, the kernel may describe its listener; and a
/// listener with `TCP_DEFER_ACCEPT` leaves a connection in SYN_RECV until data has arrived.
fn parse_accept_state(bytes: &[u8]) -> Option<AcceptState> {
    const ESTABLISHED: u8 = 1;
    match parse_state_and_inode(bytes)? {
        (ESTABLISHED, 0) => Some(AcceptState::Queue),
        (ESTABLISHED, _) => Some(AcceptState::Process),
        _ => None,
    }
}

/// TCP state and inode of a socket.
fn parse_state_and_inode(bytes: &[u8]) -> Option<(u8, u32)> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    if kind != netlink::BY_FAMILY {
        return None;
    }
    let message = bytes.get(netlink::HEADER..netlink::HEADER + netlink::DESCRIPTION)?;
    Some((message[1], netlink::inode(message)?))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_in_the_queue_until_it_is_accepted() {
        // The last address is how Node listens: one socket for IPv4 and IPv6.
        for (listen, connect) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[::]", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind(format!("{listen}:0")) else {
                continue;
            };
            let address = format!("{connect}:{}", listener.local_addr().unwrap().port());
            // The addresses are read before the reset: a socket that was reset has forgotten its peer.
            let connect = || {
                let ours = TcpStream::connect(&address).unwrap();
                let ends = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
                (ours, ends)
            };
            let place_of = |ends: (SocketAddr, SocketAddr)| peer_accept_state(ends.0, ends.1);
            let (_ours, ends) = connect();
            if netlink::open().is_err() {
                return;
            }
            assert_eq!(place_of(ends), Some(AcceptState::Queue), "{address}");
            let (theirs, _) = listener.accept().unwrap();
            assert_eq!(place_of(ends), Some(AcceptState::Process), "{address}");
            drop(theirs);
            assert_eq!(place_of(ends), None, "{address}");
            let (_ours, ends) = connect();
            drop(listener);
            assert_eq!(place_of(ends), None, "{address}");
        }
    }

    #[test]
    fn a_peer_that_still_reads_has_not_abandoned_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, peer) = listener.accept().unwrap();
        if netlink::open().is_err() {
            return;
        }
        let is_abandoned = || is_abandoned(ours.local_addr().unwrap(), peer);
        assert!(!is_abandoned());
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!is_abandoned());
        drop(theirs);
        assert!(is_abandoned());
    }

    #[test]
    fn no_answer_is_no_knowledge() {
        assert_eq!(parse_accept_state(&[]), None);
        assert_eq!(parse_accept_state(&[0; 88]), None);
        let nobody = "127.0.0.1:1".parse().unwrap();
        assert_eq!(peer_accept_state(nobody, nobody), None);
    }
}
