//! Notices that a peer has closed its connection while bytes that it sent are still unread.
//!
//! A proxy without room for more of a client's bytes leaves them in the kernel, which makes the client wait. The end of
//! the stream comes after these bytes, so a read would not find it; but the kernel reports it anyway (`EPOLLRDHUP`,
//! `EPOLLERR`).

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// A socket whose readiness the runtime (tokio) can be asked for.
pub trait HangUpSocket: AsyncRead + AsFd + Unpin + Sized {
    /// Readiness for these interests at this moment; `None`: nothing is ready.
    fn readiness(&self, interest: Interest) -> Option<io::Result<Ready>>;
    /// Waits until bytes have arrived, or the peer has ended the stream.
    fn poll_news(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Clears the runtime's read readiness, so that it waits for the next notification.
    fn forget_news(&self);
    /// Waits until the socket has room for more bytes.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes by the function given; after [`io::ErrorKind::WouldBlock`], the runtime waits for room again.
    fn write_with(&self, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;

    /// Waits for the peer's end, whatever is unread before it: `Ok` if the peer has finished sending, an error if the
    /// connection is broken. After the first `Ok` nothing more is reported.
    ///
    /// This clears the runtime's read readiness, so the next read has to use [`HangUpSocket::receive`].
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.readiness(END) {
                Some(Ok(ready)) if ready.is_error() => {
                    let error = SockRef::from(self).take_error()?;
                    return Poll::Ready(Err(
                        error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
                    ));
                }
                Some(Ok(ready)) if ready.is_read_closed() => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                _ => {}
            }
            self.forget_news();
            ready!(self.poll_news(cx))?;
        }
    }

    /// Reads what has arrived, whether or not the runtime knows of it.
    ///
    /// # Errors
    /// `WouldBlock`: nothing has arrived.
    fn receive(&self, space: &mut ReadBuf<'_>) -> io::Result<()> {
        let socket = SockRef::from(self);
        let count = loop {
            match (&*socket).read(space.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        space.advance(count);
        Ok(())
    }
}

/// Interest in the peer's end and in errors. tokio reports the end of reading with every interest; `PRIORITY` is the
/// one that brings nothing else with it.
#[cfg(target_os = "linux")]
const END: Interest = Interest::PRIORITY.add(Interest::ERROR);
/// Systems other than Linux report only errors this way.
#[cfg(not(target_os = "linux"))]
const END: Interest = Interest::ERROR;

macro_rules! socket {
    ($type:ty) => {
        impl HangUpSocket for $type {
            fn readiness(&self, interest: Interest) -> Option<io::Result<Ready>> {
                let mut context = Context::from_waker(Waker::noop());
                match pin!(self.ready(interest)).poll(&mut context) {
                    Poll::Ready(ready) => Some(ready),
                    Poll::Pending => None,
                }
            }

            fn poll_news(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn forget_news(&self) {
                let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = self.try_io(Interest::READABLE, nothing);
            }

            fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn write_with(
                &self,
                write: &mut dyn FnMut() -> io::Result<usize>,
            ) -> io::Result<usize> {
                self.try_io(Interest::WRITABLE, write)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::time::Duration;

    use pingora::protocols::Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::plain;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        (plain::tcp(ours.into_std().unwrap()).unwrap(), theirs)
    }

    async fn end(stream: &mut Stream) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut **stream).poll_read(cx, &mut ReadBuf::new(&mut []))).await
    }

    async fn is_silent(stream: &mut Stream) -> bool {
        let short = Duration::from_millis(30);
        crate::rt::clock::timeout(short, end(stream)).await.is_err()
    }

    #[tokio::test]
    async fn an_end_behind_unread_bytes_is_heard_and_the_bytes_are_read_afterwards() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(b"abc").await.unwrap();
        assert!(is_silent(&mut ours).await);
        theirs.write_all(b"def").await.unwrap();
        assert!(is_silent(&mut ours).await);
        let hearing = tokio::spawn(async move { (end(&mut ours).await, ours) });
        tokio::task::yield_now().await;
        theirs.shutdown().await.unwrap();
        let (heard, mut ours) = hearing.await.unwrap();
        heard.unwrap();
        let mut all = String::new();
        ours.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "abcdef");
    }

    #[tokio::test]
    async fn a_reset_behind_unread_bytes_is_an_error() {
        let (mut ours, mut theirs) = pair().await;
        theirs.write_all(&[7; 100_000]).await.unwrap();
        assert!(is_silent(&mut ours).await);
        SockRef::from(&theirs)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(theirs);
        assert!(end(&mut ours).await.is_err());
    }

    #[tokio::test]
    async fn bytes_that_arrive_after_poll_end_are_read_normally() {
        let (mut ours, mut theirs) = pair().await;
        assert!(is_silent(&mut ours).await);
        for text in [b"one", b"two"] {
            theirs.write_all(text).await.unwrap();
            let mut read = [0; 3];
            ours.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, text);
        }
        assert!(is_silent(&mut ours).await);
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 3]).await.unwrap(), 0);
    }
}
