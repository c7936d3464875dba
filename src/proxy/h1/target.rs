//! The request target (RFC 9112 §3.2) and the authority: the resource and host of a request.

use super::method::Method;
use super::span::ByteSpan;
use crate::core::uri;

/// A parsed target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTarget {
    /// The path without the query, for routing.
    pub path: ByteSpan,
    /// The authority of an absolute-form target, which replaces `Host` (RFC 9112 §3.2.2).
    pub authority: Option<ByteSpan>,
    /// The target to request from the app, in origin form; starts with `?` if the path is empty.
    pub origin: ByteSpan,
    /// The form in which it was sent.
    pub form: TargetForm,
}

/// The supported forms; authority form is only for CONNECT, which is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `*`, of OPTIONS.
    Asterisk,
}

/// Why a target or an authority is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// None of the supported forms, a fragment, or a scheme other than http and https.
    Malformed,
    /// Not `host [":" port]`.
    Authority,
}

/// Parses a target. `line_end` is the offset after the request line's version.
///
/// If there is no path, [`RequestTarget::path`] is `/` nevertheless: it then points to a slash that is always
/// present, in `://` or `HTTP/1.1`.
///
/// # Errors
/// If the target has none of the forms allowed for this method, or its authority is invalid.
pub fn parse(
    buf: &[u8],
    target: ByteSpan,
    method: Method,
    line_end: usize,
) -> Result<RequestTarget, TargetError> {
    let bytes = target.of(buf);
    // Start of the query. A fragment is never sent (RFC 9112 §3.2); readers that accept one disagree on where the
    // path ends.
    let query = memchr::memchr2(b'?', b'#', bytes).unwrap_or(bytes.len());
    if query < bytes.len() && memchr::memchr(b'#', &bytes[query..]).is_some() {
        return Err(TargetError::Malformed);
    }
    let start = target.start as usize;
    match bytes {
        [b'/', ..] => Ok(RequestTarget {
            path: ByteSpan::new(start, start + query),
            authority: None,
            origin: target,
            form: TargetForm::Origin,
        }),
        [b'*'] if method == Method::Options => {
            let slash = line_end.saturating_sub(4);
            Ok(RequestTarget {
                path: ByteSpan::new(slash, slash + 1),
                authority: None,
                origin: target,
                form: TargetForm::Asterisk,
            })
        }
        _ => absolute(bytes, start, method),
    }
}

/// Parses `http://authority/path?query` (RFC 9110 §4.2): other schemes are not supported.
fn absolute(bytes: &[u8], start: usize, method: Method) -> Result<RequestTarget, TargetError> {
    let starts = |scheme: &[u8]| {
        bytes
            .get(..scheme.len())
            .is_some_and(|s| s.eq_ignore_ascii_case(scheme))
    };
    let after_scheme = match () {
        () if starts(b"http://") => 7,
        () if starts(b"https://") => 8,
        () => return Err(TargetError::Malformed),
    };
    let rest = &bytes[after_scheme..];
    let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    // An empty host is invalid with http (RFC 9110 §4.2.1).
    if length == 0 || host_length(&rest[..length])? == 0 {
        return Err(TargetError::Authority);
    }
    let origin_start = start + after_scheme + length;
    let origin = ByteSpan::new(origin_start, start + bytes.len());
    let tail = &rest[length..];
    let path = match tail.first() {
        Some(b'/') => {
            let length = memchr::memchr(b'?', tail).unwrap_or(tail.len());
            ByteSpan::new(origin_start, origin_start + length)
        }
        _ => ByteSpan::new(start + after_scheme - 1, start + after_scheme),
    };
    // RFC 9112 §3.2.4: OPTIONS for a whole server, in absolute form, is `*` for the last hop.
    let form = if tail.is_empty() && method == Method::Options {
        TargetForm::Asterisk
    } else {
        TargetForm::Absolute
    };
    let authority = Some(ByteSpan::new(start + after_scheme, origin_start));
    Ok(RequestTarget {
        path,
        authority,
        origin,
        form,
    })
}

/// Checks `host [":" port]` (RFC 9110 §7.2, RFC 3986 §3.2) and returns the host's length.
///
/// Refused: user information (RFC 9110 §4.2.4), spaces, a comma (it would read as two hosts in `X-Forwarded-Host`),
/// and a port that isn't a number up to 65535. An empty host is allowed here.
///
/// # Errors
/// [`TargetError::Authority`] for an invalid authority.
pub fn host_length(authority: &[u8]) -> Result<usize, TargetError> {
    let length = match authority {
        [b'[', rest @ ..] => {
            let close = memchr::memchr(b']', rest).ok_or(TargetError::Authority)?;
            let literal = std::str::from_utf8(&rest[..close]).unwrap_or_default();
            literal
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| TargetError::Authority)?;
            close + 2
        }
        _ => name_length(authority)?,
    };
    match &authority[length..] {
        [] => Ok(length),
        [b':', port @ ..] if length > 0 && is_port(port) => Ok(length),
        _ => Err(TargetError::Authority),
    }
}

/// Returns the length of a registered name or an IPv4 address (RFC 3986 §3.2.2) with complete percent-encoding, which
/// ends at a colon or with the authority.
fn name_length(authority: &[u8]) -> Result<usize, TargetError> {
    let mut length = authority.len();
    let mut percent = false;
    for (at, byte) in authority.iter().enumerate() {
        match NAME_BYTES[usize::from(*byte)] {
            NameByte::Plain => {}
            NameByte::Percent => percent = true,
            NameByte::Refused if *byte == b':' => {
                length = at;
                break;
            }
            NameByte::Refused => return Err(TargetError::Authority),
        }
    }
    if percent && !uri::is_well_encoded(&authority[..length]) {
        return Err(TargetError::Authority);
    }
    Ok(length)
}

/// How a byte is treated in a registered name.
#[derive(Clone, Copy)]
enum NameByte {
    Refused,
    Plain,
    Percent,
}

/// A table, because every request's host is checked byte by byte.
static NAME_BYTES: [NameByte; 256] = {
    let mut table = [NameByte::Refused; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'%' => NameByte::Percent,
            b'-' | b'.' | b'_' | b'~' => NameByte::Plain,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => NameByte::Plain,
            _ if byte.is_ascii_alphanumeric() => NameByte::Plain,
            _ => NameByte::Refused,
        };
        byte += 1;
    }
    table
};

/// Returns whether this is a port. An empty port is the scheme's default (RFC 3986 §3.2.3).
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits
            .iter()
            .fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0'))
            <= 65535
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        target: &str,
        method: Method,
    ) -> Result<(String, String, String, TargetForm), TargetError> {
        let line = format!("X {target} HTTP/1.1");
        let buf = line.as_bytes();
        let parsed = parse(buf, ByteSpan::new(2, 2 + target.len()), method, buf.len())?;
        let text = |span: ByteSpan| String::from_utf8(span.of(buf).to_vec()).unwrap();
        Ok((
            text(parsed.path),
            parsed.authority.map(text).unwrap_or_default(),
            text(parsed.origin),
            parsed.form,
        ))
    }

    fn own(
        path: &str,
        authority: &str,
        origin: &str,
        form: TargetForm,
    ) -> Result<(String, String, String, TargetForm), TargetError> {
        Ok((path.into(), authority.into(), origin.into(), form))
    }

    #[test]
    fn origin_form() {
        assert_eq!(
            read("/", Method::Get),
            own("/", "", "/", TargetForm::Origin)
        );
        assert_eq!(
            read("/a/b?c=d?e", Method::Get),
            own("/a/b", "", "/a/b?c=d?e", TargetForm::Origin)
        );
        assert_eq!(
            read("//a", Method::Get),
            own("//a", "", "//a", TargetForm::Origin)
        );
        assert_eq!(
            read("/http://x/", Method::Get),
            own("/http://x/", "", "/http://x/", TargetForm::Origin)
        );
    }

    /// RFC 9112 §3.2.2.
    #[test]
    fn absolute_form() {
        assert_eq!(
            read("http://a.b:80/c?d", Method::Get),
            own("/c", "a.b:80", "/c?d", TargetForm::Absolute)
        );
        assert_eq!(
            read("HTTPS://a", Method::Get),
            own("/", "a", "", TargetForm::Absolute)
        );
        assert_eq!(
            read("http://a?q", Method::Get),
            own("/", "a", "?q", TargetForm::Absolute)
        );
        assert_eq!(
            read("http://[::1]:8080/", Method::Get),
            own("/", "[::1]:8080", "/", TargetForm::Absolute)
        );
        for bad in [
            "ftp://a/",
            "http:/a",
            "http:a",
            "a",
            "a:80",
            "example.org:443",
            "http//a",
        ] {
            assert_eq!(read(bad, Method::Get), Err(TargetError::Malformed), "{bad}");
        }
        for bad in [
            "http://",
            "https://",
            "http:///x",
            "http://u@a/",
            "http://u:p@a/",
            "http://:80/",
            "http://a:b/",
            "http://a,b/",
            "http://a\\b/",
        ] {
            assert_eq!(read(bad, Method::Get), Err(TargetError::Authority), "{bad}");
        }
    }

    /// RFC 9112 §3.2.4.
    #[test]
    fn asterisk_form_is_of_options_alone() {
        assert_eq!(
            read("*", Method::Options),
            own("/", "", "*", TargetForm::Asterisk)
        );
        assert_eq!(
            read("http://a", Method::Options),
            own("/", "a", "", TargetForm::Asterisk)
        );
        assert_eq!(
            read("http://a/", Method::Options),
            own("/", "a", "/", TargetForm::Absolute)
        );
        assert_eq!(read("*", Method::Get), Err(TargetError::Malformed));
        assert_eq!(read("*a", Method::Options), Err(TargetError::Malformed));
    }

    #[test]
    fn targets_with_fragments_are_refused() {
        for bad in ["/#", "/a#b", "http://a/#b", "/?q#"] {
            assert_eq!(read(bad, Method::Get), Err(TargetError::Malformed), "{bad}");
        }
    }

    #[test]
    fn malformed_authorities_are_refused() {
        for (good, length) in [
            ("a", 1),
            ("a:1", 1),
            ("a:65535", 1),
            ("a:", 1),
            ("", 0),
            ("a_b.c-d", 7),
            ("[::1]", 5),
            ("[::1]:80", 5),
            ("[1:2::3.4.5.6]", 14),
            ("a%20b", 5),
            ("127.0.0.1:8", 9),
        ] {
            assert_eq!(host_length(good.as_bytes()), Ok(length), "{good}");
        }
        for bad in [
            "a:65536",
            "a:000080",
            "a:x",
            "a:1:2",
            "a b",
            "a/b",
            "a@b",
            "a?b",
            "[::1",
            "[]",
            "[:]",
            "[:::]",
            "[1:2:3:4:5:6:7:8:9]",
            "[1.2.3.4]",
            "[::1]x",
            "[g::]",
            "::1",
            ":80",
            "a%2",
            "a%zz",
            "a,b",
            "a\"b",
            "a<b",
            "ä",
            "[::1%eth0]",
            "a\tb",
        ] {
            assert_eq!(
                host_length(bad.as_bytes()),
                Err(TargetError::Authority),
                "{bad}"
            );
        }
    }
}
