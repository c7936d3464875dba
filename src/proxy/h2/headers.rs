//! Translates heads and trailers between HTTP/1.1 and HTTP/2 (RFC 9113 §8), in both directions.
//!
//! A head from HTTP/2 is written as an HTTP/1.1 head and parsed by the HTTP/1 plane's own parser, which decides
//! whether it is valid. Only what HTTP/1.1 can't express, or what would get lost in translation, is checked here.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, request};

use super::carrier;
use crate::config::MAX_RULES;
use crate::proxy::h1::fields::{FieldKind, classify, trim_ows};
use crate::proxy::h1::framing::{FramedBody, FramingFields};
use crate::proxy::h1::method::HttpVersion;
use crate::proxy::h1::request::{MAX_FIELDS, RequestError};
use crate::proxy::h1::sections::FieldSection;
use crate::proxy::messages::grpc;
use crate::proxy::messages::websocket;

/// How a body is framed in HTTP/1.1, after a head that was written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// No body.
    None,
    /// This many bytes, without chunks. For a request, 0 means that only the end of the stream is still to come.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Without framing, in both directions, until the stream ends: an upgraded stream.
    Tunnel,
}

/// The error for a head or a field that HTTP/2 can't express.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntranslatableError;

impl<E: Into<http::Error>> From<E> for UntranslatableError {
    fn from(_: E) -> Self {
        Self
    }
}

/// Returns whether a field does not exist in HTTP/2, because it only applies to one HTTP/1 connection.
pub fn is_of_connection(name: &str) -> bool {
    FieldSection::Http2.withheld() & classify(name.as_bytes()).bit() != 0
}

/// Writes the head of a request received over HTTP/2. `ended`: nothing follows its HEADERS.
///
/// An extended CONNECT for a WebSocket (RFC 8441) becomes the handshake of RFC 6455.
///
/// # Errors
/// If the request has no unambiguous form in HTTP/1.1. `out` then contains as much as can be logged.
pub fn write_request(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    ended: bool,
) -> Result<BodyForm, RequestError> {
    let websocket = match parts.extensions.get::<h2::ext::Protocol>() {
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => true,
        Some(_) => return Err(RequestError::ConnectMethod),
        None => false,
    };
    let method = if websocket {
        "GET"
    } else {
        parts.method.as_str()
    };
    let carried = carrier::covered_path(parts);
    let path = match carried {
        Some(path) => path,
        None => parts
            .uri
            .path_and_query()
            .map_or(&b"/"[..], |target| target.as_str().as_bytes()),
    };
    put(out, &[method.as_bytes(), b" ", path, b" HTTP/1.1\r\n"]);
    // A space would end the target.
    if carried.is_some() && path.contains(&b' ') {
        return Err(RequestError::BadTarget);
    }
    if parts.method == Method::CONNECT && !websocket {
        return Err(RequestError::ConnectMethod);
    }
    // RFC 9113 §8.3.1: a path is absolute, or `*`. In HTTP/1.1 anything else would be another form of target.
    if !matches!(path, [b'/', ..] | [b'*']) {
        return Err(RequestError::BadTarget);
    }
    if parts.uri.scheme().is_some_and(|scheme| {
        *scheme != http::uri::Scheme::HTTP && *scheme != http::uri::Scheme::HTTPS
    }) {
        return Err(RequestError::BadTarget);
    }
    // RFC 9113 §8.2.2: such a message is malformed. The crate refuses it too; here it would be a second framing.
    let mut names = parts.headers.keys();
    if names.any(|name| is_of_connection(name.as_str()) && name != "http2-settings") {
        return Err(RequestError::BadFieldName);
    }
    if let Some(host) = authority(parts)? {
        // RFC 9110 §4.2.1: a URI with an empty host is invalid.
        if host.is_empty() && parts.uri.authority().is_some() {
            return Err(RequestError::BadHost);
        }
        put(out, &[b"host: ", host, b"\r\n"]);
    }
    let length = content_length(&parts.headers)?;
    let form = match length {
        _ if websocket => BodyForm::Tunnel,
        _ if ended => BodyForm::None,
        None => BodyForm::Chunked,
        Some(length) => BodyForm::Length(length),
    };
    let is_carrying = carried.is_some() || carrier::covered_authority(parts).is_some();
    write_fields(out, &parts.headers, |name| {
        name == header::HOST
            || name == header::CONTENT_LENGTH
            || name == header::COOKIE
            || (websocket && name == header::SEC_WEBSOCKET_KEY)
            || (is_carrying && carrier::is_carrier(name))
    })?;
    write_cookies(out, &parts.headers)?;
    match form {
        BodyForm::Length(length) => put_length(out, length),
        BodyForm::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // RFC 9110 §8.6: for methods with a defined body, its absence is stated explicitly.
        BodyForm::None if length.is_some() || expects_body(&parts.method) => put_length(out, 0),
        BodyForm::None => {}
        BodyForm::Tunnel => put(
            out,
            &[
                b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: ",
                // RFC 8441 has no key: the exchange checks the response to it.
                &websocket::make_key(),
                b"\r\n",
            ],
        ),
    }
    out.extend_from_slice(b"\r\n");
    Ok(form)
}

/// Returns the host of the request: `:authority`, or `Host`. If both are present, they must agree (RFC 9113 §8.3.1).
fn authority(parts: &request::Parts) -> Result<Option<&[u8]>, RequestError> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(RequestError::ManyHosts);
    }
    let authority = carrier::covered_authority(parts)
        .or_else(|| parts.uri.authority().map(|name| name.as_str().as_bytes()));
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(RequestError::ManyHosts)
        }
        (authority, host) => Ok(authority.or(host)),
    }
}

/// Returns the `Content-Length`, parsed as strictly as in HTTP/1.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, RequestError> {
    let mut framing = FramingFields::default();
    for value in headers.get_all(header::CONTENT_LENGTH) {
        framing.content_length(value.as_bytes())?;
    }
    match framing.verdict(HttpVersion::Http11)? {
        FramedBody::Length(length) => Ok(Some(length)),
        _ => Ok(None),
    }
}

fn expects_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// Appends fields as lines, except those that `skip` names.
///
/// # Errors
/// If a value has whitespace around it, which HTTP/2 forbids (RFC 9113 §8.2.1) and HTTP/1 would strip.
pub fn write_fields(
    out: &mut Vec<u8>,
    fields: &HeaderMap,
    skip: impl Fn(&HeaderName) -> bool,
) -> Result<(), RequestError> {
    for (name, value) in fields {
        if !skip(name) {
            let value = unpadded(value)?;
            put(out, &[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
        }
    }
    Ok(())
}

/// Appends all `Cookie` fields as one (RFC 9113 §8.2.3): HTTP/1 allows no more.
fn write_cookies(out: &mut Vec<u8>, fields: &HeaderMap) -> Result<(), RequestError> {
    let mut before: &[u8] = b"cookie: ";
    for crumb in fields.get_all(header::COOKIE) {
        put(out, &[before, unpadded(crumb)?]);
        before = b"; ";
    }
    if before == b"; " {
        out.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// Appends a response's fields as lines, like [`write_fields`], without the whitespace around their values: RFC 9113
/// §8.2.1 forbids it, and in HTTP/1 it has no meaning.
pub fn write_response_fields(
    out: &mut Vec<u8>,
    fields: &HeaderMap,
    skip: impl Fn(&HeaderName) -> bool,
) {
    for (name, value) in fields {
        if !skip(name) {
            let value = trim_ows(value.as_bytes());
            put(out, &[name.as_str().as_bytes(), b": ", value, b"\r\n"]);
        }
    }
}

fn unpadded(value: &HeaderValue) -> Result<&[u8], RequestError> {
    match value.as_bytes() {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(RequestError::BadFieldValue),
        value => Ok(value),
    }
}

/// Returns the fields of a head that was parsed in `head`, without the connection-specific ones. Nothing is copied:
/// the values share `head`.
///
/// # Errors
/// If a name or a value is invalid.
pub fn read_fields(
    head: &Bytes,
    parsed: &[httparse::Header<'_>],
) -> Result<HeaderMap, UntranslatableError> {
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = field.name.as_bytes();
        if !is_of_connection(field.name) {
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))?;
            let name = HeaderName::from_bytes(name)?;
            fields
                .try_append(name, value)
                .map_err(|_| UntranslatableError)?;
        }
    }
    Ok(fields)
}

/// A response head in HTTP/1.1, as the proxy's own plane writes it for a client.
#[derive(Debug)]
pub struct ResponseRead {
    /// Its size in bytes.
    pub len: usize,
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without the connection-specific ones.
    pub fields: HeaderMap,
    /// How its body is framed, unless the request or the status excludes a body.
    pub form: BodyForm,
}

/// Reads a response head that begins at `bytes[0]`; `None`: it is incomplete.
///
/// # Errors
/// If it is not a valid head. The proxy's own plane writes none such.
pub fn read_response(bytes: &[u8]) -> Result<Option<ResponseRead>, UntranslatableError> {
    let Some(len) = memchr::memmem::find(bytes, b"\r\n\r\n").map(|end| end + 4) else {
        return Ok(None);
    };
    let head = Bytes::copy_from_slice(&bytes[..len]);
    // As many as a backend's head may have, plus those that the plane and the route add.
    let mut storage =
        [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS + 8 + 2 * MAX_RULES];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        &head,
        &mut storage,
    );
    if !matches!(outcome, Ok(httparse::Status::Complete(_))) {
        return Err(UntranslatableError);
    }
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())?;
    let mut fields = read_fields(&head, parsed.headers)?;
    if parsed.headers.iter().any(is_nothing) && is_call(&fields) {
        fields.remove(header::CONTENT_LENGTH);
    }
    let form = if status == StatusCode::SWITCHING_PROTOCOLS {
        BodyForm::Tunnel
    } else if status.is_informational() {
        BodyForm::None
    } else {
        response_form(parsed.headers, &fields)
    };
    Ok(Some(ResponseRead {
        len,
        status,
        fields,
        form,
    }))
}

/// Tells the HTTP/1 plane that there is no body. Fields from HTTP/2 have lower-case names, so they can't be confused
/// with it.
pub const NO_BODY: &[u8] = b"Content-Length: 0\r\n";

fn is_nothing(field: &httparse::Header<'_>) -> bool {
    field.name == "Content-Length" && field.value == b"0"
}

/// Returns whether a response belongs to a gRPC call: gRPC clients expect that a response consisting of trailers only
/// has no header fields about a body.
fn is_call(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| grpc::is_grpc(value.as_bytes()))
}

fn response_form(parsed: &[httparse::Header<'_>], fields: &HeaderMap) -> BodyForm {
    let chunked = |field: &httparse::Header<'_>| {
        classify(field.name.as_bytes()) == FieldKind::TransferEncoding
    };
    if parsed.iter().any(chunked) {
        return BodyForm::Chunked;
    }
    let length = fields
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        None | Some(0) => BodyForm::None,
        Some(length) => BodyForm::Length(length),
    }
}

/// Appends the end of a response's chunked body, with these trailers.
pub fn write_response_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    out.extend_from_slice(b"0\r\n");
    write_response_fields(out, trailers, |_| false);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a request's chunked body, with these trailers.
///
/// # Errors
/// The same as for [`write_fields`].
pub fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) -> Result<(), RequestError> {
    out.extend_from_slice(b"0\r\n");
    write_fields(out, trailers, |_| false)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Reads the lines of a trailer section, including the empty line after them. `None`: there are no trailers, or
/// HTTP/2 can't express them.
pub fn read_trailers(section: Vec<u8>) -> Option<HeaderMap> {
    if section.len() <= 2 {
        return None;
    }
    let section = Bytes::from(section);
    let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(&section, &mut storage) {
        Ok(httparse::Status::Complete((_, parsed))) => read_fields(&section, parsed)
            .ok()
            .filter(|fields| !fields.is_empty()),
        _ => None,
    }
}

fn put_length(out: &mut Vec<u8>, length: u64) {
    put(
        out,
        &[
            b"content-length: ",
            itoa::Buffer::new().format(length).as_bytes(),
            b"\r\n",
        ],
    );
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
