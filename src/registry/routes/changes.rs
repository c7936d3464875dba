//! What a route changes on the way, ready to be applied: header fields by name, and paths.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::config::{FieldRule, PathRewrite, Route, TextTemplate, compile_regex};
use crate::core::field_names::FieldNames;

/// What a route changes of its requests and their answers.
#[derive(Debug)]
pub struct RouteChanges {
    /// The path that the app is asked for.
    pub path: Option<PathChange>,
    /// `Host` for the app.
    pub host: Option<TextTemplate>,
    /// Fields of requests.
    pub request: Option<FieldChanges>,
    /// Fields of answers.
    pub response: Option<FieldChanges>,
}

/// How a path is changed.
#[derive(Debug)]
pub enum PathChange {
    /// These segments are taken off its beginning.
    Strip(Box<str>),
    /// This one takes its place.
    Whole(TextTemplate),
    /// Its first match is replaced.
    Match {
        /// What is looked for.
        regex: Regex,
        /// What takes its place.
        to: TextTemplate,
    },
}

/// What becomes of a head's fields.
#[derive(Debug)]
pub struct FieldChanges {
    /// Those that came and don't go on.
    pub dropped: Arc<FieldNames>,
    /// Those that are written behind the others.
    pub written: Vec<WrittenField>,
    /// Their lines, where they are the same for every request.
    pub fixed: Option<Box<[u8]>>,
}

/// A field that is written.
#[derive(Debug)]
pub struct WrittenField {
    /// Its name, with the colon and blank behind it.
    pub start: Box<[u8]>,
    /// Its value.
    pub value: TextTemplate,
}

impl RouteChanges {
    /// `None`: the route changes nothing.
    pub(super) fn new(route: &Route) -> Option<Self> {
        let path = match (&route.strip_prefix, &route.rewrite) {
            (Some(prefix), _) => Some(PathChange::Strip(prefix.as_str().into())),
            (None, Some(PathRewrite::Whole(to))) => Some(PathChange::Whole(to.clone())),
            // A checked configuration has no expression that can't be used.
            (None, Some(PathRewrite::Match { regex, to })) => {
                compile_regex(regex).ok().map(|regex| PathChange::Match {
                    regex,
                    to: to.clone(),
                })
            }
            (None, None) => None,
        };
        let is_host = |rule: &&FieldRule| rule.name.eq_ignore_ascii_case("host");
        let request = route.request_headers.as_ref();
        let host = request.and_then(|rules| rules.set.iter().find(is_host));
        let changes = Self {
            path,
            host: host.map(|rule| rule.value.clone()),
            request: request.and_then(|rules| {
                FieldChanges::new(&rules.set, &rules.add, &rules.remove, is_host)
            }),
            response: route.response_headers.as_ref().and_then(|rules| {
                FieldChanges::new(&rules.set, &rules.add, &rules.remove, |_| false)
            }),
        };
        let changes_nothing = changes.path.is_none()
            && changes.host.is_none()
            && changes.request.is_none()
            && changes.response.is_none();
        (!changes_nothing).then_some(changes)
    }
}

impl FieldChanges {
    fn new(
        set: &[FieldRule],
        add: &[FieldRule],
        removed: &[String],
        is_elsewhere: impl Fn(&&FieldRule) -> bool,
    ) -> Option<Self> {
        let set = || set.iter().filter(|rule| !is_elsewhere(rule));
        let names = set().map(|rule| &rule.name).chain(removed);
        let dropped = FieldNames::new(names.map(String::as_str));
        let written: Vec<_> = set()
            .chain(add)
            .filter(|rule| rule.value.fixed() != Some(""))
            .map(|rule| WrittenField {
                start: format!("{}: ", rule.name).into_bytes().into(),
                value: rule.value.clone(),
            })
            .collect();
        if dropped.is_empty() && written.is_empty() {
            return None;
        }
        let mut fixed = Some(Vec::new());
        for field in &written {
            fixed = fixed.zip(field.value.fixed()).map(|(mut lines, value)| {
                lines.extend_from_slice(&field.start);
                lines.extend_from_slice(value.as_bytes());
                lines.extend_from_slice(b"\r\n");
                lines
            });
        }
        Some(Self {
            dropped: Arc::new(dropped),
            written,
            fixed: fixed.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn changes(keys: &str) -> Option<RouteChanges> {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[[route]]\npool = \"app\"\n{keys}"
        );
        RouteChanges::new(&config::parse("x.toml", &text).unwrap().config.routes[0])
    }

    #[test]
    fn fixed_values_become_lines_and_empty_ones_only_drop() {
        let keys = "request_headers = { set = { X-A = \"1\", X-B = \"\" }, add = { X-C = [\"2\", \"3\"] }, remove = [\"X-D\"] }";
        let request = changes(keys).unwrap().request.unwrap();
        let lines = request.fixed.as_deref();
        assert_eq!(lines, Some(&b"X-A: 1\r\nX-C: 2\r\nX-C: 3\r\n"[..]));
        for (name, is_dropped) in [("X-A", true), ("X-B", true), ("X-C", false), ("X-D", true)] {
            assert_eq!(request.dropped.has(name.as_bytes()), is_dropped, "{name}");
        }
        let filled =
            changes("request_headers = { set = { X-A = \"{host}\", host = \"app\" } }").unwrap();
        assert_eq!(filled.host.unwrap().as_str(), "app");
        let filled = filled.request.unwrap();
        assert!(filled.fixed.is_none() && !filled.dropped.has(b"Host"));
    }

    #[test]
    fn nothing_to_change_is_nothing() {
        assert!(changes("request_headers = {}\nresponse_headers = { remove = [] }").is_none());
        assert!(changes("name = \"x\"").is_none());
    }
}
