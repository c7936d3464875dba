//! Paths and order of routes, like those of the locations that ingress-nginx generates.
//!
//! It generates `location = /a` for Exact, `location = /a` and `location /a/` for Prefix, and `location /a` for the
//! rest, which also matches `/ab`. If one Ingress of a host has `use-regex` or `rewrite-target`, all paths of the host
//! become `location ~* "^/a"`, longer ones first. Wherever lameduck's own order could differ, each route has a
//! `priority`.

use crate::tools::import::draft::{DraftPath, toml_text};
use crate::tools::import::ingress::model::PathKind;
use crate::tools::import::nginx::pcre::{escape_regex, translate_regex, widen_regex};
use crate::tools::import::offered;

/// Path of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlannedPath {
    /// The same path.
    Said(DraftPath),
    /// A path that matches more, and why; used for routes that answer 503.
    Wider(DraftPath, String),
    /// No path can express it, and why.
    Unsaid(String),
}

/// Whether lameduck's order of paths could differ from nginx's.
pub(super) fn is_loose(path: &str, kind: PathKind) -> bool {
    kind == PathKind::Implementation && !path.ends_with('/')
}

/// Path of a route. `regexes`: the host's paths are regular expressions.
pub(super) fn plan_path(path: &str, kind: PathKind, regexes: bool) -> PlannedPath {
    let is_regex = regexes && path.starts_with(['^', '(', '.', '[']);
    if !path.starts_with('/') && !is_regex {
        return PlannedPath::Unsaid("a path begins with a slash".into());
    }
    if path == "/" && kind != PathKind::Exact {
        return PlannedPath::Said(DraftPath::any());
    }
    let planned = match kind {
        _ if regexes => {
            let head = if path.starts_with('^') { "" } else { "^" };
            let pattern = format!("{head}{path}");
            return match translate_regex(&pattern, true) {
                Ok(pattern) => PlannedPath::Said(DraftPath::Regex(pattern)),
                Err(why) => match widen_regex(&pattern, true) {
                    Some(wider) => PlannedPath::Wider(DraftPath::Regex(wider), why),
                    None => PlannedPath::Unsaid(why),
                },
            };
        }
        PathKind::Exact => DraftPath::Exact(path.to_owned()),
        PathKind::Implementation if is_loose(path, kind) => {
            DraftPath::Regex(format!("^{}", escape_regex(path)))
        }
        _ => {
            let bare = path.trim_end_matches('/');
            DraftPath::Prefix(if bare.is_empty() {
                "/".into()
            } else {
                bare.to_owned()
            })
        }
    };
    let Some((key, value)) = planned.key() else {
        return PlannedPath::Said(planned);
    };
    match offered::check_key(key, &value) {
        Ok(()) => PlannedPath::Said(planned),
        Err(why) => PlannedPath::Unsaid(why),
    }
}

/// Value of `rewrite` for `rewrite-target`, which replaces the whole path if the pattern matches its beginning.
pub(super) fn rewrite_value(path: &str, target: &str) -> Result<String, String> {
    let numbers = target.split('$').skip(1);
    for rest in numbers {
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("of variables, only groups such as `$1` are carried over".into());
        }
    }
    let head = if path.starts_with('^') { "" } else { "^" };
    let pattern = translate_regex(&format!("{head}{path}"), true)?;
    // A `|` outside of groups would split the added prefix, too.
    let bare = pattern.strip_prefix("(?i)").unwrap_or(&pattern);
    let bare = bare.strip_prefix('^').unwrap_or(bare);
    let whole = match bare.strip_suffix('$').filter(|_| !bare.ends_with("\\$")) {
        Some(inner) => format!("(?is)^(?:{inner})$"),
        None => format!("(?is)^(?:{bare}).*$"),
    };
    let target = target.replace('{', "{{").replace('}', "}}");
    let value = format!(
        "{{ regex = {}, to = {} }}",
        toml_text(&whole),
        toml_text(&target)
    );
    offered::check_key("rewrite", &value).map(|()| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_nginx_compares_letter_by_letter_is_no_prefix_of_segments() {
        let planned = plan_path("/admin", PathKind::Implementation, false);
        assert_eq!(
            planned,
            PlannedPath::Said(DraftPath::Regex("^/admin".into()))
        );
        let planned = plan_path("/admin/", PathKind::Prefix, false);
        assert_eq!(
            planned,
            PlannedPath::Said(DraftPath::Prefix("/admin".into()))
        );
        assert!(matches!(
            plan_path("admin", PathKind::Prefix, false),
            PlannedPath::Unsaid(_)
        ));
    }

    #[test]
    fn rewrites_replace_the_whole_path() {
        let value = rewrite_value("/api(/|$)(.*)", "/$2").unwrap();
        assert_eq!(
            value,
            "{ regex = '(?is)^(?:/api(/|$)(.*)).*$', to = \"/$2\" }".replace("'", "\"")
        );
        assert!(rewrite_value("/a", "/$uri").is_err());
        assert!(rewrite_value("/a", "/$3").is_err());
    }
}
