//! Counts a peer's frames: useful ones earn credit, mere overhead costs credit. [`Meter`] follows a client; what
//! follows a backend is [`super::session_watch`].
//!
//! Only the nine bytes of each frame's header are looked at (RFC 9113 §4.1), and the code of each RST_STREAM that we
//! write ([`super::resets`]).

use super::frame_header::{END_HEADERS, END_STREAM, PADDED};
use super::resets::{ResetQuota, StreamEvent, StreamScanner, is_malformed, is_provoked};
use crate::core::Time;
use crate::rt::clock;

/// `PRI * HTTP/2.0…`, which stands before the first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Overhead that a connection may cause at once…
const CREDIT: i64 = 2_000;

/// …and at most, however much it has earned.
const MOST_CREDIT: i64 = 20_000;

/// Credit that comes back each second…
const PER_SECOND: i64 = 100;

/// …is earned by a request: it may be prioritised, have windows opened, and be reset.
const PER_REQUEST: i64 = 8;

/// So many bytes towards the client earn one: it opens windows for them, in the worst case for each small frame.
const BYTES: usize = 32;

/// What changes of settings cost: each is applied to every stream.
const SETTINGS: i64 = 10;

/// What frames are.
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

/// How much overhead a peer may still cause.
#[derive(Debug)]
pub(super) struct OverheadCredit {
    credit: i64,
    /// Bytes towards the peer that have not earned a credit yet.
    unearned: usize,
    /// What has come back by itself is counted from here.
    since: Time,
}

impl OverheadCredit {
    /// At a connection's beginning.
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

    /// Counts a frame of the peer's that begins no request. False: it is one too many.
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

    /// Counts bytes that went to the peer.
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

/// Follows one connection.
#[derive(Debug)]
pub struct Meter {
    header: [u8; 9],
    header_len: usize,
    /// Of the preface or of a frame's payload, this much is still to come.
    skip: usize,
    /// The next byte says how much of the payload is padding.
    is_padded: bool,
    /// A header block is open; `last`: with the payload that is on its way it ends.
    block: bool,
    last: bool,
    /// The stream of the latest header block.
    stream: u32,
    credit: OverheadCredit,
    written: StreamScanner,
    quota: ResetQuota,
    /// Requests that were answered with a reset because they are malformed.
    malformed: u32,
}

impl Meter {
    /// At a connection's beginning. `resets`: as in [`ResetQuota::new`].
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

    /// Follows what was read; `receive` gets the stream and the length of content, without its padding: nobody keeps that.
    /// False: it is too much.
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

    /// The stream of the frame under way.
    fn frame_stream(&self) -> u32 {
        let [_, _, _, _, _, stream @ ..] = self.header;
        u32::from_be_bytes(stream) & (u32::MAX >> 1)
    }

    /// A frame's header is here.
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

    /// Follows what went to the client. False: it has made us reset too many of its streams.
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

    /// Requests that were answered with a reset because they are malformed, since the last time.
    pub fn take_malformed(&mut self) -> u32 {
        std::mem::take(&mut self.malformed)
    }

    /// The stream whose header block has begun and not ended.
    pub fn open_block(&self) -> Option<u32> {
        self.block.then_some(self.stream)
    }
}

#[cfg(test)]
mod tests;
