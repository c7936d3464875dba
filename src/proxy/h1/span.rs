//! Positions in the connection's buffer.
//!
//! A parsed head contains no bytes: it contains spans, and each reader passes the buffer that was parsed. The bytes
//! must not have been moved in between; reading another buffer gives wrong bytes but never a panic.

use super::fields::FieldKind;

/// A range of bytes in the buffer that was parsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteSpan {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset after the last byte.
    pub end: u32,
}

impl ByteSpan {
    /// Creates a span from offsets. A head is far shorter than 4 GiB: the parsers read no more.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Returns the position of `part`, a subslice of `buf`.
    pub(crate) fn within(buf: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
        Self::new(start, start.wrapping_add(part.len()))
    }

    /// Returns the bytes; empty if `buf` is too short, and so not the buffer that was parsed.
    #[inline]
    pub fn of<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        buf.get(self.start as usize..self.end as usize)
            .unwrap_or(&[])
    }

    /// Returns whether the span is empty.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Returns its length in bytes.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// One header field line of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField {
    /// The name as it was sent.
    pub name: ByteSpan,
    /// The value without surrounding whitespace.
    pub value: ByteSpan,
    /// How the proxy treats the field.
    pub kind: FieldKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_reads_the_bytes_it_was_made_from() {
        let buf = b"Host: example.org";
        let span = ByteSpan::within(buf, &buf[6..]);
        assert_eq!(span.of(buf), b"example.org");
        assert_eq!(span.len(), 11);
        assert!(!span.is_empty());
    }

    #[test]
    fn a_shorter_buffer_reads_as_nothing_instead_of_a_panic() {
        assert_eq!(ByteSpan::new(4, 9).of(b"abc"), b"");
        assert_eq!(ByteSpan { start: 3, end: 1 }.of(b"abcd"), b"");
        assert_eq!(ByteSpan { start: 3, end: 1 }.len(), 0);
    }
}
