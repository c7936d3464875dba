//! Redirects from HTTP to HTTPS: the location and the response.

use crate::proxy::error_response::reason_phrase;
use crate::proxy::h1::request::RequestHead;

/// Returns the HTTPS URL with the same host and target; `None` if the request names no host.
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
    // `OPTIONS *` addresses the whole server: its root is the nearest URL.
    if origin != b"*" {
        location.extend_from_slice(origin);
    }
    Some(location)
}

/// Appends the response. Clients may cache it for a day: long enough to save them the redirect, short enough for a
/// mistake to pass.
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
