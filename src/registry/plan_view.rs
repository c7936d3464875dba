//! Views of split plans: the JSON of the admin API and of `split --json`, in both directions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/routes/{route}/split/plan`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The pool whose share moves.
    pub pool: String,
    /// Its share at the end, in percent, with at most two decimals.
    pub to: f64,
    /// Duration of the whole plan (`"10m"`).
    #[serde(rename = "in")]
    pub length: String,
    /// Number of steps. Default: 10, or fewer, so that none is shorter than a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Instead of `steps`: approximate length of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Conditions, such as `5xx>1%`: as soon as one holds, the old weights are restored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abort_on: Vec<String>,
    /// Fewest requests by which a condition is judged. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
}

/// State of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanState {
    /// The plan moves weights.
    Running,
    /// The last share is in force, and was watched for as long as the others.
    Reached,
    /// The weights from before the plan are in force again.
    WentBack,
    /// An operator has ended the plan; the weights of its last step are in force.
    Stopped,
    /// The split in the configuration has changed.
    Dropped,
}

impl PlanState {
    /// Returns the name in the API.
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

/// A plan and its report. Times are in RFC 3339, UTC; shares are percentages.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanView {
    /// The route's name.
    pub route: String,
    /// The pool whose share moves.
    pub pool: String,
    /// State.
    pub state: PlanState,
    /// Share before the plan.
    pub from: f64,
    /// Share at the end of the plan.
    pub to: f64,
    /// Step that it has reached, from 1.
    pub step: u32,
    /// Number of steps.
    pub steps: u32,
    /// Time at which it began.
    pub began: String,
    /// Time at which it will end, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// Time at which it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Why it ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Conditions: as soon as one holds, the old weights are restored.
    pub abort_on: Vec<String>,
    /// Fewest requests by which a condition is judged.
    pub min_requests: u64,
    /// Weights before the plan, by pool.
    pub before: BTreeMap<String, u32>,
    /// Measurements of each step. A step that a restart of lameduck has interrupted appears twice.
    pub records: Vec<PlanStepView>,
    /// Why a restart of the proxy would lose the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Measurements of one step.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanStepView {
    /// Number of the step, from 1.
    pub step: u32,
    /// Share of the pool in this step.
    pub share: f64,
    /// Time at which it began.
    pub began: String,
    /// Its length up to now, in milliseconds.
    pub took_ms: u64,
    /// Measurements of each pool of the split.
    pub pools: Vec<PlanPoolView>,
    /// A remark about the figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Measurements of one pool in one step.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanPoolView {
    /// The pool.
    pub pool: String,
    /// Number of requests that were answered, or whose clients have gone.
    pub requests: u64,
    /// Number of those that were answered with 400 to 499.
    pub status_4xx: u64,
    /// Number of those that were answered with 500 to 599.
    pub status_5xx: u64,
    /// Number of attempts without a complete response.
    pub failed: u64,
    /// Time within which the responses to half of the requests began; absent: there were no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Time within which the responses to 99 of 100 requests began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}
