//! A response's head, parsed in place, as strictly as a request's (RFC 9112 §4, §6).
//!
//! How to use: as [`super::request`]. A head with [`ResponseHead::interim`] is a 1xx: pass it on (or not) and
//! parse the next one after it. A 101 must also [`ResponseHead::agrees`] with what the request asked for.
//! An error means that the backend's connection can't be used any more; the client gets a 502.

use std::mem::MaybeUninit;

pub use super::error::ResponseError;
use super::fields::{FieldKind, tokens};
use super::framing::{FramedBody, FramingFields};
use super::head_fields::{FieldReader, HopFields, read_fields};
use super::method::{HttpVersion, Method, UpgradeProtocol};
use super::request::{HeadProgress, MAX_FIELDS, upgrade_kind};
use super::span::{ByteSpan, HeaderField};

/// Where a response's body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResponseBody {
    /// There is none, whatever the fields say.
    #[default]
    None,
    /// This many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// Everything until the connection ends.
    UntilClose,
}

impl ResponseBody {
    /// Whether no byte follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// A response's head. Valid after a [`HeadProgress::Complete`]; reuse it for the next response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, with its blank line.
    pub len: usize,
    /// The status, 100 to 999.
    pub status: u16,
    /// The version of the response.
    pub version: HttpVersion,
    /// The fields, in order.
    pub fields: Vec<HeaderField>,
    /// The kinds that occur, as [`FieldKind::bit`]s.
    pub kinds: u32,
    /// Where the body ends.
    pub body: ResponseBody,
    /// Whether the backend keeps the connection for another request (RFC 9112 §9.3). False also where the
    /// head says something about a body that this status can't have: bytes may follow that nobody asked for.
    pub keep_alive: bool,
    /// Seconds for which the backend keeps an idle connection (`Keep-Alive: timeout=`).
    pub keep_alive_timeout: Option<u32>,
    /// Whether this is a stream of server-sent events: no read timeout, orderly end in a drain.
    pub is_event_stream: bool,
    /// For a 101: what it switches to.
    pub upgrade: Option<UpgradeProtocol>,
    /// That protocol's token, or for a 426 the list of those that the backend wants.
    pub upgrade_protocol: ByteSpan,
    /// Where the first field line, or else the blank line, starts.
    pub(crate) fields_start: u32,
    /// Whether `Content-Length` must be written anew.
    pub(crate) rewrite_length: bool,
}

/// What is collected while going over the fields.
#[derive(Default)]
pub(super) struct ResponseFields {
    hop: HopFields,
    upgrade: ByteSpan,
    upgrades: u32,
}

impl ResponseHead {
    /// An empty one, to parse into.
    pub fn new() -> Self {
        Self {
            fields: Vec::with_capacity(24),
            ..Self::default()
        }
    }

    /// Whether this is a 1xx other than 101: another head follows (RFC 9110 §15.2).
    pub fn interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether a 101, whose head is in `buf`, switches to one of the protocols that the request offered (RFC 9110 §7.8).
    pub fn agrees<'a>(&self, buf: &[u8], mut offered: impl Iterator<Item = &'a [u8]>) -> bool {
        let chosen = self.upgrade_protocol.of(buf);
        self.upgrade.is_some() && offered.any(|protocol| protocol.eq_ignore_ascii_case(chosen))
    }

    /// Parses the head that starts at `buf[0]`: the answer to a request with this method.
    ///
    /// `upgrade_asked`: whether the request was sent with an upgrade; without, a 101 is an error.
    /// `max_header` bounds the head's bytes.
    ///
    /// # Errors
    /// Why it is no answer that may be forwarded, or that it is longer than `max_header`.
    pub fn parse(
        &mut self,
        buf: &[u8],
        request_method: Method,
        upgrade_asked: bool,
        max_header: usize,
    ) -> Result<HeadProgress, ResponseError> {
        let window = &buf[..buf.len().min(max_header).min(u32::MAX as usize)];
        // httparse would skip empty lines here: bytes that nobody asked for, left over from something else.
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

    /// RFC 9112 §6.3, in its order.
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
        // RFC 9110 §8.6, RFC 9112 §6.1: neither field belongs in a 1xx or 204.
        let odd = (self.status < 200 || self.status == 204)
            && !matches!(verdict, FramedBody::Unframed | FramedBody::Length(0));
        if self.body == ResponseBody::UntilClose || odd {
            self.keep_alive = false;
        }
        Ok(())
    }

    /// A 101 must have been asked for, say `Connection: upgrade`, and name exactly one protocol (RFC 9110 §7.8).
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

/// `timeout=N` of a `Keep-Alive` field (RFC 2068 §19.7.1).
fn timeout(value: &[u8]) -> Option<u32> {
    let parameter = tokens(value).find(|p| {
        p.get(..8)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"timeout="))
    })?;
    std::str::from_utf8(&parameter[8..]).ok()?.parse().ok()
}

/// `text/event-stream`, with or without parameters.
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
