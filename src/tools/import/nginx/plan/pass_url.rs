//! `proxy_pass` with variables: its URL is then the complete request for the app, and no part of the path is replaced.

use super::location::PathChange;
use super::values::ValueReader;
use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::scope::NginxScope;

/// Beginnings of the part after the address in a `proxy_pass`.
const PATH_STARTS: [&str; 9] = [
    "/",
    "?",
    "${request_uri}",
    "${uri}",
    "${document_uri}",
    "${is_args}",
    "${args}",
    "${query_string}",
    "${1}",
];

/// Ends of a path with which the request's query is passed on.
const WITH_QUERY: [&str; 4] = [
    "${is_args}${args}",
    "?${args}",
    "${is_args}${query_string}",
    "?${query_string}",
];

/// A URL with variables, in two parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PassUrl {
    /// Scheme and address.
    pub base: String,
    /// Request target for the app; empty: that of the client's request.
    pub tail: String,
}

impl PassUrl {
    /// Reads a URL; `None`: it has no variables. Variables that `set` makes constant are replaced.
    pub(super) fn read(url: &str, values: &ValueReader<'_, '_>) -> Option<Self> {
        if !url.contains('$') {
            return None;
        }
        let url = values.inline(url);
        let from = url.find("://").map_or(0, |at| at + 3);
        let ends = PATH_STARTS.iter().filter_map(|mark| url[from..].find(mark));
        let end = match url[from..].starts_with("unix:") {
            true => url.len(),
            false => ends.min().map_or(url.len(), |at| from + at),
        };
        let (base, tail) = url.split_at(end);
        Some(PassUrl {
            base: base.to_owned(),
            tail: tail.to_owned(),
        })
    }

    /// Change of the path, after `rewrite`.
    ///
    /// # Errors
    /// It has a variable that lameduck can't express, or one that `rewrite` has changed.
    pub(super) fn change(
        &self,
        values: &ValueReader<'_, '_>,
        rewritten: PathChange,
        is_raw: bool,
    ) -> Result<PathChange, String> {
        let ending = WITH_QUERY
            .iter()
            .find_map(|end| self.tail.strip_suffix(end));
        let (path, keeps_query) = match ending {
            Some(path) => (path, true),
            None => (&*self.tail, false),
        };
        match path {
            "" if self.tail.is_empty() => return Ok(rewritten),
            "${request_uri}" => return Ok(PathChange::None),
            "${uri}" | "${document_uri}" if keeps_query || is_raw => return Ok(rewritten),
            _ => {}
        }
        let to = match path.strip_suffix("${request_uri}") {
            Some(before) if !before.contains('?') => format!("{}{{path}}", values.read(before)?),
            // A `?` at the end means: without the request's query.
            _ => {
                let text = values.read(path)?;
                let ends = keeps_query || text.contains('?');
                if ends { text } else { format!("{text}?") }
            }
        };
        match rewritten {
            PathChange::None => Ok(PathChange::Whole(to)),
            PathChange::Rewrite { regex, to: made } if to == "{path}?" => Ok(PathChange::Rewrite {
                regex,
                to: format!("{made}?"),
            }),
            _ => Err(format!(
                "a route has one `rewrite`, and {} is another",
                self.tail
            )),
        }
    }
}

/// Whether `$1` is a group of the location's own expression where it passes requests on, because no other expression
/// was used.
pub(super) fn keeps_groups(scope: &NginxScope<'_>) -> bool {
    !scope
        .own_level()
        .iter()
        .any(|d| d.name() == "rewrite" || d.name() == "if" && d.arg(1).contains('~'))
}

/// Whether `rewrite ^ $request_uri;` sets the path to what the client sent, which lameduck passes on anyway.
pub(super) fn is_raw(location: &NginxLocation<'_>) -> bool {
    let inner = location.directive.inner();
    inner.iter().any(|directive| {
        directive.name() == "rewrite"
            && directive.arg(0) == "^"
            && directive.arg(1) == "$request_uri"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::import::nginx::tree::TreeReader;

    #[test]
    fn url_with_variables_says_the_whole_of_what_is_asked_for() {
        let text = "set $api 127.0.0.1:9000; set $up http://app/base;";
        let tree = TreeReader::new(".").read_text("x", text, 0).unwrap();
        let scope = NginxScope::default().enter(&tree);
        let values = ValueReader {
            scope: &scope,
            server_name: None,
            has_groups: true,
            pattern: Some("^/(?<room>x)/(y)$"),
            exact: None,
        };
        let whole = |text: &str| PathChange::Whole(text.to_owned());
        for (url, base, change) in [
            ("http://$api", "http://127.0.0.1:9000", PathChange::None),
            ("http://$api/", "http://127.0.0.1:9000", whole("/?")),
            ("$up", "http://app", whole("/base?")),
            ("http://app$request_uri", "http://app", PathChange::None),
            ("http://app$uri", "http://app", whole("{path}?")),
            (
                "http://app$uri$is_args$args",
                "http://app",
                PathChange::None,
            ),
            (
                "http://app/v1$request_uri",
                "http://app",
                whole("/v1{path}"),
            ),
            ("http://app/u/$2", "http://app", whole("/u/$2?")),
            ("http://app/$1$is_args$args", "http://app", whole("/$1")),
            (
                "http://app/live?room=$room",
                "http://app",
                whole("/live?room=$1"),
            ),
        ] {
            let read = PassUrl::read(url, &values).unwrap();
            assert_eq!(read.base, base, "{url}");
            let read = read.change(&values, PathChange::None, false);
            assert_eq!(read, Ok(change), "{url}");
        }
        assert_eq!(PassUrl::read("http://app/x", &values), None);
    }
}
