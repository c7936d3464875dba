//! WebSocket frames (RFC 6455 §5), tracked without decoding.
//!
//! Usage: after a 101, one [`FrameTracker`] per direction; [`FrameTracker::feed`] it every byte that was passed on,
//! in order. To close the connection in an orderly way, wait for the end of a frame in that direction
//! ([`FrameTracker::at_boundary`], or [`FrameTracker::next_boundary`] within bytes that are about to be passed on),
//! send [`close_frame`], and nothing more in that direction. Frames to the app (the client's direction) must be
//! masked. Nothing is copied and no payload is read.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::{Deserialize, Serialize};

/// The constant that a server appends to the key (RFC 6455 §1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Returns a key for a handshake by the proxy (RFC 6455 §4.1): 16 bytes in base64.
pub fn make_key() -> Vec<u8> {
    let mut bytes = [0; 16];
    fastrand::fill(&mut bytes);
    encode_base64(&bytes)
}

/// Returns whether `answer` is the `Sec-WebSocket-Accept` for this `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accepts(key: &[u8], answer: &[u8]) -> bool {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat());
    encode_base64(hash.as_ref()) == answer
}

/// Encodes base64 with padding (RFC 4648 §4).
fn encode_base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - three.len()));
        for digit in 0..4 {
            out.push(match digit <= three.len() {
                true => DIGITS[(bits >> (18 - 6 * digit)) as usize & 63],
                false => b'=',
            });
        }
    }
    out
}

/// Maximum size of a frame header, in bytes: 2, 8 for the length, 4 for the mask.
const MAX_HEADER: usize = 14;
/// Maximum length of a close reason, in bytes: a control frame's payload has at most 125 bytes, two of which are the
/// code (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// Tracks the frames of one direction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FrameTracker {
    header: [u8; MAX_HEADER],
    header_len: u8,
    payload: u64,
    saw_close: bool,
    broken: bool,
}

impl FrameTracker {
    /// Creates a tracker before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns whether these values, received from another process, are a possible state of a tracker.
    pub fn is_sound(&self) -> bool {
        usize::from(self.header_len) < MAX_HEADER && (self.payload == 0 || self.header_len == 0)
    }

    /// Processes bytes that were passed on.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.broken {
            let taken = self.step(rest);
            rest = &rest[taken..];
        }
    }

    /// Returns whether a frame could start here. Always false once the bytes were invalid WebSocket frames.
    pub fn at_boundary(&self) -> bool {
        self.header_len == 0 && self.payload == 0 && !self.broken
    }

    /// Returns the position in `bytes`, which come next and weren't fed yet, at which the current frame ends, so that
    /// a close frame can be inserted. `Some(0)` if no frame is open; `None` if it doesn't end in `bytes`.
    pub fn next_boundary(&self, bytes: &[u8]) -> Option<usize> {
        let mut ahead = self.clone();
        let mut at = 0;
        while !ahead.at_boundary() {
            if at == bytes.len() || ahead.broken {
                return None;
            }
            at += ahead.step(&bytes[at..]);
        }
        Some(at)
    }

    /// Returns whether a close frame began in this direction: the peers are closing by themselves.
    pub fn saw_close(&self) -> bool {
        self.saw_close
    }

    /// Returns whether the bytes are invalid WebSocket frames (a length above 2^63 - 1, RFC 6455 §5.2). There are no
    /// boundaries any more, so an orderly close is impossible.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Processes bytes of at most one frame, at least one byte; returns how many. `bytes` isn't empty.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let here = usize::try_from(self.payload)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.payload -= here as u64;
            return here;
        }
        self.header[usize::from(self.header_len)] = bytes[0];
        self.header_len += 1;
        if self.header_len >= 2 && self.header_len == self.header_size() {
            self.header_done();
        }
        1
    }

    /// Returns the size of this header, from its second byte.
    fn header_size(&self) -> u8 {
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        match self.header[1] & 0x7f {
            127 => 10 + mask,
            126 => 4 + mask,
            _ => 2 + mask,
        }
    }

    fn header_done(&mut self) {
        let bytes = |from: usize, to: usize| {
            self.header[from..to]
                .iter()
                .fold(0u64, |n, b| n << 8 | u64::from(*b))
        };
        self.payload = match self.header[1] & 0x7f {
            127 => bytes(2, 10),
            126 => bytes(2, 4),
            short => u64::from(short),
        };
        self.broken = self.payload > i64::MAX as u64;
        self.saw_close |= self.header[0] & 0x0f == 8;
        self.header_len = 0;
    }
}

/// Returns a close frame (RFC 6455 §5.5.1): 1001 "going away", 1012 "service restart". The reason is truncated to the
/// 123 bytes that fit. `mask` is required towards a server, and should be random (§5.3); it is forbidden towards a
/// client.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &reason.as_bytes()[..end];
    let mut frame = Vec::with_capacity(8 + reason.len());
    let masked = if mask.is_some() { 0x80 } else { 0 };
    frame.extend_from_slice(&[0x88, masked | (2 + reason.len() as u8)]);
    frame.extend_from_slice(mask.as_ref().map_or(&[], |key| &key[..]));
    let start = frame.len();
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    if let Some(key) = mask {
        frame[start..]
            .iter_mut()
            .zip(key.iter().cycle())
            .for_each(|(byte, k)| *byte ^= k);
    }
    frame
}

#[cfg(test)]
mod tests;
