//! Sends bytes of a file to a socket without copying them: the kernel sends the pages that it has in memory.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use rustix::net::SendFlags;
use tokio::net::{TcpStream, UnixStream};

use super::hang_up::HangUpSocket;
use super::plain::PlainStream;

/// Whether [`poll_send_file`] can write to this stream: only to a plain socket, neither encrypted nor shared.
pub fn takes_files(stream: &Stream) -> bool {
    stream.as_any().is::<PlainStream<TcpStream>>()
        || stream.as_any().is::<PlainStream<UnixStream>>()
}

/// Waits until the socket has room for more bytes.
///
/// # Errors
/// The connection is broken, or [`io::ErrorKind::Unsupported`]: the stream is none that [`takes_files`].
pub fn poll_file_room(stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let any = stream.as_any();
    if let Some(tcp) = any.downcast_ref::<PlainStream<TcpStream>>() {
        return tcp.socket().poll_room(cx);
    }
    match any.downcast_ref::<PlainStream<UnixStream>>() {
        Some(unix) => unix.socket().poll_room(cx),
        None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
    }
}

/// Writes `text` and, once all of it is taken, `count` bytes of the file from `offset` on. Returns the number of bytes
/// taken of both together; 0: the file ends at `offset`. May wait for the disk if the file is not in memory.
///
/// # Errors
/// As for [`poll_file_room`].
pub fn poll_send_file(
    stream: &Stream,
    cx: &mut Context<'_>,
    text: &[u8],
    file: &OwnedFd,
    offset: u64,
    count: usize,
) -> Poll<io::Result<usize>> {
    let any = stream.as_any();
    if let Some(tcp) = any.downcast_ref::<PlainStream<TcpStream>>() {
        return poll_send(tcp.socket(), cx, text, file, offset, count);
    }
    match any.downcast_ref::<PlainStream<UnixStream>>() {
        Some(unix) => poll_send(unix.socket(), cx, text, file, offset, count),
        None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
    }
}

fn poll_send<S: HangUpSocket>(
    socket: &S,
    cx: &mut Context<'_>,
    text: &[u8],
    file: &OwnedFd,
    offset: u64,
    count: usize,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_room(cx))?;
        let sent = socket.write_with(&mut || send_once(socket.as_fd(), text, file, offset, count));
        match sent {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Sends the text with `MSG_MORE`: the kernel holds it back until the file's bytes follow, so that it is no packet of
/// its own.
fn send_once(
    socket: BorrowedFd<'_>,
    text: &[u8],
    file: &OwnedFd,
    offset: u64,
    count: usize,
) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let of_text = match text {
        [] => 0,
        text => rustix::net::send(socket, text, flags)?,
    };
    if of_text < text.len() {
        return Ok(of_text);
    }
    let mut offset = offset;
    match rustix::fs::sendfile(socket, file, Some(&mut offset), count) {
        Ok(of_file) => Ok(of_text + of_file),
        // If some of the text was taken, that is returned first; the error comes with the next call.
        Err(_) if of_text > 0 => Ok(of_text),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::plain;

    #[tokio::test]
    async fn text_and_file_arrive_in_order_through_a_full_socket_and_zero_tells_the_end() {
        const SIZE: usize = 8 << 20;
        let content: Vec<u8> = (0..SIZE as u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = OwnedFd::from(file);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let stream = plain::tcp(ours.into_std().unwrap()).unwrap();
        assert!(takes_files(&stream));
        let sending = tokio::spawn(async move {
            let text = b"head\r\n";
            let (mut of_text, mut offset, mut waits) = (0, 0, 0);
            loop {
                let sent = poll_fn(|cx| {
                    let text = &text[of_text..];
                    let sent = poll_send_file(&stream, cx, text, &file, offset, SIZE);
                    waits += usize::from(sent.is_pending());
                    sent
                });
                match sent.await.unwrap() {
                    0 => return (offset, waits),
                    sent => {
                        let part = sent.min(text.len() - of_text);
                        of_text += part;
                        offset += (sent - part) as u64;
                    }
                }
            }
        });
        let mut head = [0; 6];
        theirs.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"head\r\n");
        let mut read = vec![0; SIZE];
        theirs.read_exact(&mut read).await.unwrap();
        assert!(read == content);
        let (sent, waits) = sending.await.unwrap();
        assert_eq!(sent, SIZE as u64);
        assert!(waits > 0, "8 MiB fit into no socket");
        assert_eq!(theirs.read(&mut head).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn stream_that_is_no_socket_takes_no_file() {
        let (ours, _theirs) = tokio::io::duplex(10);
        let stream: Stream = Box::new(ours);
        assert!(!takes_files(&stream));
    }
}
