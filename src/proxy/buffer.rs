//! The reused byte buffers of a connection, and reading into them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::ReadBuf;

use crate::proxy::memory::{self, MemoryCharge};

/// Initial size of a buffer: enough for nearly every request and response head.
pub const SMALL: usize = 4 * 1024;

/// Maximum size of a buffer while a body streams through it.
pub const LARGE: usize = 64 * 1024;

/// Factor by which a full buffer grows for a head; most heads end soon.
pub const HEAD_STEP: usize = 2;

/// Factor by which a full buffer grows for a body that is buffered completely; an untrusted client may never send
/// more than its beginning.
pub const BODY_STEP: usize = 4;

/// Factor by which a full buffer grows for a body that streams through: a client that fills it is sending a body, and
/// each growth costs a read.
const STREAM_STEP: usize = 8;

/// Free bytes after a buffer's content, used by the check whether the client is still connected: without them, a full
/// buffer would have to grow for that check.
pub const AHEAD: usize = 256;

/// Maximum number of buffers kept per thread for reuse.
const SPARE: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
    /// Scratch space for content whose length is not known in advance.
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read and not yet consumed: `data[start..end]`.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read filled the buffer: more bytes are on their way, and fewer, larger reads would fetch
    /// them.
    filled: bool,
    /// The buffer's share of `max_memory`, once it is larger than [`SMALL`].
    charge: MemoryCharge,
}

impl From<Vec<u8>> for Buffer {
    fn from(data: Vec<u8>) -> Self {
        Self {
            end: data.len(),
            start: 0,
            data,
            ..Self::default()
        }
    }
}

impl Buffer {
    /// Takes a buffer from this thread's spares, or creates one that allocates at its first read.
    pub fn take() -> Self {
        SPARES.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Returns the buffer to this thread's spares. Grown buffers are freed: few connections need them at a time.
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

    /// Frees the memory of a body that has been passed on, unless the buffer still contains bytes.
    pub fn shrink(&mut self) {
        if self.data.len() > SMALL && self.is_empty() {
            *self = Self::take();
        }
    }

    /// Returns its content.
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Returns the length of its content.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns a buffer with the bytes that `write` writes, unless `fit` refuses the memory that the buffer would
    /// have beyond [`SMALL`].
    pub fn holding<T>(
        write: impl FnOnce(&mut Vec<u8>) -> T,
        fit: impl FnOnce(usize) -> bool,
    ) -> Option<(Self, T)> {
        WRITTEN.with_borrow_mut(|bytes| {
            bytes.clear();
            let written = write(bytes);
            // Exactly as large as needed, instead of the capacity to which the vector has grown.
            let size = bytes.len() + AHEAD;
            let held = fit(surplus_of(size)).then(|| {
                let mut buffer = Self::default();
                buffer.data.reserve_exact(size);
                buffer.data.extend_from_slice(bytes);
                buffer.data.resize(size, 0);
                buffer.end = bytes.len();
                buffer.charge();
                (buffer, written)
            });
            bytes.shrink_to(LARGE);
            held
        })
    }

    /// Returns a buffer with bytes from another process's buffer.
    pub fn of_carried(bytes: &[u8]) -> Self {
        match bytes.is_empty() {
            true => Self::default(),
            false => Self::holding(|out| out.extend_from_slice(bytes), |_| true)
                .map_or_else(Self::default, |(buffer, ())| buffer),
        }
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Drops `count` bytes at offset `at`: the bytes before that stay.
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

    /// Returns whether there is room for a read without growing beyond `most` bytes, or, if `max_memory` is used up,
    /// without growing at all.
    pub fn has_room(&self, most: usize) -> bool {
        self.len() < most && (self.len() < self.data.len().max(SMALL) || memory::has_room())
    }

    /// Returns the memory in bytes beyond what every connection may have.
    pub fn surplus(&self) -> usize {
        surplus_of(self.data.capacity())
    }

    /// Returns how many bytes the buffer has to grow for the next read, up to `most` in total; 0: it has room, or is
    /// still to get its initial size.
    pub fn growth(&self, most: usize, step: usize) -> usize {
        match self.len() < self.data.len().max(SMALL) {
            true => 0,
            false => self.grown(most, step).saturating_sub(self.data.len()),
        }
    }

    /// Returns its size after the next growth.
    fn grown(&self, most: usize, step: usize) -> usize {
        let wanted = self.data.len() * step;
        match wanted {
            0..=SMALL => SMALL,
            // Avoids another growth for the last few bytes.
            _ if most <= wanted + wanted / 2 => most.max(SMALL),
            _ => wanted,
        }
    }

    fn charge(&mut self) {
        self.charge.set(self.surplus());
    }

    /// Reads once. The buffer grows up to `most` bytes; `Ok(0)` is the end of the stream.
    ///
    /// Must only be called while [`Buffer::has_room`].
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_fill_by(cx, stream, most, STREAM_STEP)
    }

    /// Like [`Buffer::poll_fill`], growing by the factor `step`.
    pub fn poll_fill_by(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        most: usize,
        step: usize,
    ) -> Poll<io::Result<usize>> {
        if self.end == self.data.len() || self.filled {
            self.make_room(most, step);
        }
        let limit = self.data.len().min(self.start + most);
        let mut space = ReadBuf::new(&mut self.data[self.end..limit]);
        ready!(Pin::new(&mut **stream).poll_read(cx, &mut space))?;
        let count = space.filled().len();
        self.end += count;
        self.filled = self.end == limit;
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self, most: usize, step: usize) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let is_full = self.end == self.data.len();
        if is_full || (self.filled && self.data.len() < most && memory::has_room()) {
            let size = self.grown(most, step).max(self.data.len());
            self.data.reserve_exact(size - self.data.len());
            self.data.resize(size, 0);
            self.charge();
        }
    }
}

/// Returns how many of `size` bytes count towards `max_memory`: all of them if they are more than [`SMALL`] and
/// [`AHEAD`] together, otherwise none.
fn surplus_of(size: usize) -> usize {
    if size > SMALL + AHEAD { size } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    /// A system call per 4 KiB would multiply the CPU time of a large body.
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
    fn cutting_keeps_the_bytes_before() {
        let mut buffer = Buffer {
            data: b"xxHEADbodynext".to_vec(),
            start: 2,
            end: 14,
            ..Buffer::default()
        };
        buffer.cut(4, 4);
        assert_eq!(buffer.bytes(), b"HEADnext");
    }

    #[test]
    fn large_buffer_is_as_large_as_its_content_and_counted() {
        let hold = |count: usize, most: usize| {
            Buffer::holding(|out| out.resize(count, b'a'), |surplus| surplus <= most)
        };
        let (small, ()) = hold(1_000, 0).unwrap();
        assert_eq!((small.data.len(), small.surplus()), (1_000 + AHEAD, 0));
        assert!(hold(SMALL, 0).is_some());
        assert!(hold(SMALL + 1, SMALL).is_none());
        let (large, ()) = hold(50_000, LARGE).unwrap();
        assert_eq!(large.bytes(), vec![b'a'; 50_000]);
        assert_eq!(large.surplus(), 50_000 + AHEAD);
        assert_eq!(large.growth(LARGE, HEAD_STEP), 0);
    }

    #[test]
    fn full_buffer_grows_by_its_step_and_no_further_than_it_may() {
        let full = |size: usize| Buffer::from(vec![0; size]);
        assert_eq!(full(0).growth(LARGE, BODY_STEP), 0);
        assert_eq!(full(SMALL).growth(LARGE, HEAD_STEP), SMALL);
        assert_eq!(full(SMALL).growth(LARGE, BODY_STEP), 3 * SMALL);
        assert_eq!(full(SMALL).growth(5 * SMALL, BODY_STEP), 4 * SMALL);
        assert_eq!(full(16 * 1024).growth(LARGE, BODY_STEP), 48 * 1024);
    }

    #[test]
    fn a_consumed_buffer_begins_anew() {
        let mut buffer = Buffer::from(b"abc".to_vec());
        buffer.consume(3);
        assert_eq!((buffer.start, buffer.end), (0, 0));
    }
}
