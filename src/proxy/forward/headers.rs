//! Rewrites a message head for the next hop: the header fields are copied, with edits.
//!
//! Usage: parse a head, fill a [`RequestEdit`] or [`ResponseEdit`], and append the new head to the outgoing buffer.
//! Header fields without edits are copied in runs, byte for byte and in order; replaced and added ones come after
//! them. The result is a complete head with its empty line.
//!
//! - Hop-by-hop header fields (RFC 9110 §7.6.1) are removed: `Connection`, all that it names, `Keep-Alive`,
//!   `Proxy-Connection`, `TE` (but `TE: trailers` is passed on), `Upgrade` (unless an upgrade is passed on),
//!   `HTTP2-Settings`. `Transfer-Encoding` is written anew if the next hop gets chunks.
//! - Header fields in which a client describes itself (`X-Forwarded-…`, `X-Real-IP`, `Forwarded`) are removed unless
//!   the client is trusted, whatever else is configured. Header fields about its certificate are always removed.
//! - The new head is always HTTP/1.1 (RFC 9110 §2.5), and a request has exactly one `Host`.

use super::changed_fields::{ChangedFields, RequestChanges, copy_changed};
use super::passes;
use crate::config;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::method::HttpVersion;
use crate::proxy::h1::request::{RequestBody, RequestHead, TargetForm};
use crate::proxy::h1::response::{ResponseBody, ResponseHead};
use crate::proxy::h1::sections::FieldSection;
use crate::proxy::h1::span::HeaderField;

/// The edits of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestEdit<'a> {
    /// The `[headers]` section of the configuration.
    pub policy: &'a config::HeadersConfig,
    /// The client's address without port; empty if it has none (a unix socket).
    pub client_ip: &'a str,
    /// Whether that address is in `headers.trusted`.
    pub trusted: bool,
    /// The scheme that the client used: `http` or `https`.
    pub scheme: &'a str,
    /// Header fields that describe the client's certificate, as lines; empty if it has presented none.
    pub identity: &'a str,
    /// For `X-Request-Id`: the client's id, see [`incoming_request_id`], or a new one.
    pub request_id: &'a [u8],
    /// Sent as `Host` instead of the client's (`preserve_host = false`).
    pub host_override: Option<&'a str>,
    /// Sent as `Host` if the client gave none, which HTTP/1.0 allows: the backend's address.
    pub fallback_host: &'a str,
    /// The changes that the route makes.
    pub changes: Option<&'a RequestChanges<'a>>,
}

/// Appends the request head for the backend.
pub fn write_request(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, edit: &RequestEdit<'_>) {
    let policy = edit.policy;
    let host = new_host(buf, head, edit);
    let mut drop = match edit.trusted {
        true => FieldSection::TrustedRequestHead.withheld(),
        false => FieldSection::RequestHead.withheld(),
    };
    if policy.x_forwarded {
        drop |= FieldKind::XForwardedFor.bit();
    }
    if policy.forwarded {
        drop |= FieldKind::Forwarded.bit();
    }
    if policy.request_id {
        drop |= FieldKind::XRequestId.bit();
    }
    if head.rewrite_length {
        drop |= FieldKind::ContentLength.bit();
    }
    if host.is_some() {
        drop |= FieldKind::Host.bit();
    }
    out.reserve(head.len + 512);
    let verbatim_line = head.form == TargetForm::Origin && head.version == HttpVersion::Http11;
    let mut from = head.fields_start as usize;
    match edit.changes.and_then(|changes| changes.target) {
        Some(target) => put(
            out,
            &[head.method_span.of(buf), b" ", target, b" HTTP/1.1\r\n"],
        ),
        None if verbatim_line && host.is_none() => from = head.method_span.start as usize,
        None => request_line(out, buf, head),
    }
    if let Some(host) = host {
        put(out, &[b"Host: ", host, b"\r\n"]);
    }
    let changed = edit.changes.and_then(|changes| changes.fields.as_ref());
    copy_head(
        out,
        buf,
        &head.fields,
        (from, head.len),
        drop & head.kinds,
        changed,
    );
    if let RequestBody::Length(length) = head.body
        && head.rewrite_length
    {
        put(
            out,
            &[
                b"Content-Length: ",
                itoa::Buffer::new().format(length).as_bytes(),
                b"\r\n",
            ],
        );
    }
    if head.body == RequestBody::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if head.upgrade.is_some() {
        let mut before: &[u8] = b"Connection: upgrade\r\nUpgrade: ";
        for protocol in head.offered(buf) {
            put(out, &[before, protocol]);
            before = b", ";
        }
        out.extend_from_slice(b"\r\n");
    } else if head.te_trailers && head.version == HttpVersion::Http11 {
        out.extend_from_slice(b"Connection: te\r\nTE: trailers\r\n");
    }
    if policy.x_forwarded {
        x_forwarded(out, buf, head, edit);
    }
    if policy.forwarded {
        forwarded(out, buf, head, edit);
    }
    if policy.via {
        via(out, head.version);
    }
    if passes::is_marked(head, policy) {
        out.extend_from_slice(passes::MARK);
    }
    out.extend_from_slice(edit.identity.as_bytes());
    if policy.request_id && !edit.request_id.is_empty() {
        put(out, &[b"X-Request-Id: ", edit.request_id, b"\r\n"]);
    }
    if let Some(changed) = changed {
        out.extend_from_slice(changed.lines);
    }
    out.extend_from_slice(b"\r\n");
}

/// Returns the client's `X-Request-Id`, if there is exactly one and it is fit to be passed on and logged: 1 to 128
/// letters, digits, `.`, `_`, `:` or `-`.
pub fn incoming_request_id<'a>(buf: &'a [u8], head: &RequestHead) -> Option<&'a [u8]> {
    if head.kinds & FieldKind::XRequestId.bit() == 0 {
        return None;
    }
    let mut ids = head
        .fields
        .iter()
        .filter(|field| field.kind == FieldKind::XRequestId);
    let (id, None) = (ids.next()?.value.of(buf), ids.next()) else {
        return None;
    };
    let sane = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    (matches!(id.len(), 1..=128) && id.iter().all(sane)).then_some(id)
}

/// Returns the `Host` to send, if it differs from the client's field.
fn new_host<'a>(buf: &'a [u8], head: &RequestHead, edit: &RequestEdit<'a>) -> Option<&'a [u8]> {
    if let Some(host) = edit.host_override {
        return Some(host.as_bytes());
    }
    if head.kinds & FieldKind::Host.bit() == 0 && head.authority.is_empty() {
        return Some(edit.fallback_host.as_bytes());
    }
    // RFC 9112 §3.2.2: a proxy replaces Host with the authority of an absolute-form target.
    (head.authority.start < head.fields_start).then(|| head.authority.of(buf))
}

/// Writes the request line in origin form or asterisk form, as origin servers expect it (RFC 9112 §3.2.1).
fn request_line(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead) {
    let origin = head.origin.of(buf);
    let before: &[u8] = match (head.form, origin.first()) {
        (TargetForm::Asterisk, None) => b" *",
        (_, Some(b'/' | b'*')) => b" ",
        _ => b" /",
    };
    put(
        out,
        &[head.method_span.of(buf), before, origin, b" HTTP/1.1\r\n"],
    );
}

/// Copies a head's lines as [`copy_fields`] does, except those that a route drops.
#[inline]
fn copy_head(
    out: &mut Vec<u8>,
    buf: &[u8],
    fields: &[HeaderField],
    (from, len): (usize, usize),
    drop: u32,
    changed: Option<&ChangedFields<'_>>,
) {
    match changed {
        None => copy_fields(out, buf, fields, from, len, drop),
        Some(changed) => {
            let lines = (from, len.saturating_sub(2));
            copy_changed(out, buf, fields, lines, drop, changed.dropped);
        }
    }
}

/// Copies the lines from `from` to the empty line, except those whose kind is in `drop`.
#[inline]
fn copy_fields(
    out: &mut Vec<u8>,
    buf: &[u8],
    fields: &[HeaderField],
    from: usize,
    len: usize,
    drop: u32,
) {
    let end = len.saturating_sub(2);
    let mut run = from;
    if drop != 0 {
        for (at, field) in fields.iter().enumerate() {
            if drop & field.kind.bit() != 0 {
                out.extend_from_slice(buf.get(run..field.name.start as usize).unwrap_or(&[]));
                run = fields
                    .get(at + 1)
                    .map_or(end, |next| next.name.start as usize);
            }
        }
    }
    out.extend_from_slice(buf.get(run..end).unwrap_or(&[]));
}

/// Appends `X-Forwarded-For`, `-Proto` and `-Host`. A trusted client's chain is extended; its scheme and host, which
/// describe its own client, stay unchanged.
fn x_forwarded(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, edit: &RequestEdit<'_>) {
    let said = if edit.trusted { head.kinds } else { 0 };
    out.extend_from_slice(b"X-Forwarded-For: ");
    let chain = out.len();
    if said & FieldKind::XForwardedFor.bit() != 0 {
        join(out, buf, head, FieldKind::XForwardedFor);
    }
    let client = match edit.client_ip.as_bytes() {
        [] => nobody(out, chain, b"unknown"),
        ip => ip,
    };
    put(out, &[client, b"\r\n"]);
    if said & FieldKind::XForwardedProto.bit() == 0 {
        put(
            out,
            &[b"X-Forwarded-Proto: ", edit.scheme.as_bytes(), b"\r\n"],
        );
    }
    if said & FieldKind::XForwardedHost.bit() == 0 && !head.authority.is_empty() {
        put(
            out,
            &[b"X-Forwarded-Host: ", head.authority.of(buf), b"\r\n"],
        );
    }
}

/// Appends `Forwarded` (RFC 7239 §4); an IPv6 address is in brackets and quotes (§6).
fn forwarded(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, edit: &RequestEdit<'_>) {
    out.extend_from_slice(b"Forwarded: ");
    let chain = out.len();
    if edit.trusted && head.kinds & FieldKind::Forwarded.bit() != 0 {
        join(out, buf, head, FieldKind::Forwarded);
    }
    let client = edit.client_ip.as_bytes();
    match client {
        [] => match nobody(out, chain, b"for=unknown") {
            [] => return out.extend_from_slice(b"\r\n"),
            unknown => out.extend_from_slice(unknown),
        },
        _ if client.contains(&b':') => put(out, &[b"for=\"[", client, b"]\""]),
        _ => put(out, &[b"for=", client]),
    }
    if !head.authority.is_empty() {
        // Quoted, because a token can't contain a port's colon; an authority has no quotes in it.
        put(out, &[b";host=\"", head.authority.of(buf), b"\""]);
    }
    put(out, &[b";proto=", edit.scheme.as_bytes(), b"\r\n"]);
}

/// Returns the entry for a client without an address in a chain that begins at `chain`: empty if a trusted client has
/// sent a chain already, since a reader that starts at the chain's end would stop at an unknown entry.
#[cold]
fn nobody<'a>(out: &mut Vec<u8>, chain: usize, unknown: &'a [u8]) -> &'a [u8] {
    if out.len() == chain {
        return unknown;
    }
    out.truncate(out.len() - b", ".len());
    &[]
}

/// Appends the values of all header fields of a kind as the start of one list, each followed by a comma.
fn join(out: &mut Vec<u8>, buf: &[u8], head: &RequestHead, kind: FieldKind) {
    for field in head
        .fields
        .iter()
        .filter(|field| field.kind == kind && !field.value.is_empty())
    {
        put(out, &[field.value.of(buf), b", "]);
    }
}

/// Appends `Via` with the version of the received message (RFC 9110 §7.6.3); earlier entries stay as lines before it.
fn via(out: &mut Vec<u8>, version: HttpVersion) {
    out.extend_from_slice(match version {
        HttpVersion::Http11 => b"Via: 1.1 lameduck\r\n",
        HttpVersion::Http10 => b"Via: 1.0 lameduck\r\n",
    });
}

/// How the body is framed for the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientFraming {
    /// Framed as the backend framed it, byte for byte.
    #[default]
    Same,
    /// Without chunks, ended by closing the connection: a chunked body for an HTTP/1.0 client.
    Dechunked,
    /// In chunks, for a body that the backend ends by closing: keeps the client's connection usable.
    Chunked,
}

impl ClientFraming {
    /// Chooses the framing for this client: chunks are removed for HTTP/1.0 (RFC 9112 §6.1), and added for HTTP/1.1
    /// if the backend ends the body by closing, so that a truncated body can be told from a complete one.
    pub fn choose(head: &ResponseHead, client_version: HttpVersion) -> Self {
        match (head.body, client_version) {
            (ResponseBody::Chunked, HttpVersion::Http10) => Self::Dechunked,
            (ResponseBody::UntilClose, HttpVersion::Http11) => Self::Chunked,
            _ => Self::Same,
        }
    }
}

/// The edits of a response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseEdit<'a> {
    /// Whether to send `Connection: close`. It is sent anyway if only closing the connection can end the body.
    pub close: bool,
    /// The version of the request.
    pub client_version: HttpVersion,
    /// How the client gets the body: [`ClientFraming::choose`].
    pub framing: ClientFraming,
    /// Whether to add `Via`.
    pub via: bool,
    /// `max-age` of `Strict-Transport-Security`, in seconds, unless the backend sends that field; 0: none.
    pub hsts: u64,
    /// The changes that the route makes.
    pub changes: Option<&'a ChangedFields<'a>>,
}

/// Appends the response head for the client.
pub fn write_response(out: &mut Vec<u8>, buf: &[u8], head: &ResponseHead, edit: &ResponseEdit<'_>) {
    // RFC 9110 §8.6 and RFC 9112 §6.1: neither length nor transfer encoding in 1xx and 204.
    let bodiless = head.status < 200 || head.status == 204;
    let mut drop = FieldSection::ResponseHead.withheld();
    if head.rewrite_length || bodiless || edit.framing == ClientFraming::Chunked {
        drop |= FieldKind::ContentLength.bit();
    }
    if edit.framing == ClientFraming::Dechunked {
        drop |= FieldKind::Trailer.bit();
    }
    out.reserve(head.len + 192);
    let mut from = 0;
    if head.version != HttpVersion::Http11 || buf.get(12) != Some(&b' ') {
        from = head.fields_start as usize;
        // `HTTP/1.x NNN`, and a reason phrase if there is one; the space after the status is required (RFC 9112 §4).
        let reason = buf.get(13..from.saturating_sub(2)).unwrap_or(&[]);
        put(
            out,
            &[
                b"HTTP/1.1 ",
                buf.get(9..12).unwrap_or(b"502"),
                b" ",
                reason,
                b"\r\n",
            ],
        );
    }
    let span = (from, head.len);
    copy_head(
        out,
        buf,
        &head.fields,
        span,
        drop & head.kinds,
        edit.changes,
    );
    if head.rewrite_length && !bodiless {
        rewrite_length(out, buf, head);
    }
    let chunked = match edit.framing {
        ClientFraming::Same => {
            !bodiless
                && head.kinds & FieldKind::TransferEncoding.bit() != 0
                && edit.client_version == HttpVersion::Http11
        }
        ClientFraming::Dechunked => false,
        ClientFraming::Chunked => true,
    };
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    connection_line(out, buf, head, edit);
    if edit.via {
        via(out, head.version);
    }
    let is_changed = || {
        edit.changes
            .is_some_and(|changes| changes.dropped.has(HSTS))
    };
    if edit.hsts > 0 && !has_hsts(buf, &head.fields) && !is_changed() {
        hsts(out, edit.hsts);
    }
    if let Some(changed) = edit.changes {
        out.extend_from_slice(changed.lines);
    }
    out.extend_from_slice(b"\r\n");
}

/// The name of the header field that binds a client to HTTPS.
pub const HSTS: &[u8] = b"strict-transport-security";

/// Appends `Strict-Transport-Security` (RFC 6797, section 6.1).
pub fn hsts(out: &mut Vec<u8>, max_age: u64) {
    put(
        out,
        &[
            b"Strict-Transport-Security: max-age=",
            itoa::Buffer::new().format(max_age).as_bytes(),
            b"\r\n",
        ],
    );
}

fn has_hsts(buf: &[u8], fields: &[HeaderField]) -> bool {
    let named = |field: &HeaderField| {
        let name = field.name.of(buf);
        name.eq_ignore_ascii_case(HSTS)
    };
    fields.iter().any(named)
}

/// Appends `Connection`, and `Upgrade` with 101 and 426, which both need it (RFC 9110 §7.8).
fn connection_line(out: &mut Vec<u8>, buf: &[u8], head: &ResponseHead, edit: &ResponseEdit<'_>) {
    if head.interim() {
        return;
    }
    let ends_it = edit.framing == ClientFraming::Dechunked
        || (edit.framing == ClientFraming::Same && head.body == ResponseBody::UntilClose);
    let upgrade = !head.upgrade_protocol.is_empty();
    let options: &[u8] = match (edit.close || ends_it, upgrade) {
        _ if head.status == 101 => b"upgrade",
        (true, true) => b"close, upgrade",
        (true, false) => b"close",
        (false, true) => b"upgrade",
        // RFC 9112 §9.3: without the field, an HTTP/1.0 client expects the connection to be closed.
        (false, false) if edit.client_version == HttpVersion::Http10 => b"keep-alive",
        (false, false) => return,
    };
    put(out, &[b"Connection: ", options, b"\r\n"]);
    if upgrade {
        put(out, &[b"Upgrade: ", head.upgrade_protocol.of(buf), b"\r\n"]);
    }
}

/// Writes one plain number instead of a list of equal numbers, or of a number with leading zeros.
#[cold]
fn rewrite_length(out: &mut Vec<u8>, buf: &[u8], head: &ResponseHead) {
    let Some(field) = head
        .fields
        .iter()
        .find(|field| field.kind == FieldKind::ContentLength)
    else {
        return;
    };
    let first = field
        .value
        .of(buf)
        .split(|b| !b.is_ascii_digit())
        .next()
        .unwrap_or(&[]);
    let zeros = first
        .iter()
        .take_while(|b| **b == b'0')
        .count()
        .min(first.len().saturating_sub(1));
    put(out, &[b"Content-Length: ", &first[zeros..], b"\r\n"]);
}

#[inline]
fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests;
