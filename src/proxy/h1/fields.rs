//! Names and values of header fields: which fields the proxy acts on, and how lists are parsed. [`super::sections`]
//! decides which fields are allowed where.
//!
//! Each header field is classified once, when it is parsed. After that, a set of kinds is one integer, see
//! [`FieldKind::bit`], and deciding whether a line is passed on takes one AND per field.

/// How the proxy treats a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FieldKind {
    /// Passed on unchanged.
    Other,
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy-Connection`, which never was a standard; dropped.
    ProxyConnection,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// `HTTP2-Settings`, part of an upgrade to h2c that the proxy doesn't do; dropped.
    Http2Settings,
    /// `Expect`.
    Expect,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// Contains information that only a trusted hop may provide: any other `X-Forwarded-…`, `X-Real-IP`,
    /// `X-Original-URL` and similar ones, by which some apps take the request for a different one than was routed,
    /// and the same names with `_`, which CGI and WSGI apps can't tell from `-`.
    Claim,
    /// `X-Client-Cert-…` or `Client-Cert…` (RFC 9440), also with `_`: the identity that a client has proven. Only the
    /// proxy sets them; dropped from every request.
    Identity,
    /// `Via`.
    Via,
    /// `CDN-Loop` (RFC 8586).
    CdnLoop,
    /// `X-Request-Id`.
    XRequestId,
    /// `Content-Type`.
    ContentType,
    /// `Idempotency-Key`.
    IdempotencyKey,
    /// `Content_Length` or `Transfer_Encoding`: no honest client has a reason to send them, and a CGI or WSGI app
    /// takes them for the real ones. In a response they mean nothing, and are passed on.
    FramingImitation,
    /// Not passed on: named by `Connection`, or a repeated `Content-Length`.
    Dropped,
}

impl FieldKind {
    /// Returns the bit of this kind in a set of kinds.
    #[inline]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Classifies the name of a header field, in any case. `name` must be a token, as every parsed name is.
#[inline]
pub fn classify(name: &[u8]) -> FieldKind {
    let Some(first) = name.first() else {
        return FieldKind::Other;
    };
    match (name.len(), first | 0x20) {
        (2, b't') if is(name, b"te") => FieldKind::Te,
        (3, b'v') if is(name, b"via") => FieldKind::Via,
        (4, b'h') if is(name, b"host") => FieldKind::Host,
        (6, b'e') if is(name, b"expect") => FieldKind::Expect,
        (7, b't') if is(name, b"trailer") => FieldKind::Trailer,
        (7, b'u') if is(name, b"upgrade") => FieldKind::Upgrade,
        (8, b'c') if is(name, b"cdn-loop") => FieldKind::CdnLoop,
        (9, b'f') if is(name, b"forwarded") => FieldKind::Forwarded,
        (10, b'c') if is(name, b"connection") => FieldKind::Connection,
        (10, b'k') if is(name, b"keep-alive") => FieldKind::KeepAlive,
        (12, b'c') if is(name, b"content-type") => FieldKind::ContentType,
        (11, b'c') if eq_folded(name, b"client-cert") => FieldKind::Identity,
        (17, b'c') if eq_folded(name, b"client-cert-chain") => FieldKind::Identity,
        (14, b'c') if is(name, b"content-length") => FieldKind::ContentLength,
        (14, b'c') if eq_folded(name, b"content-length") => FieldKind::FramingImitation,
        (14, b'h') if is(name, b"http2-settings") => FieldKind::Http2Settings,
        (15, b'i') if is(name, b"idempotency-key") => FieldKind::IdempotencyKey,
        (16, b'p') if is(name, b"proxy-connection") => FieldKind::ProxyConnection,
        (17, b't') if is(name, b"transfer-encoding") => FieldKind::TransferEncoding,
        (17, b't') if eq_folded(name, b"transfer-encoding") => FieldKind::FramingImitation,
        (9.., b'x') => classify_x(name),
        _ => FieldKind::Other,
    }
}

/// Returns whether a token equals this lower-case name, ignoring case.
///
/// Every byte is folded by `| 0x20`. Apart from letters, which become lower case, that only maps control bytes to
/// bytes in these names, and no token has control bytes. The length is a constant, so this compiles to a few wide
/// comparisons.
#[inline(always)]
fn is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return false;
    };
    name.iter()
        .zip(lower)
        .fold(0, |differs, (a, b)| differs | ((a | 0x20) ^ b))
        == 0
}

/// Classifies the names that start with `x`, most of which describe the client.
fn classify_x(name: &[u8]) -> FieldKind {
    match name.len() {
        9 if eq_folded(name, b"x-real-ip") => FieldKind::Claim,
        12 if is(name, b"x-request-id") => FieldKind::XRequestId,
        12 if eq_folded(name, b"x-request-id") => FieldKind::Claim,
        15 if is(name, b"x-forwarded-for") => FieldKind::XForwardedFor,
        16 if is(name, b"x-forwarded-host") => FieldKind::XForwardedHost,
        17 if is(name, b"x-forwarded-proto") => FieldKind::XForwardedProto,
        11.. if eq_folded(&name[..11], b"x-forwarded") => FieldKind::Claim,
        13 if eq_folded(name, b"x-rewrite-url") => FieldKind::Claim,
        14 if eq_folded(name, b"x-original-url") => FieldKind::Claim,
        14 if eq_folded(name, b"x-original-uri") => FieldKind::Claim,
        15 if eq_folded(name, b"x-original-host") => FieldKind::Claim,
        17 if eq_folded(name, b"x-original-method") => FieldKind::Claim,
        13.. if eq_folded(&name[..13], b"x-client-cert") => FieldKind::Identity,
        _ => FieldKind::Other,
    }
}

/// Returns whether two names are equal to an app that ignores case and treats `_` as `-`.
fn eq_folded(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len() && name.iter().zip(lower).all(|(a, b)| fold_byte(*a) == *b)
}

/// Returns a byte of a name as such an app reads it.
#[inline]
pub fn fold_byte(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    }
}

/// Returns whether a byte is allowed in a token, and so in a header field name (RFC 9110 §5.6.2).
#[inline]
pub fn is_tchar(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Returns whether a byte is allowed in a header field value (RFC 9110 §5.5): tab, space, visible ASCII and obs-text.
#[inline]
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Removes the optional whitespace around a list element (RFC 9110 §5.6.3).
pub fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns the trimmed elements of a comma-separated list, including empty ones, for callers that refuse those.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim_ows)
}

/// Returns the elements of a comma-separated list without empty ones (RFC 9110 §5.6.1.2).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    elements(value).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, kind) in [
            ("HOST", FieldKind::Host),
            ("content-Length", FieldKind::ContentLength),
            ("Transfer-Encoding", FieldKind::TransferEncoding),
            ("connection", FieldKind::Connection),
            ("Keep-Alive", FieldKind::KeepAlive),
            ("Proxy-Connection", FieldKind::ProxyConnection),
            ("TE", FieldKind::Te),
            ("trailer", FieldKind::Trailer),
            ("Upgrade", FieldKind::Upgrade),
            ("HTTP2-Settings", FieldKind::Http2Settings),
            ("Expect", FieldKind::Expect),
            ("Forwarded", FieldKind::Forwarded),
            ("x-forwarded-FOR", FieldKind::XForwardedFor),
            ("X-Forwarded-Proto", FieldKind::XForwardedProto),
            ("X-Forwarded-Host", FieldKind::XForwardedHost),
            ("Via", FieldKind::Via),
            ("cdn-Loop", FieldKind::CdnLoop),
            ("X-Request-ID", FieldKind::XRequestId),
            ("Content-Type", FieldKind::ContentType),
            ("Idempotency-Key", FieldKind::IdempotencyKey),
        ] {
            assert_eq!(classify(name.as_bytes()), kind, "{name}");
        }
        for name in [
            "",
            "H",
            "Hosts",
            "Accept",
            "User-Agent",
            "X-Y",
            "x-custom-name",
            "Content-Lengths",
        ] {
            assert_eq!(classify(name.as_bytes()), FieldKind::Other, "{name}");
        }
    }

    #[test]
    fn claims_are_known_in_every_spelling() {
        for name in [
            "X-Forwarded-Port",
            "X_Forwarded_For",
            "x_forwarded-proto",
            "X-Real-IP",
            "x_real_ip",
            "X-Forwarded",
            "X_Request_Id",
        ] {
            assert_eq!(classify(name.as_bytes()), FieldKind::Claim, "{name}");
        }
        assert_eq!(classify(b"Content_Length"), FieldKind::FramingImitation);
        assert_eq!(classify(b"TRANSFER_ENCODING"), FieldKind::FramingImitation);
    }

    #[test]
    fn list_elements_are_trimmed() {
        let got: Vec<_> = tokens(b" a ,, \tb,c\t ,").collect();
        assert_eq!(got, [b"a", b"b", b"c"]);
        assert_eq!(elements(b"a,,b").count(), 3);
        assert_eq!(trim_ows(b" \t "), b"");
    }

    #[test]
    fn bits_are_distinct() {
        assert_eq!(FieldKind::Other.bit(), 1);
        assert_eq!(FieldKind::Dropped.bit(), 1 << 24);
    }
}
