//! Views of discovery sources and of changes, for operators.

use serde::{Deserialize, Serialize};

/// A discovery source of a pool's backends. Times are in RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DiscoveryView {
    /// Type of the source and what it reads: `file /etc/lameduck/app.json`.
    pub source: String,
    /// `ok`; `waiting`: no answer yet; `failing`: the source can't be queried, and its last answer stays in force;
    /// `doubted`: the last answer lacks backends that are kept nevertheless.
    pub state: String,
    /// Number of backends from the source that are in force.
    pub backends: usize,
    /// Time of its last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// Age of its last answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_age_ms: Option<u64>,
    /// Whether the last answer came in an earlier run of the proxy. Its backends are used until the source answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_earlier_run: bool,
    /// Time since which the source can't be queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
    /// Why the source can't be queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why the last answer was not applied in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// Number of backends that the last answer lacks and that are kept nevertheless.
    #[serde(default)]
    pub kept: usize,
    /// Time at which they are removed, if the source's answers still lack them; absent: not automatically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// Number of names that the source can't use because they have another owner.
    #[serde(default)]
    pub refused: usize,
    /// The first refused names, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
}

/// Changes that were made at the same time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct ChangeView {
    /// Sequence number: 1 is the first change since the process started.
    pub id: u64,
    /// Time of the change, in RFC 3339, UTC.
    pub time: String,
    /// Author of the change: `reload`, `discovery`, `api` or `launcher`.
    pub by: String,
    /// If the author is `discovery`: the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The pool; absent if several are concerned, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What was added.
    pub added: Vec<String>,
    /// What was removed. Backends drain first.
    pub removed: Vec<String>,
    /// Values that changed.
    pub changed: Vec<ChangedValue>,
    /// Number of lines that were left out because there were too many.
    #[serde(default)]
    pub more: usize,
}

/// A value that changed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ChangedValue {
    /// Name of the value.
    pub what: String,
    /// Value before.
    pub from: String,
    /// Value after.
    pub to: String,
}

impl ChangeView {
    /// Whether the change is empty.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Returns the change in one line: `2 added (a at 10.0.0.1:80, b at 10.0.0.2:80), 1 removed (c at 10.0.0.3:80)`.
    pub fn summary(&self) -> String {
        let changed: Vec<_> = self.changed.iter().map(ToString::to_string).collect();
        let lists = [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &changed),
        ];
        let parts = lists.iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<_> = parts
            .map(|(what, list)| {
                let more = match list.len() > SUMMED_UP {
                    true => ", …",
                    false => "",
                };
                let first: Vec<_> = list.iter().take(SUMMED_UP).map(String::as_str).collect();
                format!("{} {what} ({}{more})", list.len(), first.join(", "))
            })
            .collect();
        parts.join(", ")
    }
}

/// Most items of each kind that are named in the line.
const SUMMED_UP: usize = 5;

impl std::fmt::Display for ChangedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.what, self.from, self.to)
    }
}
