//! As much of HTTP/1 as both ends need to read what a proxy sends. Strangers' bytes are not for it.

use std::io::{self, ErrorKind, Read};

/// How a message's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// Reads messages from one connection, one after the other.
pub struct Reader {
    buffer: Box<[u8; 65536]>,
    start: usize,
    end: usize,
}

/// What [`Reader::message`] found.
pub struct Message {
    /// The start line.
    pub line: String,
    /// Bytes of its body, read and forgotten.
    pub body: usize,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            buffer: Box::new([0; 65536]),
            start: 0,
            end: 0,
        }
    }

    /// What is here and not yet used.
    fn here(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads some more; false at the end of the stream.
    pub fn more(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let read = stream.read(&mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read > 0)
    }

    fn need(&mut self, stream: &mut impl Read) -> io::Result<()> {
        match self.more(stream)? {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next message, its body included; `None` at an end between two messages.
    pub fn message(&mut self, stream: &mut impl Read) -> io::Result<Option<Message>> {
        let length = loop {
            if let Some(at) = find(self.here(), b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more(stream)? {
                return match self.here() {
                    [] => Ok(None),
                    _ => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        };
        let head = &self.here()[..length];
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let framing = framing(head);
        self.start += length;
        let body = match framing {
            Framing::Length(length) => self.skip(stream, length)?,
            Framing::Chunked => self.chunks(stream)?,
        };
        Ok(Some(Message { line, body }))
    }

    /// Leaves so many bytes out.
    fn skip(&mut self, stream: &mut impl Read, length: usize) -> io::Result<usize> {
        let mut left = length;
        loop {
            let take = left.min(self.end - self.start);
            self.start += take;
            left -= take;
            if left == 0 {
                return Ok(length);
            }
            self.need(stream)?;
        }
    }

    /// Leaves a chunked body out; its length.
    fn chunks(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let mut total = 0;
        loop {
            let at = loop {
                match find(self.here(), b"\r\n") {
                    Some(at) => break at,
                    None => self.need(stream)?,
                }
            };
            let size = std::str::from_utf8(&self.here()[..at]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let size = size.ok_or_else(|| io::Error::other("a chunk without a size"))?;
            self.start += at + 2;
            self.skip(stream, size + 2)?;
            total += size;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    /// Exactly so many bytes.
    pub fn exactly(&mut self, stream: &mut impl Read, length: usize) -> io::Result<&[u8]> {
        while self.end - self.start < length {
            self.need(stream)?;
        }
        self.start += length;
        Ok(&self.buffer[self.start - length..self.start])
    }

    /// The same, `None` at an end before the first of them.
    pub fn exactly_or_end(
        &mut self,
        stream: &mut impl Read,
        length: usize,
    ) -> io::Result<Option<&[u8]>> {
        if self.start == self.end && !self.more(stream)? {
            return Ok(None);
        }
        self.exactly(stream, length).map(Some)
    }
}

fn framing(head: &[u8]) -> Framing {
    let mut framing = Framing::Length(0);
    for field in head.split(|byte| *byte == b'\n').skip(1) {
        let Some(colon) = field.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
            framing = Framing::Length(length.unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunked;
        }
    }
    framing
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|part| part == what)
}
