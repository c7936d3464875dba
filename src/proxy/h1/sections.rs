//! Decides which header fields are allowed in which section of a message; this is the only place for that.
//!
//! [`classify`] determines the kind of a field name. How the field is treated depends on its section: a head's fields
//! are copied except for the kinds in [`FieldSection::withheld`], and a name that [`FieldSection::refuses`] in a
//! trailer section makes the message malformed. All code that reads, writes or translates fields, of HTTP/1 or
//! HTTP/2, uses this module.

use super::fields::{FieldKind, classify, fold_byte};

/// A section of fields, and whether its author is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSection {
    /// The head of a request from a client that is not in `headers.trusted`.
    RequestHead,
    /// The head of a request from a trusted client.
    TrustedRequestHead,
    /// The trailers after a request body, trusted or not: a proxy adds fields to the head only.
    RequestTrailers,
    /// The head of a response, final or interim (1xx).
    ResponseHead,
    /// The trailers after a response body.
    ResponseTrailers,
    /// Any section of a message in HTTP/2.
    Http2,
}

/// Fields that only apply to one HTTP/1 connection (RFC 9110 §7.6.1, RFC 9113 §8.2.2).
const OF_A_CONNECTION: u32 = FieldKind::Connection.bit()
    | FieldKind::KeepAlive.bit()
    | FieldKind::ProxyConnection.bit()
    | FieldKind::TransferEncoding.bit()
    | FieldKind::Upgrade.bit()
    | FieldKind::Http2Settings.bit();

/// Fields that end at the next hop, and those that are always written anew.
const OF_THE_HOP: u32 = OF_A_CONNECTION | FieldKind::Te.bit() | FieldKind::Dropped.bit();

/// Fields that only the proxy may set.
const OURS: u32 = FieldKind::Identity.bit();

/// Fields that only a trusted hop may set.
const CLAIMS: u32 = FieldKind::Forwarded.bit()
    | FieldKind::XForwardedFor.bit()
    | FieldKind::XForwardedProto.bit()
    | FieldKind::XForwardedHost.bit()
    | FieldKind::Claim.bit();

/// Fields that determine where a message ends, where it goes, or how its content is read.
const OF_THE_MESSAGE: u32 = FieldKind::Host.bit()
    | FieldKind::ContentLength.bit()
    | FieldKind::FramingImitation.bit()
    | FieldKind::Trailer.bit()
    | FieldKind::Expect.bit()
    | FieldKind::ContentType.bit();

/// Fields by which a hop or the app identifies a request: its id, its path through proxies, its repetition.
const OF_THE_REQUEST: u32 =
    FieldKind::XRequestId.bit() | FieldKind::Via.bit() | FieldKind::IdempotencyKey.bit();

impl FieldSection {
    /// Returns the kinds that are not passed on from this section, as [`FieldKind::bit`]s.
    #[inline]
    pub const fn withheld(self) -> u32 {
        match self {
            Self::RequestHead => OF_THE_HOP | OURS | CLAIMS,
            Self::TrustedRequestHead => OF_THE_HOP | OURS,
            Self::ResponseHead => OF_THE_HOP,
            Self::Http2 => OF_A_CONNECTION,
            Self::RequestTrailers => OF_THE_HOP | OURS | CLAIMS | OF_THE_MESSAGE | OF_THE_REQUEST,
            Self::ResponseTrailers => OF_THE_HOP | OURS | CLAIMS | OF_THE_MESSAGE,
        }
    }

    /// Returns whether a field of this name makes a trailer section, and with it the message, malformed: a receiver
    /// that merges trailers into the header would act on it (RFC 9110 §6.5.1). Names are compared without case, and
    /// with `_` equal to `-`, which apps using CGI or WSGI can't tell apart. In a head, nothing is refused here.
    pub fn refuses(self, name: &[u8]) -> bool {
        let names: &[&[u8]] = match self {
            Self::RequestTrailers => &REQUEST_ONLY,
            Self::ResponseTrailers => &[],
            _ => return false,
        };
        let mut folded = [0; NAME_ROOM];
        let folded = &mut folded[..name.len().min(NAME_ROOM)];
        for (to, from) in folded.iter_mut().zip(name) {
            *to = fold_byte(*from);
        }
        let folded = &*folded;
        self.withheld() & classify(folded).bit() != 0
            || CONTENT.contains(&folded)
            || names.contains(&folded)
            || (!names.is_empty()
                && REQUEST_FAMILIES
                    .iter()
                    .any(|start| folded.starts_with(start)))
    }
}

/// Longer than any known name or prefix: of a longer name, this many bytes are enough to decide.
pub const NAME_ROOM: usize = 32;

/// Fields that determine how the content is read, besides the kinds.
const CONTENT: [&[u8]; 2] = [b"content-encoding", b"content-range"];

/// Fields that identify the client or modify the request (RFC 9110 §6.5.1: authentication, request modifiers,
/// response controls).
const REQUEST_ONLY: [&[u8]; 11] = [
    b"authorization",
    b"cache-control",
    b"content-disposition",
    b"content-location",
    b"cookie",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"range",
    b"referer",
    b"set-cookie",
];

/// Prefixes of further such names: conditional requests, fields for proxies (`Proxy` alone becomes `HTTP_PROXY` in
/// CGI), fields set by browsers, and method overrides.
const REQUEST_FAMILIES: [&[u8]; 4] = [b"if-", b"proxy", b"sec-", b"x-http-method"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgeable_names_are_refused_in_request_trailers_in_every_spelling() {
        for name in [
            "X-Client-Cert-Verified",
            "X_Client_Cert_Verified",
            "x-client-cert",
            "x-client_cert-subject-with-a-very-long-name-behind-it",
            "Client-Cert",
            "CLIENT_CERT_CHAIN",
            "X-Forwarded-For",
            "X_FORWARDED_PROTO",
            "x-forwarded-anything-at-all-however-long-it-is",
            "X-Real-Ip",
            "X_Real_IP",
            "Forwarded",
            "Via",
            "X-Request-Id",
            "x_request_id",
            "Idempotency_Key",
            "Host",
            "Content-Length",
            "Content_Length",
            "transfer_encoding",
            "Transfer-Encoding",
            "Content-Type",
            "content_type",
            "Content-Encoding",
            "Content-Range",
            "Trailer",
            "TE",
            "Upgrade",
            "Keep_Alive",
            "HTTP2-Settings",
            "Connection",
            "Expect",
            "Proxy",
            "Proxy-Connection",
            "Proxy_Authorization",
            "Authorization",
            "Cookie",
            "Range",
            "If-Match",
            "if_none_match",
            "Max-Forwards",
            "Cache-Control",
            "X-HTTP-Method-Override",
            "Sec-WebSocket-Key",
        ] {
            let name = name.as_bytes();
            assert!(
                FieldSection::RequestTrailers.refuses(name),
                "{}",
                name.escape_ascii()
            );
        }
    }

    #[test]
    fn ordinary_names_are_taken_in_trailers() {
        for name in [
            "X-Sum",
            "Grpc-Status",
            "Grpc-Message",
            "Content-MD5",
            "Content-Digest",
            "Repr-Digest",
            "ETag",
            "Server-Timing",
            "x-amz-checksum-crc32",
            "X-Client-Id",
            "X-Custom",
            "Hosts",
            "content-length-of-something-else-that-is-long",
        ] {
            for section in [
                FieldSection::RequestTrailers,
                FieldSection::ResponseTrailers,
            ] {
                assert!(!section.refuses(name.as_bytes()), "{name} {section:?}");
            }
        }
    }

    #[test]
    fn response_trailers_accept_names_refused_only_in_requests() {
        for name in ["X-Request-Id", "Set-Cookie", "Cache-Control", "Via"] {
            assert!(
                !FieldSection::ResponseTrailers.refuses(name.as_bytes()),
                "{name}"
            );
        }
        for name in [
            "Content-Length",
            "Transfer_Encoding",
            "Connection",
            "Trailer",
            "Content-Type",
            "Content_Encoding",
            "X_Client_Cert_Verified",
        ] {
            assert!(
                FieldSection::ResponseTrailers.refuses(name.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn known_names_fit_the_room() {
        let longest = CONTENT.iter().chain(&REQUEST_ONLY).map(|name| name.len());
        assert!(longest.max().is_some_and(|longest| longest < NAME_ROOM));
        // `transfer-encoding` and `client-cert-chain` are the longest names that are classified as a whole.
        assert!("transfer-encoding".len() < NAME_ROOM);
    }

    #[test]
    fn only_claims_of_trusted_clients_pass() {
        let untrusted = FieldSection::RequestHead.withheld();
        let trusted = FieldSection::TrustedRequestHead.withheld();
        assert_eq!(untrusted & !trusted, CLAIMS);
        assert_ne!(trusted & FieldKind::Identity.bit(), 0);
    }
}
