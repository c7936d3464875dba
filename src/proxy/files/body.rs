//! Sends a file to its client.
//!
//! No part of the file is kept in memory for a slow client: bytes that it did not accept are read again from the page
//! cache later. Only bytes that had to be read from a disk are kept until they are written, and the output of an
//! encoder (`encoding.rs`).
//!
//! If the client's stream is a plain socket and the kernel reports that the bytes are in memory, the kernel sends
//! them itself (`sendfile`), and nothing is copied. In all other cases the bytes are read and written.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::disk::{DiskBusyError, run_on_disk};
use super::encoding::EncodedBody;
use crate::config;
use crate::core::Time;
use crate::metrics::ServerLimit;
use crate::net::send_file::{poll_file_room, poll_send_file, takes_files};
use crate::net::socket::unsent;
use crate::proxy::buffer::LARGE;
use crate::proxy::client::ClientConnection;
use crate::proxy::compression::BodyEncoder;
use crate::proxy::forward::min_rate::MinRatePace;
use crate::proxy::memory::MemoryCharge;
use crate::rt::clock;
use crate::rt::coop::yield_to_reactor;
use crate::rt::page_cache::{HeldFile, is_in_memory_lately};
use crate::rt::rooted::{DiskWait, read_at};
use crate::rt::shutdown_signal::ShutdownLevel;

/// Number of bytes that one response moves before the thread turns to other tasks; the same as for backends'
/// responses.
const TURN: usize = 128 * 1024;

/// Number of bytes that the kernel is asked to send at once: four turns in one, since nothing is copied. Half a
/// mebibyte takes a processor a tenth of a millisecond.
const SENT_PART: u64 = 512 * 1024;

/// Fewer bytes than this are copied: that is faster than asking the kernel whether it has them in memory.
const LEAST_SENT: u64 = 16 * 1024;

/// Timeout for one piece from the disk; a slower disk counts as broken.
const DISK_PATIENCE: Duration = Duration::from_secs(30);

/// A part of a file, and the text before it.
#[derive(Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// Text that precedes the bytes of the file.
    pub before: Vec<u8>,
    /// Bytes of the file.
    pub range: Range<u64>,
}

/// A response with a file: the head, then parts of the file, then a final text.
#[derive(Debug)]
pub struct FileBody {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// The file's identity.
    pub identity: HeldFile,
    /// The file's size in bytes.
    pub size: u64,
    /// The response head.
    pub head: Vec<u8>,
    /// The parts of the file.
    pub parts: Vec<BodyPart>,
    /// The text after the parts.
    pub after: Vec<u8>,
    /// The encoder for the file's bytes. With an encoder, no part has text before it.
    pub encoder: Option<BodyEncoder>,
}

/// Why a file could not be sent completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFileError {
    /// The client disconnected.
    ClientGone,
    /// A limit of `[server]` was exceeded.
    Limited(ServerLimit),
    /// It was cut off at the end of the process.
    CutByShutdown,
    /// The file became shorter while it was sent.
    Shortened,
    /// Reading from the disk failed.
    Unreadable,
    /// The disk takes too long, or too many requests wait for it.
    Slow,
    /// Compression failed.
    Unencodable,
}

impl SendFileError {
    /// Returns the cause for the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "",
            Self::Limited(_) => "the client took too long",
            Self::CutByShutdown => "cut by the shutdown's deadline",
            Self::Shortened => "the file became shorter while it was sent",
            Self::Unreadable => "the file could not be read",
            Self::Slow => "the disk took too long",
            Self::Unencodable => "the file could not be compressed",
        }
    }
}

thread_local! {
    /// The bytes that are being written at the moment.
    pub(super) static PIECE: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGE].into_boxed_slice());
}

type DiskRead = Pin<Box<dyn Future<Output = Result<io::Result<Vec<u8>>, DiskBusyError>> + Send>>;

/// Sends a file. Returns how many bytes were written, and how it ended.
pub async fn send_file(
    client: &mut ClientConnection,
    body: FileBody,
    server: &config::ServerConfig,
    ends: Option<Time>,
) -> (u64, Result<(), SendFileError>) {
    let sends = takes_files(&client.stream);
    let mut sending = SendingFile {
        client,
        sends,
        encoded: body.encoder.map(EncodedBody::new),
        file: body.file,
        identity: body.identity,
        size: body.size,
        text: body.head,
        text_sent: 0,
        range: 0..0,
        parts: body.parts.into_iter(),
        after: body.after,
        held: HeldPiece::default(),
        reading: None,
        reading_since: Time::ZERO,
        progress: clock::now(),
        is_stalled: false,
        pace: MinRatePace::new(server.response_pace()),
        body_timeout: server.body_timeout,
        ends,
        written: 0,
    };
    let end = poll_fn(|cx| sending.poll(cx)).await;
    (sending.written, end)
}

/// Bytes read from a disk, and their offset in the file.
#[derive(Debug, Default)]
pub(super) struct HeldPiece {
    bytes: Vec<u8>,
    start: u64,
    charge: MemoryCharge,
}

impl HeldPiece {
    fn hold(&mut self, bytes: Vec<u8>, start: u64) {
        self.charge.set(bytes.len());
        (self.bytes, self.start) = (bytes, start);
    }

    /// Returns the piece's bytes from offset `at` of the file on.
    pub(super) fn from(&self, at: u64) -> &[u8] {
        let skip = at
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..))
            .unwrap_or_default()
    }
}

pub(super) struct SendingFile<'a> {
    client: &'a mut ClientConnection,
    /// Whether the kernel may send the file itself.
    sends: bool,
    pub(super) file: Arc<OwnedFd>,
    identity: HeldFile,
    size: u64,
    /// The encoder in use: until its end, bytes of `range` are added to `text` only through it.
    pub(super) encoded: Option<EncodedBody>,
    /// Text that is sent before `range`.
    pub(super) text: Vec<u8>,
    pub(super) text_sent: usize,
    /// The rest of the current part of the file.
    pub(super) range: Range<u64>,
    /// The parts that follow.
    pub(super) parts: std::vec::IntoIter<BodyPart>,
    after: Vec<u8>,
    pub(super) held: HeldPiece,
    reading: Option<DiskRead>,
    reading_since: Time,
    progress: Time,
    /// Whether the client did not accept all the data that there was for it.
    is_stalled: bool,
    pace: MinRatePace,
    body_timeout: Duration,
    ends: Option<Time>,
    written: u64,
}

/// How writing a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceWritten {
    /// All of it was written.
    Whole,
    /// The client accepts no more for now.
    Stalled,
    /// The piece has to be read from a disk first.
    Unread,
}

impl SendingFile<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFileError>> {
        let mut turn = TURN;
        loop {
            if turn == 0 {
                yield_to_reactor(cx);
                // The wait is for the disk, not for the client.
                if !self.is_stalled {
                    self.progress = clock::now();
                }
                return self.poll_interrupted(cx);
            }
            if self.reading.is_some() && self.poll_disk(cx)?.is_pending() {
                return self.poll_interrupted(cx);
            }
            if self.is_to_encode() {
                if self.encode_step(&mut turn)? == PieceWritten::Unread {
                    self.read_from_disk();
                }
                continue;
            }
            if self.text_sent == self.text.len() && self.range.is_empty() {
                match self.parts.next() {
                    Some(part) => (self.text, self.range) = (part.before, part.range),
                    None if self.after.is_empty() => return self.poll_end(cx),
                    None => self.text = std::mem::take(&mut self.after),
                }
                self.text_sent = 0;
                continue;
            }
            // The head alone would be a packet of its own, so the bytes after it are added.
            if self.encoded.is_none()
                && self.range.is_empty()
                && let [part, ..] = self.parts.as_slice()
                && part.before.is_empty()
            {
                self.range = part.range.clone();
                let _ = self.parts.next();
            }
            match self.write_piece(cx, &mut turn)? {
                PieceWritten::Whole => {}
                PieceWritten::Stalled => {
                    if !std::mem::replace(&mut self.is_stalled, true) {
                        self.progress = clock::now();
                    }
                    if self.pace.wants_to_know() {
                        self.pace.wait(clock::now());
                    }
                    return self.poll_interrupted(cx);
                }
                PieceWritten::Unread => self.read_from_disk(),
            }
        }
    }

    /// Writes the rest of the text, and a piece of the file.
    fn write_piece(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut usize,
    ) -> Result<PieceWritten, SendFileError> {
        let wanted = usize::try_from(self.range.end - self.range.start)
            .unwrap_or(LARGE)
            .min(LARGE);
        if wanted == 0 || self.encoded.is_some() {
            return self.write_from(cx, turn, None);
        }
        if let Some(sent) = self.send_piece(cx, turn)? {
            return Ok(sent);
        }
        if !self.held.from(self.range.start).is_empty() {
            let held = std::mem::take(&mut self.held);
            let piece = held.from(self.range.start);
            let piece = &piece[..piece.len().min(wanted)];
            let end = self.range.start + piece.len() as u64;
            let written = self.write_from(cx, turn, Some(piece));
            if self.range.start < end {
                self.held = held;
            }
            return written;
        }
        PIECE.with_borrow_mut(|space| {
            match read_at(
                &self.file,
                &mut space[..wanted],
                self.range.start,
                DiskWait::Never,
            ) {
                Ok(0) => Err(SendFileError::Shortened),
                Ok(count) => self.write_from(cx, turn, Some(&space[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(PieceWritten::Unread),
                Err(_) => Err(SendFileError::Unreadable),
            }
        })
    }

    /// Lets the kernel send the rest of the text, and a piece of the file; `None`: not possible for this piece.
    fn send_piece(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut usize,
    ) -> Result<Option<PieceWritten>, SendFileError> {
        let left = self.range.end - self.range.start;
        if !self.sends || left < LEAST_SENT || !self.held.bytes.is_empty() {
            return Ok(None);
        }
        // Checked before the page cache, whose check would be useless while the client accepts nothing.
        match poll_file_room(&self.client.stream, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Err(SendFileError::ClientGone),
            Poll::Pending => return Ok(Some(PieceWritten::Stalled)),
        }
        // Aligned parts of the file, the same for all clients: one check serves all of them.
        let part = self.range.start - self.range.start % SENT_PART;
        let part = part..(part + SENT_PART).min(self.size.max(self.range.end));
        let count = left.min(part.end - self.range.start);
        match is_in_memory_lately(&self.file, self.identity, part, clock::now()) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(_) => {
                self.sends = false;
                return Ok(None);
            }
        }
        let text = &self.text[self.text_sent..];
        let length = text.len();
        let sent = poll_send_file(
            &self.client.stream,
            cx,
            text,
            &self.file,
            self.range.start,
            count as usize,
        );
        match sent {
            Poll::Ready(Ok(0)) => Err(SendFileError::Shortened),
            Poll::Ready(Ok(sent)) => {
                self.note_written(sent, length, turn);
                Ok(Some(PieceWritten::Whole))
            }
            // This file system doesn't support `sendfile`: read and write instead. That also reports a broken
            // connection.
            Poll::Ready(Err(_)) => {
                self.sends = false;
                Ok(None)
            }
            Poll::Pending => Ok(Some(PieceWritten::Stalled)),
        }
    }

    /// Notes accepted bytes: first those of the text, of which `of_text` were left, then those of the file.
    fn note_written(&mut self, count: usize, of_text: usize, turn: &mut usize) {
        let of_text = count.min(of_text);
        self.text_sent += of_text;
        self.range.start += (count - of_text) as u64;
        self.written += count as u64;
        self.client.is_answered = true;
        *turn = turn.saturating_sub(count);
        self.is_stalled = false;
        if self.pace.is_waiting() {
            self.pace.moved(clock::now());
        }
    }

    /// Writes until the text and this piece are sent, or the client accepts no more.
    fn write_from(
        &mut self,
        cx: &mut Context<'_>,
        turn: &mut usize,
        piece: Option<&[u8]>,
    ) -> Result<PieceWritten, SendFileError> {
        let mut piece = piece.unwrap_or_default();
        loop {
            let text = &self.text[self.text_sent..];
            let stream = Pin::new(&mut *self.client.stream);
            let written = match (text, piece) {
                ([], []) => return Ok(PieceWritten::Whole),
                (text, []) => stream.poll_write(cx, text),
                ([], piece) => stream.poll_write(cx, piece),
                (text, piece) => {
                    stream.poll_write_vectored(cx, &[IoSlice::new(text), IoSlice::new(piece)])
                }
            };
            match written {
                Poll::Ready(Ok(count)) if count > 0 => {
                    let of_text = text.len();
                    piece = &piece[count - count.min(of_text)..];
                    self.note_written(count, of_text, turn);
                }
                Poll::Ready(_) => return Err(SendFileError::ClientGone),
                Poll::Pending => return Ok(PieceWritten::Stalled),
            }
        }
    }

    fn read_from_disk(&mut self) {
        let wanted = usize::try_from(self.range.end - self.range.start)
            .unwrap_or(LARGE)
            .min(LARGE);
        let (file, start) = (self.file.clone(), self.range.start);
        self.reading_since = clock::now();
        self.reading = Some(Box::pin(run_on_disk(move || {
            let mut space = vec![0; wanted];
            let count = read_at(&file, &mut space, start, DiskWait::Allowed)?;
            space.truncate(count);
            Ok(space)
        })));
    }

    /// Waits for a piece from the disk.
    fn poll_disk(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, SendFileError> {
        let Some(reading) = &mut self.reading else {
            return Ok(Poll::Ready(()));
        };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else {
            return Ok(Poll::Pending);
        };
        self.reading = None;
        // The time spent waiting for the disk doesn't count against the client.
        self.progress = clock::now();
        match read {
            Ok(Ok(bytes)) if bytes.is_empty() => Err(SendFileError::Shortened),
            Ok(Ok(bytes)) => {
                self.held.hold(bytes, self.range.start);
                Ok(Poll::Ready(()))
            }
            Ok(Err(_)) => Err(SendFileError::Unreadable),
            Err(DiskBusyError) => Err(SendFileError::Slow),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFileError>> {
        match Pin::new(&mut *self.client.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(_)) => Poll::Ready(Err(SendFileError::ClientGone)),
            Poll::Pending => self.poll_interrupted(cx),
        }
    }

    /// Ready: the response is interrupted before its end.
    fn poll_interrupted(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFileError>> {
        self.client.interrupt.register(cx.waker());
        if self.client.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(Err(SendFileError::CutByShutdown));
        }
        let (mut at, mut failure) = match self.reading {
            Some(_) => (self.reading_since + DISK_PATIENCE, SendFileError::Slow),
            None => (
                self.progress.saturating_add(self.body_timeout),
                SendFileError::Limited(ServerLimit::BodyTimeout),
            ),
        };
        let mut sooner = |end: Option<Time>, limit| {
            if let Some(end) = end.filter(|end| *end < at) {
                (at, failure) = (end, SendFileError::Limited(limit));
            }
        };
        if self.pace.is_waiting() {
            let taken = self.written.saturating_sub(unsent(&self.client.stream));
            sooner(self.pace.deadline(taken), ServerLimit::ResponseRate);
        }
        sooner(self.ends, ServerLimit::TotalTimeout);
        ready!(self.client.timer.poll(cx, at));
        Poll::Ready(Err(failure))
    }
}
