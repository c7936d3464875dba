//! What a build may not have: `--fail-on`.

use std::fmt;

use super::document::RestartReport;
use crate::core::restart::RestartOutcome;

/// What must not have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// A request was lost
    Lost,
    /// A deadline cut a request
    Cut,
    /// A request had to be tried again
    Retried,
    /// A request had to wait
    Held,
    /// A session changed its backend
    Moved,
    /// A restart is not over: its backend takes no requests
    Unfinished,
    /// There is no restart in the report
    Empty,
}

impl FailOn {
    /// Number of times that this has happened.
    pub fn occurrences(self, report: &RestartReport) -> u64 {
        let total = &report.total;
        match self {
            Self::Lost => total.lost,
            Self::Cut => total.cut,
            Self::Retried => total.retried,
            Self::Held => total.held,
            Self::Moved => total.moved,
            Self::Unfinished => {
                let unseen = RestartOutcome::Unseen.as_str();
                let restarts = report.restarts.iter();
                let open = restarts.filter(|one| one.ready.is_none() && one.outcome != unseen);
                open.count() as u64
            }
            Self::Empty => u64::from(report.restarts.is_empty()),
        }
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Cut => "cut",
            Self::Retried => "retried",
            Self::Held => "held",
            Self::Moved => "moved",
            Self::Unfinished => "unfinished",
            Self::Empty => "empty",
        })
    }
}

/// Messages about forbidden things that have happened; empty if there are none.
pub fn broken_conditions(report: &RestartReport, wanted: &[FailOn]) -> Vec<String> {
    let found = wanted.iter().map(|one| (one, one.occurrences(report)));
    found
        .filter(|(_, times)| *times > 0)
        .map(|(one, times)| format!("{one}: {times}"))
        .collect()
}
