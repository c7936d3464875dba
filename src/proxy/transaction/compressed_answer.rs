//! Compresses responses that the proxy generates: fixed responses, error pages, and the page of a paused pool.

use super::record::RequestRecord;
use crate::config::{CompressionAlgorithm, CompressionConfig};
use crate::proxy::client::ClientConnection;
use crate::proxy::compression::{
    VARY, choose_coding, compress_whole, forbids_transforming, is_worthwhile,
};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::changed_fields::ChangedFields;
use crate::proxy::h1::method::{HttpVersion, Method};
use crate::proxy::h1::request::RequestHead;

/// Returns the coding for a generated response that is worth compressing. `None`: it is sent uncompressed.
pub(super) fn choose_own_coding(
    config: &CompressionConfig,
    buffer: &[u8],
    head: &RequestHead,
    account: &RequestRecord,
) -> Option<CompressionAlgorithm> {
    let changes = account.response_changes();
    let is_asked_as_it_is = head.fields.iter().any(|field| {
        field.name.of(buffer).eq_ignore_ascii_case(b"cache-control")
            && forbids_transforming(field.value.of(buffer))
    });
    // The same rule as for backends' responses: an HTTP/1.0 client gets no content codings.
    if head.version == HttpVersion::Http10
        || is_asked_as_it_is
        || changes.is_some_and(|changes| is_fixed_by(&changes))
    {
        return None;
    }
    choose_coding(buffer, head, &config.algorithms)
}

/// Returns whether the route changes header fields in a way that would be wrong for a compressed response.
fn is_fixed_by(changes: &ChangedFields<'_>) -> bool {
    let mut lines = changes.lines.split(|byte| *byte == b'\n');
    changes.dropped.has(b"content-encoding")
        || lines.any(|line| {
            let Some(colon) = memchr::memchr(b':', line) else {
                return false;
            };
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            name.eq_ignore_ascii_case(b"content-encoding")
                || name.eq_ignore_ascii_case(b"cache-control")
                    && forbids_transforming(value.trim_ascii())
        })
}

/// The header fields of a generated response that describe its content.
#[derive(Debug, Default, PartialEq, Eq)]
struct OwnContent<'a> {
    media_type: &'a [u8],
    length: u64,
}

impl<'a> OwnContent<'a> {
    /// Reads the head; `None` if the response has no content, or its content must not be changed.
    fn read(answer_head: &'a [u8]) -> Option<Self> {
        let mut content = Self::default();
        for line in answer_head.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else {
                continue;
            };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("content-type") {
                content.media_type = value;
            } else if is("content-length") {
                content.length = std::str::from_utf8(value).ok()?.parse().ok()?;
            } else if is("content-encoding") || is("content-range") {
                return None;
            }
        }
        (content.length > 0).then_some(content)
    }
}

/// Compresses a generated response (head and body in one buffer) if it is worth it and the client accepts it.
pub(super) async fn compress_answer(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
    account: &RequestRecord,
    answer: Vec<u8>,
) -> Vec<u8> {
    let config = plane.registry.snapshot().config.clone();
    let Some(config) = &config.compression else {
        return answer;
    };
    if account
        .rule
        .as_ref()
        .is_some_and(|rule| !rule.route.compression)
        || head.is_grpc
    {
        return answer;
    }
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4);
    let (answer_head, body) = answer.split_at(end);
    let Some(content) = OwnContent::read(answer_head) else {
        return answer;
    };
    if !is_worthwhile(config, content.media_type, Some(content.length)) {
        return answer;
    }
    let coding = choose_own_coding(config, client.buffer.bytes(), head, account);
    let mut encoded = None;
    if let Some(coding) = coding
        && head.method != Method::Head
    {
        encoded = compress_whole(config, coding, &plane.counters, body).await;
    }
    match (&encoded, head.method) {
        (Some(encoded), _) => {
            let mut out = with_coding(answer_head, coding, Some(encoded.len()));
            out.extend_from_slice(encoded);
            out
        }
        // The compressed length would only be known after compressing.
        (None, Method::Head) => with_coding(answer_head, coding, None),
        (None, _) => {
            let mut out = with_coding(answer_head, None, None);
            out.extend_from_slice(body);
            out
        }
    }
}

/// Returns the head of a response whose content depends on the client's `Accept-Encoding`.
fn with_coding(
    answer_head: &[u8],
    coding: Option<CompressionAlgorithm>,
    length: Option<usize>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer_head.len() + 96);
    for line in answer_head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        if line != b"\r\n" && !(is_length && coding.is_some()) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(VARY);
    if let Some(coding) = coding {
        for part in ["Content-Encoding: ", coding.as_str(), "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if let Some(length) = length {
        let length = itoa::Buffer::new().format(length).to_owned();
        for part in ["Content-Length: ", &length, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_from_the_head_and_fixed_content_stays() {
        let read = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            OwnContent::read(head.as_bytes())
                .map(|content| (content.media_type.to_vec(), content.length))
        };
        let html = "content-type: text/html\r\nContent-Length: 12\r\n";
        assert_eq!(read(html), Some((b"text/html".to_vec(), 12)));
        assert_eq!(read(&format!("{html}Content-Encoding: br\r\n")), None);
        assert_eq!(
            read("Content-Type: text/html\r\nContent-Length: 0\r\n"),
            None
        );
        assert_eq!(read("Content-Length: x\r\n"), None);
    }

    #[test]
    fn head_with_a_coding_has_the_compressed_length() {
        let head = b"HTTP/1.1 200 OK\r\nVary: Accept\r\nContent-Length: 2000\r\n\r\n";
        let text = |coding, length| String::from_utf8(with_coding(head, coding, length)).unwrap();
        assert_eq!(
            text(Some(CompressionAlgorithm::Gzip), Some(70)),
            "HTTP/1.1 200 OK\r\nVary: Accept\r\nVary: Accept-Encoding\r\nContent-Encoding: gzip\r\nContent-Length: 70\r\n\r\n"
        );
        assert_eq!(
            text(None, None),
            "HTTP/1.1 200 OK\r\nVary: Accept\r\nContent-Length: 2000\r\nVary: Accept-Encoding\r\n\r\n"
        );
        let asked = text(Some(CompressionAlgorithm::Zstd), None);
        assert!(
            !asked.contains("Content-Length") && asked.contains("zstd"),
            "{asked}"
        );
    }
}
