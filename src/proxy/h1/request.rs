//! Parses request heads in place (RFC 9112 §3, §5, §6).
//!
//! Usage: keep one [`RequestHead`] and one buffer per connection. Read into the buffer, and call
//! [`RequestHead::parse`] with everything from the head's first byte on; after [`HeadProgress::Partial`], read more.
//! After [`HeadProgress::Complete`] the head is `buf[..head.len]`, the body starts at `buf[head.len]`, and the spans
//! are valid as long as those bytes are not moved. Nothing is allocated once the field list has grown to its usual
//! size.
//!
//! `httparse` checks the syntax; anything that it accepts, but that two readers could understand differently, is
//! refused here. The result doesn't depend on how the bytes were split into reads: a prefix of a head is either
//! partial or has the same error.

use std::mem::MaybeUninit;

pub use super::error::RequestError;
use super::fields::{FieldKind, tokens};
use super::framing::FramedBody;
use super::head_fields::{FieldReader, HopFields, read_fields};
pub use super::method::{HttpVersion, Method, UpgradeProtocol};
use super::span::{ByteSpan, HeaderField};
pub use super::target::TargetForm;
use super::target::{self, TargetError};
use crate::core::cookies::cookie_values;
use crate::proxy::messages::grpc;

/// Maximum number of header fields in a head; more are refused with 431.
pub const MAX_FIELDS: usize = 100;

/// Whether a head is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadProgress {
    /// The head is complete.
    Complete,
    /// The head is incomplete: read more bytes and parse again from the start.
    Partial,
}

/// Limits on a request head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Maximum size of the head in bytes; otherwise 431. The buffer must have room for one more byte, or an excess is
    /// never noticed.
    pub max_header: usize,
    /// Maximum length of the request target in bytes; otherwise 414.
    pub max_uri: usize,
}

/// How a request body is framed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RequestBody {
    /// No body.
    #[default]
    None,
    /// A body of this many bytes.
    Length(u64),
    /// A chunked body.
    Chunked,
}

impl RequestBody {
    /// Returns whether no byte follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, RequestBody::None | RequestBody::Length(0))
    }
}

/// A request head. Valid after [`HeadProgress::Complete`]; can be reused for the next request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Size of the head in bytes, with its final empty line and any empty lines before it.
    pub len: usize,
    /// The method.
    pub method: Method,
    /// The method as it was sent.
    pub method_span: ByteSpan,
    /// The target as it was sent.
    pub target: ByteSpan,
    /// The target to request from the app; see [`target::RequestTarget::origin`].
    pub origin: ByteSpan,
    /// The form of the target.
    pub form: TargetForm,
    /// The path without the query, for routing; `/` if there is none.
    pub path: ByteSpan,
    /// Host without port, for routing; empty if none was given. Its case is unchanged.
    pub host: ByteSpan,
    /// Host with port: from the target, if that was in absolute form, otherwise from `Host`.
    pub authority: ByteSpan,
    /// The version of the request.
    pub version: HttpVersion,
    /// The header fields, in order.
    pub fields: Vec<HeaderField>,
    /// The kinds that occur, as [`FieldKind::bit`]s.
    pub kinds: u32,
    /// How the body is framed.
    pub body: RequestBody,
    /// Whether the client wants to keep the connection open after this request (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The protocol that the client offers to switch to, if that is passed on: the first of [`RequestHead::offered`].
    pub upgrade: Option<UpgradeProtocol>,
    /// Whether there is an `Idempotency-Key`.
    pub idempotency_key: bool,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// Whether the client accepts trailers (`TE: trailers`, RFC 9110 §10.1.4).
    pub te_trailers: bool,
    /// Offset of the first header field line, or otherwise of the empty line.
    pub(crate) fields_start: u32,
    /// Whether `Content-Length` must be written anew.
    pub(crate) rewrite_length: bool,
}

/// Information collected from the header fields.
#[derive(Default)]
pub(super) struct RequestFields {
    hop: HopFields,
    host: Option<ByteSpan>,
}

impl RequestHead {
    /// Creates an empty head to parse into.
    pub fn new() -> Self {
        Self {
            fields: Vec::with_capacity(24),
            ..Self::default()
        }
    }

    /// Parses the head that starts at `buf[0]`; up to two empty lines before it are skipped (RFC 9112 §2.2).
    ///
    /// Bytes after the head are not read. After an error, the content of the head is undefined.
    ///
    /// # Errors
    /// Why the request can't be forwarded, or which limit it exceeds.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<HeadProgress, RequestError> {
        match self.parse_text(buf, limits) {
            Err(RequestError::BadRequestLine) => match hide_high_bytes(buf, limits) {
                Some(hidden) => self.parse_text(&hidden, limits),
                None => Err(RequestError::BadRequestLine),
            },
            outcome => outcome,
        }
    }

    /// Returns the values of the cookies with this name, from all `Cookie` header fields, in order (see
    /// [`crate::core::cookies`]).
    pub fn cookies<'b>(&self, buffer: &'b [u8], name: &str) -> impl Iterator<Item = &'b [u8]> {
        let fields = self.fields.iter().filter(move |field| {
            field.kind == FieldKind::Other && field.name.of(buffer).eq_ignore_ascii_case(b"cookie")
        });
        fields.flat_map(move |field| cookie_values(field.value.of(buffer), name.as_bytes()))
    }

    /// Like [`Self::parse`], for a target that is UTF-8.
    fn parse_text(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
    ) -> Result<HeadProgress, RequestError> {
        let max = limits.max_header.min(u32::MAX as usize);
        let window = &buf[..buf.len().min(max)];
        let Some(start) = skip_empty_lines(window)? else {
            return Ok(HeadProgress::Partial);
        };
        let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        let outcome = parsed.parse_with_uninit_headers(&window[start..], &mut storage);
        let length = match outcome {
            Ok(httparse::Status::Complete(length)) => start + length,
            Ok(httparse::Status::Partial) => {
                return partial(window, start, buf.len() > max, limits);
            }
            Err(error) => return Err(syntax_error(window, start, error, limits)),
        };
        self.len = length;
        let (method, target) = (
            parsed.method.unwrap_or_default(),
            parsed.path.unwrap_or_default(),
        );
        self.method = Method::from_bytes(method.as_bytes());
        self.method_span = ByteSpan::new(start, start + method.len());
        self.target = ByteSpan::within(window, target.as_bytes());
        self.version = if parsed.version == Some(0) {
            HttpVersion::Http10
        } else {
            HttpVersion::Http11
        };
        if target.len() > limits.max_uri {
            return Err(RequestError::TargetTooLong);
        }
        self.read(window, parsed.headers)?;
        Ok(HeadProgress::Complete)
    }

    /// Does all checks that `httparse` doesn't.
    fn read(&mut self, buf: &[u8], headers: &[httparse::Header<'_>]) -> Result<(), RequestError> {
        // " HTTP/1.1" and CR LF follow the target: httparse accepts exactly one space and eight bytes.
        let line_end = self.target.end as usize + 9;
        self.fields_start = (line_end + 2) as u32;
        self.is_grpc = false;
        self.idempotency_key = false;
        self.te_trailers = false;
        self.expect_continue = false;
        let mut seen = RequestFields::default();
        read_fields(self, buf, self.len, headers, &mut seen)?;
        self.read_target(buf, line_end, seen.host)?;
        self.rewrite_length = seen.hop.framing.length_needs_rewriting();
        self.body = match seen.hop.framing.verdict(self.version)? {
            FramedBody::Unframed => RequestBody::None,
            FramedBody::Length(length) => RequestBody::Length(length),
            FramedBody::Chunked => RequestBody::Chunked,
        };
        seen.hop.drop_nominated(buf, self.fields());
        self.keep_alive = seen.hop.keeps_alive(self.version);
        self.read_upgrade(buf, &seen);
        Ok(())
    }

    /// Reads the target, and with it the host: that of the target takes precedence (RFC 9112 §3.2.2), but `Host` must
    /// be valid nevertheless (RFC 9112 §3.2).
    fn read_target(
        &mut self,
        buf: &[u8],
        line_end: usize,
        host: Option<ByteSpan>,
    ) -> Result<(), RequestError> {
        if self.method == Method::Connect {
            return Err(RequestError::ConnectMethod);
        }
        let target =
            target::parse(buf, self.target, self.method, line_end).map_err(
                |error| match error {
                    TargetError::Malformed => RequestError::BadTarget,
                    TargetError::Authority => RequestError::BadHost,
                },
            )?;
        if host.is_none() && self.version == HttpVersion::Http11 {
            return Err(RequestError::NoHost);
        }
        let host = host.unwrap_or_default();
        let mut host_length =
            target::host_length(host.of(buf)).map_err(|_| RequestError::BadHost)?;
        self.authority = host;
        if let Some(authority) = target.authority {
            host_length =
                target::host_length(authority.of(buf)).map_err(|_| RequestError::BadHost)?;
            self.authority = authority;
        }
        self.host = ByteSpan {
            start: self.authority.start,
            end: self.authority.start + host_length as u32,
        };
        self.path = target.path;
        self.origin = target.origin;
        self.form = target.form;
        Ok(())
    }

    /// Decides whether an upgrade is passed on: if the request is HTTP/1.1 and has no body, whatever its method
    /// (`docker attach` and `kubectl exec` use POST). Otherwise the offer is dropped, as any server may do (RFC 9110
    /// §7.8): a backend that switches before it has read a body would take the rest of the body for the new protocol.
    fn read_upgrade(&mut self, buf: &[u8], seen: &RequestFields) {
        self.upgrade = None;
        if !seen.hop.options.upgrade
            || self.kinds & FieldKind::Upgrade.bit() == 0
            || self.version != HttpVersion::Http11
            || !self.body.is_empty()
        {
            return;
        }
        let first = self.offered(buf).next().map(upgrade_kind);
        self.upgrade = first;
    }

    /// Returns the protocols of all `Upgrade` header fields that can be tunnelled, in order. They are passed on if
    /// [`RequestHead::upgrade`] is set.
    pub fn offered<'a>(&'a self, buf: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(|field| field.kind == FieldKind::Upgrade)
            .flat_map(|field| tokens(field.value.of(buf)))
            .filter(|token| can_be_tunnelled(token))
    }
}

impl FieldReader for RequestHead {
    type Seen = RequestFields;
    type Error = RequestError;

    #[inline(always)]
    fn fields(&mut self) -> (&mut Vec<HeaderField>, &mut u32) {
        (&mut self.fields, &mut self.kinds)
    }

    #[inline(always)]
    fn act_on(
        &mut self,
        field: HeaderField,
        value: &[u8],
        seen: &mut RequestFields,
    ) -> Result<FieldKind, RequestError> {
        match field.kind {
            FieldKind::Host if seen.host.is_some() => return Err(RequestError::ManyHosts),
            FieldKind::Host => seen.host = Some(field.value),
            FieldKind::FramingImitation => return Err(RequestError::FramingImitation),
            FieldKind::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(RequestError::BadExpectation);
            }
            // RFC 9110 §10.1.1: it has no meaning in HTTP/1.0.
            FieldKind::Expect if self.version == HttpVersion::Http10 => {
                return Ok(FieldKind::Dropped);
            }
            FieldKind::Expect => self.expect_continue = true,
            FieldKind::Te => {
                self.te_trailers |= tokens(value).any(|t| t.eq_ignore_ascii_case(b"trailers"))
            }
            FieldKind::IdempotencyKey => self.idempotency_key = true,
            FieldKind::ContentType => self.is_grpc = grpc::is_grpc(value),
            kind => return seen.hop.note(kind, value, self.kinds),
        }
        Ok(field.kind)
    }
}

/// Returns the kind of protocol that a token names.
pub(crate) fn upgrade_kind(protocol: &[u8]) -> UpgradeProtocol {
    if protocol.eq_ignore_ascii_case(b"websocket") {
        UpgradeProtocol::WebSocket
    } else {
        UpgradeProtocol::Other
    }
}

/// Returns whether a protocol can be tunnelled. Not `h2c`, `HTTP/…` and `TLS/…`: with these, requests would bypass
/// the proxy.
fn can_be_tunnelled(protocol: &[u8]) -> bool {
    let starts = |prefix: &[u8]| {
        protocol
            .get(..prefix.len())
            .is_some_and(|p| p.eq_ignore_ascii_case(prefix))
    };
    !(starts(b"h2") || starts(b"http") || starts(b"tls"))
        && protocol
            .iter()
            .all(|b| super::fields::is_tchar(*b) || *b == b'/')
}

/// Returns the start of the request line; `None` if more bytes are needed.
fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, RequestError> {
    let mut start = 0;
    while start < 4 {
        match &buf[start..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => start += 2,
            _ => break,
        }
    }
    match buf.get(start) {
        None => Ok(None),
        Some(b'\r' | b'\n') => Err(RequestError::BadRequestLine),
        Some(_) => Ok(Some(start)),
    }
}

/// Returns the length of the target so far, if the line contains any of it: everything up to a byte that is not
/// allowed there.
fn target_so_far(line: &[u8]) -> Option<(usize, &[u8])> {
    let space = line
        .iter()
        .position(|b| !super::fields::is_tchar(*b))
        .filter(|at| *at > 0 && line[*at] == b' ')?;
    let rest = &line[space + 1..];
    let length = rest
        .iter()
        .position(|b| *b <= b' ' || *b == 0x7f)
        .unwrap_or(rest.len());
    Some((length, &rest[length..]))
}

#[cold]
fn partial(
    window: &[u8],
    start: usize,
    full: bool,
    limits: &HeadLimits,
) -> Result<HeadProgress, RequestError> {
    match target_so_far(&window[start..]) {
        Some((length, _)) if length > limits.max_uri => Err(RequestError::TargetTooLong),
        _ if full => Err(RequestError::HeadTooLarge),
        _ => Ok(HeadProgress::Partial),
    }
}

/// Returns the same head with letters in place of the bytes above ASCII in its path and query: httparse only accepts
/// them if they are UTF-8, but apps choose their encoding themselves. Offsets are the same in both, and no decision
/// depends on such a byte. `None`: there are none.
#[cold]
fn hide_high_bytes(buf: &[u8], limits: &HeadLimits) -> Option<Vec<u8>> {
    let head = &buf[..buf.len().min(limits.max_header.saturating_add(1))];
    let start = skip_empty_lines(head).ok()??;
    let line = memchr::memchr(b'\n', &head[start..]).map_or(head.len(), |end| start + end);
    let target = start + memchr::memchr(b' ', &head[start..line])? + 1;
    let end = target + memchr::memchr(b' ', &head[target..line])?;
    let path = match &head[target..end] {
        [b'/', ..] => target,
        // A host is ASCII (RFC 3986 §3.2.2).
        absolute => {
            let host = memchr::memmem::find(absolute, b"://")? + 3;
            target + host + memchr::memchr2(b'/', b'?', &absolute[host..])?
        }
    };
    if head[path..end].is_ascii() {
        return None;
    }
    let mut hidden = head.to_vec();
    for byte in &mut hidden[path..end] {
        if !byte.is_ascii() {
            *byte = b'x';
        }
    }
    Some(hidden)
}

/// Returns the reason for a syntax error of `httparse`, from the part of the line that has arrived and nothing else:
/// the result must be the same when more of it has arrived.
#[cold]
fn syntax_error(
    window: &[u8],
    start: usize,
    error: httparse::Error,
    limits: &HeadLimits,
) -> RequestError {
    let line = &window[start..];
    match target_so_far(line) {
        Some((length, _)) if length > limits.max_uri => return RequestError::TargetTooLong,
        // HTTP/0.9 (`GET /` and nothing more), and any version but 1.0 and 1.1.
        Some((length, [b'\r' | b'\n', ..])) if length > 0 => return RequestError::BadVersion,
        Some((length, [b' ', version @ ..])) if length > 0 && error == httparse::Error::Version => {
            return if version.starts_with(b"HTTP/") {
                RequestError::BadVersion
            } else {
                RequestError::BadRequestLine
            };
        }
        _ => {}
    }
    match error {
        httparse::Error::HeaderName => RequestError::BadFieldName,
        httparse::Error::HeaderValue => RequestError::BadFieldValue,
        httparse::Error::NewLine => RequestError::BadLineEnd,
        httparse::Error::TooManyHeaders => RequestError::TooManyFields,
        _ => RequestError::BadRequestLine,
    }
}

#[cfg(test)]
mod tests;
