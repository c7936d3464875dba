//! Checks a peer's heads before the `h2` crate reads them.
//!
//! The crate decodes a head into types of the `http` crate, and ends the connection if these can't hold it: one
//! control character in one field of one response would fail the requests of all clients on a backend's session. RFC
//! 9113 §8.1.1 makes that an error of the one stream only. So each header block is checked first:
//!
//! - A block that the crate can accept is passed on unchanged. Those are nearly all.
//! - From the first other block of a connection on, blocks are rewritten as literals: the content of the crate's
//!   tables doesn't matter any more. A malformed head is replaced by one that the crate answers with a stream error;
//!   a target that the `http` crate can't hold is carried past it ([`super::carrier`]).
//!
//! Blocks that violate HPACK, and invalid frames, are passed on unchanged to the crate, which then ends the
//! connection.

mod judge;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame_header::{
    BlockExtent, CONTINUATION, END_HEADERS, END_STREAM, FRAME_HEADER, FrameHeader, HEADERS,
    MAX_PAYLOAD, PUSH_PROMISE, block_extent, gather, put_block,
};
use super::hpack::{
    BlockPiece, BlockReader, FIELD_OVERHEAD, FieldBuffer, FieldTable, HpackError, put_literal,
};
use super::meter::PREFACE;
use judge::{BlockPlace, FieldFate, is_surely_kept, judge_field};

/// The sender of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadSender {
    /// A client, which sends requests.
    Client,
    /// A backend, which sends responses.
    Backend,
}

/// A block that refers to an entry which no table has, so that no decoder accepts it.
const UNDECODABLE: [u8; 1] = [0x80];

/// Checks the heads in one direction of a connection.
#[derive(Debug)]
pub struct HeadSieve {
    sender: HeadSender,
    /// Maximum size of a head, in bytes plus 32 for each field (RFC 9113 §6.5.2).
    most: usize,
    table: FieldTable,
    field: FieldBuffer,
    /// Whether blocks are rewritten.
    is_rewriting: bool,
    /// Whether the connection is about to end: nothing is checked any more.
    is_off: bool,
    /// Remaining bytes of the preface or of a frame's payload.
    skip: usize,
    /// Withheld bytes; they begin with a frame header.
    held: Vec<u8>,
    /// Bytes to be read, from `ready_from` on.
    ready: Vec<u8>,
    ready_from: usize,
    /// A block that is too long to be withheld until it is complete.
    open: Option<OpenBlock>,
}

/// A block that is being processed.
#[derive(Debug)]
struct OpenBlock {
    place: BlockPlace,
    stream: u32,
    /// Whether its first frame was processed.
    has_begun: bool,
    /// Bytes that have not been decoded: an incomplete field.
    rest: Vec<u8>,
    /// The rewritten block.
    block: Vec<u8>,
    /// The part of the rewritten block that has to follow all pseudo-header fields.
    behind: Vec<u8>,
    is_rewritten: bool,
    is_malformed: bool,
    /// Size of the head so far, counted like [`HeadSieve::most`].
    size: usize,
}

/// The result of scanning a part of the stream: `passed` bytes are passed on unchanged, followed by `then`.
#[derive(Debug, PartialEq, Eq)]
struct Scanned {
    passed: usize,
    then: ThenFound,
}

#[derive(Debug, PartialEq, Eq)]
enum ThenFound {
    /// The scanned bytes end.
    End,
    /// A frame or block follows of which too few bytes have arrived.
    Partial,
    /// A block of this many bytes follows; its replacement, if any, is in `ready`.
    Replaced(usize),
}

impl HeadSieve {
    /// Creates a sieve for a new connection. `most`: maximum size of a head, in bytes plus 32 for each field.
    pub fn new(sender: HeadSender, most: usize) -> Self {
        Self {
            sender,
            most,
            table: FieldTable::default(),
            field: FieldBuffer::default(),
            is_rewriting: false,
            is_off: false,
            skip: match sender {
                HeadSender::Client => PREFACE.len(),
                HeadSender::Backend => 0,
            },
            held: Vec::new(),
            ready: Vec::new(),
            ready_from: 0,
            open: None,
        }
    }

    /// Processes bytes that were read. Returns how many of them are passed on unchanged; the rest is kept here.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            self.follow_held();
            return 0;
        }
        let scanned = self.scan(bytes);
        let rest = match scanned.then {
            ThenFound::End => return scanned.passed,
            ThenFound::Partial => scanned.passed,
            ThenFound::Replaced(count) => scanned.passed + count,
        };
        self.held.extend_from_slice(&bytes[rest..]);
        self.follow_held();
        scanned.passed
    }

    fn follow_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        loop {
            let before = self.ready.len();
            let scanned = self.scan(&held[at..]);
            // Replacements were appended, but belong after the bytes that are passed on unchanged.
            let replaced = self.ready.split_off(before);
            self.ready.extend_from_slice(&held[at..at + scanned.passed]);
            self.ready.extend_from_slice(&replaced);
            at += scanned.passed;
            match scanned.then {
                ThenFound::Replaced(count) => at += count,
                ThenFound::End | ThenFound::Partial => break,
            }
        }
        self.held.extend_from_slice(&held[at..]);
    }

    fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        let then = loop {
            if self.is_off {
                at = bytes.len();
            }
            let count = self.skip.min(bytes.len() - at);
            self.skip -= count;
            at += count;
            let rest = &bytes[at..];
            if rest.is_empty() {
                break ThenFound::End;
            }
            let Some(header) = FrameHeader::parse(rest) else {
                break ThenFound::Partial;
            };
            if self.open.is_some() {
                match self.go_on(&header, rest) {
                    Some(then) => break then,
                    None => continue,
                }
            }
            match header.kind {
                HEADERS => match block_extent(rest) {
                    BlockExtent::Whole(count) => match self.take_block(&header, &rest[..count]) {
                        true => break ThenFound::Replaced(count),
                        false => at += count,
                    },
                    BlockExtent::Partial if rest.len() > self.most + MAX_PAYLOAD => {
                        self.open = Some(self.open_block(&header));
                    }
                    BlockExtent::Partial => break ThenFound::Partial,
                    BlockExtent::Broken => self.is_off = true,
                },
                PUSH_PROMISE => self.is_off = true,
                _ => {
                    at += FRAME_HEADER;
                    self.skip = header.length;
                }
            }
        };
        Scanned { passed: at, then }
    }

    fn open_block(&self, header: &FrameHeader) -> OpenBlock {
        let place = BlockPlace {
            sender: self.sender,
            ends_stream: header.has(END_STREAM),
        };
        OpenBlock {
            place,
            stream: header.stream,
            has_begun: false,
            rest: Vec::new(),
            block: Vec::new(),
            behind: Vec::new(),
            is_rewritten: self.is_rewriting,
            is_malformed: false,
            size: 0,
        }
    }

    /// Processes a complete block. Returns true if its replacement is in `ready`.
    fn take_block(&mut self, header: &FrameHeader, frames: &[u8]) -> bool {
        let gathered;
        let fragment = if header.size() == frames.len() {
            header.fragment(frames)
        } else {
            gathered = gather(frames);
            gathered.as_deref()
        };
        let Some(fragment) = fragment else {
            self.is_off = true;
            return false;
        };
        let mut open = self.open_block(header);
        let outcome = self.feed(&mut open, fragment);
        if outcome.is_err() || !open.rest.is_empty() {
            self.is_off = true;
            if open.is_rewritten {
                put_block(&mut self.ready, open.stream, false, &UNDECODABLE);
            }
            return open.is_rewritten;
        }
        if open.is_rewritten {
            self.finish(open);
            return true;
        }
        false
    }

    /// Continues a block that consists of more frames than are withheld. `None`: it is not continued.
    fn go_on(&mut self, header: &FrameHeader, bytes: &[u8]) -> Option<ThenFound> {
        let mut open = self.open.take()?;
        let wanted = if open.has_begun {
            CONTINUATION
        } else {
            HEADERS
        };
        let fits =
            header.stream == open.stream && header.kind == wanted && header.length <= MAX_PAYLOAD;
        if !fits {
            // The crate has not seen the block's beginning: it gets a block that it can't decode instead.
            return Some(self.break_off(open.stream, 0));
        }
        if header.size() > bytes.len() {
            self.open = Some(open);
            return Some(ThenFound::Partial);
        }
        (open.has_begun, open.is_rewritten) = (true, true);
        let mut fragment = std::mem::take(&mut open.rest);
        let Some(more) = header.fragment(bytes) else {
            return Some(self.break_off(open.stream, header.size()));
        };
        fragment.extend_from_slice(more);
        let is_last = header.has(END_HEADERS);
        let outcome = self.feed(&mut open, &fragment);
        let is_lost = is_last && !open.rest.is_empty() || open.rest.len() > self.most;
        if outcome.is_err() || is_lost {
            return Some(self.break_off(open.stream, header.size()));
        }
        match is_last {
            true => self.finish(open),
            false => self.open = Some(open),
        }
        Some(ThenFound::Replaced(header.size()))
    }

    fn break_off(&mut self, stream: u32, count: usize) -> ThenFound {
        self.is_off = true;
        put_block(&mut self.ready, stream, false, &UNDECODABLE);
        ThenFound::Replaced(count)
    }

    /// Decodes as much as possible.
    fn feed(&mut self, open: &mut OpenBlock, fragment: &[u8]) -> Result<(), HpackError> {
        let mut reader = BlockReader::new(fragment);
        loop {
            let begin = reader.position();
            let piece = match reader.next_piece(&mut self.table, &mut self.field) {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(()),
                Err(HpackError::Incomplete) => {
                    open.rest = fragment[begin..].to_vec();
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let (name, value) = match piece {
                BlockPiece::Resize => continue,
                BlockPiece::Indexed(index) => self.table.get(index)?,
                BlockPiece::Literal => self.field.parts(),
            };
            let was_excess = open.size > self.most;
            open.size += name.len() + value.len() + FIELD_OVERHEAD;
            // The crate answers a request that is too large, with 431.
            let is_excess = open.size > self.most && self.sender == HeadSender::Backend;
            let fate = match piece {
                _ if is_excess => FieldFate::Malformed,
                BlockPiece::Indexed(index)
                    if !open.is_rewritten && is_surely_kept(index, open.place) =>
                {
                    continue;
                }
                _ => judge_field(open.place, name, value),
            };
            if !open.is_rewritten {
                if fate == FieldFate::Kept {
                    continue;
                }
                // The bytes before this field mean the same to the crate.
                open.is_rewritten = true;
                open.block.extend_from_slice(&fragment[..begin]);
            }
            if !open.is_malformed && !was_excess {
                open.put(name, value, fate);
            }
        }
    }

    /// Appends a rewritten block to the bytes to be read.
    fn finish(&mut self, mut open: OpenBlock) {
        self.is_rewriting = true;
        if open.is_malformed {
            open.block.clear();
            // The crate treats this as a stream error (RFC 9113 §8.2.2).
            put_literal(&mut open.block, b"connection", b"close");
        } else {
            open.block.extend_from_slice(&open.behind);
        }
        put_block(
            &mut self.ready,
            open.stream,
            open.place.ends_stream,
            &open.block,
        );
    }

    fn has_ready(&self) -> bool {
        self.ready_from < self.ready.len()
    }

    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.ready_from..];
        let count = rest.len().min(out.remaining());
        out.put_slice(&rest[..count]);
        self.ready_from += count;
        if !self.has_ready() {
            self.ready = Vec::new();
            self.ready_from = 0;
        }
    }

    /// Handles the end of the stream: withheld bytes are all that there is.
    fn end(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.ready.extend_from_slice(&held);
    }
}

impl OpenBlock {
    fn put(&mut self, name: &[u8], value: &[u8], fate: FieldFate) {
        match fate {
            FieldFate::Kept => put_literal(&mut self.block, name, value),
            FieldFate::Malformed => self.is_malformed = true,
            FieldFate::CarriedPath => {
                super::carrier::cover_path(&mut self.block, &mut self.behind, value);
            }
            FieldFate::CarriedAuthority => {
                super::carrier::cover_authority(&mut self.block, &mut self.behind, value);
            }
        }
    }
}

/// A connection whose peer's heads are checked.
pub struct SievedStream<S> {
    stream: S,
    sieve: HeadSieve,
}

impl<S> SievedStream<S> {
    /// Checks the bytes read from `stream`.
    pub fn new(stream: S, sieve: HeadSieve) -> Self {
        Self { stream, sieve }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SievedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            if this.sieve.has_ready() {
                this.sieve.hand_out(out);
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
            let read = &out.filled()[before..];
            if read.is_empty() {
                this.sieve.end();
                if !this.sieve.has_ready() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let passed = this.sieve.follow(read);
            out.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SievedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
