//! What placeholders of a configuration's texts stand for, for one request.
//!
//! A value stays within its place: whatever a client sends, it adds no line to a head, no segment to a path and no
//! markup to a page. Fields about other hops from an untrusted client don't count, as for routes.

use std::borrow::Cow;

use regex::bytes::Captures;

use super::local_response::LocalResponse;
use super::received_request::ReceivedRequest;
use super::request_id::RequestId;
use crate::config::{MatchedPath, Placeholder, TemplatePiece, TextTemplate};
use crate::core::uri;
use crate::registry::routes::{RouteRule, RoutedRequest, compared_path, rest_of_path};

/// Most bytes that one text becomes: it is made of what a client has sent, and may name that several times.
const MAX_EXPANDED: usize = 64 << 10;

/// A text became longer than anything that an app would take.
const TOO_LONG: &str = "what the route makes of this request is too long";

/// What a text becomes: what may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueEncoding {
    /// The value of a header field: controls become spaces.
    Field,
    /// A path and maybe a query: what can't be in one is percent-encoded.
    Path,
    /// A host: unchanged; the caller checks it.
    Host,
    /// Text of no syntax.
    Plain,
    /// HTML, or another XML.
    Markup,
    /// Within a string of JSON or JavaScript.
    Json,
}

/// The values for one request.
pub(super) struct RequestValues<'a> {
    pub(super) request: ReceivedRequest<'a>,
    pub(super) id: &'a RequestId,
    /// The route that it goes by.
    pub(super) rule: &'a RouteRule,
}

/// How the client reached us: `http` or `https`; behind trusted proxies, as they say.
pub(super) fn scheme_of(request: &ReceivedRequest<'_>) -> &'static str {
    match &*joined_lines(request, "x-forwarded-proto", b", ") {
        b"https" if request.client.trusted => "https",
        b"http" if request.client.trusted => "http",
        _ => request.client.scheme,
    }
}

/// The lines of a field as one.
fn joined_lines<'a>(request: &ReceivedRequest<'a>, name: &str, between: &[u8]) -> Cow<'a, [u8]> {
    let mut lines = request.lines(name);
    let Some(first) = lines.next() else {
        return Cow::Borrowed(b"");
    };
    let mut all = Cow::Borrowed(first);
    for line in lines {
        let all = all.to_mut();
        all.extend_from_slice(between);
        all.extend_from_slice(line);
    }
    all
}

impl RequestValues<'_> {
    /// Appends what a text becomes.
    ///
    /// # Errors
    /// The answer to a request that would make it too long.
    pub(super) fn expand(
        &self,
        out: &mut Vec<u8>,
        template: &TextTemplate,
        encoding: ValueEncoding,
    ) -> Result<(), LocalResponse> {
        self.expand_with(out, template, encoding, None)
    }

    /// The same, with the groups of another regular expression than `path_regex`.
    pub(super) fn expand_with(
        &self,
        out: &mut Vec<u8>,
        template: &TextTemplate,
        encoding: ValueEncoding,
        groups: Option<&Captures<'_>>,
    ) -> Result<(), LocalResponse> {
        let begin = out.len();
        for piece in template.pieces() {
            match piece {
                TemplatePiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                TemplatePiece::Value(Placeholder::Group(group)) if groups.is_some() => {
                    let group = groups.and_then(|groups| groups.get(usize::from(*group)));
                    let value = group.map_or(&b""[..], |group| group.as_bytes());
                    encode(out, value, encoding, true);
                }
                // Neither has a control, or anything else that a field's value could not have.
                TemplatePiece::Value(
                    placeholder @ (Placeholder::Client | Placeholder::RequestId),
                ) if encoding == ValueEncoding::Field => {
                    out.extend_from_slice(&self.value(placeholder));
                }
                TemplatePiece::Value(placeholder) => {
                    let is_target = matches!(
                        placeholder,
                        Placeholder::Path
                            | Placeholder::Rest
                            | Placeholder::Query
                            | Placeholder::Group(_)
                    );
                    encode(out, &self.value(placeholder), encoding, is_target);
                }
            }
            if out.len() - begin > MAX_EXPANDED {
                return Err(LocalResponse::new(431, TOO_LONG));
            }
        }
        if encoding == ValueEncoding::Field {
            trim(out, begin);
        }
        Ok(())
    }

    /// How the client reached us: `http` or `https`; behind trusted proxies, as they say.
    pub(super) fn scheme(&self) -> &'static str {
        scheme_of(&self.request)
    }

    /// The port that it was sent to.
    pub(super) fn port(&self) -> u16 {
        let authority = self.request.head.authority.of(self.request.buffer);
        let written = authority.get(self.request.host().len() + 1..);
        let written = written.and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        written.unwrap_or(default_port(self.scheme()))
    }

    fn value(&self, placeholder: &Placeholder) -> Cow<'_, [u8]> {
        let request = &self.request;
        match placeholder {
            Placeholder::Host => request.host().into(),
            Placeholder::Path => request.path().into(),
            Placeholder::Rest => self.rest().into(),
            Placeholder::Query => request.query().into(),
            Placeholder::Scheme => self.scheme().as_bytes().into(),
            // The client's address exists as text, unless a trusted proxy has named another client.
            Placeholder::Client if request.client.known && !request.client.trusted => {
                request.client.ip.as_bytes().into()
            }
            Placeholder::Client => {
                let client = request.client();
                let client = client.map(|address| address.to_string());
                client.unwrap_or_default().into_bytes().into()
            }
            Placeholder::Port => self.port().to_string().into_bytes().into(),
            Placeholder::RequestId => self.id.as_bytes().into(),
            Placeholder::Method => request.method().into(),
            Placeholder::Header(name) => {
                let is_cookie = name.eq_ignore_ascii_case("cookie");
                self.field(name, if is_cookie { b"; " } else { b", " })
            }
            Placeholder::Cookie(name) => self.cookie(name).into(),
            Placeholder::Group(group) => self.path_group(*group).into(),
        }
    }

    fn rest(&self) -> &[u8] {
        let path = self.request.path();
        match self.rule.route.matched_path() {
            MatchedPath::Exact(_) => b"",
            MatchedPath::Prefix(prefix) => rest_of_path(path, prefix).unwrap_or(path),
            MatchedPath::Regex(_) => path,
        }
    }

    fn field(&self, name: &str, between: &[u8]) -> Cow<'_, [u8]> {
        joined_lines(&self.request, name, between)
    }

    fn cookie(&self, name: &str) -> &[u8] {
        let request = &self.request;
        let mut values = request.head.cookies(request.buffer, name);
        values.next().unwrap_or_default()
    }

    fn path_group(&self, group: u8) -> Vec<u8> {
        let path = compared_path(self.request.path());
        let groups = self.rule.path_groups.as_ref();
        let groups = groups.and_then(|regex| regex.captures(&path));
        let group = groups.and_then(|groups| groups.get(usize::from(group)));
        group.map_or_else(Vec::new, |group| group.as_bytes().to_vec())
    }
}

/// The port of a scheme that need not be written.
pub(super) fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Appends a value as its place needs it. `is_target`: it is a part of the request's target, and stays one in a path.
fn encode(out: &mut Vec<u8>, value: &[u8], encoding: ValueEncoding, is_target: bool) {
    match encoding {
        ValueEncoding::Field | ValueEncoding::Plain => {
            if !value.iter().any(|byte| is_control(*byte)) {
                return out.extend_from_slice(value);
            }
            let plain = |byte: &u8| if is_control(*byte) { b' ' } else { *byte };
            out.extend(value.iter().map(plain));
        }
        ValueEncoding::Host => out.extend_from_slice(value),
        ValueEncoding::Path if is_target => encode_target(out, value),
        ValueEncoding::Path => {
            uri::append_encoded(out, value, uri::is_unreserved);
        }
        ValueEncoding::Markup => {
            for byte in value {
                match byte {
                    b'&' => out.extend_from_slice(b"&amp;"),
                    b'<' => out.extend_from_slice(b"&lt;"),
                    b'>' => out.extend_from_slice(b"&gt;"),
                    b'"' => out.extend_from_slice(b"&quot;"),
                    b'\'' => out.extend_from_slice(b"&#39;"),
                    b'`' => out.extend_from_slice(b"&#96;"),
                    byte if is_control(*byte) => out.push(b' '),
                    byte => out.push(*byte),
                }
            }
        }
        ValueEncoding::Json => {
            for c in String::from_utf8_lossy(value).chars() {
                match c {
                    ' '..='~' if !"\"\\<>&'".contains(c) => out.push(c as u8),
                    c => {
                        let mut units = [0; 2];
                        for unit in c.encode_utf16(&mut units) {
                            out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                        }
                    }
                }
            }
        }
    }
}

/// Appends a path or a query, or a part of one, with that percent-encoded which can't be in one (RFC 3986 §3.3, §3.4). A
/// backslash among it: browsers take it for a slash.
pub(super) fn encode_target(out: &mut Vec<u8>, target: &[u8]) {
    for (at, byte) in target.iter().enumerate() {
        let is_fit = match byte {
            b'%' => target
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
            b'"' | b'#' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                false
            }
            byte => byte.is_ascii_graphic(),
        };
        match is_fit {
            true => out.push(*byte),
            false => out.extend_from_slice(&uri::percent_encoded(*byte)),
        }
    }
}

fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

/// Takes off the spaces around what follows `begin`.
fn trim(out: &mut Vec<u8>, begin: usize) {
    while out.len() > begin && out.ends_with(b" ") {
        out.pop();
    }
    let leading = out[begin..]
        .iter()
        .take_while(|byte| **byte == b' ')
        .count();
    if leading > 0 {
        out.drain(begin..begin + leading);
    }
}

#[cfg(test)]
mod tests;
