//! Compresses a file while it is sent: it is read in small pieces, and sent as chunks.
//!
//! After each step of 8 KiB, the thread's other tasks run, so that a large file delays none of them. Only a few
//! packets are compressed ahead of the client, so that a client that reads nothing takes no more memory than that and
//! the encoder.

use std::io;

use super::body::{PIECE, PieceWritten, SendFileError, SendingFile};
use crate::proxy::compression::{BodyEncoder, EncoderError, STEP};
use crate::proxy::h1::chunked::{LAST_CHUNK, start_chunk};
use crate::proxy::memory::MemoryCharge;
use crate::rt::rooted::{DiskWait, read_at};

/// More is compressed while fewer bytes than this wait for the client.
const AHEAD: usize = 16 * 1024;

/// Cost of a byte that is compressed, compared to a byte that is sent unchanged, when a turn is measured.
const WEIGHT: usize = 16;

/// A body that is compressed while it is sent.
#[derive(Debug)]
pub(super) struct EncodedBody {
    encoder: BodyEncoder,
    /// Scratch space for the encoder's output, whose length is not known in advance.
    made: Vec<u8>,
    charge: MemoryCharge,
}

impl EncodedBody {
    pub(super) fn new(encoder: BodyEncoder) -> Self {
        Self {
            encoder,
            made: Vec::new(),
            charge: MemoryCharge::default(),
        }
    }

    /// Appends the encoder's output as a chunk.
    fn emit(&mut self, out: &mut Vec<u8>) {
        if !self.made.is_empty() {
            start_chunk(out, self.made.len());
            out.append(&mut self.made);
            out.extend_from_slice(b"\r\n");
        }
        self.charge.set(out.capacity() + self.made.capacity());
    }
}

impl SendingFile<'_> {
    /// Returns whether more of the file is to be compressed now.
    pub(super) fn is_to_encode(&self) -> bool {
        self.encoded.is_some() && self.text.len() - self.text_sent < AHEAD
    }

    /// Compresses the next piece, or ends the body.
    pub(super) fn encode_step(&mut self, turn: &mut usize) -> Result<PieceWritten, SendFileError> {
        let Some(body) = &mut self.encoded else {
            return Ok(PieceWritten::Whole);
        };
        if self.text_sent > 0 {
            self.text.drain(..self.text_sent);
            self.text_sent = 0;
        }
        let failed = |_: EncoderError| SendFileError::Unencodable;
        if self.range.is_empty() {
            if let Some(part) = self.parts.next() {
                self.range = part.range;
                return Ok(PieceWritten::Whole);
            }
            body.encoder.finish(&mut body.made).map_err(failed)?;
            body.emit(&mut self.text);
            self.text.extend_from_slice(LAST_CHUNK);
            self.encoded = None;
            return Ok(PieceWritten::Whole);
        }
        let start = self.range.start;
        let wanted = usize::try_from(self.range.end - start).unwrap_or(STEP);
        let wanted = wanted.min(STEP);
        let held = self.held.from(start);
        let taken = match held.is_empty() {
            false => {
                let piece = &held[..held.len().min(wanted)];
                body.encoder.push(piece, &mut body.made).map_err(failed)?;
                piece.len()
            }
            true => {
                let read = PIECE.with_borrow_mut(|space| {
                    let count = read_at(&self.file, &mut space[..wanted], start, DiskWait::Never)?;
                    let pushed = body.encoder.push(&space[..count], &mut body.made);
                    io::Result::Ok((count, pushed))
                });
                match read {
                    Ok((0, _)) => return Err(SendFileError::Shortened),
                    Ok((count, pushed)) => {
                        pushed.map_err(failed)?;
                        count
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(PieceWritten::Unread);
                    }
                    Err(_) => return Err(SendFileError::Unreadable),
                }
            }
        };
        body.emit(&mut self.text);
        self.range.start += taken as u64;
        *turn = turn.saturating_sub(taken * WEIGHT);
        Ok(PieceWritten::Whole)
    }
}
