//! Streams that end early because of a peer.
//!
//! A peer that makes us reset its streams (CVE-2025-8671, "MadeYouReset") has ended them as surely as one that resets
//! them itself (CVE-2023-44487, "Rapid Reset"). So resets in both directions of a connection count towards one quota.
//! Clients are judged by [`super::meter`], backends by [`super::session_watch`].

use std::time::Duration;

use super::frame_header::{FRAME_HEADER, PADDED};
use crate::core::Time;
use crate::rt::clock;

/// Over how long streams that are reset are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// DATA.
const DATA: u8 = 0;

/// RST_STREAM.
const RST_STREAM: u8 = 3;

/// Bytes of an RST_STREAM frame.
const RESET: usize = 13;

/// Bytes of a DATA frame up to the length of its padding.
const PADDING: usize = FRAME_HEADER + 1;

/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// How many streams of a connection may end early.
#[derive(Debug)]
pub struct ResetQuota {
    limit: u32,
    opened: u32,
    resets: u32,
    since: Time,
}

impl ResetQuota {
    /// At a connection's beginning. `limit`: streams that may be reset within 10 s, where these are more than half of
    /// those opened; 0: no limit.
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

    /// Counts a stream that was reset. False: it is one too many, and counting begins anew.
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

/// What one direction of a connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// A frame begins.
    Frame {
        /// What it is.
        kind: u8,
        /// What these mean depends on the kind.
        flags: u8,
        /// Bytes of its payload.
        length: usize,
    },
    /// It has content.
    Content {
        /// The stream's number.
        stream: u32,
        /// Bytes, without padding: nobody keeps that.
        length: usize,
    },
    /// It is reset, with this code.
    Reset(u32),
}

/// Finds the frames in one direction of a connection, and the code of each RST_STREAM.
#[derive(Debug, Default)]
pub struct StreamScanner {
    /// A frame's header, and the code of a reset or the length of a padding.
    head: [u8; RESET],
    head_len: usize,
    /// Of a frame's payload, or of what stands before the first frame, this much is still to come.
    skip: usize,
    /// The stream that was reset last: each further frame of a closed stream may be answered with another reset.
    last: [u8; 4],
}

impl StreamScanner {
    /// For a direction that begins with so many bytes of something else.
    pub fn behind(preface: usize) -> Self {
        Self {
            skip: preface,
            ..Self::default()
        }
    }

    /// Whether the next byte begins a frame.
    pub fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.head_len == 0
    }

    /// The stream of the frame under way.
    fn stream(&self) -> u32 {
        let [_, _, _, _, _, s, t, u, v, ..] = self.head;
        u32::from_be_bytes([s, t, u, v]) & (u32::MAX >> 1)
    }

    /// Follows what went this way, and says what is found. A stream that is reset again and again counts once.
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

/// Whether a reset of ours is the peer's doing: a mistake of its frames, or a stream beyond a limit. What is not: an
/// answer that overtook its request (NO_ERROR), the other side or a deadline that broke one off (INTERNAL_ERROR, CANCEL).
pub fn is_provoked(code: u32) -> bool {
    !matches!(code, NO_ERROR | INTERNAL_ERROR | CANCEL)
}

/// Whether a reset of ours says that a request is malformed: the plane's own streams end for other reasons.
pub fn is_malformed(code: u32) -> bool {
    code == PROTOCOL_ERROR
}

/// Whether a backend's own reset ends a stream early. NO_ERROR is how servers say, behind a whole response, that they
/// need no more of the request (RFC 9113 §8.1).
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
