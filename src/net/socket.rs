//! Operations on a connection's descriptor.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pingora::protocols::Stream;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use crate::net::accept_queue::{self, AcceptState};
use crate::net::plain::descriptor_of;

/// Address at which a connection has arrived, if it is known.
pub fn local_address(stream: &Stream) -> Option<SocketAddr> {
    let digest = stream.get_socket_digest()?;
    digest.local_addr()?.as_inet().copied()
}

/// Makes the close that follows a reset (RST), so that the peer can't take what it got for a complete message.
pub fn reset_on_close(stream: &Stream) {
    if let Some(descriptor) = descriptor_of(stream) {
        // A unix socket has no RST, so the option has no effect there.
        let _ = SockRef::from(&descriptor).set_linger(Some(Duration::ZERO));
    }
}

/// Whether there are unread bytes. The kernel is asked, because the runtime may not have been notified yet.
pub fn has_unread(stream: &Stream) -> bool {
    peek_into(stream, &mut [0]) > 0
}

/// Number of unread bytes (`FIONREAD`); 0 if it is unknown.
pub fn unread(stream: &Stream) -> u64 {
    let count = descriptor_of(stream).map(rustix::io::ioctl_fionread);
    count.and_then(Result::ok).unwrap_or(0)
}

/// First `count` unread bytes, or fewer if there are fewer; they stay unread.
pub fn peek(stream: &Stream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let got = peek_into(stream, &mut bytes);
    bytes.truncate(got);
    bytes
}

/// Copies unread bytes, and returns how many.
fn peek_into(stream: &Stream, bytes: &mut [u8]) -> usize {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let got = descriptor_of(stream).map(|descriptor| recv(descriptor, bytes, flags));
    // Without any bytes the call fails; at the end of the stream it returns 0.
    got.and_then(Result::ok).map_or(0, |(got, _)| got)
}

/// Whether the peer's process has closed its end of a TCP connection, or has exited. Known only of peers on this host.
pub fn is_abandoned(stream: &Stream) -> bool {
    both_addresses(stream).is_some_and(|(ours, theirs)| accept_queue::is_abandoned(ours, theirs))
}

/// Position of the peer's end of a TCP connection: in the accept queue, or accepted by a process. `None` if it is
/// unknown.
pub fn peer_accept_state(stream: &Stream) -> Option<AcceptState> {
    let (ours, theirs) = both_addresses(stream)?;
    accept_queue::peer_accept_state(ours, theirs)
}

/// Addresses of both ends of a TCP connection.
fn both_addresses(stream: &Stream) -> Option<(SocketAddr, SocketAddr)> {
    let descriptor = descriptor_of(stream)?;
    let socket = SockRef::from(&descriptor);
    let ours = socket.local_addr().ok()?.as_socket()?;
    let theirs = socket.peer_addr().ok()?.as_socket()?;
    Some((ours, theirs))
}

/// Number of written bytes that the peer has not acknowledged (`SIOCOUTQ`); 0 if it is unknown.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "this request of ioctl has no safe form")]
pub fn unsent(stream: &Stream) -> u64 {
    use std::os::fd::AsRawFd as _;
    let Some(descriptor) = descriptor_of(stream) else {
        return 0;
    };
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request of `ioctl` writes one `int` to where the pointer points, and nothing else.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    match result {
        0 => u64::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// Other systems don't tell.
#[cfg(not(target_os = "linux"))]
pub fn unsent(_: &Stream) -> u64 {
    0
}

/// State of a TCP connection that lameduck opened, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the peer's kernel has acknowledged.
    pub acknowledged: u64,
    /// Whether it is closed in both directions: the peer has answered with a reset.
    pub is_reset: bool,
    /// Largest segment that is sent in one packet, in bytes.
    pub segment: u64,
}

/// Asks the kernel (`TCP_INFO`); `None` if this is not possible (unix sockets, systems other than Linux).
pub fn read_tcp_info(stream: &Stream) -> Option<TcpInfo> {
    tcp_info_of(descriptor_of(stream)?)
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "safe forms insist on a length that older kernels don't have"
)]
fn tcp_info_of(descriptor: BorrowedFd<'_>) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd as _;
    // Offsets in `struct tcp_info` up to `tcpi_bytes_acked` (Linux 4.1), which the struct of the libc crate lacks.
    const STATE: usize = 0;
    const SEGMENT: usize = 16;
    const ACKNOWLEDGED: usize = 120;
    const TCP_CLOSE: u8 = 7;
    let mut info = [0u8; ACKNOWLEDGED + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, and stores how many.
    let result = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 || (length as usize) < info.len() {
        return None;
    }
    let acknowledged = info[ACKNOWLEDGED..]
        .try_into()
        .map(u64::from_ne_bytes)
        .ok()?;
    let segment = info[SEGMENT..SEGMENT + 4]
        .try_into()
        .map(u32::from_ne_bytes)
        .ok()?;
    Some(TcpInfo {
        // The SYN counts as one byte.
        acknowledged: acknowledged.saturating_sub(1),
        is_reset: info[STATE] == TCP_CLOSE,
        segment: u64::from(segment),
    })
}

#[cfg(not(target_os = "linux"))]
fn tcp_info_of(_: BorrowedFd<'_>) -> Option<TcpInfo> {
    None
}

/// Most unsent bytes that the kernel takes for one client, apart from those on their way.
///
/// The kernel's own limit is 4 MiB for each connection. A few hundred clients that read nothing then reach the limit
/// for all connections of the machine (`tcp_mem`), from where on the kernel is slow for everybody.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Sets the limit on a listening socket; its connections inherit it (`TCP_NOTSENT_LOWAT`, tcp(7)).
#[cfg(target_os = "linux")]
pub fn bound_unsent(socket: &TcpListener) {
    if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "clients that read slowly can't be bounded in what the kernel keeps for them");
    }
}

/// Other systems don't have this option.
#[cfg(not(target_os = "linux"))]
pub fn bound_unsent(_: &TcpListener) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    #[test]
    fn read_bytes_are_acknowledged_and_those_to_a_closed_socket_are_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let acknowledged = |ours: &TcpStream| tcp_info_of(ours.as_fd()).unwrap().acknowledged;
        assert_eq!(acknowledged(&ours), 0);
        ours.write_all(b"request").unwrap();
        theirs.read_exact(&mut [0; 7]).unwrap();
        theirs.write_all(b"!").unwrap();
        ours.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(acknowledged(&ours), 7);
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        ours.write_all(b"too late").unwrap();
        assert!(matches!(ours.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert_eq!(acknowledged(&ours), 7);
        assert!(tcp_info_of(ours.as_fd()).unwrap().is_reset);
    }

    #[test]
    fn a_half_closed_peer_that_still_reads_is_no_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        ours.write_all(b"request").unwrap();
        theirs.read_exact(&mut [0; 7]).unwrap();
        assert!(!tcp_info_of(ours.as_fd()).unwrap().is_reset);
    }

    #[test]
    fn a_unix_socket_does_not_say() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(tcp_info_of(ours.as_fd()), None);
    }
}
