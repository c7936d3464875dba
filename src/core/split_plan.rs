//! A plan that moves the weights of a split in steps, and goes back by itself.
//!
//! [`SplitPlan`] decides: when the next step is due, whether a [`condition`] holds by the [`figures`] that were seen,
//! and whether the pool whose share grows is there at all. Time and figures are arguments; the caller moves the
//! weights.
//!
//! A condition is judged over a sliding window of [`WINDOW`]. Where too few requests came in it, the window reaches
//! further back, until there are enough or the plan's memory ends.

pub mod condition;
pub mod figures;
mod shares;

use std::collections::VecDeque;

use super::Time;
use condition::{AbortCondition, SideFigures};
use figures::{LatencyBounds, PoolFigures};

pub use shares::{SHARE_WHOLE, share_of};

/// The time over which conditions are judged, if enough requests came in it.
pub const WINDOW: Time = Time::from_secs(10);

/// Between two looks at the figures.
pub const LOOK: Time = Time::from_millis(250);

/// Without an eligible backend for so long, the pool whose share grows is unavailable: longer than a restart takes.
pub const GRACE: Time = Time::from_secs(5);

/// Fewer requests than this are not judged, by default.
pub const DEFAULT_MIN_REQUESTS: u64 = 20;

/// The number of steps, by default.
pub const DEFAULT_STEPS: u32 = 10;

/// The most steps.
pub const MOST_STEPS: u32 = 100;

/// The shortest step.
pub const SHORTEST_STEP: Time = Time::from_secs(1);

/// The longest plan.
pub const LONGEST_PLAN: Time = Time::from_secs(7 * 86_400);

/// Between two samples that are kept, and how many are.
const SAMPLE: Time = Time::from_millis(500);
const MOST_SAMPLES: usize = 256;

/// What is planned. Pools are known by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSpec {
    /// The pool whose share moves.
    pub target: usize,
    /// The weights at the beginning.
    pub before: Vec<u32>,
    /// Weights by which the others share what the target leaves, where they have none at the beginning.
    pub otherwise: Vec<u32>,
    /// The target's share at the end, of [`SHARE_WHOLE`].
    pub to: u32,
    /// The time for all of it.
    pub length: Time,
    /// How many steps it has; the last one is the target share, and is watched as long as each of the others.
    pub steps: u32,
    /// It goes back if one of them holds.
    pub conditions: Vec<AbortCondition>,
    /// Fewer requests are not judged.
    pub min_requests: u64,
}

/// Why a plan can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanError {
    /// The target has this share already.
    NothingToDo,
    /// Steps would be shorter than [`SHORTEST_STEP`].
    TooFast,
    /// It would take longer than [`LONGEST_PLAN`].
    TooSlow,
    /// None, or more than [`MOST_STEPS`].
    BadSteps,
}

impl PlanSpec {
    /// Looks for what makes no plan.
    ///
    /// # Errors
    /// The first of it.
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

    /// How long each step takes.
    pub fn step_length(&self) -> Time {
        self.length / self.steps.max(1)
    }

    /// How many steps there are if each takes about so long.
    pub fn steps_of(length: Time, every: Time) -> u32 {
        let every = every.as_millis().max(1);
        let steps = (length.as_millis() + every / 2) / every;
        u32::try_from(steps.max(1)).unwrap_or(u32::MAX)
    }

    /// Whether the target's share grows. If not, the others' does, and they are what is watched.
    pub fn grows(&self) -> bool {
        f64::from(self.to) > share_of(&self.before, self.target)
    }

    /// Whether this pool is among those whose share grows.
    pub fn is_watched(&self, pool: usize) -> bool {
        (pool == self.target) == self.grows()
    }

    /// The target's share in a step (from 1), of [`SHARE_WHOLE`].
    pub fn share(&self, step: u32) -> u32 {
        let from = share_of(&self.before, self.target);
        let part = f64::from(step.min(self.steps)) / f64::from(self.steps.max(1));
        let share = from + (f64::from(self.to) - from) * part;
        match step >= self.steps {
            true => self.to,
            false => share.round() as u32,
        }
    }

    /// The weights in a step.
    pub fn weights(&self, step: u32) -> Vec<u32> {
        shares::weights(&self.before, &self.otherwise, self.target, self.share(step))
    }
}

/// One pool at the time of a look.
#[derive(Debug, Clone, Default)]
pub struct PoolObservation {
    /// All that was counted since the plan, or its part in this process, began.
    pub figures: PoolFigures,
    /// Requests that wait for their answer: at least so old, and how many.
    pub open: Vec<(Time, u64)>,
    /// Whether a request would be sent to a backend.
    pub is_available: bool,
}

/// What to do after [`SplitPlan::judge_figures`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanMove {
    /// Nothing.
    Stay,
    /// These weights are to be in force from now on.
    Step(Vec<u32>),
    /// All is to be as it was before, for this reason.
    Back(String),
    /// The plan is done: its last weights stay.
    Reached,
}

/// What was seen in one step.
#[derive(Debug, Clone)]
pub struct StepRecord {
    /// Its number, from 1.
    pub step: u32,
    /// The target's share, of [`SHARE_WHOLE`].
    pub share: u32,
    /// When it began.
    pub began: Time,
    /// What was counted in it so far, by pool.
    pub figures: Vec<PoolFigures>,
    /// The latest look at it.
    pub seen: Time,
    /// What had been counted when it began.
    base: Vec<PoolFigures>,
}

/// A plan under way.
#[derive(Debug)]
pub struct SplitPlan {
    spec: PlanSpec,
    bounds: LatencyBounds,
    /// When the step under way should end.
    due: Time,
    looked: Time,
    unavailable_since: Option<Time>,
    /// The newest last: what had been counted then, for the watched side and the other.
    samples: VecDeque<(Time, [PoolFigures; 2])>,
    records: Vec<StepRecord>,
    is_over: bool,
}

impl SplitPlan {
    /// Begins a plan, or goes on with it at a later step. The weights of [`PlanSpec::weights`] are to be put in force.
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

    /// What is planned.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
    }

    /// By which latencies are counted.
    pub fn bounds(&self) -> &LatencyBounds {
        &self.bounds
    }

    /// The step under way, from 1.
    pub fn step(&self) -> u32 {
        self.records.last().map_or(1, |record| record.step)
    }

    /// The steps so far, the one under way last.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// When all of it will be done, if nothing comes between.
    pub fn ends(&self) -> Time {
        let left = self.spec.steps.saturating_sub(self.step());
        self.due + self.spec.step_length() * left
    }

    /// When it has to be looked at again; `None`: never.
    pub fn next_look(&self) -> Option<Time> {
        let next = self.looked + LOOK;
        let due = Some(self.due).filter(|due| *due > self.looked);
        (!self.is_over).then(|| due.map_or(next, |due| due.min(next)))
    }

    /// Whether it has ended, in whatever way.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// It ends here, with the weights that are in force.
    pub fn stop(&mut self) {
        self.is_over = true;
    }

    fn enter(&mut self, step: u32, now: Time, base: Vec<PoolFigures>) {
        // After a late look, the next step comes sooner, but not before this one was observed for half its length.
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

    /// Judges the figures that were counted until `now`.
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

    /// Where the window of a side begins: [`WINDOW`] ago, or as far back as it takes to have enough requests.
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

    /// A pool that gets requests in this step, and more than before, has had no backend for them for too long.
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
