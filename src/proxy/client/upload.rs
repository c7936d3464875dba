//! A request body on its way to the backend: how much of it has arrived, was sent, and can be sent again.
//!
//! The client's buffer holds the head followed by body bytes. They stay there until the response begins, so that the
//! request can be sent to another backend; a body larger than the buffer can't be sent again.

use std::sync::Arc;

use crate::core::field_names::FieldNames;
use crate::proxy::buffer::{Buffer, LARGE};
use crate::proxy::h1::chunked::ChunkDecoder;
use crate::proxy::h1::request::RequestBody;

/// Maximum size of a request's trailer section, in bytes.
const MAX_TRAILER: usize = 8 * 1024;

/// The state of one request body.
#[derive(Debug)]
pub struct RequestUpload {
    framing: UploadFraming,
    /// Start of the retained body in the client's buffer: right after the head.
    base: usize,
    /// Body bytes in the buffer, from `base`, known to belong to this request.
    here: usize,
    /// How many of those have been sent to the backend in this attempt.
    sent: usize,
    complete: bool,
    replayable: bool,
    total: u64,
    limit: u64,
}

#[derive(Debug)]
enum UploadFraming {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadError {
    /// It is larger than `max_body`.
    TooLarge,
    /// Its chunked encoding is invalid.
    Malformed,
}

impl RequestUpload {
    /// Creates the state of a body with this framing after a head of `head` bytes; `limit` as in `max_body` (0:
    /// none).
    ///
    /// # Errors
    /// [`UploadError::TooLarge`] if the head already says so.
    pub fn new(body: RequestBody, head: usize, limit: u64) -> Result<Self, UploadError> {
        let (framing, complete) = match body {
            RequestBody::None => (UploadFraming::Length(0), true),
            RequestBody::Length(length) if limit > 0 && length > limit => {
                return Err(UploadError::TooLarge);
            }
            RequestBody::Length(length) => (UploadFraming::Length(length), length == 0),
            RequestBody::Chunked => (
                UploadFraming::Chunked(Box::new(ChunkDecoder::new(MAX_TRAILER))),
                false,
            ),
        };
        Ok(Self {
            framing,
            base: head,
            here: 0,
            sent: 0,
            complete,
            replayable: true,
            total: 0,
            limit,
        })
    }

    /// Creates the state of a body that has been received and sent completely, after a head of `head` bytes.
    pub fn sent(head: usize) -> Self {
        Self {
            framing: UploadFraming::Length(0),
            base: head,
            here: 0,
            sent: 0,
            complete: true,
            replayable: false,
            total: 0,
            limit: 0,
        }
    }

    /// Refuses a body whose trailers have one of these names.
    pub fn forbid_trailers(&mut self, names: &Arc<FieldNames>) {
        if let UploadFraming::Chunked(decoder) = &mut self.framing {
            decoder.forbid_trailers(names.clone());
        }
    }

    /// Processes bytes that were read into the buffer.
    ///
    /// # Errors
    /// [`UploadError::Malformed`] for an invalid chunked body; [`UploadError::TooLarge`] as soon as the limit is
    /// exceeded.
    pub fn absorb(&mut self, buffer: &Buffer) -> Result<(), UploadError> {
        if self.complete {
            return Ok(());
        }
        let fresh = &buffer.bytes()[self.base + self.here..];
        let taken = match &mut self.framing {
            UploadFraming::Length(left) => {
                let taken = (*left).min(fresh.len() as u64);
                *left -= taken;
                self.complete = *left == 0;
                taken as usize
            }
            UploadFraming::Chunked(decoder) => {
                let (taken, complete) = decoder
                    .skip_body(fresh)
                    .map_err(|_| UploadError::Malformed)?;
                self.complete = complete;
                taken
            }
        };
        self.here += taken;
        self.total += taken as u64;
        let content = match &self.framing {
            UploadFraming::Length(_) => self.total,
            UploadFraming::Chunked(decoder) => decoder.payload(),
        };
        if self.limit > 0 && content > self.limit {
            return Err(UploadError::TooLarge);
        }
        Ok(())
    }

    /// Returns how many bytes are still to come from the client; `None` if it hasn't announced a length.
    pub fn left(&self) -> Option<u64> {
        match &self.framing {
            UploadFraming::Length(left) => Some(*left),
            UploadFraming::Chunked(_) => None,
        }
    }

    /// Returns whether the body would be complete with these bytes, which follow those already processed.
    pub fn ends_in(&self, next: &[u8]) -> bool {
        match &self.framing {
            UploadFraming::Length(left) => *left <= next.len() as u64,
            UploadFraming::Chunked(decoder) => {
                let mut decoder = decoder.clone();
                decoder.skip_body(next).is_ok_and(|(_, complete)| complete)
            }
        }
    }

    /// Returns the bytes that can be sent now.
    pub fn unsent<'a>(&self, buffer: &'a Buffer) -> &'a [u8] {
        &buffer.bytes()[self.base + self.sent..self.base + self.here]
    }

    /// Notes that `count` bytes of [`RequestUpload::unsent`] have been sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// Makes room in the buffer for more of the body, if necessary by discarding sent bytes, so that the request
    /// can't be sent again.
    pub fn make_room(&mut self, buffer: &mut Buffer) {
        if !buffer.has_room(LARGE) {
            self.release(buffer);
        }
    }

    /// Discards what was sent: the response has begun, so nothing will be sent again.
    pub fn release(&mut self, buffer: &mut Buffer) {
        if self.sent > 0 {
            buffer.cut(self.base, self.sent);
            self.here -= self.sent;
            self.sent = 0;
            self.replayable = false;
        }
    }

    /// Starts over for another attempt.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Returns whether everything has been received from the client.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns whether the request could be sent again from its start.
    pub fn is_replayable(&self) -> bool {
        self.replayable
    }

    /// Returns the number of body bytes received so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the number of bytes in the buffer that belong to this request (head and retained body): the next
    /// request starts there.
    pub fn occupied(&self) -> usize {
        self.base + self.here
    }
}
