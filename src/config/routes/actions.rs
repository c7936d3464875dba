//! Redirects, fixed responses and changes of a route: checks of their keys in combination.

use crate::config::forms::KeyContext;
use crate::config::reader::ConfigFindings;
use crate::config::values::{ValueResult, integer, quoted, text, wrong};
use crate::config::{FieldRule, Route};
use toml::de::DeValue;

use super::regexes::compile_regex;
use super::rewrite::PathRewrite;
use super::template::{Placeholder, TextTemplate};

/// Reads the status code of a redirect.
pub(in crate::config) fn read_redirect_status(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<u16> {
    let number = integer(key.name, value, &(0..=999))?;
    match u16::try_from(number) {
        Ok(status @ (301 | 302 | 303 | 307 | 308)) => Ok(status),
        _ => Err(wrong(
            key.name,
            number,
            "no client follows it to another place",
            "write 301 or 308 for ever, 302 or 307 for now, or 303 for a GET elsewhere",
        )),
    }
}

/// Reads the media type of a response body.
pub(in crate::config) fn read_media_type(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let text = text(key.name, value, "text/plain")?;
    let bare = text.split(';').next().unwrap_or_default();
    let mut halves = bare.trim_end().split('/');
    let is_type = match (halves.next(), halves.next(), halves.next()) {
        (Some(kind), Some(subtype), None) => {
            crate::config::health::is_token(kind) && crate::config::health::is_token(subtype)
        }
        _ => false,
    };
    let is_printable = text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    match is_type && is_printable && text.trim() == text {
        true => Ok(text.to_owned()),
        false => Err(wrong(
            key.name,
            quoted(text),
            "it is not a media type",
            "write one such as \"text/plain; charset=utf-8\" or \"application/json\"",
        )),
    }
}

/// Checks a route's own responses and its changes.
pub(super) fn validate(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].{key}");
    if let Some(redirect) = &route.redirect
        && redirect.scheme.is_none()
        && redirect.host.is_none()
        && redirect.port.is_none()
        && redirect.path.is_none()
        && f.sound(
            &["scheme", "host", "port", "path"]
                .map(|key| at(&format!("redirect.{key}")))
                .each_ref()
                .map(|key| &**key),
        )
    {
        f.error(
            f.place(&at("redirect")),
            "the redirect leads to where the request came: it would go on for ever",
            "add `scheme`, `host`, `port` or `path`",
        );
    }
    if let Some(respond) = &route.respond
        && matches!(respond.status, 204 | 205 | 304)
        && respond.body.fixed() != Some("")
    {
        f.error(
            f.place(&at("respond.body")),
            format!("an answer with status {} has no content", respond.status),
            "remove `body`, or write `status = 200`",
        );
    }
    if route.strip_prefix.is_some() && route.rewrite.is_some() {
        let first = f.place(&at("strip_prefix"));
        f.error(
            f.place(&at("rewrite")),
            "a route has `strip_prefix` or `rewrite`, and not both",
            "remove `strip_prefix`: in `rewrite`, `{rest}` is what follows `path_prefix`",
        )
        .also(first, "the other one");
    }
    without_effect(route, i, f);
    if let Some(rules) = &route.request_headers {
        both(&rules.set, &rules.remove, &at("request_headers.remove"), f);
    }
    if let Some(rules) = &route.response_headers {
        both(&rules.set, &rules.remove, &at("response_headers.remove"), f);
    }
    groups(route, i, f);
}

/// Reports keys for forwarded requests on a route that forwards none.
fn without_effect(route: &Route, i: usize, f: &mut ConfigFindings) {
    let action = match (&route.redirect, &route.respond) {
        (Some(_), _) => "redirect",
        (None, Some(_)) => "respond",
        (None, None) => return,
    };
    let at = |key: &str| format!("route[{i}].{key}");
    for (key, is_written) in [
        ("strip_prefix", route.strip_prefix.is_some()),
        ("rewrite", route.rewrite.is_some()),
        ("request_headers", route.request_headers.is_some()),
        ("mirror", route.mirror.is_some()),
    ] {
        if is_written {
            let first = f.place(&at(action));
            f.error(
                f.place(&at(key)),
                format!("`{key}` is for requests that go on, and `{action}` answers them here"),
                "remove one of them",
            )
            .also(first, "this answers them");
        }
    }
}

/// Reports a field that is both set and removed.
fn both(set: &[FieldRule], removed: &[String], path: &str, f: &mut ConfigFindings) {
    for rule in set {
        if removed
            .iter()
            .any(|name| name.eq_ignore_ascii_case(&rule.name))
        {
            f.error(
                f.place(path),
                format!("\"{}\" is set and removed", rule.name),
                "remove one of them: what is set replaces all that came",
            );
        }
    }
}

/// Checks that the groups of regular expressions to which templates refer exist.
fn groups(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].{key}");
    if !f.sound(&[&at("path_regex"), &at("rewrite")]) {
        return;
    }
    let path_regex = route.path_regex.as_deref();
    let mut check = |key: &str, template: &TextTemplate, regex: Option<&str>| {
        let Some(group) = template.highest_group() else {
            return;
        };
        let (message, remedy) = match regex {
            None => (
                format!("`${group}` stands for a group of `path_regex`, which the route has not"),
                format!("add `path_regex`, or write `$${group}` for the text itself"),
            ),
            Some(regex) => {
                let there = compile_regex(regex).map_or(0, |regex| regex.captures_len());
                if usize::from(group) < there {
                    return;
                }
                let last = there.saturating_sub(1);
                (
                    format!(
                        "there is no group `${group}` in the regular expression: it has {last}"
                    ),
                    "put a part of it in parentheses, or write `$$` for a dollar".into(),
                )
            }
        };
        f.error(f.place(&at(key)), message, remedy);
    };
    match &route.rewrite {
        Some(PathRewrite::Whole(to)) => check("rewrite", to, path_regex),
        Some(PathRewrite::Match { regex, to }) => check("rewrite", to, Some(regex)),
        None => {}
    }
    if let Some(redirect) = &route.redirect
        && let Some(path) = &redirect.path
    {
        check("redirect.path", path, path_regex);
    }
    if let Some(respond) = &route.respond {
        check("respond.body", &respond.body, path_regex);
    }
    let request = route.request_headers.as_ref();
    let response = route.response_headers.as_ref();
    let lists = [
        ("request_headers.set", request.map(|rules| &rules.set)),
        ("request_headers.add", request.map(|rules| &rules.add)),
        ("response_headers.set", response.map(|rules| &rules.set)),
        ("response_headers.add", response.map(|rules| &rules.add)),
    ];
    for (key, rules) in lists {
        for rule in rules.into_iter().flatten() {
            check(key, &rule.value, path_regex);
        }
    }
}

impl Route {
    /// Whether one of its texts refers to a group of `path_regex`.
    pub fn needs_path_groups(&self) -> bool {
        let request = self
            .request_headers
            .iter()
            .flat_map(|rules| rules.set.iter().chain(&rules.add));
        let response = self
            .response_headers
            .iter()
            .flat_map(|rules| rules.set.iter().chain(&rules.add));
        let fields = request.chain(response).map(|rule| &rule.value);
        let rewrite = match &self.rewrite {
            Some(PathRewrite::Whole(to)) => Some(to),
            _ => None,
        };
        let redirect = self.redirect.iter().flat_map(|redirect| &redirect.path);
        let respond = self.respond.iter().map(|respond| &respond.body);
        let mut all = fields.chain(rewrite).chain(redirect).chain(respond);
        all.any(|template| {
            let mut placeholders = template.placeholders();
            placeholders.any(|placeholder| matches!(placeholder, Placeholder::Group(_)))
        })
    }

    /// Whether requests or responses are changed.
    pub(in crate::config) fn has_changes(&self) -> bool {
        self.strip_prefix.is_some()
            || self.rewrite.is_some()
            || self.request_headers.is_some()
            || self.response_headers.is_some()
    }
}
