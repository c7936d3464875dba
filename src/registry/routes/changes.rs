//! Changes that a route makes to requests and responses, ready to be applied: header fields by name, and paths.

use std::sync::Arc;

use regex::bytes::Regex;

use crate::config::{FieldRule, PathRewrite, Route, TextTemplate, compile_regex};
use crate::core::field_names::FieldNames;

/// Changes that a route makes to its requests and their responses.
#[derive(Debug)]
pub struct RouteChanges {
    /// Change of the path that is requested from the app.
    pub path: Option<RoutePathChange>,
    /// Value of `Host` for the app.
    pub host: Option<TextTemplate>,
    /// Changes of request header fields.
    pub request: Option<RouteFieldChanges>,
    /// Changes of response header fields.
    pub response: Option<RouteFieldChanges>,
    /// Whether nothing has to be computed for each request.
    pub is_fixed: bool,
}

/// Change of a path.
#[derive(Debug)]
pub enum RoutePathChange {
    /// Removes these segments from its beginning.
    Strip(Box<str>),
    /// Replaces the whole path.
    Whole(TextTemplate),
    /// Replaces the first match.
    Match {
        /// Pattern to search for.
        regex: Regex,
        /// Replacement.
        to: TextTemplate,
    },
}

/// Changes of the header fields of a head.
#[derive(Debug)]
pub struct RouteFieldChanges {
    /// Names of received fields that are not forwarded.
    pub dropped: Arc<FieldNames>,
    /// Fields that are written after the others, in order. No two neighbours are both fixed.
    pub written: Vec<WrittenLines>,
}

/// Header lines that are written.
#[derive(Debug)]
pub enum WrittenLines {
    /// Lines that are the same for every request, each with its line end.
    Fixed(Vec<u8>),
    /// A line whose value is computed for each request.
    Made(WrittenField),
}

/// A header field that is written.
#[derive(Debug)]
pub struct WrittenField {
    /// Name, with the colon and space after it.
    pub start: Box<[u8]>,
    /// Value.
    pub value: TextTemplate,
}

impl RouteChanges {
    /// Returns `None` if the route changes nothing.
    pub(super) fn new(route: &Route) -> Option<Self> {
        let path = match (&route.strip_prefix, &route.rewrite) {
            (Some(prefix), _) => Some(RoutePathChange::Strip(prefix.as_str().into())),
            (None, Some(PathRewrite::Whole(to))) => Some(RoutePathChange::Whole(to.clone())),
            // A checked configuration has only valid expressions.
            (None, Some(PathRewrite::Match { regex, to })) => {
                compile_regex(regex)
                    .ok()
                    .map(|regex| RoutePathChange::Match {
                        regex,
                        to: to.clone(),
                    })
            }
            (None, None) => None,
        };
        let is_host = |rule: &&FieldRule| rule.name.eq_ignore_ascii_case("host");
        let request = route.request_headers.as_ref();
        let host = request.and_then(|rules| rules.set.iter().find(is_host));
        let mut changes = Self {
            path,
            host: host.map(|rule| rule.value.clone()),
            request: request.and_then(|rules| {
                RouteFieldChanges::new(&rules.set, &rules.add, &rules.remove, is_host)
            }),
            response: route.response_headers.as_ref().and_then(|rules| {
                RouteFieldChanges::new(&rules.set, &rules.add, &rules.remove, |_| false)
            }),
            is_fixed: false,
        };
        let has_own_target = changes.path.is_some() || changes.host.is_some();
        let is_fixed = |side: &Option<RouteFieldChanges>| {
            let side = side.as_ref();
            side.is_none_or(|side| side.fixed().is_some())
        };
        changes.is_fixed =
            !has_own_target && is_fixed(&changes.request) && is_fixed(&changes.response);
        let changes_nothing =
            !has_own_target && changes.request.is_none() && changes.response.is_none();
        (!changes_nothing).then_some(changes)
    }
}

impl RouteFieldChanges {
    fn new(
        set: &[FieldRule],
        add: &[FieldRule],
        removed: &[String],
        is_elsewhere: impl Fn(&&FieldRule) -> bool,
    ) -> Option<Self> {
        let set = || set.iter().filter(|rule| !is_elsewhere(rule));
        let names = set().map(|rule| &rule.name).chain(removed);
        let dropped = FieldNames::new(names.map(String::as_str));
        let mut written: Vec<WrittenLines> = Vec::new();
        for rule in set().chain(add) {
            let start = format!("{}: ", rule.name);
            match (rule.value.fixed(), written.last_mut()) {
                // The field is only dropped.
                (Some(""), _) => {}
                (Some(value), Some(WrittenLines::Fixed(lines))) => {
                    lines.extend_from_slice(format!("{start}{value}\r\n").as_bytes());
                }
                (Some(value), _) => {
                    let line = format!("{start}{value}\r\n").into_bytes();
                    written.push(WrittenLines::Fixed(line));
                }
                (None, _) => written.push(WrittenLines::Made(WrittenField {
                    start: start.into_bytes().into(),
                    value: rule.value.clone(),
                })),
            }
        }
        let changes_nothing = dropped.is_empty() && written.is_empty();
        (!changes_nothing).then(|| Self {
            dropped: Arc::new(dropped),
            written,
        })
    }

    /// Returns the lines to write, if they are the same for every request.
    #[inline]
    pub fn fixed(&self) -> Option<&[u8]> {
        match &self.written[..] {
            [] => Some(&[]),
            [WrittenLines::Fixed(lines)] => Some(lines),
            _ => None,
        }
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
        let all = changes(keys).unwrap();
        assert!(all.is_fixed);
        let request = all.request.unwrap();
        let lines = request.fixed();
        assert_eq!(lines, Some(&b"X-A: 1\r\nX-C: 2\r\nX-C: 3\r\n"[..]));
        for (name, is_dropped) in [("X-A", true), ("X-B", true), ("X-C", false), ("X-D", true)] {
            assert_eq!(request.dropped.has(name.as_bytes()), is_dropped, "{name}");
        }
        let filled =
            changes("request_headers = { set = { X-A = \"{host}\", host = \"app\" } }").unwrap();
        assert!(!filled.is_fixed);
        assert_eq!(filled.host.unwrap().as_str(), "app");
        let filled = filled.request.unwrap();
        assert!(filled.fixed().is_none() && !filled.dropped.has(b"Host"));
    }

    #[test]
    fn made_values_stand_between_the_fixed_lines_in_order() {
        let keys = "response_headers = { set = { X-A = \"1\", X-B = \"2\" }, add = { X-C = [\"{host}\", \"3\"], X-D = [\"4\"] } }";
        let all = changes(keys).unwrap();
        assert!(!all.is_fixed);
        let shown: Vec<_> = (all.response.unwrap().written.iter())
            .map(|lines| match lines {
                WrittenLines::Fixed(lines) => String::from_utf8_lossy(lines).into_owned(),
                WrittenLines::Made(field) => field.value.as_str().to_owned(),
            })
            .collect();
        assert_eq!(
            shown,
            ["X-A: 1\r\nX-B: 2\r\n", "{host}", "X-C: 3\r\nX-D: 4\r\n"]
        );
        assert!(changes("rewrite = \"/x\"").is_some_and(|all| !all.is_fixed));
    }

    #[test]
    fn route_without_changes_has_none() {
        assert!(changes("request_headers = {}\nresponse_headers = { remove = [] }").is_none());
        assert!(changes("name = \"x\"").is_none());
    }
}
