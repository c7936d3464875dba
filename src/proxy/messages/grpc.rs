//! The parts of gRPC that a proxy needs: how a call is recognized, where a message ends, and how an error is sent.
//!
//! gRPC over HTTP/2: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use crate::core::uri;

/// UNKNOWN: clients also assume it for a call that ends without a status.
pub const UNKNOWN: u8 = 2;

/// DEADLINE_EXCEEDED.
pub const DEADLINE_EXCEEDED: u8 = 4;

/// UNAVAILABLE: clients may retry.
pub const UNAVAILABLE: u8 = 14;

/// The message for a client whose call is ended because the backend is about to stop.
pub const STOPPING: &str = "the backend is stopping; try again";

/// Returns whether a status counts against the backend that has sent it: its process failed, or it can't serve. That
/// a call was cancelled, exceeded its client's deadline or asked for something that doesn't exist is not the
/// backend's fault.
pub fn is_backend_fault(status: u8) -> bool {
    const INTERNAL: u8 = 13;
    const DATA_LOSS: u8 = 15;
    matches!(status, UNKNOWN | INTERNAL | UNAVAILABLE | DATA_LOSS)
}

/// Parses the value of a `grpc-status` field.
pub fn status(value: &[u8]) -> Option<u8> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// Returns the `grpc-status` in a trailer section.
pub fn status_of(trailers: &[u8]) -> Option<u8> {
    let mut lines = trailers.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(b"grpc-status")
            .then(|| status(&value[1..]))?
    })
}

/// Parses the value of `grpc-timeout`: at most eight digits, and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !matches!(digits.len(), 1..=8) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Returns whether a `Content-Type` is gRPC's: `application/grpc`, with or without a `+format`. gRPC-Web is another
/// protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type
        .get(..TYPE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
        && matches!(
            content_type.get(TYPE.len()),
            None | Some(b'+' | b';' | b' ' | b'\t')
        )
}

/// Returns the gRPC code for a call that the proxy answers, if the HTTP response would have this `status`.
pub fn code(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 431 => 8,
        _ => UNAVAILABLE,
    }
}

/// Appends a complete response that consists of trailers only: the code for an HTTP `status`, and a line for people.
pub fn write_answer(out: &mut Vec<u8>, status: u16, message: &str, close: bool) {
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n",
    );
    write_status(out, code(status), message);
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body: the stream ends here, and the client may start it again elsewhere.
pub fn write_end(out: &mut Vec<u8>, message: &str) {
    out.extend_from_slice(b"0\r\n");
    write_status(out, UNAVAILABLE, message);
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, code: u8, message: &str) {
    out.extend_from_slice(b"grpc-status: ");
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    out.extend_from_slice(b"\r\ngrpc-message: ");
    uri::append_encoded(out, message.as_bytes(), |byte| {
        matches!(byte, b' '..=b'~') && byte != b'%'
    });
    out.extend_from_slice(b"\r\n");
}

/// Tracks the messages of a call: each is preceded by a byte of flags and a length of four bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageTracker {
    prefix: u8,
    length: u32,
    left: u32,
}

impl MessageTracker {
    /// Processes data that was passed on.
    pub fn feed(&mut self, mut data: &[u8]) {
        while let Some(byte) = data.first() {
            if self.left > 0 {
                let here = data.len().min(self.left as usize);
                self.left -= here as u32;
                data = &data[here..];
                continue;
            }
            data = &data[1..];
            if self.prefix > 0 {
                self.length = self.length << 8 | u32::from(*byte);
            }
            self.prefix += 1;
            if self.prefix == 5 {
                (self.left, self.length, self.prefix) = (self.length, 0, 0);
            }
        }
    }

    /// Returns whether the data so far ends with a complete message.
    pub fn is_between_messages(&self) -> bool {
        self.left == 0 && self.prefix == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(value.as_bytes()), is, "{value}");
        }
    }

    #[test]
    fn timeouts_have_units() {
        for (value, millis) in [
            ("250m", Some(250)),
            ("3S", Some(3000)),
            ("99999999n", Some(99)),
            ("1H", Some(3_600_000)),
            ("S", None),
            ("123456789S", None),
            ("+1S", None),
            ("1s", None),
            ("", None),
        ] {
            let read = timeout(value.as_bytes()).map(|timeout| timeout.as_millis());
            assert_eq!(read, millis, "{value}");
        }
    }

    #[test]
    fn an_answer_is_trailers_alone() {
        let mut out = Vec::new();
        write_answer(&mut out, 504, "50 % of\nit", true);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\
             grpc-status: 4\r\ngrpc-message: 50 %25 of%0Ait\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(code(503), UNAVAILABLE);
        assert_eq!(code(502), UNAVAILABLE);
    }

    #[test]
    fn messages_are_followed_in_any_pieces() {
        let data = [0, 0, 0, 0, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9];
        for size in 1..=data.len() {
            let (mut tracker, mut ends) = (MessageTracker::default(), Vec::new());
            let mut at = 0;
            for piece in data.chunks(size) {
                tracker.feed(piece);
                at += piece.len();
                if tracker.is_between_messages() {
                    ends.push(at);
                }
            }
            let whole = [8, 13];
            assert!(
                ends.iter().all(|end| whole.contains(end)),
                "{size}: {ends:?}"
            );
            assert!(!tracker.is_between_messages(), "256 bytes are announced");
            if size == 1 {
                assert_eq!(ends, whole);
            }
        }
    }
}
