//! Strict parsing of chunked bodies (RFC 9112 §7.1).
//!
//! Usage: one [`ChunkDecoder`] per body. [`ChunkDecoder::skip_body`] finds the end of a body whose raw bytes are
//! passed on unchanged; [`ChunkDecoder::decode`] extracts the chunks' content. Feed each byte once, in slices of any
//! size; the first number returned says how many bytes of the slice belong to the body. When it is complete, the rest
//! of the slice belongs to the next message.
//!
//! Every line must end in CR LF, sizes have at most 16 hex digits and are below 2^63, the total size of extensions
//! and trailers is limited, and no trailer may change where a message ends, where it goes or who sent it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fields::{is_tchar, is_value_byte};
use super::sections::{FieldSection, NAME_ROOM};
use crate::core::field_names::FieldNames;

/// Maximum size of all chunk extensions in one body, in bytes. Nobody uses any; without a limit, one-byte chunks with
/// long extensions would be expensive and deliver nothing.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Maximum size of the extensions of one chunk, in bytes.
const MAX_EXTENSION: usize = 256;
/// Maximum number of digits of a chunk size: as many as fit into 64 bits. The size itself must fit into a signed
/// 64-bit number, which many apps use (as with `Content-Length`).
const MAX_DIGITS: u8 = 16;

/// Why a chunked body is refused. Its end is unknown, so the connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "`reason` says what each one means")]
pub enum ChunkError {
    BadSize,
    BadExtension,
    ExtensionsTooLong,
    BadLineEnd,
    BadTrailer,
    TrailersTooLong,
    ForbiddenTrailer,
}

impl ChunkError {
    /// Returns the reason in a few words that never change.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadSize => "malformed chunk size",
            Self::BadExtension => "malformed chunk extension",
            Self::ExtensionsTooLong => "chunk extensions too long",
            Self::BadLineEnd => "chunk not ended by CR LF",
            Self::BadTrailer => "malformed trailer",
            Self::TrailersTooLong => "trailers too long",
            Self::ForbiddenTrailer => "forbidden trailer",
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ChunkError {}

/// The part of the encoding to which the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChunkState {
    Size,
    /// Whitespace after the size: only an extension may follow.
    SizePadding,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
    #[serde(skip)]
    Failed(ChunkError),
}

/// A position in a body, from which another decoder can continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPosition {
    state: ChunkState,
    digits: u8,
    remaining: u64,
    payload: u64,
    extension: usize,
    extensions: usize,
}

/// The decoder of one chunked body.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: ChunkState,
    digits: u8,
    /// Bytes of the current chunk that have not arrived yet.
    remaining: u64,
    payload: u64,
    extension: usize,
    extensions: usize,
    trailers: usize,
    max_trailer: usize,
    /// Response rules apply: blanks between a size and its CR LF are accepted, and fewer trailers are refused.
    of_response: bool,
    name: [u8; NAME_ROOM],
    name_len: usize,
    /// Names of header fields that only the proxy may set, in the head and in trailers.
    forbidden: Option<Arc<FieldNames>>,
}

/// The next part of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPiece {
    /// Number of framing bytes, trailers included.
    pub framing: usize,
    /// Number of content bytes after them that have arrived.
    pub content: usize,
}

impl ChunkDecoder {
    /// Creates a decoder for a new body. `max_trailer` limits the size of all trailer lines together, in bytes.
    pub fn new(max_trailer: usize) -> Self {
        Self {
            state: ChunkState::Size,
            digits: 0,
            remaining: 0,
            payload: 0,
            extension: 0,
            extensions: 0,
            trailers: 0,
            max_trailer,
            of_response: false,
            name: [0; NAME_ROOM],
            name_len: 0,
            forbidden: None,
        }
    }

    /// Also refuses trailers with these names: a receiver that merges trailers into the header would act on them.
    pub fn forbid_trailers(&mut self, names: Arc<FieldNames>) {
        self.forbidden = Some(names);
    }

    /// Creates a decoder for a response body, which accepts blanks between a size and its CR LF. Old servers pad
    /// sizes to a fixed width, and every client understands that; no honest client sends them.
    pub fn of_response(max_trailer: usize) -> Self {
        Self {
            of_response: true,
            ..Self::new(max_trailer)
        }
    }

    /// Returns the position in the body, for a decoder that continues from there; `None` within the trailers, and
    /// after the end or an error.
    pub fn position(&self) -> Option<ChunkPosition> {
        use ChunkState::{Data, DataCr, DataLf, Extension, Size, SizeLf, SizePadding};
        let is_within = matches!(
            self.state,
            Size | SizePadding | Extension | SizeLf | Data | DataCr | DataLf
        );
        is_within.then_some(ChunkPosition {
            state: self.state,
            digits: self.digits,
            remaining: self.remaining,
            payload: self.payload,
            extension: self.extension,
            extensions: self.extensions,
        })
    }

    /// Creates a decoder for a response body at this position.
    pub fn of_response_at(position: ChunkPosition, max_trailer: usize) -> Self {
        Self {
            state: position.state,
            digits: position.digits,
            remaining: position.remaining,
            payload: position.payload,
            extension: position.extension,
            extensions: position.extensions,
            ..Self::of_response(max_trailer)
        }
    }

    /// Returns the number of content bytes so far, without the framing: the number that a limit on the body size
    /// applies to.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Returns whether the decoder is between two chunks, and nothing of the next one has arrived.
    pub fn is_between_chunks(&self) -> bool {
        self.state == ChunkState::Size && self.digits == 0
    }

    /// Returns whether the body is complete.
    pub fn is_complete(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Follows the body without extracting its content; returns how many bytes of `input` belong to it, and whether
    /// it is complete.
    ///
    /// # Errors
    /// Why these bytes are not valid chunked encoding. The decoder stays in that state: every later call returns the
    /// same error.
    pub fn skip_body(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        self.run(input, |_| {})
    }

    /// Like [`ChunkDecoder::skip_body`], and appends the content to `out`. Trailers are dropped.
    ///
    /// # Errors
    /// The same as for [`ChunkDecoder::skip_body`]. `out` has the content before the error.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), ChunkError> {
        self.run(input, |data| out.extend_from_slice(data))
    }

    /// For callers that take content and trailers at their own pace: skips framing, up to the next content. Trailer
    /// lines, including the empty line after them, are appended to `trailers` as they were sent. Content that the
    /// caller has taken is then reported with [`ChunkDecoder::took`].
    ///
    /// # Errors
    /// The same as for [`ChunkDecoder::skip_body`].
    pub fn next_piece(
        &mut self,
        input: &[u8],
        trailers: &mut Vec<u8>,
    ) -> Result<ChunkPiece, ChunkError> {
        let mut framing = 0;
        while framing < input.len() && !matches!(self.state, ChunkState::Data | ChunkState::Done) {
            if let ChunkState::Failed(error) = self.state {
                return Err(error);
            }
            let byte = input[framing];
            if matches!(
                self.state,
                ChunkState::TrailerStart
                    | ChunkState::TrailerName
                    | ChunkState::TrailerValue
                    | ChunkState::TrailerLf
                    | ChunkState::LastLf
            ) {
                trailers.push(byte);
            }
            if let Err(error) = self.step(byte) {
                self.state = ChunkState::Failed(error);
                return Err(error);
            }
            framing += 1;
        }
        let here = (input.len() - framing) as u64;
        let content = match self.state {
            ChunkState::Data => self.remaining.min(here) as usize,
            _ => 0,
        };
        Ok(ChunkPiece { framing, content })
    }

    /// Notes that the caller has taken `count` bytes of content.
    pub fn took(&mut self, count: usize) {
        self.remaining = self.remaining.saturating_sub(count as u64);
        self.payload = self.payload.saturating_add(count as u64);
        if self.remaining == 0 && self.state == ChunkState::Data {
            self.state = ChunkState::DataCr;
        }
    }

    #[inline]
    fn run(
        &mut self,
        input: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<(usize, bool), ChunkError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                ChunkState::Data => {
                    let here = usize::try_from(self.remaining)
                        .unwrap_or(usize::MAX)
                        .min(input.len() - at);
                    content(&input[at..at + here]);
                    at += here;
                    self.remaining -= here as u64;
                    self.payload = self.payload.saturating_add(here as u64);
                    if self.remaining == 0 {
                        self.state = ChunkState::DataCr;
                    }
                }
                ChunkState::Done => break,
                ChunkState::Failed(error) => return Err(error),
                _ => {
                    if let Err(error) = self.step(input[at]) {
                        self.state = ChunkState::Failed(error);
                        return Err(error);
                    }
                    at += 1;
                }
            }
        }
        match self.state {
            ChunkState::Failed(error) => Err(error),
            state => Ok((at, state == ChunkState::Done)),
        }
    }

    /// Processes one byte of framing.
    fn step(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (ChunkState::Size, b'\r') if self.digits > 0 => ChunkState::SizeLf,
            (ChunkState::Size, b';') if self.digits > 0 => self.extension(0)?,
            (ChunkState::Size, b' ' | b'\t') if self.digits > 0 => {
                self.extension(0)?;
                ChunkState::SizePadding
            }
            (ChunkState::Size, _) => self.size_digit(byte)?,
            // Whitespace before an extension must be accepted (RFC 9112 §7.1.1), before CR LF it may be refused.
            (ChunkState::SizePadding, b' ' | b'\t') => self.padding()?,
            (ChunkState::SizePadding, b';') => self.extension(1)?,
            (ChunkState::SizePadding, b'\r') if self.of_response => ChunkState::SizeLf,
            (ChunkState::SizePadding, _) => return Err(ChunkError::BadSize),
            (ChunkState::Extension, b'\r') => ChunkState::SizeLf,
            (ChunkState::Extension, _) if is_value_byte(byte) => self.extension(1)?,
            (ChunkState::Extension, _) => return Err(ChunkError::BadExtension),
            (ChunkState::SizeLf, b'\n') => self.size_done(),
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size,
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLf,
            (ChunkState::TrailerStart | ChunkState::TrailerName, _) => self.trailer_name(byte)?,
            (ChunkState::TrailerValue, b'\r') => ChunkState::TrailerLf,
            (ChunkState::TrailerValue, _) if is_value_byte(byte) => {
                self.trailer_byte(ChunkState::TrailerValue)?
            }
            (ChunkState::TrailerValue, _) => return Err(ChunkError::BadTrailer),
            (ChunkState::TrailerLf, b'\n') => ChunkState::TrailerStart,
            (ChunkState::LastLf, b'\n') => ChunkState::Done,
            _ => return Err(ChunkError::BadLineEnd),
        };
        Ok(())
    }

    fn size_digit(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(ChunkError::BadSize),
        };
        if self.digits == MAX_DIGITS {
            return Err(ChunkError::BadSize);
        }
        self.digits += 1;
        self.remaining = self.remaining << 4 | u64::from(digit);
        if self.remaining > i64::MAX as u64 {
            return Err(ChunkError::BadSize);
        }
        Ok(ChunkState::Size)
    }

    fn size_done(&mut self) -> ChunkState {
        self.digits = 0;
        self.extension = 0;
        if self.remaining == 0 {
            ChunkState::TrailerStart
        } else {
            ChunkState::Data
        }
    }

    fn extension(&mut self, bytes: usize) -> Result<ChunkState, ChunkError> {
        self.extension += bytes;
        self.extensions += bytes;
        if self.extension > MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
            return Err(ChunkError::ExtensionsTooLong);
        }
        Ok(ChunkState::Extension)
    }

    /// Accepts padding. It is a few bytes of every chunk, so a long response may contain any total amount.
    fn padding(&mut self) -> Result<ChunkState, ChunkError> {
        self.extension(1)?;
        if self.of_response {
            self.extensions -= 1;
        }
        Ok(ChunkState::SizePadding)
    }

    fn trailer_byte(&mut self, next: ChunkState) -> Result<ChunkState, ChunkError> {
        self.trailers += 1;
        if self.trailers > self.max_trailer {
            Err(ChunkError::TrailersTooLong)
        } else {
            Ok(next)
        }
    }

    fn trailer_name(&mut self, byte: u8) -> Result<ChunkState, ChunkError> {
        if byte == b':' && self.name_len > 0 {
            let known = &self.name[..self.name_len.min(NAME_ROOM)];
            let section = match self.of_response {
                true => FieldSection::ResponseTrailers,
                false => FieldSection::RequestTrailers,
            };
            let is_forbidden = |names: &Arc<FieldNames>| match self.name_len > NAME_ROOM {
                true => names.has_longer(known),
                false => names.has(known),
            };
            if section.refuses(known) || self.forbidden.as_ref().is_some_and(is_forbidden) {
                return Err(ChunkError::ForbiddenTrailer);
            }
            self.name_len = 0;
            return self.trailer_byte(ChunkState::TrailerValue);
        }
        // Also refuses folded lines (RFC 9112 §5.2) and whitespace before the colon (§5.1).
        if !is_tchar(byte) {
            return Err(ChunkError::BadTrailer);
        }
        if let Some(room) = self.name.get_mut(self.name_len) {
            *room = byte;
        }
        self.name_len += 1;
        self.trailer_byte(ChunkState::TrailerName)
    }
}

/// Appends the first line of a chunk; the content and then CR LF must follow. `size` must not be 0.
pub fn start_chunk(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[size >> (digit * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests;
