//! A plan that moves the weights of a split in steps, and restores them if something goes wrong.
//!
//! [`SplitPlan`] decides when the next step is due, whether a [`condition`] holds for the [`figures`] so far, and
//! whether the pool whose share grows is available. Time and figures are arguments; the caller moves the weights.
//!
//! A condition is judged over a sliding window of [`WINDOW`]. If too few requests came in it, the window reaches
//! further back, until there are enough or no older samples are kept.

pub mod condition;
pub mod figures;
mod shares;

use std::collections::VecDeque;

use super::Time;
use condition::{AbortCondition, SideFigures};
use figures::{LatencyBounds, PoolFigures};

pub use shares::{SHARE_WHOLE, share_of};

/// Time over which conditions are judged, if enough requests came in it.
pub const WINDOW: Time = Time::from_secs(10);

/// Interval at which the figures are checked.
pub const LOOK: Time = Time::from_millis(250);

/// Time without an eligible backend after which the pool whose share grows is unavailable: longer than a restart
/// takes.
pub const GRACE: Time = Time::from_secs(5);

/// Default of the fewest requests by which a condition is judged.
pub const DEFAULT_MIN_REQUESTS: u64 = 20;

/// Default number of steps.
pub const DEFAULT_STEPS: u32 = 10;

/// Most steps.
pub const MOST_STEPS: u32 = 100;

/// Shortest step.
pub const SHORTEST_STEP: Time = Time::from_secs(1);

/// Longest plan.
pub const LONGEST_PLAN: Time = Time::from_secs(7 * 86_400);

/// Interval of the samples that are kept, and most samples.
const SAMPLE: Time = Time::from_millis(500);
const MOST_SAMPLES: usize = 256;

/// Settings of a plan. Pools are identified by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSpec {
    /// Pool whose share moves.
    pub target: usize,
    /// Weights at the beginning.
    pub before: Vec<u32>,
    /// Weights by which the other pools share the rest if they have none at the beginning.
    pub otherwise: Vec<u32>,
    /// Share of the target at the end, out of [`SHARE_WHOLE`].
    pub to: u32,
    /// Duration of the whole plan.
    pub length: Time,
    /// Number of steps; the last one is the target share, and is watched as long as each of the others.
    pub steps: u32,
    /// Conditions: if one of them holds, the old weights are restored.
    pub conditions: Vec<AbortCondition>,
    /// Fewest requests by which a condition is judged.
    pub min_requests: u64,
}

/// Why a plan is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanError {
    /// The target has this share already.
    NothingToDo,
    /// Steps would be shorter than [`SHORTEST_STEP`].
    TooFast,
    /// The plan would take longer than [`LONGEST_PLAN`].
    TooSlow,
    /// No steps, or more than [`MOST_STEPS`].
    BadSteps,
}

impl PlanSpec {
    /// Checks the plan.
    ///
    /// # Errors
    /// Returns the first reason why the plan is not valid.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.steps == 0 || self.steps > MOST_STEPS {
            return Err(PlanError::BadSteps);
        }
        if self.length > LONGEST_PLAN {
            return Err(PlanError::TooSlow);
        }
        if self.step_length() < SHORTEST_STEP {
            return Err(PlanError::TooFast);
        }
        if (share_of(&self.before, self.target) - f64::from(self.to)).abs() < 0.5 {
            return Err(PlanError::NothingToDo);
        }
        Ok(())
    }

    /// Returns the length of each step.
    pub fn step_length(&self) -> Time {
        self.length / self.steps.max(1)
    }

    /// Returns the number of steps if each takes about `every`.
    pub fn steps_of(length: Time, every: Time) -> u32 {
        let every = every.as_millis().max(1);
        let steps = (length.as_millis() + every / 2) / every;
        u32::try_from(steps.max(1)).unwrap_or(u32::MAX)
    }

    /// Whether the target's share grows. If not, the shares of the others grow, and they are watched.
    pub fn grows(&self) -> bool {
        f64::from(self.to) > share_of(&self.before, self.target)
    }

    /// Whether this pool is among those whose share grows.
    pub fn is_watched(&self, pool: usize) -> bool {
        (pool == self.target) == self.grows()
    }

    /// Returns the target's share in a step (from 1), out of [`SHARE_WHOLE`].
    pub fn share(&self, step: u32) -> u32 {
        let from = share_of(&self.before, self.target);
        let part = f64::from(step.min(self.steps)) / f64::from(self.steps.max(1));
        let share = from + (f64::from(self.to) - from) * part;
        match step >= self.steps {
            true => self.to,
            false => share.round() as u32,
        }
    }

    /// Returns the weights in a step.
    pub fn weights(&self, step: u32) -> Vec<u32> {
        shares::weights(&self.before, &self.otherwise, self.target, self.share(step))
    }
}

/// One pool at the time of a check.
#[derive(Debug, Clone, Default)]
pub struct PoolObservation {
    /// All counts since the plan, or its part in this process, began.
    pub figures: PoolFigures,
    /// Requests that wait for their response: minimum age, and number.
    pub open: Vec<(Time, u64)>,
    /// Whether a request would be sent to a backend.
    pub is_available: bool,
}

/// What to do after [`SplitPlan::judge_figures`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanMove {
    /// Nothing.
    Stay,
    /// Apply these weights.
    Step(Vec<u32>),
    /// Restore the old weights, for this reason.
    Back(String),
    /// Keep the last weights: the plan is complete.
    Reached,
}

/// Measurements of one step.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// Number of the step, from 1.
    pub step: u32,
    /// Share of the target, out of [`SHARE_WHOLE`].
    pub share: u32,
    /// Time at which it began.
    pub began: Time,
    /// Counts of this step so far, by pool.
    pub figures: Vec<PoolFigures>,
    /// Time of the latest check.
    pub seen: Time,
    /// Counts at its beginning.
    base: Vec<PoolFigures>,
}

/// A plan in progress.
#[derive(Debug)]
pub struct SplitPlan {
    spec: PlanSpec,
    bounds: LatencyBounds,
    /// Time at which the present step should end.
    due: Time,
    looked: Time,
    unavailable_since: Option<Time>,
    /// From the oldest on: the counts at a time, for the watched side and the other.
    samples: VecDeque<(Time, [PoolFigures; 2])>,
    records: Vec<StepRecord>,
    is_over: bool,
}

impl SplitPlan {
    /// Begins a plan, or continues it at a later step. The caller applies the weights of [`PlanSpec::weights`].
    pub fn begin(spec: PlanSpec, step: u32, now: Time) -> Self {
        let bounds = LatencyBounds::new(spec.conditions.iter().filter_map(AbortCondition::latency));
        let step = step.clamp(1, spec.steps.max(1));
        let none = PoolFigures::new(&bounds);
        let mut plan = Self {
            due: now,
            looked: now,
            unavailable_since: None,
            samples: VecDeque::from([(now, [none.clone(), none.clone()])]),
            records: Vec::new(),
            is_over: false,
            bounds,
            spec,
        };
        plan.enter(step, now, vec![none; plan.spec.before.len()]);
        plan
    }

    /// Returns the settings.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
    }

    /// Returns the bounds by which latencies are counted.
    pub fn bounds(&self) -> &LatencyBounds {
        &self.bounds
    }

    /// Returns the present step, from 1.
    pub fn step(&self) -> u32 {
        self.records.last().map_or(1, |record| record.step)
    }

    /// Returns the steps so far, including the present one.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// Returns when the plan will be complete, if nothing happens before.
    pub fn ends(&self) -> Time {
        let left = self.spec.steps.saturating_sub(self.step());
        self.due + self.spec.step_length() * left
    }

    /// Returns when to check the plan again; `None`: never.
    pub fn next_look(&self) -> Option<Time> {
        let next = self.looked + LOOK;
        let due = Some(self.due).filter(|due| *due > self.looked);
        (!self.is_over).then(|| due.map_or(next, |due| due.min(next)))
    }

    /// Whether the plan has ended, in whatever way.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Ends the plan, with the weights in force.
    pub fn stop(&mut self) {
        self.is_over = true;
    }

    fn enter(&mut self, step: u32, now: Time, base: Vec<PoolFigures>) {
        // After a late check, the next step comes sooner, but not before this one was observed for half its length.
        let length = self.spec.step_length();
        self.due = (self.due + length).max(now + length / 2);
        self.records.push(StepRecord {
            step,
            share: self.spec.share(step),
            began: now,
            figures: vec![PoolFigures::new(&self.bounds); base.len()],
            seen: now,
            base,
        });
    }

    /// Judges the counts up to `now`.
    pub fn judge_figures(&mut self, now: Time, pools: &[PoolObservation]) -> PlanMove {
        if self.is_over {
            return PlanMove::Stay;
        }
        self.looked = now;
        if let Some(record) = self.records.last_mut() {
            record.seen = now;
            for (place, pool) in pools.iter().enumerate() {
                record.figures[place] = pool.figures.since(&record.base[place]);
            }
        }
        if let Some(reason) = self.reason_to_go_back(now, pools) {
            self.is_over = true;
            return PlanMove::Back(reason);
        }
        // While the pool is unavailable, its share doesn't grow.
        if now < self.due || self.unavailable_since.is_some() {
            return PlanMove::Stay;
        }
        let step = self.step();
        if step >= self.spec.steps {
            self.is_over = true;
            return PlanMove::Reached;
        }
        let base = pools.iter().map(|pool| pool.figures.clone()).collect();
        self.enter(step + 1, now, base);
        PlanMove::Step(self.spec.weights(step + 1))
    }

    fn reason_to_go_back(&mut self, now: Time, pools: &[PoolObservation]) -> Option<String> {
        if let Some(reason) = self.unavailability(now, pools) {
            return Some(reason);
        }
        let mut sides = [
            SideFigures::new(&self.bounds),
            SideFigures::new(&self.bounds),
        ];
        for (place, pool) in pools.iter().enumerate() {
            let side = &mut sides[usize::from(!self.spec.is_watched(place))];
            side.figures.add(&pool.figures);
            side.open.extend(&pool.open);
        }
        let totals = [sides[0].figures.clone(), sides[1].figures.clone()];
        for (index, side) in sides.iter_mut().enumerate() {
            let earlier = self.window_start(now, index, &totals[index]);
            side.figures = totals[index].since(&earlier.1);
            side.over = now.saturating_sub(earlier.0);
        }
        let [watched, others] = &sides;
        let mut conditions = self.spec.conditions.iter();
        let reason = conditions
            .find_map(|one| one.holds(watched, others, &self.bounds, self.spec.min_requests));
        if (self.samples.back()).is_none_or(|(at, _)| now.saturating_sub(*at) >= SAMPLE) {
            self.samples.push_back((now, totals));
            if self.samples.len() > MOST_SAMPLES {
                self.samples.pop_front();
            }
        }
        reason
    }

    /// Returns the begin of a side's window: [`WINDOW`] ago, or as far back as necessary to have enough requests.
    fn window_start(&self, now: Time, side: usize, total: &PoolFigures) -> (Time, PoolFigures) {
        let mut samples = self.samples.iter().rev();
        let fits = |(at, sides): &&(Time, [PoolFigures; 2])| {
            let requests = total.requests.saturating_sub(sides[side].requests);
            now.saturating_sub(*at) >= WINDOW && requests >= self.spec.min_requests
        };
        let found = samples.find(fits).or(self.samples.front());
        let none = || (now, PoolFigures::new(&self.bounds));
        found.map_or_else(none, |(at, sides)| (*at, sides[side].clone()))
    }

    /// Returns a reason if a pool that gets requests in this step, and more than before, has had no backend for them
    /// for too long.
    fn unavailability(&mut self, now: Time, pools: &[PoolObservation]) -> Option<String> {
        let weights = self.spec.weights(self.step());
        let is_away = |(place, pool): (usize, &PoolObservation)| {
            let gets_some = weights.get(place).is_some_and(|weight| *weight > 0);
            self.spec.is_watched(place) && gets_some && !pool.is_available
        };
        if !pools.iter().enumerate().any(is_away) {
            self.unavailable_since = None;
            return None;
        }
        let since = *self.unavailable_since.get_or_insert(now);
        let away = now.saturating_sub(since);
        (away >= GRACE).then(|| {
            format!(
                "unavailable: no backend was eligible for {:.1} s",
                away.as_secs_f64()
            )
        })
    }
}

#[cfg(test)]
mod tests;
