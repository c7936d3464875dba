//! Texts with placeholders: `https://{host}{path}`, `/users/$1`.
//!
//! A placeholder stands for a part of the request. `{{` and `}}` are braces, `$$` is a dollar sign. The permitted
//! contents of a text depend on its use ([`TemplateUse`]); values of placeholders are checked when they are inserted.

use crate::config::forms::{KeyContext, ValueForm};
use crate::config::health::is_token;
use crate::config::values::{ValueResult, quoted, text, wrong};
use crate::config::{print, suggest};
use toml::de::DeValue;

/// Longest text, in bytes, except bodies.
const MAX_TEXT: usize = 4096;
/// Longest body, in bytes: a larger one belongs in a file.
const MAX_BODY: usize = 64 << 10;
/// Most placeholders in one text: each value may be as long as a request's head.
const MAX_PLACEHOLDERS: usize = 16;

/// A part of the request, or a property of its connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placeholder {
    /// Host, without port.
    Host,
    /// Path as it was sent, without the query.
    Path,
    /// The part of the path after the route's `path_prefix`.
    Rest,
    /// Query, without the question mark.
    Query,
    /// `http` or `https`.
    Scheme,
    /// The client's address.
    Client,
    /// The port to which the request was sent.
    Port,
    /// ID of the request, as in `X-Request-Id`.
    RequestId,
    /// Method.
    Method,
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// A group of the regular expression that belongs to the text; 0 is the whole match.
    Group(u8),
}

/// A part of such a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TemplatePiece {
    /// Literal text.
    Text(String),
    /// A placeholder, which is replaced for each request.
    Value(Placeholder),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextTemplate {
    written: String,
    pieces: Vec<TemplatePiece>,
}

/// Use of such a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum TemplateUse {
    /// The value of a header field.
    FieldValue,
    /// A path, possibly with a query.
    Path,
    /// A host.
    Host,
    /// The body of a response.
    Body,
}

/// Why a text is not valid, and what to write.
type TemplateError = (String, String);

/// Placeholders that have no parameter.
const NAMED: [(&str, Placeholder); 9] = [
    ("host", Placeholder::Host),
    ("path", Placeholder::Path),
    ("rest", Placeholder::Rest),
    ("query", Placeholder::Query),
    ("scheme", Placeholder::Scheme),
    ("client", Placeholder::Client),
    ("port", Placeholder::Port),
    ("request_id", Placeholder::RequestId),
    ("method", Placeholder::Method),
];

/// Names of placeholders in other proxies, with ours.
const ELSEWHERE: [(&str, &str); 8] = [
    ("uri", "{path}"),
    ("request_uri", "{path}?{query}"),
    ("args", "{query}"),
    ("remote_addr", "{client}"),
    ("remote_host", "{client}"),
    ("server_port", "{port}"),
    ("request_method", "{method}"),
    ("http.request.host", "{host}"),
];

impl TextTemplate {
    /// Parses a text for this use.
    pub(in crate::config) fn parse(text: &str, wanted: TemplateUse) -> Result<Self, TemplateError> {
        let limit = match wanted {
            TemplateUse::Body => MAX_BODY,
            _ => MAX_TEXT,
        };
        if text.len() > limit {
            let why = format!("it has {} bytes, and can have {limit}", text.len());
            return Err((why, "use a shorter one".into()));
        }
        let pieces = read_pieces(text)?;
        let values = pieces.iter();
        let values = values.filter(|piece| matches!(piece, TemplatePiece::Value(_)));
        if values.count() > MAX_PLACEHOLDERS {
            let why = format!("it has more than {MAX_PLACEHOLDERS} placeholders");
            return Err((why, "use fewer of them".into()));
        }
        let template = Self {
            written: text.to_owned(),
            pieces,
        };
        match wanted {
            TemplateUse::FieldValue => template.check_field()?,
            TemplateUse::Path => template.check_path()?,
            TemplateUse::Host => template.check_host()?,
            TemplateUse::Body => template.check_body()?,
        }
        Ok(template)
    }

    /// Returns the text as written in the file.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Returns its parts, in order.
    pub fn pieces(&self) -> &[TemplatePiece] {
        &self.pieces
    }

    /// Returns the text if it has no placeholders, so that it is the same for every request.
    pub fn fixed(&self) -> Option<&str> {
        match &self.pieces[..] {
            [] => Some(""),
            [TemplatePiece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns its placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.pieces.iter().filter_map(|piece| match piece {
            TemplatePiece::Text(_) => None,
            TemplatePiece::Value(placeholder) => Some(placeholder),
        })
    }

    /// Returns the highest group of a regular expression to which it refers.
    pub(in crate::config) fn highest_group(&self) -> Option<u8> {
        let groups = self
            .placeholders()
            .filter_map(|placeholder| match placeholder {
                Placeholder::Group(group) => Some(*group),
                _ => None,
            });
        groups.max()
    }

    /// Whether its literal text, or a placeholder, determines the query.
    pub fn names_query(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            TemplatePiece::Text(text) => text.contains('?'),
            TemplatePiece::Value(placeholder) => *placeholder == Placeholder::Query,
        })
    }

    /// Returns the text with a harmless value for each placeholder.
    fn filled(&self, stand_in: &str) -> String {
        let text = |piece: &TemplatePiece| match piece {
            TemplatePiece::Text(text) => text.clone(),
            TemplatePiece::Value(_) => stand_in.to_owned(),
        };
        self.pieces.iter().map(text).collect()
    }

    fn check_field(&self) -> Result<(), TemplateError> {
        let filled = self.filled("x");
        if filled.chars().any(char::is_control) {
            return Err((
                "no value of a header field has control characters".into(),
                "write it in one line".into(),
            ));
        }
        if filled.trim() != filled {
            return Err((
                "spaces around a value are no part of it".into(),
                "remove them".into(),
            ));
        }
        Ok(())
    }

    fn check_path(&self) -> Result<(), TemplateError> {
        let begins = match self.pieces.first() {
            Some(TemplatePiece::Text(text)) => text.starts_with('/'),
            Some(TemplatePiece::Value(value)) => {
                matches!(
                    value,
                    Placeholder::Path | Placeholder::Rest | Placeholder::Group(_)
                )
            }
            None => false,
        };
        if !begins {
            let remedy = match self.written.split_once("://") {
                Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]).to_owned(),
                None => format!("/{}", self.written),
            };
            return Err((
                "a path begins with a slash".into(),
                format!("write \"{remedy}\""),
            ));
        }
        if self.written.starts_with("//") {
            let one = self.written.trim_start_matches('/');
            return Err((
                "what begins with two slashes is read as a host".into(),
                format!("write \"/{one}\""),
            ));
        }
        // The value of a path placeholder begins with a slash, or is empty.
        let part = |piece: &TemplatePiece| match piece {
            TemplatePiece::Text(text) => text.clone(),
            TemplatePiece::Value(Placeholder::Path | Placeholder::Rest) => "/x".to_owned(),
            TemplatePiece::Value(_) => "x".to_owned(),
        };
        let filled: String = self.pieces.iter().map(part).collect();
        if filled
            .bytes()
            .any(|byte| byte <= b' ' || byte >= 0x7f || b"\\\"<>^`{|}#".contains(&byte))
        {
            return Err((
                "it has a character that a path can't have".into(),
                "percent-encode it: a space is %20".into(),
            ));
        }
        let is_hex =
            |digits: &str| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let mut encoded = filled.split('%').skip(1);
        if !encoded.all(|after| after.get(..2).is_some_and(is_hex)) {
            return Err((
                "`%` must be followed by two hexadecimal digits".into(),
                "write a percent sign itself as %25".into(),
            ));
        }
        let path = filled.split('?').next().unwrap_or_default();
        let path = path.to_ascii_lowercase().replace("%2e", ".");
        if path
            .split('/')
            .any(|segment| segment == "." || segment == "..")
        {
            return Err((
                "no path has `.` or `..` as a segment".into(),
                "write the path that is meant".into(),
            ));
        }
        Ok(())
    }

    fn check_host(&self) -> Result<(), TemplateError> {
        if self.placeholders().any(|value| *value != Placeholder::Host) {
            return Err((
                "only `{host}` can be in a host: anything else would let a client say where others are sent".into(),
                "write the host, or make a route for each".into(),
            ));
        }
        super::spelling::check_plain_host(&self.filled("x"))
            .map_err(|(why, remedy)| (why.to_owned(), remedy))
    }

    fn check_body(&self) -> Result<(), TemplateError> {
        let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        match self.filled("x").contains(is_odd) {
            true => Err((
                "it has a control character in it".into(),
                "write text, or serve a file".into(),
            )),
            false => Ok(()),
        }
    }
}

fn read_pieces(text: &str) -> Result<Vec<TemplatePiece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let place = || text.len() - rest.len();
        let next = rest[c.len_utf8()..].chars().next();
        let (value, length) = match (c, next) {
            ('{', Some('{')) | ('}', Some('}')) | ('$', Some('$')) => {
                plain.push(c);
                rest = &rest[2..];
                continue;
            }
            ('$', Some(digit)) if digit.is_ascii_digit() => {
                let group = digit
                    .to_digit(10)
                    .and_then(|digit| u8::try_from(digit).ok());
                (Placeholder::Group(group.unwrap_or_default()), 2)
            }
            ('{', _) => {
                let Some(end) = rest.find('}') else {
                    return Err((
                        format!("`{{` has no `}}` (character {})", character(text, place())),
                        "write `{{` for the brace itself".into(),
                    ));
                };
                (read_placeholder(&rest[1..end])?, end + 1)
            }
            ('}', _) => {
                return Err((
                    format!("`}}` has no `{{` (character {})", character(text, place())),
                    "write `}}` for the brace itself".into(),
                ));
            }
            _ => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        if !plain.is_empty() {
            pieces.push(TemplatePiece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(TemplatePiece::Value(value));
        rest = &rest[length..];
    }
    if !plain.is_empty() {
        pieces.push(TemplatePiece::Text(plain));
    }
    Ok(pieces)
}

/// Returns the number of the character at this offset, from 1.
fn character(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).chars().count() + 1
}

fn read_placeholder(name: &str) -> Result<Placeholder, TemplateError> {
    if let Some((_, placeholder)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Ok(placeholder.clone());
    }
    let of = |prefix: &str| name.strip_prefix(prefix);
    for (prefix, make) in [
        ("header.", Placeholder::Header as fn(String) -> _),
        ("cookie.", Placeholder::Cookie),
    ] {
        match of(prefix) {
            Some(field) if is_token(field) => return Ok(make(field.to_owned())),
            Some(_) => {
                return Err((
                    format!("`{{{name}}}` needs a name behind the dot"),
                    format!("write such as `{{{prefix}Name}}`"),
                ));
            }
            None => {}
        }
    }
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        return Err((
            format!("there is no {}", quoted(&format!("{{{name}}}"))),
            format!("write `{ours}`"),
        ));
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    {
        return Err((
            format!("there is no {}", quoted(&format!("{{{name}}}"))),
            "write `{{` and `}}` for braces themselves".into(),
        ));
    }
    let known = NAMED.iter().map(|(known, _)| *known);
    let remedy = match suggest::nearest(name, known.clone().chain(["header", "cookie"])) {
        Some(near @ ("header" | "cookie")) => format!("write such as `{{{near}.Name}}`"),
        Some(near) => format!("did you mean `{{{near}}}`?"),
        None => {
            let known: Vec<_> = known.map(|known| format!("`{{{known}}}`")).collect();
            format!(
                "there are {}, `{{header.NAME}}` and `{{cookie.NAME}}`; write `{{{{` for a brace itself",
                known.join(", ")
            )
        }
    };
    Err((
        format!("there is no {}", quoted(&format!("{{{name}}}"))),
        remedy,
    ))
}

/// Form of such a text for one use. `example` is for advice.
pub(in crate::config) struct TemplateForm {
    /// Use of the text.
    pub(in crate::config) wanted: TemplateUse,
    /// Example for advice.
    pub(in crate::config) example: &'static str,
}

impl ValueForm<TextTemplate> for TemplateForm {
    fn name(&self) -> String {
        "text with placeholders".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<TextTemplate> {
        let text = text(key.name, value, self.example)?;
        TextTemplate::parse(text, self.wanted)
            .map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
    }

    fn print(&self, template: &TextTemplate) -> String {
        print::text(template.as_str())
    }
}

#[cfg(test)]
mod tests;
