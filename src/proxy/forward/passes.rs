//! Counts how often a request has passed through lameduck: a request in a loop, even through other proxies, is ended
//! before it uses up all connections.
//!
//! Each pass leaves a mark in the request to the backend: `Via` if that is on, otherwise `CDN-Loop` (RFC 8586, made
//! for this purpose; proxies pass it on). The latter is only added if the request has arrived with a `CDN-Loop`
//! already, or with every header field that a pass adds (by default `X-Request-Id` and `X-Forwarded-For`), as looping
//! requests do from their second pass on. For all other requests this costs nothing, and their apps don't see it.

use crate::config;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;

/// Number of passes after which a request is answered with 508. Chains of a few lameducks are usual: at the edge, on
/// the host, in the pod.
const MOST: usize = 8;

/// The mark of one pass.
pub const MARK: &[u8] = b"CDN-Loop: lameduck\r\n";

/// Returns the mark as a header field's name and value.
pub fn mark() -> (&'static str, &'static str) {
    ("cdn-loop", "lameduck")
}

/// The proxy's name in both header fields.
const NAME: &[u8] = b"lameduck";

const MARKS: u32 = FieldKind::Via.bit() | FieldKind::CdnLoop.bit();

/// Returns whether a request is in a loop.
pub fn is_circle(buf: &[u8], head: &RequestHead) -> bool {
    // The only test for nearly every request.
    head.kinds & MARKS != 0 && count_marks(buf, head) >= MOST
}

/// Returns whether this pass has to add [`MARK`].
pub fn is_marked(head: &RequestHead, policy: &config::HeadersConfig) -> bool {
    let added = [
        (policy.request_id, FieldKind::XRequestId),
        (policy.x_forwarded, FieldKind::XForwardedFor),
        (policy.forwarded, FieldKind::Forwarded),
    ];
    let signs = added.iter().filter(|(is_added, _)| *is_added);
    let signs = signs.fold(0, |bits, (_, kind)| bits | kind.bit());
    let has_come_through = signs != 0 && head.kinds & signs == signs;
    !policy.via && (has_come_through || head.kinds & FieldKind::CdnLoop.bit() != 0)
}

/// Counts the marks of lameduck in a request. In a chain in which only some have `via` on, both kinds occur.
#[cold]
fn count_marks(buf: &[u8], head: &RequestHead) -> usize {
    let entries = |kind| {
        let of_kind = head.fields.iter().filter(move |field| field.kind == kind);
        of_kind.flat_map(|field| field.value.of(buf).split(|byte| *byte == b','))
    };
    // `1.1 lameduck (comment)`: the protocol version, then the name.
    let via = entries(FieldKind::Via).filter(|entry| nth_word(entry, 1) == NAME);
    // `lameduck; parameter=…`.
    let cdn_loop = entries(FieldKind::CdnLoop).filter(|entry| {
        let name = entry.split(|byte| *byte == b';').next();
        nth_word(name.unwrap_or_default(), 0) == NAME
    });
    via.count() + cdn_loop.count()
}

fn nth_word(entry: &[u8], index: usize) -> &[u8] {
    let words = entry.split(|byte| matches!(byte, b' ' | b'\t'));
    let mut words = words.filter(|word| !word.is_empty());
    words.nth(index).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::h1::request::{HeadLimits, HeadProgress};

    fn parsed(fields: &str) -> (Vec<u8>, RequestHead) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let mut head = RequestHead::new();
        let limits = HeadLimits::from(&config::ServerConfig::default());
        assert_eq!(head.parse(&text, &limits).unwrap(), HeadProgress::Complete);
        (text, head)
    }

    #[test]
    fn marks_are_counted_however_they_are_written() {
        for (fields, marks) in [
            ("", 0),
            ("Via: 1.1 lameduck\r\n", 1),
            (
                "Via: 1.1 lameduck, 1.0 fred, HTTP/1.1  lameduck (x)\r\nvia: 2 lameduck\r\n",
                3,
            ),
            ("Via: 1.1 lameducks, lameduck, 1.1 my-lameduck\r\n", 0),
            (
                "CDN-Loop: lameduck\r\nCDN-Loop: foo; x=lameduck,lameduck;a=b\r\n",
                2,
            ),
            ("CDN-Loop: lameduck\r\nVia: 1.1 lameduck\r\n", 2),
        ] {
            let (text, head) = parsed(fields);
            assert_eq!(count_marks(&text, &head), marks, "{fields}");
            assert!(!is_circle(&text, &head));
        }
        let (text, head) = parsed(&"CDN-Loop: lameduck\r\n".repeat(MOST - 1));
        assert!(!is_circle(&text, &head));
        let (text, head) = parsed(&"CDN-Loop: lameduck\r\n".repeat(MOST));
        assert!(is_circle(&text, &head));
    }

    #[test]
    fn only_requests_that_came_through_a_proxy_are_marked() {
        let policy = config::HeadersConfig::default();
        assert!(policy.request_id && !policy.via);
        for (fields, is_first) in [
            ("", true),
            ("X-Forwarded-For: 192.0.2.1\r\n", true),
            ("X-Request-Id: 1\r\n", true),
            ("X-Request-Id: 1\r\nX-Forwarded-For: 192.0.2.1\r\n", false),
            ("CDN-Loop: foo\r\n", false),
        ] {
            let (_, head) = parsed(fields);
            assert_eq!(is_marked(&head, &policy), !is_first, "{fields}");
        }
        let (_, head) = parsed("X-Forwarded-For: 192.0.2.1\r\n");
        let without = config::HeadersConfig {
            request_id: false,
            ..policy.clone()
        };
        assert!(is_marked(&head, &without));
        let (_, head) = parsed("X-Request-Id: 1\r\nX-Forwarded-For: 192.0.2.1\r\n");
        let with_via = config::HeadersConfig {
            via: true,
            ..policy
        };
        assert!(!is_marked(&head, &with_via));
    }
}
