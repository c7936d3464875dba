//! The values of placeholders in a configuration's texts, for one request.
//!
//! A value can't break out of its place: whatever a client sends, it adds no line to a head, no segment to a path and
//! no markup to a page. Header fields about other hops are ignored if the client is not trusted, as in routing.

use std::borrow::Cow;

use regex::bytes::Captures;

use super::local_response::LocalResponse;
use super::received_request::ReceivedRequest;
use super::request_id::RequestId;
use crate::config::{MatchedPath, Placeholder, TemplatePiece, TextTemplate};
use crate::core::uri;
use crate::registry::routes::{RouteRule, RoutedRequest, compared_path, rest_of_path};

/// Maximum length of one expanded text, in bytes. The text is made of what the client sent, and may contain that
/// several times.
const MAX_EXPANDED: usize = 64 << 10;

/// Detail of the response if an expanded text is too long.
const TOO_LONG: &str = "what the route makes of this request is too long";

/// How a value is encoded, depending on where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueEncoding {
    /// The value of a header field: control characters become spaces.
    Field,
    /// A path with or without a query: characters that are not allowed there are percent-encoded.
    Path,
    /// A host: not encoded; the caller checks it.
    Host,
    /// Plain text, without any encoding.
    Plain,
    /// HTML or XML.
    Markup,
    /// A string in JSON or JavaScript.
    Json,
}

/// The values of placeholders for one request.
pub(super) struct RequestValues<'a> {
    pub(super) request: ReceivedRequest<'a>,
    pub(super) id: &'a RequestId,
    /// The route of the request.
    pub(super) rule: &'a RouteRule,
}

/// Returns the scheme that the client used, `http` or `https`; behind trusted proxies, as they report it.
pub(super) fn scheme_of(request: &ReceivedRequest<'_>) -> &'static str {
    match &*joined_lines(request, "x-forwarded-proto", b", ") {
        b"https" if request.client.trusted => "https",
        b"http" if request.client.trusted => "http",
        _ => request.client.scheme,
    }
}

/// Joins the lines of a header field into one value.
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
    /// Appends a text with its placeholders expanded.
    ///
    /// # Errors
    /// The response to a request for which the text would become too long.
    pub(super) fn expand(
        &self,
        out: &mut Vec<u8>,
        template: &TextTemplate,
        encoding: ValueEncoding,
    ) -> Result<(), LocalResponse> {
        self.expand_with(out, template, encoding, None)
    }

    /// The same, with the groups of a regular expression other than `path_regex`.
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
                // Neither value has control characters, or others that a header field could not contain.
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

    /// Returns the scheme that the client used, `http` or `https`; behind trusted proxies, as they report it.
    pub(super) fn scheme(&self) -> &'static str {
        scheme_of(&self.request)
    }

    /// Returns the port that the client used.
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
            // The client's address exists as text, unless a trusted proxy has reported another client.
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

/// Returns a scheme's default port, which may be omitted in URLs.
pub(super) fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Appends a value, encoded for its place. `is_target`: the value is a part of the request target, whose slashes and
/// percent-encoding are kept within a path.
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

/// Appends a path or query, or a part of one, and percent-encodes what is not allowed there (RFC 3986 §3.3, §3.4).
/// Backslashes are encoded too: browsers read them as slashes.
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

/// Removes spaces from both ends of the text that starts at `begin`.
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
