//! Outlier detection: finds backends that do so much worse than the others that they are better ejected for a while.
//!
//! There are three reasons to eject a backend: consecutive errors, the error rate, and responses that begin much
//! later than those of others. Each is a comparison: if all backends fail alike, the cause is common, and ejecting
//! some would only load the rest. Whatever the reason, no more than a share of the pool is ejected, together with
//! backends that are drained, down or starting, and never the last one that takes requests.
//!
//! An ejection ends by itself. The next one lasts longer.

mod ejection;
mod figures;

use std::collections::BTreeMap;

pub use ejection::{BackendStanding, Ejection, OutlierChange, OutlierReason, ReturnCause};
pub use figures::{AttemptError, LATENCY_STEPS, OutcomeCounts, latency_step};

use super::Time;

/// Number of slices of a window; the oldest is dropped when a new one begins.
const SLICES: usize = 5;

/// Time after which consecutive errors are acted on: a probe finds a backend that has died or stops sooner than that,
/// and then it is no outlier.
const PROBE_FIRST: Time = Time::from_millis(250);

/// Least difference from the pool's latency, in addition to the factor.
const LEAST_LAG: Time = Time::from_millis(20);

/// Fewest backends among which latencies are compared: of two, it can't be decided which one is unusual.
const LEAST_COMPARED: usize = 3;

/// Settings of outlier detection: what makes an outlier, and how long it is ejected.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierPolicy {
    /// Number of consecutive errors; 0: not a reason.
    pub consecutive_errors: u32,
    /// Share of errors among the requests of the window; 0: not a reason.
    pub error_rate: f64,
    /// Multiple of the pool's median latency; 0: not a reason.
    pub latency_factor: f64,
    /// Fewest requests in the window for the error rate or the latency to count.
    pub min_requests: u32,
    /// Length of the window for the error rate and the latency.
    pub window: Time,
    /// Largest share of the pool that may be ejected.
    pub max_ejected: f64,
    /// Length of the first ejection, by which each further one is longer.
    pub ejection: Time,
    /// Longest ejection.
    pub max_ejection: Time,
}

/// A backend's record apart from its figures: whether it is ejected, and how often it was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OutlierRecord {
    /// Present ejection.
    pub ejection: Option<Ejection>,
    /// Number of ejections, reduced by time without ejections.
    pub times: u32,
    /// End of the last ejection.
    pub returned: Time,
}

/// Internal state of one backend.
#[derive(Debug, Clone, Default)]
struct OutlierHistory {
    /// From the oldest on.
    slices: Vec<OutcomeCounts>,
    /// If suspected of consecutive errors: when it is judged, their number, and the last error.
    suspected: Option<(Time, u32, Option<AttemptError>)>,
    ejection: Option<Ejection>,
    /// Number of ejections, and the end of the last one.
    times: u32,
    returned: Time,
}

impl OutlierHistory {
    fn sum(&self) -> OutcomeCounts {
        let mut sum = OutcomeCounts::default();
        self.slices.iter().for_each(|slice| sum.add(slice));
        sum
    }

    fn forget_figures(&mut self) {
        self.slices.clear();
        self.suspected = None;
    }
}

/// Suspicion of a backend with consecutive errors.
enum OutlierSuspicion {
    /// A probe may still show the cause.
    Pending,
    /// No probe has shown a cause.
    Due {
        row: u32,
        last: Option<AttemptError>,
    },
}

/// A backend that takes requests, with its figures.
struct Compared<K> {
    key: K,
    sum: OutcomeCounts,
    median: Option<Time>,
}

/// Outlier detector of one pool. Ask [`OutlierDetector::next_deadline`] after each call.
#[derive(Debug, Clone)]
pub struct OutlierDetector<K> {
    policy: OutlierPolicy,
    backends: BTreeMap<K, OutlierHistory>,
    slice_ends: Time,
}

impl<K: Ord + Copy> OutlierDetector<K> {
    /// Creates a detector without any figures.
    pub fn new(policy: OutlierPolicy, now: Time) -> Self {
        Self {
            slice_ends: now.saturating_add(policy.window / SLICES as u32),
            policy,
            backends: BTreeMap::new(),
        }
    }

    /// Changes the policy. Present ejections keep their end.
    pub fn set_policy(&mut self, policy: OutlierPolicy, now: Time) {
        self.slice_ends = now.saturating_add(policy.window / SLICES as u32);
        self.policy = policy;
    }

    /// Returns the policy.
    pub fn policy(&self) -> &OutlierPolicy {
        &self.policy
    }

    /// Adds the counts of one backend since the last call. Counts of an ejected backend are from before its ejection,
    /// and are ignored.
    pub fn note(&mut self, key: K, counts: &OutcomeCounts) {
        let backend = self.backends.entry(key).or_default();
        if backend.ejection.is_some() {
            return;
        }
        if backend.slices.is_empty() {
            backend.slices.push(OutcomeCounts::default());
        }
        if let Some(newest) = backend.slices.last_mut() {
            newest.add(counts);
        }
    }

    /// Notes that a backend has reached the limit of consecutive errors. It is judged soon: until then, a probe may
    /// show the cause.
    pub fn suspect(&mut self, key: K, counts: &OutcomeCounts, now: Time) {
        let backend = self.backends.entry(key).or_default();
        let row = counts.streak.max(self.policy.consecutive_errors);
        if backend.ejection.is_none() && backend.suspected.is_none() {
            backend.suspected = Some((now.saturating_add(PROBE_FIRST), row, counts.last));
        }
    }

    /// Forgets a backend's figures and ejection: another process is behind it, it is drained or down, or it has left.
    /// Returns whether it was ejected.
    pub fn forget(&mut self, key: K) -> bool {
        let known = self.backends.remove(&key);
        known.is_some_and(|backend| backend.ejection.is_some())
    }

    /// Ends a backend's ejection early. Returns whether it was ejected.
    pub fn return_early(&mut self, key: K, now: Time) -> bool {
        let Some(backend) = self.backends.get_mut(&key) else {
            return false;
        };
        backend.returned = now;
        backend.ejection.take().is_some()
    }

    /// Returns a backend's ejection, if it is ejected.
    pub fn ejection(&self, key: K) -> Option<&Ejection> {
        self.backends.get(&key)?.ejection.as_ref()
    }

    /// Returns a backend's record for another detector; `None`: it was never ejected.
    pub fn record(&self, key: K) -> Option<OutlierRecord> {
        let backend = self.backends.get(&key)?;
        let is_known = backend.times > 0 || backend.ejection.is_some();
        is_known.then_some(OutlierRecord {
            ejection: backend.ejection,
            times: backend.times,
            returned: backend.returned,
        })
    }

    /// Restores a backend's record from another detector.
    pub fn restore(&mut self, key: K, record: OutlierRecord) {
        let backend = self.backends.entry(key).or_default();
        backend.ejection = record.ejection;
        backend.times = record.times;
        backend.returned = record.returned;
    }

    /// Returns the ejected backends.
    pub fn ejected(&self) -> impl Iterator<Item = K> + '_ {
        let ejected = self.backends.iter();
        ejected
            .filter(|(_, backend)| backend.ejection.is_some())
            .map(|(key, _)| *key)
    }

    /// Returns when to call [`OutlierDetector::judge`]: a few times in each window, and whenever a suspected backend
    /// is to be judged or an ejection ends.
    pub fn next_deadline(&self) -> Time {
        let backends = self.backends.values();
        let own = backends.filter_map(|backend| {
            let suspected = backend.suspected.map(|(at, ..)| at);
            suspected.or(backend.ejection.map(|ejection| ejection.until))
        });
        own.min().unwrap_or(Time::MAX).min(self.slice_ends)
    }

    /// Decides which backends are ejected, and whose ejection ends. `standings`: every backend that has a share of
    /// the requests; their counts must have been passed to [`OutlierDetector::note`] before.
    pub fn judge(
        &mut self,
        standings: &[(K, BackendStanding)],
        now: Time,
    ) -> Vec<OutlierChange<K>> {
        let mut changes = self.take_back(standings, now);
        let slice_is_over = now >= self.slice_ends;
        let compared = self.compared(standings);
        let mut cases = self.cases(&compared, slice_is_over, now);
        // The worst first: fewer may be ejected than there are cases.
        cases.sort_by(|a, b| b.1.total_cmp(&a.1));
        let room = self.room(standings, compared.len());
        for (key, _, reason) in cases.into_iter().take(room) {
            if let Some(ejection) = self.eject(key, reason, now) {
                changes.push(OutlierChange::Ejected(key, ejection));
            }
        }
        if slice_is_over {
            self.begin_slice(now);
        }
        changes
    }

    /// Ends all ejections if no other backend is left. Call this whenever a backend has gone away.
    pub fn return_if_none_left(
        &mut self,
        standings: &[(K, BackendStanding)],
        now: Time,
    ) -> Vec<OutlierChange<K>> {
        let eligible = standings
            .iter()
            .filter(|(_, standing)| *standing == BackendStanding::Eligible);
        let (out, rest): (Vec<K>, Vec<K>) = eligible
            .map(|(key, _)| *key)
            .partition(|key| self.ejection(*key).is_some());
        if !rest.is_empty() {
            return Vec::new();
        }
        let returned = out.into_iter().filter(|key| self.return_early(*key, now));
        returned
            .map(|key| OutlierChange::Returned(key, ReturnCause::LastReady))
            .collect()
    }

    /// Ends the ejections whose time is over.
    fn take_back(
        &mut self,
        standings: &[(K, BackendStanding)],
        now: Time,
    ) -> Vec<OutlierChange<K>> {
        let is_over = |backend: &OutlierHistory| {
            backend
                .ejection
                .is_some_and(|ejection| ejection.until <= now)
        };
        let due = self.backends.iter();
        let due: Vec<K> = due
            .filter(|(_, backend)| is_over(backend))
            .map(|(key, _)| *key)
            .collect();
        let returned = due.into_iter().filter(|key| self.return_early(*key, now));
        let mut changes: Vec<_> = returned
            .map(|key| OutlierChange::Returned(key, ReturnCause::Over))
            .collect();
        changes.extend(self.return_if_none_left(standings, now));
        changes
    }

    fn compared(&self, standings: &[(K, BackendStanding)]) -> Vec<Compared<K>> {
        let eligible = standings.iter().filter(|(key, standing)| {
            *standing == BackendStanding::Eligible && self.ejection(*key).is_none()
        });
        eligible
            .map(|(key, _)| {
                let sum = self.backends.get(key).map(OutlierHistory::sum);
                let sum = sum.unwrap_or_default();
                let median = (self.policy.latency_factor > 0.0
                    && sum.timed() >= self.policy.min_requests)
                    .then(|| sum.median_latency());
                Compared {
                    key: *key,
                    median: median.flatten(),
                    sum,
                }
            })
            .collect()
    }

    /// Returns the backends with a reason to be ejected, with a measure of how bad each is.
    fn cases(
        &mut self,
        compared: &[Compared<K>],
        slice_is_over: bool,
        now: Time,
    ) -> Vec<(K, f64, OutlierReason)> {
        let policy = self.policy.clone();
        let pool_median = pool_median(compared);
        let mut cases = Vec::new();
        for one in compared {
            let others = || compared.iter().filter(|other| other.key != one.key);
            let limit = policy.consecutive_errors;
            let row = match self.take_suspicion(one.key, now) {
                Some(OutlierSuspicion::Pending) => None,
                Some(OutlierSuspicion::Due { row, last }) => Some((row, last)),
                // It was not ejected before, for lack of room or of a better backend.
                None if slice_is_over && limit > 0 && one.sum.streak >= limit => {
                    Some((one.sum.streak, one.sum.last))
                }
                None => None,
            };
            // A backend with at least half the limit of consecutive errors is failing in the same way.
            let another_is_well = || others().any(|other| other.sum.streak * 2 < limit);
            if let Some((row, last)) = row
                && another_is_well()
            {
                let badness = 2.0 + f64::from(row);
                cases.push((one.key, badness, OutlierReason::Errors { row, last }));
                continue;
            }
            if !slice_is_over {
                continue;
            }
            let share = one.sum.error_share();
            let another_is_better = || others().any(|other| other.sum.error_share() * 2.0 <= share);
            if policy.error_rate > 0.0
                && share >= policy.error_rate
                && one.sum.total() >= policy.min_requests
                && another_is_better()
            {
                let reason = OutlierReason::ErrorRate {
                    failed: one.sum.failed,
                    of: one.sum.total(),
                    window: policy.window,
                    last: one.sum.last,
                };
                cases.push((one.key, 1.0 + share, reason));
                continue;
            }
            if let (Some(pool), Some(median)) = (pool_median, one.median)
                && median.as_secs_f64() >= pool.as_secs_f64() * policy.latency_factor
                && median >= pool.saturating_add(LEAST_LAG)
            {
                let lag = 1.0 - pool.as_secs_f64() / median.as_secs_f64();
                let reason = OutlierReason::Latency { median, pool };
                cases.push((one.key, lag, reason));
            }
        }
        cases
    }

    /// Returns a backend's suspicion, and whether the time to judge it has come: then the suspicion ends.
    fn take_suspicion(&mut self, key: K, now: Time) -> Option<OutlierSuspicion> {
        let backend = self.backends.get_mut(&key)?;
        match backend.suspected {
            Some((at, ..)) if at > now => Some(OutlierSuspicion::Pending),
            Some((_, row, last)) => {
                backend.suspected = None;
                Some(OutlierSuspicion::Due { row, last })
            }
            None => None,
        }
    }

    /// Returns how many more backends may be ejected, if `taking` backends take requests now.
    fn room(&self, standings: &[(K, BackendStanding)], taking: usize) -> usize {
        // 0.29 × 100 is slightly less than 29 in floating point.
        let share = self.policy.max_ejected * standings.len() as f64 + 1e-9;
        let allowed = (share as usize).max(1);
        let out = standings.len() - taking;
        allowed.saturating_sub(out).min(taking.saturating_sub(1))
    }

    fn eject(&mut self, key: K, reason: OutlierReason, now: Time) -> Option<Ejection> {
        let (first, longest) = (self.policy.ejection, self.policy.max_ejection);
        let backend = self.backends.get_mut(&key)?;
        // Each period of this length without an ejection makes up for one ejection.
        let calm = now.saturating_sub(backend.returned);
        let forgiven = calm.as_nanos() / first.as_nanos().max(1);
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        backend.times = backend.times.saturating_sub(forgiven).saturating_add(1);
        backend.forget_figures();
        let lasts = first
            .checked_mul(backend.times)
            .unwrap_or(longest)
            .min(longest);
        let ejection = Ejection {
            since: now,
            until: now.saturating_add(lasts),
            reason,
            times: backend.times,
        };
        backend.ejection = Some(ejection);
        Some(ejection)
    }

    fn begin_slice(&mut self, now: Time) {
        self.slice_ends = now.saturating_add(self.policy.window / SLICES as u32);
        for backend in self.backends.values_mut() {
            let streak = backend.slices.last().map_or(0, |newest| newest.streak);
            if backend.slices.len() >= SLICES {
                backend.slices.remove(0);
            }
            backend.slices.push(OutcomeCounts {
                streak,
                ..OutcomeCounts::default()
            });
        }
    }
}

/// Returns the median of the backends' median latencies; `None`: there are too few to compare.
fn pool_median<K>(compared: &[Compared<K>]) -> Option<Time> {
    let mut medians: Vec<Time> = compared.iter().filter_map(|one| one.median).collect();
    medians.sort_unstable();
    (medians.len() >= LEAST_COMPARED).then(|| medians[(medians.len() - 1) / 2])
}

#[cfg(test)]
mod tests;
