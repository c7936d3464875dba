//! Keys that users may look for and that this version does not have. They are named, so that users don't search for
//! another spelling.

/// A planned key.
pub(super) struct UnsupportedKey {
    /// What this version does instead.
    now: &'static str,
    /// What to do until then.
    pub(super) meanwhile: &'static str,
}

impl UnsupportedKey {
    /// Returns the message about `what` (a key, or a key with its value).
    pub(super) fn message(&self, what: &str) -> String {
        format!("{what} is not in this version of lameduck: {}", self.now)
    }
}

const HEADERS: (&str, &str) = (
    "[headers] has the fields that every request gets",
    "remove it, and set fields on a route: `request_headers = { set = { … } }` or `response_headers`",
);
const DISCOVERY: (&str, &str) = (
    "each pool has its own sources of backends",
    "write [[pool.discovery]] below the [[pool]]",
);
const DASHBOARD: (&str, &str) = (
    "there is no web page",
    "remove it, and use `lameduck status --watch`",
);

/// Section, key, and texts: what this version does, and what to do.
const LATER: &[(&str, &str, (&str, &str))] = &[
    ("", "discovery", DISCOVERY),
    ("", "dashboard", DASHBOARD),
    ("admin", "dashboard", DASHBOARD),
    ("headers", "add", HEADERS),
    ("headers", "set", HEADERS),
    ("headers", "remove", HEADERS),
    ("headers", "request", HEADERS),
    ("headers", "response", HEADERS),
];

/// Returns a planned key of a section.
pub(super) fn key(section: &str, key: &str) -> Option<UnsupportedKey> {
    LATER
        .iter()
        .find(|entry| entry.0 == section && entry.1 == key)
        .map(|&(_, _, (now, meanwhile))| UnsupportedKey { now, meanwhile })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    #[test]
    fn no_key_is_both_present_and_planned() {
        for (section, key, _) in LATER {
            let all = schema::SECTIONS.iter();
            for section in all.filter(|known| known.name == *section) {
                assert!(!section.knows(key), "{}.{key}", section.name);
            }
        }
    }
}
