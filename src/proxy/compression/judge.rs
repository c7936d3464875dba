//! Decides from a response head whether its body may be compressed, and what has to change in the head.

use crate::proxy::h1::fields::{FieldKind, tokens};
use crate::proxy::h1::span::{ByteSpan, HeaderField};

/// Header fields that a compressed response must not have: they describe the bytes of the plain body (RFC 9530, RFC
/// 1864), or offer ranges of it.
const OF_THE_PLAIN_BODY: [&[u8]; 5] = [
    b"accept-ranges",
    b"content-digest",
    b"content-md5",
    b"digest",
    b"repr-digest",
];

/// The header fields of a response that decide about its compression.
#[derive(Debug, Default, Clone, Copy)]
pub struct AnswerTraits {
    /// The value of `Content-Type`; empty: none.
    pub content_type: ByteSpan,
    /// The value of `ETag`; empty: none, or more than one, so that it is unknown which one the client stores.
    pub etag: ByteSpan,
    /// Whether there is an `ETag`.
    has_etag: bool,
    /// Whether it must not be compressed: it is encoded already, a partial response, or signed, or compression is
    /// forbidden.
    pub is_fixed: bool,
    /// Whether `Vary` names `Accept-Encoding` already, or `*`.
    pub varies: bool,
}

impl AnswerTraits {
    /// Reads the header fields of a response whose head is in `buffer`.
    pub fn read(buffer: &[u8], fields: &[HeaderField]) -> Self {
        let mut traits = Self::default();
        for field in fields {
            let value = field.value.of(buffer);
            match field.kind {
                FieldKind::ContentType => traits.content_type = field.value,
                FieldKind::Other => match name_of(buffer, field) {
                    Some(KnownField::ETag) => {
                        traits.etag = match traits.has_etag {
                            true => ByteSpan::default(),
                            false => field.value,
                        };
                        traits.has_etag = true;
                    }
                    Some(KnownField::Fixing) if !value.is_empty() => traits.is_fixed = true,
                    Some(KnownField::CacheControl) => {
                        traits.is_fixed |= forbids_transforming(value);
                    }
                    Some(KnownField::Vary) => {
                        traits.varies |= tokens(value).any(|name| {
                            name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
                        });
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        traits
    }
}

enum KnownField {
    ETag,
    /// Encoded, partial and signed responses are not changed.
    Fixing,
    CacheControl,
    Vary,
}

fn name_of(buffer: &[u8], field: &HeaderField) -> Option<KnownField> {
    let name = field.name.of(buffer);
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    Some(match name.len() {
        4 if is(b"etag") => KnownField::ETag,
        4 if is(b"vary") => KnownField::Vary,
        13 if is(b"cache-control") => KnownField::CacheControl,
        13 if is(b"content-range") => KnownField::Fixing,
        15 if is(b"signature-input") => KnownField::Fixing,
        16 if is(b"content-encoding") => KnownField::Fixing,
        _ => return None,
    })
}

/// Returns whether `no-transform` is among the directives (RFC 9111, sections 5.2.1.6 and 5.2.2.6).
pub(crate) fn forbids_transforming(cache_control: &[u8]) -> bool {
    tokens(cache_control).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

/// Returns whether a compressed response must not have this header field.
pub(crate) fn is_of_plain_body(name: &[u8]) -> bool {
    OF_THE_PLAIN_BODY
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

/// Appends an `ETag` line with the weak form of this value: the body has different bytes from the one for which the
/// tag was made, but the same meaning (RFC 9110, section 8.8.1).
pub fn weaken_etag(out: &mut Vec<u8>, etag: &[u8]) {
    out.extend_from_slice(b"ETag: ");
    if !etag.starts_with(b"W/") {
        out.extend_from_slice(b"W/");
    }
    out.extend_from_slice(etag);
    out.extend_from_slice(b"\r\n");
}

/// Returns whether a client's `If-None-Match` contains a strong tag in its weak form only: then the client has a
/// compressed response.
pub fn is_weak_form(if_none_match: &[u8], etag: &[u8]) -> bool {
    let mut entries = tokens(if_none_match);
    !etag.is_empty()
        && !etag.starts_with(b"W/")
        && entries.any(|entry| entry.strip_prefix(b"W/") == Some(etag))
        && !tokens(if_none_match).any(|entry| entry == etag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::h1::method::Method;
    use crate::proxy::h1::response::ResponseHead;

    fn traits(fields: &str) -> (Vec<u8>, AnswerTraits) {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let mut head = ResponseHead::new();
        head.parse(&text, Method::Get, false, 1 << 16).unwrap();
        let traits = AnswerTraits::read(&text, &head.fields);
        (text, traits)
    }

    #[test]
    fn fields_that_forbid_compression_are_known_in_any_case() {
        for fields in [
            "Content-Encoding: gzip\r\n",
            "CONTENT-ENCODING: br\r\n",
            "content-range: bytes 0-1/2\r\n",
            "Cache-Control: public, No-Transform\r\n",
            "Cache-Control: max-age=1\r\nCache-Control:no-transform\r\n",
            "Signature-Input: sig=(\"content-digest\")\r\n",
        ] {
            assert!(traits(fields).1.is_fixed, "{fields}");
        }
        for fields in [
            "",
            "Content-Encoding:\r\n",
            "Cache-Control: no-store, x-no-transform\r\n",
            "Accept-Ranges: bytes\r\n",
        ] {
            assert!(!traits(fields).1.is_fixed, "{fields}");
        }
    }

    #[test]
    fn vary_is_known_in_every_form() {
        for (fields, varies) in [
            ("", false),
            ("Vary: Cookie\r\n", false),
            ("Vary: Cookie, accept-encoding\r\n", true),
            ("Vary: Cookie\r\nvary: Accept-Encoding\r\n", true),
            ("Vary: *\r\n", true),
            ("Vary: Accept-Encoding-X\r\n", false),
        ] {
            assert_eq!(traits(fields).1.varies, varies, "{fields}");
        }
    }

    #[test]
    fn strong_tag_becomes_weak_and_a_weak_one_stays() {
        for (tag, line) in [
            ("\"a\"", "ETag: W/\"a\"\r\n"),
            ("W/\"a\"", "ETag: W/\"a\"\r\n"),
        ] {
            let mut out = Vec::new();
            weaken_etag(&mut out, tag.as_bytes());
            assert_eq!(out, line.as_bytes());
        }
        let (text, seen) = traits("Content-Type: text/html\r\neTag: \"x\"\r\n");
        assert_eq!(seen.etag.of(&text), b"\"x\"");
        assert_eq!(seen.content_type.of(&text), b"text/html");
        let (text, seen) = traits("ETag: \"x\"\r\nETag: W/\"y\"\r\n");
        assert_eq!(seen.etag.of(&text), b"", "one of two is none");
        for (asked, etag, is_known) in [
            ("W/\"a\"", "\"a\"", true),
            ("\"b\", W/\"a\"", "\"a\"", true),
            ("W/\"a\", \"a\"", "\"a\"", false),
            ("\"a\"", "\"a\"", false),
            ("W/\"a\"", "W/\"a\"", false),
            ("W/\"b\"", "\"a\"", false),
            ("*", "\"a\"", false),
            ("W/", "", false),
        ] {
            let known = is_weak_form(asked.as_bytes(), etag.as_bytes());
            assert_eq!(known, is_known, "{asked} {etag}");
        }
    }
}
