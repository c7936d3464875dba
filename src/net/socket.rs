//! The few things that are done to a descriptor directly.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use pingora::protocols::Stream;
use rustix::net::{RecvFlags, recv};
use socket2::SockRef;

use crate::net::accept_queue::{self, AcceptState};
use crate::net::plain::descriptor_of;

/// Where a connection has arrived, if that is known.
pub fn local_address(stream: &Stream) -> Option<SocketAddr> {
    let digest = stream.get_socket_digest()?;
    digest.local_addr()?.as_inet().copied()
}

/// Makes the coming close a reset (RST), so that the peer can't take what it got for the whole.
pub fn reset_on_close(stream: &Stream) {
    if let Some(descriptor) = descriptor_of(stream) {
        // A unix socket has no RST; the option is then without effect.
        let _ = SockRef::from(&descriptor).set_linger(Some(Duration::ZERO));
    }
}

/// Whether something has arrived that nobody has read: asked of the kernel itself, because the runtime may not have
/// been notified yet.
pub fn has_unread(stream: &Stream) -> bool {
    peek_into(stream, &mut [0]) > 0
}

/// How many unread bytes have arrived (`FIONREAD`); 0 where this can't be known.
pub fn unread(stream: &Stream) -> u64 {
    let count = descriptor_of(stream).map(rustix::io::ioctl_fionread);
    count.and_then(Result::ok).unwrap_or(0)
}

/// The first `count` unread bytes, or as many as there are; they stay unread.
pub fn peek(stream: &Stream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let got = peek_into(stream, &mut bytes);
    bytes.truncate(got);
    bytes
}

/// How many there were room for.
fn peek_into(stream: &Stream, bytes: &mut [u8]) -> usize {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let got = descriptor_of(stream).map(|descriptor| recv(descriptor, bytes, flags));
    // Nothing there is an error, and the end of the stream is 0.
    got.and_then(Result::ok).map_or(0, |(got, _)| got)
}

/// Whether no process has the peer's end of a TCP connection any more: its process has closed it, or is gone. Known
/// only of peers on this host.
pub fn is_abandoned(stream: &Stream) -> bool {
    both_addresses(stream).is_some_and(|(ours, theirs)| accept_queue::is_abandoned(ours, theirs))
}

/// Where the peer's end of a TCP connection is: in its listener's queue, or a process's. `None` where this can't be
/// known.
pub fn peer_accept_state(stream: &Stream) -> Option<AcceptState> {
    let (ours, theirs) = both_addresses(stream)?;
    accept_queue::peer_accept_state(ours, theirs)
}

/// The addresses of both ends of a TCP connection.
fn both_addresses(stream: &Stream) -> Option<(SocketAddr, SocketAddr)> {
    let descriptor = descriptor_of(stream)?;
    let socket = SockRef::from(&descriptor);
    let ours = socket.local_addr().ok()?.as_socket()?;
    let theirs = socket.peer_addr().ok()?.as_socket()?;
    Some((ours, theirs))
}

/// Bytes that were written and that the peer has not acknowledged (`SIOCOUTQ`); 0 where this can't be known.
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

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub fn unsent(_: &Stream) -> u64 {
    0
}

/// What the kernel knows of a TCP connection that we opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// Bytes that the peer's kernel has acknowledged.
    pub acknowledged: u64,
    /// It is closed in both directions: the peer has answered what we sent with a reset.
    pub is_reset: bool,
    /// The largest segment that is sent in one piece, in bytes.
    pub segment: u64,
}

/// Asks the kernel (`TCP_INFO`); `None` where this can't be known (unix sockets, systems other than Linux).
pub fn read_tcp_info(stream: &Stream) -> Option<TcpInfo> {
    fate_of(descriptor_of(stream)?)
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "safe forms insist on a length that older kernels don't have"
)]
fn fate_of(descriptor: BorrowedFd<'_>) -> Option<TcpInfo> {
    use std::os::fd::AsRawFd as _;
    // `struct tcp_info` up to `tcpi_bytes_acked` (Linux 4.1), which the libc crate's lacks.
    const STATE: usize = 0;
    const SEGMENT: usize = 16;
    const ACKNOWLEDGED: usize = 120;
    const TCP_CLOSE: u8 = 7;
    let mut info = [0u8; ACKNOWLEDGED + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, and says how many.
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
        // The SYN counts as one.
        acknowledged: acknowledged.saturating_sub(1),
        is_reset: info[STATE] == TCP_CLOSE,
        segment: u64::from(segment),
    })
}

#[cfg(not(target_os = "linux"))]
fn fate_of(_: BorrowedFd<'_>) -> Option<TcpInfo> {
    None
}

/// What the kernel takes for a client beyond what is on its way, in bytes.
///
/// Its own bound is 4 MiB a connection. A few hundred clients that read nothing come to the limit of what all
/// connections of the machine may hold (`tcp_mem`), and from there on the kernel is slow with everybody.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 64 * 1024;

/// Connections have it from the socket that they were accepted on (`TCP_NOTSENT_LOWAT`, tcp(7)).
#[cfg(target_os = "linux")]
pub fn bound_unsent(socket: &TcpListener) {
    if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "clients that read slowly can't be bounded in what the kernel keeps for them");
    }
}

/// Not to be had here.
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
    fn what_was_read_was_acknowledged_and_what_met_a_closed_socket_was_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let acknowledged = |ours: &TcpStream| fate_of(ours.as_fd()).unwrap().acknowledged;
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
        assert!(fate_of(ours.as_fd()).unwrap().is_reset);
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
        assert!(!fate_of(ours.as_fd()).unwrap().is_reset);
    }

    #[test]
    fn a_unix_socket_does_not_say() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(fate_of(ours.as_fd()), None);
    }
}
