//! A client's frames, counted: what is useful earns credit, what is mere overhead costs it.
//!
//! Only the nine bytes of each frame's header are looked at (RFC 9113 §4.1), and the code of each RST_STREAM that we
//! write: a client that makes us reset its streams (CVE-2025-8671, "MadeYouReset") has ended them as surely as one that
//! resets them itself (CVE-2023-44487, "Rapid Reset").

use std::time::Duration;

use crate::core::Time;
use crate::rt::clock;

/// `PRI * HTTP/2.0…`, which stands before the first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Overhead that a connection may cause at once…
const CREDIT: i64 = 2_000;

/// …and at most, however much it has earned.
const MOST_CREDIT: i64 = 20_000;

/// What comes back each second…
const PER_SECOND: i64 = 100;

/// …is earned by a request: it may be prioritised, have windows opened, and be reset.
const PER_REQUEST: i64 = 8;

/// So many bytes towards the client earn one: it opens windows for them, in the worst case for each small frame.
const BYTES: usize = 32;

/// What changes of settings cost: each is applied to every stream.
const SETTINGS: i64 = 10;

/// Over how long streams that are reset are counted.
const WINDOW: Duration = Duration::from_secs(10);

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of DATA and HEADERS, and of HEADERS and CONTINUATION.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of SETTINGS.
const ACK: u8 = 1;

/// Follows one connection.
#[derive(Debug)]
pub struct Meter {
    header: [u8; 9],
    header_len: usize,
    /// Of the preface or of a frame's payload, this much is still to come.
    skip: usize,
    /// A header block is open; `last`: with the payload that is on its way it ends.
    block: bool,
    last: bool,
    /// The stream of the latest header block.
    stream: u32,
    credit: i64,
    /// Bytes towards the client that have not earned a credit yet.
    unearned: usize,
    resets_written: ResetsWritten,
    /// What has come back by itself is counted from here.
    since: Time,
    limit: u32,
    opened: u32,
    resets: u32,
    resets_since: Time,
}

impl Meter {
    /// At a connection's beginning. `resets`: streams that may be reset within 10 s, where these are more than half of
    /// those opened; 0: no limit.
    pub fn new(resets: u32) -> Self {
        Self {
            header: [0; 9],
            header_len: 0,
            skip: PREFACE.len(),
            block: false,
            last: false,
            stream: 0,
            credit: CREDIT,
            unearned: 0,
            resets_written: ResetsWritten::default(),
            since: clock::now(),
            limit: resets,
            opened: 0,
            resets: 0,
            resets_since: Time::ZERO,
        }
    }

    /// Follows what was read. False: it is too much.
    #[must_use]
    pub fn read(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            if self.skip > 0 {
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
        }
    }

    /// A frame's header is here.
    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        match kind {
            kind::DATA if length > 0 || flags & END_STREAM != 0 => self.earn(1),
            kind::HEADERS => {
                self.opened = self.opened.saturating_add(1);
                self.block = true;
                self.stream = u32::from_be_bytes(stream);
                self.last = flags & END_HEADERS != 0;
                self.earn(PER_REQUEST);
            }
            kind::CONTINUATION => {
                self.last = flags & END_HEADERS != 0;
                return self.spend(1);
            }
            kind::RST_STREAM => return self.spend(1) && self.reset(),
            kind::SETTINGS if flags & ACK == 0 => return self.spend(SETTINGS),
            _ => return self.spend(1),
        }
        true
    }

    /// Follows what went to the client. False: it has made us reset too many of its streams.
    #[must_use]
    pub fn wrote(&mut self, bytes: &[u8]) -> bool {
        self.unearned += bytes.len();
        self.earn((self.unearned / BYTES) as i64);
        self.unearned %= BYTES;
        let provoked = self.resets_written.follow(bytes);
        (0..provoked).all(|_| self.reset())
    }

    /// The stream whose header block has begun and not ended.
    pub fn open_block(&self) -> Option<u32> {
        self.block.then_some(self.stream)
    }

    fn earn(&mut self, credit: i64) {
        self.credit = (self.credit + credit).min(MOST_CREDIT);
    }

    fn spend(&mut self, credit: i64) -> bool {
        self.credit -= credit;
        if self.credit >= 0 {
            return true;
        }
        // Only who is about to run out is worth reading the clock for.
        let now = clock::now();
        let earned = now.saturating_sub(self.since).as_millis() as i64 * PER_SECOND / 1000;
        if earned > 0 {
            self.since = now;
            self.earn(earned);
        }
        self.credit >= 0
    }

    fn reset(&mut self) -> bool {
        if self.limit == 0 {
            return true;
        }
        if self.resets == 0 {
            self.resets_since = clock::now();
            self.opened = self.opened.min(1);
        }
        self.resets += 1;
        if self.resets < self.limit {
            return true;
        }
        let quick = clock::now() < self.resets_since + WINDOW;
        let many = self.resets > self.opened / 2;
        self.resets = 0;
        !(quick && many)
    }
}

/// Finds the RST_STREAM frames among those that we write.
#[derive(Debug, Default)]
struct ResetsWritten {
    /// A frame's header, and the code of a reset.
    head: [u8; RESET],
    head_len: usize,
    /// Of a frame's payload, this much is still to come.
    skip: usize,
    /// The stream that was reset last: each further frame of a closed stream may be answered with another reset.
    last: [u8; 4],
}

/// Bytes of an RST_STREAM frame.
const RESET: usize = 13;

impl ResetsWritten {
    /// Follows what was written; how many streams were reset there by the client's doing.
    fn follow(&mut self, mut bytes: &[u8]) -> u32 {
        let mut provoked = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return provoked;
            }
            let wanted = if self.head_len < 9 { 9 } else { RESET };
            let count = (wanted - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + count].copy_from_slice(&bytes[..count]);
            self.head_len += count;
            bytes = &bytes[count..];
            let [a, b, c, kind, ..] = self.head;
            match self.head_len {
                9 if kind != kind::RST_STREAM => {
                    self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                    self.head_len = 0;
                }
                RESET => {
                    let [.., s, t, u, v, a, b, c, d] = self.head;
                    let (stream, code) = ([s, t, u, v], u32::from_be_bytes([a, b, c, d]));
                    let again = stream == self.last;
                    self.last = stream;
                    provoked += u32::from(!again && is_provoked(code));
                    self.head_len = 0;
                }
                _ => {}
            }
        }
    }
}

/// Whether a reset of ours is the client's doing: a mistake of its frames, or a stream beyond a limit. What is not: an
/// answer that overtook its request (NO_ERROR), a backend or a deadline that broke one off (INTERNAL_ERROR, CANCEL).
fn is_provoked(code: u32) -> bool {
    const NO_ERROR: u32 = 0;
    const INTERNAL_ERROR: u32 = 2;
    const CANCEL: u32 = 8;
    !matches!(code, NO_ERROR | INTERNAL_ERROR | CANCEL)
}

#[cfg(test)]
mod tests;
