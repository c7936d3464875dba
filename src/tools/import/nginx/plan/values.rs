//! Converts nginx's texts with variables to lameduck's with placeholders.

use crate::tools::import::nginx::pcre::translate_regex;
use crate::tools::import::nginx::scope::{NginxScope, SetVariable};
use crate::tools::import::nginx::tree::NginxDirective;

/// Reader for the texts in a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueReader<'p, 'a> {
    /// Scope in which `set` is searched.
    pub scope: &'p NginxScope<'a>,
    /// Value of `$server_name`.
    pub server_name: Option<&'p str>,
    /// Whether `$1` is a group of a regular expression in this scope.
    pub has_groups: bool,
    /// Expression of the location, whose groups may have names.
    pub pattern: Option<&'p str>,
    /// Path of the location, if it only has this one.
    pub exact: Option<&'p str>,
}

/// Types to which nginx adds the charset, if `charset_types` is not set.
const CHARSET_TYPES: [&str; 6] = [
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// Deepest nesting of variables in `set`.
const MAX_NESTED: usize = 8;

impl ValueReader<'_, '_> {
    /// Converts a text to one with placeholders.
    ///
    /// # Errors
    /// It has a variable that lameduck can't express.
    pub(super) fn read(&self, text: &str) -> Result<String, String> {
        self.expand(text, MAX_NESTED, true)
    }

    /// Converts a text that may only have variables of `set`.
    ///
    /// # Errors
    /// It has another variable.
    pub(super) fn read_fixed(&self, text: &str) -> Result<String, String> {
        self.expand(text, MAX_NESTED, false)
    }

    /// Replaces the variables of `set` in a text, and writes all others as `${name}`.
    pub(super) fn inline(&self, text: &str) -> String {
        self.inline_nested(text, MAX_NESTED)
    }

    fn inline_nested(&self, text: &str, depth: usize) -> String {
        let parts = split_variables(text);
        let parts = parts.iter().map(|part| match part {
            ValuePart::Text(text) => (*text).to_owned(),
            ValuePart::Variable(name) => match self.scope.set_variable(name) {
                SetVariable::Fixed(value) if depth > 0 => self.inline_nested(value, depth - 1),
                _ => format!("${{{name}}}"),
            },
        });
        parts.collect()
    }

    /// Content type of a text in the configuration: by the path's suffix, if the location has only one path.
    pub(super) fn answer_type(&self) -> String {
        let ending = self.exact.and_then(|path| path.rsplit_once('.'));
        let ending = ending.map(|(_, ending)| ending.to_ascii_lowercase());
        let types = self.scope.last("types");
        let listed = types.into_iter().flat_map(|types| types.inner());
        let has_ending =
            |d: &&NginxDirective| ending.as_ref().is_some_and(|end| d.args().contains(end));
        let known = listed.filter(has_ending).map(NginxDirective::name).next();
        let is_html = types.is_none() && ending.as_deref() == Some("html");
        let kind = match (known, self.scope.value("default_type")) {
            (Some(known), _) => known,
            (None, _) if is_html => "text/html",
            (None, "") => "text/plain",
            (None, kind) => kind,
        };
        let charset = self.scope.value("charset");
        let has_charset = !["", "off"].contains(&charset) && CHARSET_TYPES.contains(&kind);
        match has_charset {
            true => format!("{kind}; charset={charset}"),
            false => kind.to_owned(),
        }
    }

    /// Number of the group with this name.
    fn group_of(&self, name: &str) -> Option<usize> {
        let pattern = self.pattern.filter(|_| self.has_groups)?;
        let pattern = translate_regex(pattern, false).ok()?;
        let regex = regex::Regex::new(&pattern).ok()?;
        let number = regex
            .capture_names()
            .position(|known| known == Some(name))?;
        (number <= 9).then_some(number)
    }

    fn expand(&self, text: &str, depth: usize, is_template: bool) -> Result<String, String> {
        let mut out = String::new();
        for part in split_variables(text) {
            match part {
                ValuePart::Text(text) if is_template => {
                    out.push_str(
                        &text
                            .replace('{', "{{")
                            .replace('}', "}}")
                            .replace('$', "$$"),
                    );
                }
                ValuePart::Text(text) => out.push_str(text),
                ValuePart::Variable(name) => {
                    out.push_str(&self.variable(name, depth, is_template)?)
                }
            }
        }
        Ok(out)
    }

    fn variable(&self, name: &str, depth: usize, is_template: bool) -> Result<String, String> {
        let unknown = || format!("lameduck has nothing for ${name}");
        match self.scope.set_variable(name) {
            SetVariable::Fixed(value) if depth > 0 => {
                return self.expand(value, depth - 1, is_template);
            }
            SetVariable::Fixed(_) | SetVariable::Changing => return Err(unknown()),
            SetVariable::Unset => {}
        }
        if name == "server_name"
            && let Some(host) = self.server_name
        {
            return Ok(host.to_owned());
        }
        if !is_template {
            return Err(unknown());
        }
        if name.bytes().all(|b| b.is_ascii_digit()) && self.has_groups {
            return Ok(format!("${name}"));
        }
        if let Some(number) = self.group_of(name) {
            return Ok(format!("${number}"));
        }
        placeholder(name).ok_or_else(unknown)
    }
}

/// Placeholder for a variable.
fn placeholder(name: &str) -> Option<String> {
    let fixed = match name {
        "host" => "{host}",
        "scheme" => "{scheme}",
        "remote_addr" | "realip_remote_addr" => "{client}",
        "request_id" => "{request_id}",
        "request_method" => "{method}",
        "uri" | "document_uri" => "{path}",
        "args" | "query_string" => "{query}",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.to_owned());
    }
    if let Some(field) = name.strip_prefix("http_") {
        return match field {
            "host" => Some("{host}".to_owned()),
            _ => Some(format!("{{header.{}}}", field_name(field))),
        };
    }
    name.strip_prefix("cookie_")
        .map(|cookie| format!("{{cookie.{cookie}}}"))
}

/// Converts `x_api_key` to `X-Api-Key`.
pub(super) fn field_name(variable: &str) -> String {
    let words = variable.split('_').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ValuePart<'t> {
    Text(&'t str),
    Variable(&'t str),
}

/// Splits a text into parts at `$name` and `${name}`.
pub(super) fn split_variables(text: &str) -> Vec<ValuePart<'_>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let (name, tail) = match after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'))
        {
            Some(named) => named,
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let is_digit = after.starts_with(|c: char| c.is_ascii_digit());
                let end = match is_digit {
                    true => 1,
                    false => after.find(|c| !is_name(c)).unwrap_or(after.len()),
                };
                after.split_at(end)
            }
        };
        if name.is_empty() {
            let (text, tail) = rest.split_at(at + 1);
            parts.push(ValuePart::Text(text));
            rest = tail;
            continue;
        }
        if !before.is_empty() {
            parts.push(ValuePart::Text(before));
        }
        parts.push(ValuePart::Variable(name));
        rest = tail;
    }
    if !rest.is_empty() {
        parts.push(ValuePart::Text(rest));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::tree::TreeReader;

    #[test]
    fn variables_become_placeholders_and_braces_stay_braces() {
        let tree = TreeReader::new(".")
            .read_text("x", "set $api api.example.org; set $deep $api/x;", 0)
            .unwrap();
        let scope = NginxScope::default().enter(&tree);
        let reader = ValueReader {
            scope: &scope,
            server_name: Some("a.org"),
            has_groups: true,
            pattern: None,
            exact: None,
        };
        for (text, read) in [
            ("https://$host/x", "https://{host}/x"),
            ("${scheme}s $http_x_api_key", "{scheme}s {header.X-Api-Key}"),
            ("$deep-$server_name", "api.example.org/x-a.org"),
            ("{\"a\":1}", "{{\"a\":1}}"),
            ("/new/$1$2", "/new/$1$2"),
            ("$", "$$"),
        ] {
            assert_eq!(reader.read(text).as_deref(), Ok(read), "{text}");
        }
        assert!(
            reader
                .read("$ssl_client_s_dn")
                .unwrap_err()
                .contains("$ssl_client_s_dn")
        );
        assert_eq!(
            reader.read_fixed("http://$api").unwrap(),
            "http://api.example.org"
        );
        assert!(reader.read_fixed("$host").is_err());
    }
}
