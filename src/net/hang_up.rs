//! Notices that a peer has hung up while what it has sent stays unread.
//!
//! A proxy without room for more of a client's bytes leaves them in the kernel, which holds the client back. The
//! client's end comes after them, where a read would not get; the kernel reports it even so (`EPOLLRDHUP`,
//! `EPOLLERR`).

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// What the runtime can say of a socket.
pub trait HangUpSocket: AsyncRead + AsFd + Unpin + Sized {
    /// What there is of these, now.
    fn readiness(&self, interest: Interest) -> Option<io::Result<Ready>>;
    /// Waits until something has come, or the peer has ended.
    fn poll_news(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Makes the runtime forget that something has come.
    fn forget_news(&self);
    /// Waits until there is room for more.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes in a way of the caller's; after [`io::ErrorKind::WouldBlock`], the runtime looks for room.
    fn write_with(&self, write: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;

    /// Waits for the peer's end, whatever stands unread before it: `Ok` where it has finished sending, an error where
    /// the connection is broken. After the first `Ok` nothing more is reported.
    ///
    /// For this the runtime has to forget what has come, so the next read has to [`HangUpSocket::receive`].
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

    /// Reads what is there, whether or not the runtime knows of it.
    ///
    /// # Errors
    /// `WouldBlock`: nothing is.
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

/// The peer has finished sending, or the connection is broken. (To the runtime, the first is a part of each of its
/// interests, and `PRIORITY` is the one that has nothing else in it.)
#[cfg(target_os = "linux")]
const END: Interest = Interest::PRIORITY.add(Interest::ERROR);
/// Elsewhere only the second can be heard.
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
    async fn what_comes_after_a_look_is_read_as_ever() {
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
