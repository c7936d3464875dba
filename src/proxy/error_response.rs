//! Error responses of the proxy as plain text, and the reason phrases of all statuses.

/// The detail for requests that are still unanswered at the deadline of the proxy's shutdown.
pub const SHUTTING_DOWN: &str = "lameduck is shutting down";

/// Appends a complete response: status line, `text/plain` body of one line, `Content-Length`.
///
/// `detail` is one line for people: what is wrong and what to do; line breaks and other control characters in it
/// become spaces. `close` adds `Connection: close` (always needed for HTTP/1.0). `head_only`, for HEAD: the same
/// head, no body. `retry_after`: number of seconds after which a retry is worthwhile.
///
/// The response is never cacheable: it is only true at this moment.
pub fn write_local_response(
    out: &mut Vec<u8>,
    status: u16,
    detail: &str,
    close: bool,
    head_only: bool,
    retry_after: Option<u32>,
) {
    let mut number = itoa::Buffer::new();
    let phrase = reason_phrase(status);
    out.reserve(256 + detail.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(phrase.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: ");
    let body = if detail.is_empty() { phrase } else { detail };
    out.extend_from_slice(number.format(body.len() + 1).as_bytes());
    if let Some(seconds) = retry_after {
        out.extend_from_slice(b"\r\nRetry-After: ");
        out.extend_from_slice(number.format(seconds).as_bytes());
    }
    if close {
        out.extend_from_slice(b"\r\nConnection: close");
    }
    out.extend_from_slice(b"\r\n\r\n");
    if !head_only {
        out.extend(
            body.bytes()
                .map(|b| if b < b' ' || b == 0x7f { b' ' } else { b }),
        );
        out.push(b'\n');
    }
}

/// Returns the reason phrase of a status as registered with IANA (RFC 9110 §15 for most); for any other status, the
/// phrase of its class, as clients treat it by RFC 9110 §15.
pub fn reason_phrase(status: u16) -> &'static str {
    registered_phrase(status).unwrap_or(match status / 100 {
        1 => "Informational",
        2 => "Success",
        3 => "Redirection",
        4 => "Client Error",
        _ => "Server Error",
    })
}

fn registered_phrase(status: u16) -> Option<&'static str> {
    Some(match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(
        status: u16,
        detail: &str,
        close: bool,
        head_only: bool,
        retry_after: Option<u32>,
    ) -> String {
        let mut out = Vec::new();
        write_local_response(&mut out, status, detail, close, head_only, retry_after);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn response_is_complete() {
        assert_eq!(
            text(503, "no instance of shop is ready", true, false, Some(2)),
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n\
             Content-Length: 29\r\nRetry-After: 2\r\nConnection: close\r\n\r\nno instance of shop is ready\n"
        );
    }

    /// RFC 9110 §9.3.2: HEAD gets the header fields of GET.
    #[test]
    fn a_head_has_the_same_length_and_no_body() {
        let get = text(502, "x", false, false, None);
        let head = text(502, "x", false, true, None);
        assert_eq!(get.strip_suffix("x\n"), Some(head.as_str()));
    }

    #[test]
    fn a_detail_can_not_break_the_line_and_may_be_missing() {
        assert!(
            text(400, "a\r\nb", false, false, None).ends_with("Content-Length: 5\r\n\r\na  b\n")
        );
        assert!(text(404, "", false, false, None).ends_with("\r\n\r\nNot Found\n"));
        assert!(text(799, "", false, false, None).starts_with("HTTP/1.1 799 Server Error\r\n"));
    }

    #[test]
    fn every_status_has_a_phrase_of_its_class() {
        for status in 100..600 {
            let phrase = reason_phrase(status);
            let known = http::StatusCode::from_u16(status)
                .unwrap()
                .canonical_reason();
            let is_renamed = matches!(status, 203 | 413 | 418 | 422);
            assert!(
                is_renamed || known.is_none_or(|known| known == phrase),
                "{status} {phrase}"
            );
            assert!(
                !phrase.is_empty()
                    && phrase
                        .bytes()
                        .all(|b| b == b' ' || b == b'-' || b.is_ascii_alphabetic())
            );
        }
        for (status, phrase) in [
            (200, "OK"),
            (299, "Success"),
            (413, "Content Too Large"),
            (422, "Unprocessable Content"),
            (499, "Client Error"),
            (511, "Network Authentication Required"),
        ] {
            assert_eq!(reason_phrase(status), phrase);
        }
    }
}
