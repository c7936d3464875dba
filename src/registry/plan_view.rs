//! Plans of splits as people see them: the JSON of the admin API and of `split --json`, both ways.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/routes/{route}/split/plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The pool whose share moves.
    pub pool: String,
    /// Its share at the end, in percent, with two decimals at most.
    pub to: f64,
    /// The time for all of it (`"10m"`).
    #[serde(rename = "in")]
    pub length: String,
    /// How many steps it has. Default: 10, or fewer, so that none is shorter than a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// In place of `steps`: about how long each is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// It goes back as soon as one of these holds, such as `5xx>1%`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_on: Vec<String>,
    /// Fewer requests are not judged; 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
}

/// How a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// It moves weights.
    Running,
    /// Its last share is in force, and was watched as long as the others.
    Reached,
    /// The weights from before it are in force again.
    WentBack,
    /// An operator has ended it; the weights of its last step are in force.
    Stopped,
    /// The configuration says something else of the split.
    Dropped,
}

impl PlanState {
    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Reached => "reached",
            Self::WentBack => "went_back",
            Self::Stopped => "stopped",
            Self::Dropped => "dropped",
        }
    }
}

/// A plan, and its report. Times are RFC 3339, UTC; shares are percentages.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanView {
    /// The route's name.
    pub route: String,
    /// The pool whose share moves.
    pub pool: String,
    /// How it is.
    pub state: PlanState,
    /// The share before it.
    pub from: f64,
    /// The share at its end.
    pub to: f64,
    /// The step that it has come to, from 1…
    pub step: u32,
    /// …of so many.
    pub steps: u32,
    /// When it began.
    pub began: String,
    /// When it will be done, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why it ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It goes back as soon as one of these holds.
    pub abort_on: Vec<String>,
    /// Fewer requests are not judged.
    pub min_requests: u64,
    /// The weights before it, by pool.
    pub before: BTreeMap<String, u32>,
    /// What was seen in each step; a step that a restart of lameduck has interrupted stands there twice.
    pub records: Vec<PlanStepView>,
    /// Why a restart of the proxy would forget it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What was seen in one step.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanStepView {
    /// Its number, from 1.
    pub step: u32,
    /// The pool's share in it.
    pub share: f64,
    /// When it began.
    pub began: String,
    /// How long it was, until now.
    pub took_ms: u64,
    /// Each pool of the split.
    pub pools: Vec<PlanPoolView>,
    /// What is to be said of its figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was seen of one pool in one step.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanPoolView {
    /// The pool.
    pub pool: String,
    /// Requests that were answered, or whose clients have gone.
    pub requests: u64,
    /// Of those, answered with 400 to 499.
    pub status_4xx: u64,
    /// Of those, answered with 500 to 599.
    pub status_5xx: u64,
    /// Attempts that brought no whole answer.
    pub failed: u64,
    /// Half of the requests had their answer begun within this time; absent: there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 of 100 requests had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}
