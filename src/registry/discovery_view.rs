//! The view of sources of backends, and of changes, for operators.

use serde::{Deserialize, Serialize};

/// A source of a pool's backends. Times are RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DiscoveryView {
    /// Its type, and what it is asked: `file /etc/lameduck/app.json`.
    pub source: String,
    /// `ok`; `waiting`: nothing has been heard yet; `failing`: it can't be asked, and the last answer stays; `doubted`: the
    /// last answer lacks backends that are kept.
    pub state: String,
    /// Backends of it that are in force.
    pub backends: usize,
    /// When its last answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// How long ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_age_ms: Option<u64>,
    /// That was in an earlier run of the proxy, whose backends are used until the source answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_earlier_run: bool,
    /// Since when it can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
    /// Why it can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Why the last answer was not believed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// Backends that the last answer lacks, and that are kept.
    #[serde(default)]
    pub kept: usize,
    /// When they go, if the answers go on lacking them; absent: not by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_until: Option<String>,
    /// Names that it can't have, because they have another owner.
    #[serde(default)]
    pub refused: usize,
    /// The first of them, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
}

/// What was changed at one moment.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct ChangeView {
    /// Its number: 1 is the first since the process started.
    pub id: u64,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// Who changed it: `reload`, `discovery`, `api` or `launcher`.
    pub by: String,
    /// With `discovery`: the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The pool; absent: several, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What has come.
    pub added: Vec<String>,
    /// What goes. Backends drain first.
    pub removed: Vec<String>,
    /// What is another now.
    pub changed: Vec<ChangedValue>,
    /// Lines that were left out, because there are so many.
    #[serde(default)]
    pub more: usize,
}

/// A value that was changed.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct ChangedValue {
    /// Of what.
    pub what: String,
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
}

impl ChangeView {
    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// In one line: `2 added (a at 10.0.0.1:80, b at 10.0.0.2:80), 1 removed (c at 10.0.0.3:80)`.
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

/// So many of each are named in one line.
const SUMMED_UP: usize = 5;

impl std::fmt::Display for ChangedValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.what, self.from, self.to)
    }
}
