//! Meters a peer's frames: useful frames earn credit, overhead costs credit. [`Meter`] is for a client;
//! [`super::session_watch`] watches a backend.
//!
//! Only the nine-byte header of each frame is read (RFC 9113 §4.1), the length of its padding, and the code of each
//! RST_STREAM that the proxy sends ([`super::resets`]).

use super::frame_header::{END_HEADERS, END_STREAM, PADDED};
use super::resets::{ResetQuota, StreamEvent, StreamScanner, is_malformed, is_provoked};
use crate::core::Time;
use crate::rt::clock;

/// The connection preface, which precedes the first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Initial credit of a connection.
const CREDIT: i64 = 2_000;

/// Maximum credit of a connection.
const MOST_CREDIT: i64 = 20_000;

/// Credit that is restored per second.
const PER_SECOND: i64 = 100;

/// Credit for a request: it may be prioritised, have windows opened, and be reset.
const PER_REQUEST: i64 = 8;

/// Number of bytes to the client that earn one credit: the client opens windows for them, in the worst case for each
/// small frame.
const BYTES: usize = 32;

/// Cost of a change of settings: each applies to every stream.
const SETTINGS: i64 = 10;

/// Frame types.
pub(super) mod kind {
    /// DATA.
    pub(crate) const DATA: u8 = 0;
    /// HEADERS.
    pub(crate) const HEADERS: u8 = 1;
    /// RST_STREAM.
    pub(crate) const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub(crate) const SETTINGS: u8 = 4;
    /// CONTINUATION.
    pub(crate) const CONTINUATION: u8 = 9;
}

/// A flag of SETTINGS.
const ACK: u8 = 1;

/// The overhead that a peer may still cause.
#[derive(Debug)]
pub(super) struct OverheadCredit {
    credit: i64,
    /// Bytes to the peer that have not earned a credit yet.
    unearned: usize,
    /// Time from which the restored credit is computed.
    since: Time,
}

impl OverheadCredit {
    /// Returns the credit of a new connection.
    pub(super) fn new() -> Self {
        Self {
            credit: CREDIT,
            unearned: 0,
            since: clock::now(),
        }
    }

    /// Counts a request.
    pub(super) fn count_request(&mut self) {
        self.earn(PER_REQUEST);
    }

    /// Counts a frame of the peer that begins no request. Returns false if the credit is used up.
    #[must_use]
    pub(super) fn count_frame(&mut self, kind: u8, flags: u8, length: usize) -> bool {
        match kind {
            kind::DATA if length > 0 || flags & END_STREAM != 0 => {
                self.earn(1);
                true
            }
            kind::SETTINGS if flags & ACK == 0 => self.spend(SETTINGS),
            _ => self.spend(1),
        }
    }

    /// Counts bytes sent to the peer.
    pub(super) fn count_written(&mut self, bytes: usize) {
        self.unearned += bytes;
        self.earn((self.unearned / BYTES) as i64);
        self.unearned %= BYTES;
    }

    fn earn(&mut self, credit: i64) {
        self.credit = (self.credit + credit).min(MOST_CREDIT);
    }

    fn spend(&mut self, credit: i64) -> bool {
        self.credit -= credit;
        if self.credit >= 0 {
            return true;
        }
        // The clock is read only when the credit is about to run out.
        let now = clock::now();
        let earned = now.saturating_sub(self.since).as_millis() as i64 * PER_SECOND / 1000;
        if earned > 0 {
            self.since = now;
            self.earn(earned);
        }
        self.credit >= 0
    }
}

/// Meters one connection.
#[derive(Debug)]
pub struct Meter {
    header: [u8; 9],
    header_len: usize,
    /// Remaining bytes of the preface or of a frame's payload.
    skip: usize,
    /// Whether the next byte is the length of the payload's padding.
    is_padded: bool,
    /// Whether a header block is open; `last`: whether it ends with the current payload.
    block: bool,
    last: bool,
    /// The stream of the latest header block.
    stream: u32,
    credit: OverheadCredit,
    written: StreamScanner,
    quota: ResetQuota,
    /// Number of requests that were reset because they are malformed.
    malformed: u32,
}

impl Meter {
    /// Starts to meter a connection. `resets`: as in [`ResetQuota::new`].
    pub fn new(resets: u32) -> Self {
        Self {
            header: [0; 9],
            header_len: 0,
            skip: PREFACE.len(),
            is_padded: false,
            block: false,
            last: false,
            stream: 0,
            credit: OverheadCredit::new(),
            written: StreamScanner::default(),
            quota: ResetQuota::new(resets),
            malformed: 0,
        }
    }

    /// Processes bytes that were read; `receive` gets the stream and the length of content, without padding, which is
    /// not stored. Returns false if the client has exceeded a limit.
    #[must_use]
    pub fn read(&mut self, mut bytes: &[u8], mut receive: impl FnMut(u32, usize)) -> bool {
        loop {
            if self.skip > 0 {
                if let Some(padding) = bytes.first()
                    && std::mem::take(&mut self.is_padded)
                {
                    let rest = self.skip - 1;
                    receive(self.frame_stream(), rest.saturating_sub((*padding).into()));
                }
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                if self.skip > 0 {
                    return true;
                }
            }
            if std::mem::take(&mut self.last) {
                self.block = false;
            }
            let count = (9 - self.header_len).min(bytes.len());
            self.header[self.header_len..self.header_len + count].copy_from_slice(&bytes[..count]);
            self.header_len += count;
            bytes = &bytes[count..];
            if self.header_len < 9 {
                return true;
            }
            self.header_len = 0;
            if !self.frame() {
                return false;
            }
            let [_, _, _, kind, flags, ..] = self.header;
            if kind == kind::DATA {
                self.is_padded = flags & PADDED != 0 && self.skip > 0;
                if !self.is_padded {
                    receive(self.frame_stream(), self.skip);
                }
            }
        }
    }

    /// Returns the stream of the current frame.
    fn frame_stream(&self) -> u32 {
        let [_, _, _, _, _, stream @ ..] = self.header;
        u32::from_be_bytes(stream) & (u32::MAX >> 1)
    }

    /// Processes a frame header.
    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        match kind {
            kind::HEADERS => {
                self.quota.open();
                self.block = true;
                self.stream = u32::from_be_bytes(stream);
                self.last = flags & END_HEADERS != 0;
                self.credit.count_request();
                return true;
            }
            kind::CONTINUATION => self.last = flags & END_HEADERS != 0,
            _ => {}
        }
        let is_within = self.credit.count_frame(kind, flags, length);
        is_within && (kind != kind::RST_STREAM || self.quota.take())
    }

    /// Processes bytes sent to the client. Returns false if the client has caused too many resets of its streams.
    #[must_use]
    pub fn wrote(&mut self, bytes: &[u8]) -> bool {
        self.credit.count_written(bytes.len());
        let Self {
            written,
            quota,
            malformed,
            ..
        } = self;
        let mut is_within = true;
        written.follow(bytes, |event| {
            if let StreamEvent::Reset(code) = event
                && is_provoked(code)
            {
                *malformed += u32::from(is_malformed(code));
                is_within &= quota.take();
            }
        });
        is_within
    }

    /// Returns the number of requests that were reset as malformed since the last call.
    pub fn take_malformed(&mut self) -> u32 {
        std::mem::take(&mut self.malformed)
    }

    /// Returns the stream whose header block has begun and not ended.
    pub fn open_block(&self) -> Option<u32> {
        self.block.then_some(self.stream)
    }
}

#[cfg(test)]
mod tests;
