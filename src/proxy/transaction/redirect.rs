//! From HTTP to HTTPS: where to, and the answer that says so.

use crate::proxy::error_response::reason_phrase;
use crate::proxy::h1::request::RequestHead;

/// The same host and target on HTTPS; `None` where the request names no host.
pub(super) fn location(buf: &[u8], head: &RequestHead, port: u16) -> Option<Vec<u8>> {
    let host = head.host.of(buf);
    if host.is_empty() {
        return None;
    }
    let mut location = b"https://".to_vec();
    location.extend_from_slice(host);
    if port != 443 {
        location.push(b':');
        location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
    let origin = head.origin.of(buf);
    if origin.first() != Some(&b'/') {
        location.push(b'/');
    }
    // `OPTIONS *` is about the server: its root is as near as a URL comes.
    if origin != b"*" {
        location.extend_from_slice(origin);
    }
    Some(location)
}

/// Appends the answer. Clients may keep it for a day: long enough to spare them the detour, short enough for a mistake to
/// pass.
pub(super) fn write(out: &mut Vec<u8>, status: u16, location: &[u8], close: bool) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\nLocation: ");
    out.extend_from_slice(location);
    out.extend_from_slice(b"\r\nCache-Control: max-age=86400\r\nContent-Length: 0\r\n");
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
