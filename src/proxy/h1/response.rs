//! Parses response heads in place, as strictly as request heads (RFC 9112 §4, §6).
//!
//! Usage: as [`super::request`]. A head with [`ResponseHead::interim`] is a 1xx: pass it on (or not) and parse the
//! next one after it. For a 101, [`ResponseHead::agrees`] must also be checked against the request. An error means
//! that the backend's connection can't be used any more; the client gets a 502.

use std::mem::MaybeUninit;

pub use super::error::ResponseError;
use super::fields::{FieldKind, tokens};
use super::framing::{FramedBody, FramingFields};
use super::head_fields::{FieldReader, HopFields, read_fields};
use super::method::{HttpVersion, Method, UpgradeProtocol};
use super::request::{HeadProgress, MAX_FIELDS, upgrade_kind};
use super::span::{ByteSpan, HeaderField};

/// How a response body is framed (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// No body, whatever the header fields say.
    #[default]
    None,
    /// A body of this many bytes.
    Length(u64),
    /// A chunked body.
    Chunked,
    /// A body that ends when the connection is closed.
    UntilClose,
}

impl ResponseBody {
    /// Returns whether no byte follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// A response head. Valid after [`HeadProgress::Complete`]; can be reused for the next response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Size of the head in bytes, with its empty line.
    pub len: usize,
    /// The status, 100 to 999.
    pub status: u16,
    /// The version of the response.
    pub version: HttpVersion,
    /// The header fields, in order.
    pub fields: Vec<HeaderField>,
    /// The kinds that occur, as [`FieldKind::bit`]s.
    pub kinds: u32,
    /// How the body is framed.
    pub body: ResponseBody,
    /// Whether the backend keeps the connection for another request (RFC 9112 §9.3). Also false if the head describes
    /// a body that this status can't have: unexpected bytes may follow.
    pub keep_alive: bool,
    /// Seconds for which the backend keeps an idle connection (`Keep-Alive: timeout=`).
    pub keep_alive_timeout: Option<u32>,
    /// Whether this is an event stream (server-sent events): no read timeout, orderly end in a drain.
    pub is_event_stream: bool,
    /// For a 101: the kind of protocol that it switches to.
    pub upgrade: Option<UpgradeProtocol>,
    /// That protocol's token, or for a 426 the list of protocols that the backend requires.
    pub upgrade_protocol: ByteSpan,
    /// Offset of the first header field line, or otherwise of the empty line.
    pub(crate) fields_start: u32,
    /// Whether `Content-Length` must be written anew.
    pub(crate) rewrite_length: bool,
}

/// Information collected from the header fields.
#[derive(Default)]
pub(super) struct ResponseFields {
    hop: HopFields,
    upgrade: ByteSpan,
    upgrades: u32,
}

impl ResponseHead {
    /// Creates an empty head to parse into.
    pub fn new() -> Self {
        Self {
            fields: Vec::with_capacity(24),
            ..Self::default()
        }
    }

    /// Returns whether this is a 1xx other than 101: another head follows (RFC 9110 §15.2).
    pub fn interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Returns whether a 101, whose head is in `buf`, switches to one of the protocols that the request offered (RFC
    /// 9110 §7.8).
    pub fn agrees<'a>(&self, buf: &[u8], mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
        let chosen = self.upgrade_protocol.of(buf);
        self.upgrade.is_some() && offered.any(|protocol| protocol.eq_ignore_ascii_case(chosen))
    }

    /// Parses the head that starts at `buf[0]`: the response to a request with this method.
    ///
    /// `upgrade_asked`: whether the request was sent with an upgrade; if not, a 101 is an error. `max_header` limits
    /// the size of the head in bytes.
    ///
    /// # Errors
    /// Why the response can't be forwarded, or that it exceeds `max_header`.
    pub fn parse(
        &mut self,
        buf: &[u8],
        request_method: Method,
        upgrade_asked: bool,
        max_header: usize,
    ) -> Result<HeadProgress, ResponseError> {
        let window = &buf[..buf.len().min(max_header).min(u32::MAX as usize)];
        // httparse would skip empty lines here: unexpected bytes, left over from something else.
        if window.first().is_some_and(|b| *b != b'H') {
            return Err(ResponseError::BadStatusLine);
        }
        let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            window,
            &mut storage,
        );
        self.len = match outcome {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if buf.len() > window.len() => {
                return Err(ResponseError::HeadTooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(HeadProgress::Partial),
            Err(error) => return Err(syntax_error(error)),
        };
        self.status = parsed.code.unwrap_or_default();
        self.version = if parsed.version == Some(0) {
            HttpVersion::Http10
        } else {
            HttpVersion::Http11
        };
        if self.status < 100 {
            return Err(ResponseError::BadStatusLine);
        }
        self.read(window, parsed.headers, request_method, upgrade_asked)?;
        Ok(HeadProgress::Complete)
    }

    fn read(
        &mut self,
        buf: &[u8],
        headers: &[httparse::Header<'_>],
        request_method: Method,
        upgrade_asked: bool,
    ) -> Result<(), ResponseError> {
        self.keep_alive_timeout = None;
        self.is_event_stream = false;
        let mut seen = ResponseFields::default();
        read_fields(self, buf, self.len, headers, &mut seen)?;
        self.fields_start = self
            .fields
            .first()
            .map_or(self.len as u32 - 2, |field| field.name.start);
        seen.hop.drop_nominated(buf, self.fields());
        self.keep_alive = seen.hop.keeps_alive(self.version);
        self.rewrite_length = seen.hop.framing.length_needs_rewriting();
        self.read_body(&seen.hop.framing, request_method)?;
        self.read_upgrade(buf, &seen, upgrade_asked)
    }

    /// Applies the rules of RFC 9112 §6.3 in order.
    fn read_body(
        &mut self,
        framing: &FramingFields,
        request_method: Method,
    ) -> Result<(), ResponseError> {
        let verdict = framing.verdict(self.version)?;
        self.body = match verdict {
            _ if self.status < 200 || matches!(self.status, 204 | 304) => ResponseBody::None,
            _ if request_method == Method::Head => ResponseBody::None,
            FramedBody::Length(length) => ResponseBody::Length(length),
            FramedBody::Chunked => ResponseBody::Chunked,
            FramedBody::Unframed => ResponseBody::UntilClose,
        };
        // RFC 9110 §8.6, RFC 9112 §6.1: neither header field is allowed in a 1xx or 204.
        let odd = (self.status < 200 || self.status == 204)
            && !matches!(verdict, FramedBody::Unframed | FramedBody::Length(0));
        if self.body == ResponseBody::UntilClose || odd {
            self.keep_alive = false;
        }
        Ok(())
    }

    /// Reads a 101: it must have been requested, contain `Connection: upgrade`, and name exactly one protocol (RFC
    /// 9110 §7.8).
    fn read_upgrade(
        &mut self,
        buf: &[u8],
        seen: &ResponseFields,
        asked: bool,
    ) -> Result<(), ResponseError> {
        self.upgrade = None;
        self.upgrade_protocol = ByteSpan::default();
        if self.status == 426 {
            self.upgrade_protocol = seen.upgrade;
        }
        if self.status != 101 {
            return Ok(());
        }
        let mut protocols = tokens(seen.upgrade.of(buf));
        match (protocols.next(), protocols.next()) {
            (Some(protocol), None)
                if asked
                    && self.version == HttpVersion::Http11
                    && seen.hop.options.upgrade
                    && seen.upgrades == 1 =>
            {
                self.upgrade = Some(upgrade_kind(protocol));
                self.upgrade_protocol = ByteSpan::within(buf, protocol);
                Ok(())
            }
            _ => Err(ResponseError::UnaskedUpgrade),
        }
    }
}

impl FieldReader for ResponseHead {
    type Seen = ResponseFields;
    type Error = ResponseError;

    #[inline(always)]
    fn fields(&mut self) -> (&mut Vec<HeaderField>, &mut u32) {
        (&mut self.fields, &mut self.kinds)
    }

    #[inline(always)]
    fn act_on(
        &mut self,
        field: HeaderField,
        value: &[u8],
        seen: &mut ResponseFields,
    ) -> Result<FieldKind, ResponseError> {
        match field.kind {
            FieldKind::KeepAlive => {
                self.keep_alive_timeout = timeout(value).or(self.keep_alive_timeout)
            }
            FieldKind::ContentType => self.is_event_stream = is_event_stream(value),
            FieldKind::Upgrade => {
                seen.upgrade = field.value;
                seen.upgrades += 1;
            }
            kind => return seen.hop.note(kind, value, self.kinds),
        }
        Ok(field.kind)
    }
}

/// Returns `timeout=N` of a `Keep-Alive` header field (RFC 2068 §19.7.1).
fn timeout(value: &[u8]) -> Option<u32> {
    let parameter = tokens(value).find(|p| {
        p.get(..8)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"timeout="))
    })?;
    std::str::from_utf8(&parameter[8..]).ok()?.parse().ok()
}

/// Returns whether this is `text/event-stream`, with or without parameters.
fn is_event_stream(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    value
        .get(..TYPE.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
        && matches!(value.get(TYPE.len()), None | Some(b';' | b' ' | b'\t'))
}

#[cold]
fn syntax_error(error: httparse::Error) -> ResponseError {
    match error {
        httparse::Error::HeaderName => ResponseError::BadFieldName,
        httparse::Error::HeaderValue => ResponseError::BadFieldValue,
        httparse::Error::NewLine => ResponseError::BadLineEnd,
        httparse::Error::TooManyHeaders => ResponseError::TooManyFields,
        httparse::Error::Version => ResponseError::BadVersion,
        _ => ResponseError::BadStatusLine,
    }
}

#[cfg(test)]
mod tests;
