//! A plan: parsed from a request, and converted to views.

use std::sync::Arc;

use super::super::command::{listed, with_nearest};
use super::super::handle::RegistryError;
use super::super::plan_view::{PlanPoolView, PlanRequest, PlanState, PlanStepView, PlanView};
use super::super::request::parse_duration;
use super::super::splits::{MovedSplit, PoolWeights};
use crate::core::Time;
use crate::core::split_plan::condition::AbortCondition;
use crate::core::split_plan::figures::{LatencyBounds, PoolFigures};
use crate::core::split_plan::{
    DEFAULT_MIN_REQUESTS, DEFAULT_STEPS, LONGEST_PLAN, MOST_STEPS, PlanError, PlanSpec,
    SHARE_WHOLE, SHORTEST_STEP, SplitPlan, StepRecord, share_of,
};
use crate::metrics::SplitMeter;
use crate::rt::clock;

/// Most conditions of a plan.
const MOST_CONDITIONS: usize = 16;

/// Largest `min_requests`.
const MOST_MIN_REQUESTS: u64 = 1_000_000;

/// A plan in progress, or the report of an ended one.
#[derive(Debug)]
pub(in crate::registry) struct RunningPlan {
    pub(super) route: String,
    pub(super) request: PlanRequest,
    pub(super) plan: SplitPlan,
    /// Pools of the split, in the plan's order.
    pub(super) pools: Vec<String>,
    pub(super) meter: Arc<SplitMeter>,
    /// Weights of the split in the configuration.
    pub(super) configured: PoolWeights,
    pub(super) before: PoolWeights,
    /// The moved weights from before the plan, if they weren't the configuration's.
    pub(super) moved_before: Option<MovedSplit>,
    pub(super) began: Time,
    /// Steps from previous runs of the proxy.
    pub(super) earlier: Vec<PlanStepView>,
    pub(super) state: PlanState,
    pub(super) ended: Option<Time>,
    pub(super) reason: Option<String>,
}

fn invalid<T>(text: impl Into<String>) -> Result<T, RegistryError> {
    Err(RegistryError::Invalid(text.into()))
}

/// Returns a time on the wall clock, as text.
pub(super) fn at(time: Time) -> String {
    clock::rfc3339(clock::wall(time))
}

/// Converts a share to percent.
pub(super) fn percent(share: f64) -> f64 {
    (share * 10_000.0 / f64::from(SHARE_WHOLE)).round() / 100.0
}

/// Returns the plan for a request, with these pools and their weights.
pub(super) fn planned(
    request: &PlanRequest,
    route: &str,
    before: &PoolWeights,
    configured: &PoolWeights,
) -> Result<PlanSpec, RegistryError> {
    let names = || before.keys().map(String::as_str);
    let Some(target) = names().position(|name| name == request.pool) else {
        return invalid(format!(
            "the split of route `{route}` has no pool `{}`; its pools: {}",
            request.pool,
            with_nearest(&request.pool, names(), listed(names()))
        ));
    };
    let share = request.to * f64::from(SHARE_WHOLE) / 100.0;
    if !(0.0..=100.0).contains(&request.to) || (share - share.round()).abs() > 1e-6 {
        return invalid(format!(
            "`to` is {}: use a percentage from 0 to 100, with at most two decimals",
            request.to
        ));
    }
    let length = parse_duration(&request.length)?;
    let steps = match (request.steps, &request.every) {
        (Some(_), Some(_)) => {
            return invalid("`steps` and `every` say the same in two ways: give one of them");
        }
        (Some(steps), None) => steps,
        (None, Some(every)) => {
            let every = parse_duration(every)?;
            if every < SHORTEST_STEP || every > length {
                return invalid(
                    "`every` is the time of one step: from 1s to the time for all of them (`in`)",
                );
            }
            PlanSpec::steps_of(length, every)
        }
        // As many as the length allows.
        (None, None) => DEFAULT_STEPS
            .min(u32::try_from(length.as_secs()).unwrap_or(u32::MAX))
            .max(1),
    };
    if request.abort_on.len() > MOST_CONDITIONS {
        return invalid(format!(
            "a plan has at most {MOST_CONDITIONS} conditions (`abort_on`)"
        ));
    }
    let conditions = request
        .abort_on
        .iter()
        .map(|text| AbortCondition::parse(text));
    let conditions = conditions.collect::<Result<Vec<_>, _>>();
    let min_requests = request.min_requests.unwrap_or(DEFAULT_MIN_REQUESTS);
    if !(1..=MOST_MIN_REQUESTS).contains(&min_requests) {
        return invalid(format!(
            "`min_requests` is out of range: use 1 to {MOST_MIN_REQUESTS}"
        ));
    }
    let weights = before.values().copied().collect();
    let spec = PlanSpec {
        target,
        otherwise: configured.values().copied().collect(),
        to: share.round() as u32,
        length,
        steps,
        conditions: conditions.map_err(|error| RegistryError::Invalid(error.to_string()))?,
        min_requests,
        before: weights,
    };
    match spec.check() {
        Ok(()) => Ok(spec),
        Err(PlanError::NothingToDo) => invalid(format!(
            "`{}` has {} % already: there is nothing to move",
            request.pool, request.to
        )),
        Err(PlanError::BadSteps) => invalid(format!(
            "a plan of {steps} steps is none: use 1 to {MOST_STEPS} (`steps`, or a longer `every`)"
        )),
        Err(PlanError::TooFast) => invalid(format!(
            "{steps} steps in {} are shorter than {} each: give it more time (`in`) or fewer steps (`steps`)",
            humantime::format_duration(length),
            humantime::format_duration(SHORTEST_STEP)
        )),
        Err(PlanError::TooSlow) => invalid(format!(
            "a plan takes at most {} (`in`)",
            humantime::format_duration(LONGEST_PLAN)
        )),
    }
}

impl RunningPlan {
    /// Begins a plan at this step. `before`: the weights, by name, in the plan's order.
    pub(super) fn begin(
        route: &str,
        request: PlanRequest,
        spec: PlanSpec,
        step: u32,
        before: PoolWeights,
        configured: PoolWeights,
        began: Time,
    ) -> Self {
        let plan = SplitPlan::begin(spec, step, clock::now());
        let pools: Vec<String> = before.keys().cloned().collect();
        let names = pools.iter().map(String::as_str);
        Self {
            route: route.to_owned(),
            meter: Arc::new(SplitMeter::new(plan.bounds().clone(), names)),
            request,
            plan,
            pools,
            configured,
            before,
            moved_before: None,
            began,
            earlier: Vec::new(),
            state: PlanState::Running,
            ended: None,
            reason: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == PlanState::Running
    }

    /// Returns weights in the plan's order by pool.
    pub(super) fn named(&self, weights: &[u32]) -> PoolWeights {
        let weights = weights.iter().copied();
        self.pools.iter().cloned().zip(weights).collect()
    }

    /// Returns a summary for `status`, logs and events.
    pub(super) fn summary(&self) -> String {
        let spec = self.plan.spec();
        format!(
            "route {}: {} from {} % to {} % in {}, {} steps",
            self.route,
            self.request.pool,
            percent(share_of(&spec.before, spec.target)),
            percent(spec.to.into()),
            humantime::format_duration(spec.length),
            spec.steps
        )
    }

    pub(super) fn records(&self) -> Vec<PlanStepView> {
        let records = self.plan.records().iter();
        let mut views = self.earlier.clone();
        views.extend(records.map(|record| self.step_view(record)));
        views
    }

    fn step_view(&self, record: &StepRecord) -> PlanStepView {
        let spec = self.plan.spec();
        let pools = self.pools.iter().zip(&record.figures);
        let places = 0..record.figures.len();
        let watched: u64 = places
            .filter(|place| spec.is_watched(*place))
            .map(|place| record.figures[place].requests)
            .sum();
        let is_unjudged = watched < spec.min_requests && !spec.conditions.is_empty();
        PlanStepView {
            step: record.step,
            share: percent(record.share.into()),
            began: at(record.began),
            took_ms: record.seen.saturating_sub(record.began).as_millis() as u64,
            pools: pools
                .map(|(name, figures)| pool_view(name, figures, self.plan.bounds()))
                .collect(),
            note: is_unjudged.then(|| {
                format!(
                    "fewer than {} requests to judge by in this step alone",
                    spec.min_requests
                )
            }),
        }
    }

    /// Returns the plan as the API shows it.
    pub(in crate::registry) fn view(&self) -> PlanView {
        let spec = self.plan.spec();
        PlanView {
            route: self.route.clone(),
            pool: self.request.pool.clone(),
            state: self.state,
            from: percent(share_of(&spec.before, spec.target)),
            to: percent(spec.to.into()),
            step: self.plan.step(),
            steps: spec.steps,
            began: at(self.began),
            ends: self.is_running().then(|| at(self.plan.ends())),
            ended: self.ended.map(at),
            reason: self.reason.clone(),
            abort_on: spec.conditions.iter().map(ToString::to_string).collect(),
            min_requests: spec.min_requests,
            before: self.before.clone(),
            records: self.records(),
            warning: None,
        }
    }
}

fn pool_view(name: &str, figures: &PoolFigures, bounds: &LatencyBounds) -> PlanPoolView {
    let quantile = |permille| {
        let latency = figures.quantile(permille, bounds)?;
        Some((latency.as_secs_f64() * 1e6).round() / 1e3)
    };
    PlanPoolView {
        pool: name.to_owned(),
        requests: figures.requests,
        status_4xx: figures.client_errors,
        status_5xx: figures.server_errors,
        failed: figures.failed,
        p50_ms: quantile(500),
        p99_ms: quantile(990),
    }
}
