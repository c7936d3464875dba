//! nginx's order of locations, as routes with paths and priorities.
//!
//! nginx uses an exact location; or else the longest prefix, if that is `^~`; or else the first regular expression that
//! matches, in the order of the file; or else the longest prefix. It compares prefixes character by character. lameduck
//! compares whole segments. Of a host's routes it uses the highest `priority` first, then exact paths, then prefixes,
//! then regular expressions. So the routes get priorities in this order, from the lowest one:
//!
//! 1. prefixes (`path_prefix`, priority 0);
//! 2. for a prefix without a final slash: paths that continue without one (`/api` and `/apis`), the shorter first;
//! 3. regular expressions, the last first;
//! 4. exact paths, `^~` prefixes, and paths that nginx redirects to the same with a slash.

use super::location::LocationPlan;
use crate::tools::import::draft::DraftPath;
use crate::tools::import::nginx::model::{LocationKind, NginxLocation};
use crate::tools::import::nginx::pcre::{encode_path, escape_regex};

/// A prefix location with its plan.
#[derive(Debug)]
pub(super) struct PlannedPrefix<'l, 'a> {
    pub location: &'l NginxLocation<'a>,
    /// Path without the final slash; `/` for the root.
    pub bare: String,
    pub plan: LocationPlan,
}

/// A route of a prefix, with its place in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PrefixRoute {
    /// Index of its prefix.
    pub of: usize,
    pub path: DraftPath,
    pub tier: PathTier,
}

/// Places of prefixes, from the lowest to the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathTier {
    /// After regular expressions.
    Plain,
    /// A prefix of this many bytes, without a slash after it.
    Edge(usize),
    /// Before regular expressions.
    Firm,
}

impl PlannedPrefix<'_, '_> {
    pub(super) fn is_firm(&self) -> bool {
        self.location.kind == LocationKind::FirmPrefix
    }

    /// Whether its path continues where the other one ends, with a character other than a slash.
    pub(super) fn is_beyond_edge_of(&self, shorter: &PlannedPrefix<'_, '_>) -> bool {
        let rest = self.location.path.strip_prefix(shorter.location.path);
        !shorter.has_slash() && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
    }

    pub(super) fn has_slash(&self) -> bool {
        self.location.path.ends_with('/')
    }
}

/// Prefix that a path belongs to if the given one does not exist.
pub(super) fn longest_before(
    prefixes: &[PlannedPrefix<'_, '_>],
    path: &str,
    but: usize,
) -> Option<usize> {
    let fits = |(n, other): &(usize, &PlannedPrefix<'_, '_>)| {
        *n != but && path.starts_with(other.location.path)
    };
    let found = prefixes.iter().enumerate().filter(fits);
    found
        .max_by_key(|(_, other)| other.location.path.len())
        .map(|(n, _)| n)
}

/// Expression for paths that begin with a location's characters, but not with its whole segments, such as `/ab` for
/// `/a`.
pub(super) fn beyond_edge(path: &str) -> String {
    format!("^{}[^/]", escape_regex(&encode_path(path)))
}

/// Routes of all prefixes, without redirects to the path with a slash.
pub(super) fn prefix_routes(prefixes: &[PlannedPrefix<'_, '_>]) -> Vec<PrefixRoute> {
    let mut routes = Vec::new();
    let mut needs_edge = Vec::new();
    for (n, prefix) in prefixes.iter().enumerate() {
        let base = match prefix.is_firm() {
            true => PathTier::Firm,
            false => PathTier::Plain,
        };
        let twin = prefixes
            .iter()
            .position(|other| other.bare == prefix.bare && other.has_slash() != prefix.has_slash());
        match (prefix.has_slash(), twin) {
            // The prefix with the slash has the paths below it; this one only has the path itself.
            (false, Some(_)) => routes.push(PrefixRoute {
                of: n,
                path: DraftPath::Exact(prefix.bare.clone()),
                tier: base,
            }),
            _ => routes.push(PrefixRoute {
                of: n,
                path: DraftPath::Prefix(prefix.bare.clone()),
                tier: base,
            }),
        }
        if !prefix.has_slash() {
            let outer = longest_before(prefixes, &prefix.bare, n);
            let same = outer.is_some_and(|outer| {
                prefixes[outer].plan.does_the_same(&prefix.plan)
                    && prefixes[outer].is_firm() == prefix.is_firm()
            });
            if !same {
                needs_edge.push(n);
            }
        }
    }
    for n in needs_edge {
        let path = prefixes[n].location.path;
        let tier = |length: usize, firm: bool| match firm {
            true => PathTier::Firm,
            false => PathTier::Edge(length),
        };
        routes.push(PrefixRoute {
            of: n,
            path: DraftPath::Regex(beyond_edge(path)),
            tier: tier(path.len(), prefixes[n].is_firm()),
        });
        // A longer prefix that continues in the same way comes before it.
        for (m, longer) in prefixes.iter().enumerate() {
            if longer.is_beyond_edge_of(&prefixes[n]) && !longer.is_firm() {
                let route = PrefixRoute {
                    of: m,
                    path: DraftPath::Regex(format!(
                        "^{}",
                        escape_regex(&encode_path(longer.location.path))
                    )),
                    tier: tier(longer.location.path.len(), prefixes[n].is_firm()),
                };
                if !routes.contains(&route) {
                    routes.push(route);
                }
            }
        }
    }
    routes
}
