//! Targets and responses of `return` and `rewrite`.

use super::values::{ValuePart, ValueReader, split_variables};
use crate::tools::import::draft::{DraftKeys, toml_table, toml_text};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// Target of a redirect, in parts; a part that is `None` is the same as in the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct UrlTarget {
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    /// Whether the request's query is added.
    pub keeps_query: bool,
    /// Whether the request's path is in the new query, so that its own query would have to follow it.
    pub loses_inner_query: bool,
}

impl UrlTarget {
    /// Reads the argument of `return`, or of a `rewrite` that redirects.
    ///
    /// # Errors
    /// It has variables that lameduck can't express.
    pub(super) fn read(text: &str, values: &ValueReader<'_, '_>) -> Result<Self, String> {
        let mut target = UrlTarget::default();
        let mut rest = text;
        let schemes = [
            ("$scheme://", None),
            ("https://", Some("https")),
            ("http://", Some("http")),
        ];
        let scheme = schemes
            .iter()
            .find_map(|(word, scheme)| Some((text.strip_prefix(word)?, scheme)));
        if let Some((after, scheme)) = scheme {
            target.scheme = scheme.map(str::to_owned);
            let (authority, path) = split_authority(after);
            target.read_authority(authority, values)?;
            rest = path;
        } else if !text.starts_with(['/', '$']) {
            return Err(format!("\"{text}\" is no place to send a client to"));
        }
        target.read_path(rest, values)?;
        Ok(target)
    }

    fn read_authority(&mut self, text: &str, values: &ValueReader<'_, '_>) -> Result<(), String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => (
                host,
                Some(port.parse().map_err(|_| "the port is too high")?),
            ),
            Some((host, "$server_port")) => (host, None),
            _ => (text, None),
        };
        self.port = port;
        self.host = match host {
            "$host" | "$http_host" | "${host}" | "${http_host}" => None,
            host => Some(values.read(host)?),
        };
        Ok(())
    }

    fn read_path(&mut self, text: &str, values: &ValueReader<'_, '_>) -> Result<(), String> {
        let endings = [
            "$is_args$args",
            "?$args",
            "$is_args$query_string",
            "?$query_string",
        ];
        let (path, keeps) = match endings.iter().find_map(|end| text.strip_suffix(end)) {
            Some(path) => (path, true),
            None => match text.strip_suffix("$request_uri") {
                Some("") => {
                    self.keeps_query = true;
                    return Ok(());
                }
                // For example `?next=$request_uri`.
                Some(before) if before.contains('?') => {
                    self.loses_inner_query = true;
                    self.path = Some(format!("{}{{path}}", values.read(before)?));
                    return Ok(());
                }
                Some(before) => {
                    self.keeps_query = true;
                    self.path = Some(format!("{}{{path}}", values.read(before)?));
                    return Ok(());
                }
                None => (text, false),
            },
        };
        self.keeps_query = keeps;
        let parts = split_variables(path);
        self.path = match &parts[..] {
            [ValuePart::Variable("uri" | "document_uri")] => None,
            [] => Some("/".to_owned()),
            _ => Some(values.read(path)?),
        };
        Ok(())
    }

    /// Value of `redirect`.
    pub(super) fn redirect_value(&self, status: &str) -> String {
        let mut fields = vec![("status".to_owned(), status.to_owned())];
        let texts = [("scheme", &self.scheme), ("host", &self.host)];
        for (name, text) in texts {
            fields.extend(text.as_ref().map(|text| (name.to_owned(), toml_text(text))));
        }
        fields.extend(self.port.map(|port| ("port".to_owned(), port.to_string())));
        let path = self.path.as_ref();
        fields.extend(path.map(|path| ("path".to_owned(), toml_text(path))));
        toml_table(&fields)
    }
}

/// Splits what follows `://` at the start of the path.
fn split_authority(text: &str) -> (&str, &str) {
    let end = [
        "/",
        "$request_uri",
        "$uri",
        "$document_uri",
        "?",
        "$is_args",
    ]
    .iter()
    .filter_map(|mark| text.find(mark))
    .min();
    text.split_at(end.unwrap_or(text.len()))
}

/// Keys for a directive that ends a request at once.
///
/// # Errors
/// Reason why it can't be expressed.
pub(super) fn read_end(
    end: &NginxDirective,
    values: &ValueReader<'_, '_>,
    notices: &mut Vec<ImportNotice>,
) -> Result<DraftKeys, String> {
    let (status, target) = match (end.name(), end.arg(0), end.arg(1)) {
        ("return", status, "") if status.starts_with(|c: char| c.is_ascii_digit()) => {
            return read_answer(end, status, None, values, notices);
        }
        ("return", status @ ("301" | "302" | "303" | "307" | "308"), target) => (status, target),
        ("return", target, "") => ("302", target),
        ("return", status, text) => {
            return read_answer(end, status, Some(text), values, notices);
        }
        ("rewrite", _, target) if end.arg(2) == "permanent" => ("301", target),
        ("rewrite", _, target) => ("302", target),
        (name, ..) => return Err(format!("`{name}` ends no request")),
    };
    let is_rewrite = end.name() == "rewrite";
    let (target, keeps_query) = match target.strip_suffix('?') {
        Some(bare) if is_rewrite => (bare, false),
        _ => (target, is_rewrite),
    };
    let mut url = UrlTarget::read(target, values)?;
    url.keeps_query |= keeps_query;
    if let Some(path) = url
        .path
        .as_mut()
        .filter(|path| is_rewrite && path.contains('?'))
    {
        *path = add_query(end, std::mem::take(path), notices);
    }
    if url.loses_inner_query {
        notices.push(end.difference("the query of the request is left out of the new one"));
    }
    if !url.keeps_query && url.path.as_ref().is_none_or(|path| !path.contains('?')) {
        notices.push(end.difference("the query of the request goes with it"));
    }
    let keys = vec![("redirect", url.redirect_value(status))];
    check(&keys)?;
    Ok(keys)
}

/// Replacement of a `rewrite`. A `?` at its end drops the query in lameduck as in nginx.
pub(super) fn with_query(
    rewrite: &NginxDirective,
    target: &str,
    values: &ValueReader<'_, '_>,
    notices: &mut Vec<ImportNotice>,
) -> Result<String, String> {
    let text = values.read(target)?;
    match text.contains('?') && !text.ends_with('?') {
        true => Ok(add_query(rewrite, text, notices)),
        false => Ok(text),
    }
}

/// If the replacement has a query, nginx appends that of the request.
fn add_query(rewrite: &NginxDirective, text: String, notices: &mut Vec<ImportNotice>) -> String {
    let says = "the query ends with `&` where the request has none";
    notices.push(rewrite.difference(says));
    format!("{text}&{{query}}")
}

/// Reads `return 403;` or `return 200 "text";`.
fn read_answer(
    end: &NginxDirective,
    status: &str,
    text: Option<&str>,
    values: &ValueReader<'_, '_>,
    notices: &mut Vec<ImportNotice>,
) -> Result<DraftKeys, String> {
    let status = match status {
        "444" | "499" => {
            notices.push(end.difference("lameduck answers 403, and nginx closes the connection"));
            "403"
        }
        status => status,
    };
    let mut fields = vec![("status".to_owned(), status.to_owned())];
    if let Some(text) = text {
        fields.push(("body".to_owned(), toml_text(&values.read(text)?)));
        fields.push(("type".to_owned(), toml_text(&values.answer_type())));
    }
    if status == "503" {
        let says = "a 503 has Retry-After, and Cache-Control says no-store";
        notices.push(end.difference(says));
    }
    let keys = vec![("respond", toml_table(&fields))];
    check(&keys)?;
    Ok(keys)
}

/// Checks whether the configuration reader accepts the keys. The caller knows the expression whose groups are used.
fn check(keys: &DraftKeys) -> Result<(), String> {
    for (key, _) in keys {
        if !offered::has_route_key(key) {
            return Err(match *key {
                "redirect" => "this version has no redirects".into(),
                _ => "this version has no fixed answers".into(),
            });
        }
    }
    let mut keys = keys.clone();
    let has_group = |text: &str| {
        let bytes = text.as_bytes();
        bytes
            .windows(2)
            .any(|pair| pair[0] == b'$' && pair[1].is_ascii_digit())
    };
    if keys.iter().any(|(_, value)| has_group(value)) {
        keys.push(("path_regex", toml_text(&"(x?)".repeat(9))));
    }
    offered::check_route(&keys, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::scope::NginxScope;

    #[test]
    fn urls_are_read_part_by_part() {
        let scope = NginxScope::default();
        let values = ValueReader {
            scope: &scope,
            server_name: Some("a.org"),
            has_groups: true,
            pattern: None,
            exact: None,
        };
        for (text, redirect, keeps) in [
            (
                "https://$host$request_uri",
                "{ status = 301, scheme = \"https\" }",
                true,
            ),
            (
                "$scheme://www.$host:8443/x",
                "{ status = 301, host = \"www.{host}\", port = 8443, path = \"/x\" }",
                false,
            ),
            (
                "https://b.org",
                "{ status = 301, scheme = \"https\", host = \"b.org\", path = \"/\" }",
                false,
            ),
            (
                "https://$server_name$uri",
                "{ status = 301, scheme = \"https\", host = \"a.org\" }",
                false,
            ),
            (
                "/new/$1$is_args$args",
                "{ status = 301, path = \"/new/$1\" }",
                true,
            ),
            (
                "/x$request_uri",
                "{ status = 301, path = \"/x{path}\" }",
                true,
            ),
        ] {
            let target = UrlTarget::read(text, &values).unwrap();
            assert_eq!(
                (target.redirect_value("301").as_str(), target.keeps_query),
                (redirect, keeps),
                "{text}"
            );
        }
        assert!(UrlTarget::read("https://$ssl_x", &values).is_err());
        assert!(UrlTarget::read("nowhere", &values).is_err());
    }
}
