//! Counts streams that end early because of a peer.
//!
//! A peer that makes the proxy reset its streams (CVE-2025-8671, "MadeYouReset") ends them just like a peer that
//! resets them itself (CVE-2023-44487, "Rapid Reset"). So resets in both directions of a connection count towards one
//! quota. It is applied to clients by [`super::meter`], to backends by [`super::session_watch`].

use std::time::Duration;

use super::frame_header::{FRAME_HEADER, PADDED};
use crate::core::Time;
use crate::rt::clock;

/// Period over which reset streams are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// The frame type DATA.
const DATA: u8 = 0;

/// The frame type RST_STREAM.
const RST_STREAM: u8 = 3;

/// Size of an RST_STREAM frame, in bytes.
const RESET: usize = 13;

/// Bytes of a DATA frame up to and including the length of its padding.
const PADDING: usize = FRAME_HEADER + 1;

/// Error codes (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// The number of streams of a connection that may end early.
#[derive(Debug)]
pub struct ResetQuota {
    limit: u32,
    opened: u32,
    resets: u32,
    since: Time,
}

impl ResetQuota {
    /// Creates the quota of a new connection. `limit`: number of streams reset within 10 s that exceeds it, if these
    /// are more than half of those opened; 0: no limit.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            opened: 0,
            resets: 0,
            since: Time::ZERO,
        }
    }

    /// Counts a stream that was opened.
    pub fn open(&mut self) {
        self.opened = self.opened.saturating_add(1);
    }

    /// Counts a stream that was reset. Returns false if the quota is exceeded; counting then starts again.
    #[must_use]
    pub fn take(&mut self) -> bool {
        if self.limit == 0 {
            return true;
        }
        if self.resets == 0 {
            self.since = clock::now();
            self.opened = self.opened.min(1);
        }
        self.resets += 1;
        if self.resets < self.limit {
            return true;
        }
        let is_quick = clock::now() < self.since + WINDOW;
        let are_many = self.resets > self.opened / 2;
        self.resets = 0;
        !(is_quick && are_many)
    }
}

/// An event in one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The beginning of a frame.
    Frame {
        /// The frame type.
        kind: u8,
        /// The flags, whose meaning depends on the type.
        flags: u8,
        /// Size of the payload, in bytes.
        length: usize,
    },
    /// The stream has content.
    Content {
        /// The stream's number.
        stream: u32,
        /// Length in bytes, without padding, which is not kept.
        length: usize,
    },
    /// The stream is reset, with this code.
    Reset(u32),
}

/// Finds the frames in one direction of a connection, the length of their content, and the code of each RST_STREAM.
#[derive(Debug, Default)]
pub struct StreamScanner {
    /// The current frame header, and the code of a reset or the length of the padding.
    head: [u8; RESET],
    head_len: usize,
    /// Remaining bytes of a frame's payload, or of the bytes before the first frame.
    skip: usize,
    /// The stream that was reset last: each further frame of a closed stream may be answered with another reset.
    last: [u8; 4],
}

impl StreamScanner {
    /// Creates a scanner for a direction that begins with `preface` bytes which are not frames.
    pub fn behind(preface: usize) -> Self {
        Self {
            skip: preface,
            ..Self::default()
        }
    }

    /// Returns whether the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }

    /// Stream of the current frame.
    fn stream(&self) -> u32 {
        let [_, _, _, _, _, s, t, u, v, ..] = self.head;
        u32::from_be_bytes([s, t, u, v]) & (u32::MAX >> 1)
    }

    /// Processes bytes of this direction, and calls `found` for each event. A stream that is reset repeatedly counts
    /// once.
    pub fn follow(&mut self, mut bytes: &[u8], mut found: impl FnMut(StreamEvent)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let wanted = match self.head_len < FRAME_HEADER {
                true => FRAME_HEADER,
                false if self.head[3] == DATA => PADDING,
                false => RESET,
            };
            let count = (wanted - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + count].copy_from_slice(&bytes[..count]);
            self.head_len += count;
            bytes = &bytes[count..];
            let [a, b, c, kind, flags, ..] = self.head;
            match self.head_len {
                FRAME_HEADER => {
                    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                    let is_padded = kind == DATA && flags & PADDED != 0 && length > 0;
                    if kind != RST_STREAM && !is_padded {
                        self.skip = length;
                        self.head_len = 0;
                    }
                    found(StreamEvent::Frame {
                        kind,
                        flags,
                        length,
                    });
                    if kind == DATA && !is_padded {
                        let stream = self.stream();
                        found(StreamEvent::Content { stream, length });
                    }
                }
                PADDING if kind == DATA => {
                    self.skip = (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)) - 1;
                    self.head_len = 0;
                    let length = self.skip.saturating_sub(self.head[FRAME_HEADER].into());
                    let stream = self.stream();
                    found(StreamEvent::Content { stream, length });
                }
                RESET => {
                    let [.., s, t, u, v, a, b, c, d] = self.head;
                    let (stream, code) = ([s, t, u, v], u32::from_be_bytes([a, b, c, d]));
                    let is_repeated = std::mem::replace(&mut self.last, stream) == stream;
                    self.head_len = 0;
                    if !is_repeated {
                        found(StreamEvent::Reset(code));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Returns whether a reset by the proxy is caused by the peer: an error in its frames, or a stream beyond a limit.
/// Not caused by the peer are a response that was complete before its request (NO_ERROR), and a response that the
/// other side or a deadline broke off (INTERNAL_ERROR, CANCEL).
pub fn is_provoked(code: u32) -> bool {
    !matches!(code, NO_ERROR | INTERNAL_ERROR | CANCEL)
}

/// Returns whether a reset by the proxy means that a request is malformed: the plane's own streams use other codes.
pub fn is_malformed(code: u32) -> bool {
    code == PROTOCOL_ERROR
}

/// Returns whether a reset by a backend ends a stream early. With NO_ERROR, after a complete response, servers say
/// that they don't need the rest of the request (RFC 9113 §8.1).
pub fn is_early_end(code: u32) -> bool {
    code != NO_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_without_its_padding_however_the_bytes_come() {
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
            frame.extend(payload);
            frame
        };
        let bytes = [
            frame(1, 4, 1, b"head"),
            frame(DATA, 0, 1, b"content"),
            frame(DATA, PADDED, 3, b"\x03content\0\0\0"),
            frame(DATA, PADDED, 3, b"\xffwrong"),
            frame(DATA, 0, 5, b""),
            frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]),
        ]
        .concat();
        for size in [1, 2, 7, bytes.len()] {
            let mut scanner = StreamScanner::default();
            let (mut content, mut resets) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                scanner.follow(piece, |event| match event {
                    StreamEvent::Content { stream, length } => content.push((stream, length)),
                    StreamEvent::Reset(code) => resets.push(code),
                    StreamEvent::Frame { .. } => {}
                });
            }
            assert_eq!(content, [(1, 7), (3, 7), (3, 0), (5, 0)], "by {size}");
            assert_eq!(resets, [CANCEL], "by {size}");
            assert!(scanner.is_between_frames());
        }
    }
}
