//! Conditions of a route on a request, besides its host and path, as written in the file.

use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::ValueError;
use crate::config::values::{ValueResult, no_table, quoted, text, wrong};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

/// Condition on a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TextMatch {
    /// Equal to this.
    Exact(String),
    /// Has a match of this regular expression.
    Regex(String),
}

/// Condition on a header field, a query parameter or a cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldMatch {
    /// Name, as written.
    pub name: String,
    /// Condition on the value.
    pub value: TextMatch,
}

/// The kind of field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum MatchedPlace {
    /// Header fields, whose names are compared without case.
    Headers,
    /// Query parameters, whose names and values are compared decoded.
    Query,
    /// Cookies.
    Cookies,
}

/// Form of fields by name, each with a text or `{ regex = "…" }`.
pub(in crate::config) struct FieldMatches(pub(in crate::config) MatchedPlace);

/// Reads a method.
pub(in crate::config) fn read_method(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let text = text(key.name, value, "GET")?;
    let problem = |why: &str, remedy: String| {
        ValueError::new(
            format!("`{}` has {}: {why}", key.name, quoted(text)),
            remedy,
        )
    };
    if !is_token(text) {
        let remedy = "write a method such as \"GET\" or \"POST\"";
        return Err(problem("it is not a method", remedy.into()));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(problem(
            "methods are case-sensitive",
            format!("write \"{upper}\""),
        ));
    }
    if text == "CONNECT" {
        let remedy = "remove it: WebSockets over HTTP/2 are matched as GET";
        return Err(problem("lameduck refuses CONNECT", remedy.into()));
    }
    Ok(text.to_string())
}

/// Reads a regular expression.
pub(in crate::config) fn read_regex(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let pattern = text(key.name, value, "^/v[0-9]+/")?;
    super::regexes::check_regex(pattern)
        .map_err(|(why, remedy)| wrong(key.name, quoted(pattern), why, remedy))?;
    Ok(pattern.to_owned())
}

impl ValueForm<Vec<FieldMatch>> for FieldMatches {
    fn name(&self) -> String {
        "table of texts".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<FieldMatch>> {
        Err(no_table(key.name, value, "texts", self.example()))
    }

    fn print(&self, fields: &Vec<FieldMatch>) -> String {
        print::table_of(fields.iter().map(|field| {
            let value = match &field.value {
                TextMatch::Exact(text) => print::text(text),
                TextMatch::Regex(regex) => format!("{{ regex = {} }}", print::text(regex)),
            };
            (print::text(&field.name), value)
        }))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<FieldMatch>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let mut fields: Vec<FieldMatch> = Vec::new();
        for (name, value) in table {
            let (span, name): (_, &str) = (name.span(), name.get_ref());
            let is_same = |other: &FieldMatch| other.name.eq_ignore_ascii_case(name);
            let is_twice = self.0 == MatchedPlace::Headers && fields.iter().any(is_same);
            let checked = match is_twice {
                true => Err(ValueError::new(
                    format!("`{}` has the header field {} twice", key.name, quoted(name)),
                    "remove one of them: names of header fields have no case",
                )),
                false => self.check_name(key.name, name),
            };
            if let Err(problem) = checked {
                problems.push((span, problem));
                continue;
            }
            match read_text_match(name, value) {
                Ok(value) => fields.push(FieldMatch {
                    name: name.into(),
                    value,
                }),
                Err(problem) => problems.push(problem),
            }
        }
        // A table has no order; sorted, it is the same when it is printed and read again.
        fields.sort();
        Some(fields)
    }
}

impl FieldMatches {
    fn example(&self) -> &'static str {
        match self.0 {
            MatchedPlace::Headers => "{ \"X-Canary\" = \"always\" }",
            MatchedPlace::Query => "{ debug = \"1\" }",
            MatchedPlace::Cookies => "{ beta = \"yes\" }",
        }
    }

    fn check_name(&self, key: &str, name: &str) -> Result<(), ValueError> {
        let refused = |why: &str, remedy: &str| {
            let message = format!("`{key}` has {}: {why}", quoted(name));
            Err(ValueError::new(message, remedy))
        };
        match self.0 {
            MatchedPlace::Query if name.is_empty() => {
                refused("a field needs a name", "write its name")
            }
            MatchedPlace::Query if name.chars().any(char::is_control) => refused(
                "it has a control character in it",
                "write the name as it is when decoded",
            ),
            MatchedPlace::Query => Ok(()),
            MatchedPlace::Cookies | MatchedPlace::Headers if !is_token(name) => refused(
                "such a name can't be",
                "write letters, digits, dashes and underscores only",
            ),
            MatchedPlace::Cookies => Ok(()),
            MatchedPlace::Headers => {
                check_header_name(name).or_else(|(why, remedy)| refused(why, remedy))
            }
        }
    }
}

/// Checks that routes may have conditions on this header field: not on those with keys of their own, those about a
/// single connection, and those that only lameduck may write.
pub(super) fn check_header_name(name: &str) -> Result<(), (&'static str, &'static str)> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    match &*lower {
        "host" => Err(("the host has its own key", "write `host = \"…\"`")),
        "cookie" => Err((
            "cookies have their own key",
            "write `cookies = { NAME = \"…\" }`",
        )),
        "content-length" | "transfer-encoding" | "connection" | "keep-alive"
        | "proxy-connection" | "te" | "trailer" | "upgrade" | "http2-settings" | "expect" => Err((
            "it says how one message is sent, and not what it asks for",
            "remove it",
        )),
        name if name.starts_with("x-client-cert") || name.starts_with("client-cert") => Err((
            "only lameduck says so: it takes the field out of every request",
            "remove it, and let a listener ask for certificates: `client_auth = \"required\"`",
        )),
        _ => Ok(()),
    }
}

fn read_text_match(
    name: &str,
    value: &Spanned<DeValue<'_>>,
) -> Result<TextMatch, (Range<usize>, ValueError)> {
    let span = value.span();
    match value.get_ref() {
        DeValue::Table(table) => {
            let mut regex = None;
            for (key, value) in table {
                let key_name: &str = key.get_ref();
                if key_name != "regex" {
                    let problem = ValueError::new(
                        format!(
                            "there is no `{key_name}` in what {} has to be",
                            quoted(name)
                        ),
                        "write a text, or `{ regex = \"…\" }`",
                    );
                    return Err((key.span(), problem));
                }
                let read = text("regex", value.get_ref(), "^[0-9]+$").and_then(|pattern| {
                    super::regexes::check_regex(pattern)
                        .map_err(|(why, remedy)| wrong("regex", quoted(pattern), why, remedy))
                        .map(|()| pattern.to_owned())
                });
                regex = Some(read.map_err(|problem| (value.span(), problem))?);
            }
            regex.map(TextMatch::Regex).ok_or_else(|| {
                let problem = ValueError::new(
                    format!("what {} has to be is an empty table", quoted(name)),
                    "write a text, or `{ regex = \"…\" }`",
                );
                (span, problem)
            })
        }
        other => {
            let read = text(name, other, "value").and_then(|text| {
                match text.chars().any(char::is_control) || text.trim() != text {
                    true => Err(wrong(
                        name,
                        quoted(text),
                        "no value has control characters, or spaces around it",
                        "remove them, or write `{ regex = \"…\" }`",
                    )),
                    false => Ok(TextMatch::Exact(text.to_owned())),
                }
            });
            read.map_err(|problem| (span, problem))
        }
    }
}
