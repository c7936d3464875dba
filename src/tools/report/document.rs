//! The document that `lameduck report --json` writes and `lameduck verify` reads.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::registry::restart_view::{ProxyIdentity, RestartCounts, RestartList, RestartView};
use crate::rt::clock;
use crate::rt::output::printable;

/// Kind of the document, which it contains, so that nothing else is taken for one.
pub const FORMAT: &str = "lameduck-restart-report";

/// Version of the format that this lameduck writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Figures that an access log can't tell, so that `verify` can't recompute them.
pub const NOT_IN_LOGS: [&str; 12] = [
    "cause",
    "reason",
    "outcome",
    "drain",
    "told",
    "drained",
    "stopped",
    "started",
    "deadline",
    "capacity_percent",
    "roll",
    "proxy",
];

/// Choice of restarts for a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportScope {
    /// The last one; if it was part of a roll, the whole roll.
    Last,
    /// Restarts that began in this time.
    Since(Duration),
    /// Restarts of the roll with this id.
    Roll(String),
}

/// Report about some restarts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartReport {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Time at which it was made, in RFC 3339 (UTC).
    pub made: String,
    /// Identity of the process that made it.
    pub proxy: ProxyIdentity,
    /// Identities of earlier processes that began some of the restarts, and handed them over in an upgrade.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<ProxyIdentity>,
    /// Start of the reported time: the first sign of the first restart…
    pub from: Option<String>,
    /// …and its end: that of the last restart, or the time at which the report was made.
    pub to: Option<String>,
    /// Access log with the lines, as configured.
    pub access_log: Option<LogOrigin>,
    /// Restarts, the oldest first.
    pub restarts: Vec<RestartView>,
    /// Rolls that the restarts belong to.
    pub rolls: Vec<RollAccount>,
    /// Sums of all restarts.
    pub total: RestartCounts,
    /// Figures that can't be recomputed from access logs.
    pub not_in_logs: Vec<String>,
}

/// Destination and format of an access log.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct LogOrigin {
    /// Path of a file, `stdout` or `off`.
    pub path: String,
    /// Format: `json` or `combined`.
    pub format: String,
}

/// Summary of a roll.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RollAccount {
    /// Id of the roll.
    pub id: String,
    /// Name of the pool.
    pub pool: String,
    /// Number of its restarts.
    pub restarts: u64,
    /// Time of the first sign of its first restart.
    pub began: String,
    /// Time at which the last backend took requests again; null while one does not.
    pub ended: Option<String>,
    /// Smallest share of the pool's weight that took requests.
    pub capacity_percent: f64,
    /// Sums of its requests.
    pub requests: RestartCounts,
}

impl RestartReport {
    /// Makes a report from a proxy's answers.
    pub fn new(
        list: RestartList,
        scope: &ReportScope,
        access_log: Option<LogOrigin>,
        now: SystemTime,
    ) -> Self {
        let made = clock::rfc3339(now);
        let restarts = select(list.restarts, scope, now);
        let (from, to) = span(&restarts, &made);
        let mut predecessors = list.predecessors;
        predecessors.retain(|process| restarts.iter().any(|one| process.has_seen(one)));
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            proxy: list.proxy,
            predecessors,
            from,
            to,
            access_log,
            rolls: rolls(&restarts),
            total: total(&restarts),
            not_in_logs: NOT_IN_LOGS.map(str::to_owned).to_vec(),
            restarts,
            made,
        }
    }

    /// This process, and those before it.
    pub fn processes(&self) -> impl Iterator<Item = &ProxyIdentity> {
        std::iter::once(&self.proxy).chain(&self.predecessors)
    }

    /// Parses a report.
    ///
    /// # Errors
    /// What is wrong with the text, as a message for users.
    pub fn read(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Heading {
            format: String,
            format_version: u32,
        }
        let heading: Heading = serde_json::from_str(text).map_err(|error| {
            format!("not a restart report: {error}; `lameduck report --json` writes one")
        })?;
        if heading.format != FORMAT {
            return Err(format!(
                "not a restart report: its format is `{}`, not `{FORMAT}`",
                printable(&heading.format)
            ));
        }
        if heading.format_version != FORMAT_VERSION {
            return Err(format!(
                "it has version {} of the format, and this lameduck reads version {FORMAT_VERSION}: use the lameduck \
                 that has written it",
                heading.format_version
            ));
        }
        serde_json::from_str(text).map_err(|error| format!("the report is damaged: {error}"))
    }
}

fn select(all: Vec<RestartView>, scope: &ReportScope, now: SystemTime) -> Vec<RestartView> {
    let mut all = all;
    match scope {
        ReportScope::Last => {
            let last = all.last().map(|one| (one.id.clone(), one.roll.clone()));
            all.retain(|one| match &last {
                Some((_, Some(roll))) => one.roll.as_ref() == Some(roll),
                Some((id, None)) => one.id == *id,
                None => false,
            });
        }
        ReportScope::Since(age) => {
            let from = now.checked_sub(*age).unwrap_or(SystemTime::UNIX_EPOCH);
            let from = clock::rfc3339(from);
            // All have the same form and length, so they can be compared as text.
            all.retain(|one| one.began >= from);
        }
        ReportScope::Roll(id) => all.retain(|one| one.roll.as_ref() == Some(id)),
    }
    all
}

/// Time from the first sign of the first restart to the end of the last one.
pub fn span(restarts: &[RestartView], made: &str) -> (Option<String>, Option<String>) {
    let from = restarts.iter().map(|one| &one.began).min().cloned();
    let ends = restarts
        .iter()
        .map(|one| one.ready.as_deref().unwrap_or(made));
    (from, ends.max().map(str::to_owned))
}

/// Sums of all figures.
pub fn total<'a>(restarts: impl IntoIterator<Item = &'a RestartView>) -> RestartCounts {
    let mut sum = RestartCounts::default();
    for one in restarts {
        sum.add(&one.requests);
    }
    sum
}

/// Summaries of the rolls that these restarts belong to.
pub fn rolls(restarts: &[RestartView]) -> Vec<RollAccount> {
    let mut by_roll: BTreeMap<&str, Vec<&RestartView>> = BTreeMap::new();
    for one in restarts {
        if let Some(roll) = &one.roll {
            by_roll.entry(roll).or_default().push(one);
        }
    }
    let account = |(id, all): (&str, Vec<&RestartView>)| {
        let first = all.iter().map(|one| &one.began).min();
        let ends: Option<Vec<&String>> = all.iter().map(|one| one.ready.as_ref()).collect();
        RollAccount {
            id: id.to_owned(),
            pool: all.first().map_or_else(String::new, |one| one.pool.clone()),
            restarts: all.len() as u64,
            began: first.cloned().unwrap_or_default(),
            ended: ends.and_then(|ends| ends.into_iter().max().cloned()),
            capacity_percent: all
                .iter()
                .map(|one| one.capacity_percent)
                .fold(100.0, f64::min),
            requests: total(all.iter().copied()),
        }
    };
    by_roll.into_iter().map(account).collect()
}
