//! The reused byte buffers of a connection, and reading into them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::ReadBuf;

/// What a buffer begins with: enough for nearly every request and response head.
const SMALL: usize = 4 * 1024;

/// What it grows to while a body streams through.
pub const LARGE: usize = 64 * 1024;

/// Buffers kept per thread for the next connection that needs one.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read and not yet consumed: `data[start..end]`.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room: more is on its way, and fewer, larger reads would fetch it.
    filled: bool,
}

impl From<Vec<u8>> for Buffer {
    fn from(data: Vec<u8>) -> Self {
        Self {
            end: data.len(),
            start: 0,
            data,
            filled: false,
        }
    }
}

impl Buffer {
    /// A buffer from this thread's spares, or a new one that allocates at its first read.
    pub fn take() -> Self {
        SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Gives the memory back to this thread. Grown buffers are freed: few connections need them at a time.
    pub fn give_back(mut self) {
        self.clear();
        self.filled = false;
        if self.data.len() == SMALL {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    spares.push(self);
                }
            });
        }
    }

    /// Frees the memory of a body that has gone through, unless something is left in it.
    pub fn shrink(&mut self) {
        if self.data.len() > SMALL && self.is_empty() {
            *self = Self::take();
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// How much is in it.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Appends what `write` writes.
    pub fn append<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let room = self.data.len();
        self.data.truncate(self.end);
        let written = write(&mut self.data);
        self.end = self.data.len();
        self.data.resize(room.max(self.end).max(SMALL), 0);
        written
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops `count` bytes that begin `at` bytes in: what stands before them stays where it is.
    pub fn cut(&mut self, at: usize, count: usize) {
        let (from, to) = (self.start + at + count, self.start + at);
        self.data.copy_within(from..self.end, to);
        self.end -= count;
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Room that the next read can fill without growing beyond `most` in all.
    pub fn has_room(&self, most: usize) -> bool {
        self.len() < most
    }

    /// Reads once. The buffer grows up to `most` bytes; `Ok(0)` is the end of the stream.
    ///
    /// Call it only while [`Buffer::has_room`].
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.data.len() || self.filled {
            self.make_room(most);
        }
        let limit = self.data.len().min(self.start + most);
        let mut space = ReadBuf::new(&mut self.data[self.end..limit]);
        ready!(Pin::new(&mut **stream).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.end += count;
        self.filled = self.end == limit;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self, most: usize) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.data.len() || (self.filled && self.data.len() < most) {
            // In few steps: whoever fills it is sending a body, and each step is a read.
            let wanted = (self.data.len() * 8).clamp(SMALL, most.max(SMALL));
            self.data.resize(wanted, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    /// A system call per 4 KiB would cost a large body several times its CPU.
    #[tokio::test]
    async fn a_body_that_streams_through_is_read_in_large_pieces() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream: Stream = Box::new(pingora::protocols::l4::stream::Stream::from(ours));
        tokio::spawn(async move { theirs.write_all(&vec![0; 1 << 20]).await });
        let (mut buffer, mut total, mut largest) = (Buffer::default(), 0, 0);
        while total < 1 << 20 {
            let count = poll_fn(|cx| buffer.poll_fill(cx, &mut stream, LARGE))
                .await
                .unwrap();
            buffer.consume(count);
            total += count;
            largest = largest.max(count);
        }
        assert_eq!(largest, LARGE);
        buffer.shrink();
        assert!(buffer.data.len() <= SMALL);
    }

    #[test]
    fn cutting_keeps_what_stands_before() {
        let mut buffer = Buffer {
            data: b"xxHEADbodynext".to_vec(),
            start: 2,
            end: 14,
            filled: false,
        };
        buffer.cut(4, 4);
        assert_eq!(buffer.bytes(), b"HEADnext");
    }

    #[test]
    fn a_consumed_buffer_begins_anew() {
        let mut buffer = Buffer::from(b"abc".to_vec());
        buffer.consume(3);
        assert_eq!((buffer.start, buffer.end), (0, 0));
    }
}
