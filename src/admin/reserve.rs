//! Reserves descriptors for the admin API: if traffic has used up all others, probes are still answered.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustix::io::{DupFlags, dup3};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::rt::empty_file::EmptyFile;

/// Number of reserved descriptors, for all listeners together.
const KEPT_BACK: usize = 16;

/// Placeholder descriptors, each of which is closed when a descriptor is needed.
#[derive(Debug)]
pub(super) struct DescriptorReserve {
    nothing: Option<File>,
    spare: Mutex<Vec<OwnedFd>>,
}

impl DescriptorReserve {
    /// Opens the placeholders.
    pub(super) fn new() -> Arc<Self> {
        let reserve = Self {
            nothing: EmptyFile::open().ok().map(EmptyFile::into_file),
            spare: Mutex::default(),
        };
        reserve.fill();
        Arc::new(reserve)
    }

    /// Opens missing placeholders, as far as there are descriptors.
    pub(super) fn fill(&self) {
        let mut spare = self.spare.lock();
        while spare.len() < KEPT_BACK {
            let Some(Ok(one)) = self.nothing.as_ref().map(File::try_clone) else {
                return;
            };
            spare.push(one.into());
        }
    }

    /// Polls `accept`, with a descriptor of the reserve if there is no other. The kernel allocates a descriptor
    /// before it checks the queue: if no connection is queued, the reserve gets it back at once.
    pub(super) fn accept<T>(
        &self,
        mut accept: impl FnMut() -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match accept() {
            Poll::Ready(Err(error)) if is_exhausted(&error) && self.release() => {
                let polled = accept();
                if polled.is_pending() {
                    self.fill();
                }
                polled
            }
            polled => polled,
        }
    }

    /// Closes one placeholder; returns whether there was any.
    fn release(&self) -> bool {
        self.spare.lock().pop().is_some()
    }

    /// Closes a connection. If the reserve is not full, the descriptor is made a placeholder without being free for a
    /// moment: the traffic that has used up all others would take this one too.
    fn close(&self, mut connection: OwnedFd) {
        let mut spare = self.spare.lock();
        if let Some(nothing) = self.nothing.as_ref().filter(|_| spare.len() < KEPT_BACK)
            && dup3(nothing, &mut connection, DupFlags::CLOEXEC).is_ok()
        {
            spare.push(connection);
        }
    }
}

/// Returns whether no descriptor was left, in this process or in the system.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A unix or TCP stream.
enum AdminStream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// An accepted connection, whose descriptor is returned to the reserve first.
pub(super) struct ReservedConnection {
    /// `Some` until it is dropped.
    stream: Option<AdminStream>,
    reserve: Arc<DescriptorReserve>,
}

impl ReservedConnection {
    /// Wraps a unix socket connection.
    pub(super) fn unix(stream: UnixStream, reserve: Arc<DescriptorReserve>) -> Self {
        let stream = Some(AdminStream::Unix(stream));
        Self { stream, reserve }
    }

    /// Wraps a TCP connection.
    pub(super) fn tcp(stream: TcpStream, reserve: Arc<DescriptorReserve>) -> Self {
        let stream = Some(AdminStream::Tcp(stream));
        Self { stream, reserve }
    }
}

impl Drop for ReservedConnection {
    fn drop(&mut self) {
        let descriptor = match self.stream.take() {
            Some(AdminStream::Unix(stream)) => stream.into_std().map(OwnedFd::from),
            Some(AdminStream::Tcp(stream)) => stream.into_std().map(OwnedFd::from),
            None => return,
        };
        if let Ok(descriptor) = descriptor {
            self.reserve.close(descriptor);
        }
    }
}

/// Calls a method of the wrapped stream.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.stream {
            Some(AdminStream::Unix($stream)) => $call,
            Some(AdminStream::Tcp($stream)) => $call,
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for ReservedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for ReservedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, data))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream as Pair;

    use super::*;

    #[test]
    fn closed_connection_fills_the_reserve_under_its_own_number() {
        use std::io::Read;
        let reserve = DescriptorReserve::new();
        assert!(reserve.release());
        let (ours, mut theirs) = Pair::pair().unwrap();
        let number = ours.as_raw_fd();
        reserve.close(ours.into());
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "it is closed");
        let spare = reserve.spare.lock();
        assert_eq!(spare.len(), KEPT_BACK);
        assert_eq!(spare.last().unwrap().as_raw_fd(), number);
    }

    #[test]
    fn descriptor_goes_back_if_no_connection_was_queued() {
        let reserve = DescriptorReserve::new();
        let mut free = false;
        let polled: Poll<io::Result<()>> =
            reserve.accept(|| match std::mem::replace(&mut free, true) {
                false => Poll::Ready(Err(io::Error::from_raw_os_error(libc::EMFILE))),
                true => Poll::Pending,
            });
        assert!(polled.is_pending());
        assert_eq!(reserve.spare.lock().len(), KEPT_BACK);
    }

    #[test]
    fn full_reserve_just_closes() {
        let reserve = DescriptorReserve::new();
        let (ours, _theirs) = Pair::pair().unwrap();
        reserve.close(ours.into());
        assert_eq!(reserve.spare.lock().len(), KEPT_BACK);
    }
}
