//! Outlier detection of a pool: judges how attempts on its backends end, and ejects backends.

use std::sync::Arc;

use super::{PoolState, is_last_resort};
use crate::config;
use crate::core::Time;
use crate::core::outlier::{
    BackendStanding, OutlierChange, OutlierDetector, OutlierPolicy, OutlierRecord, ReturnCause,
};
use crate::registry::endpoint::{BackendKey, Endpoint};
use crate::rt::clock;

/// Returns the detector that a configuration asks for, if it does.
pub(super) fn detector(config: &config::PoolConfig) -> Option<OutlierDetector<BackendKey>> {
    let outlier = config.outlier.as_ref()?;
    Some(OutlierDetector::new(policy(outlier), clock::now()))
}

fn policy(outlier: &config::OutlierConfig) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: outlier.consecutive_errors,
        error_rate: outlier.error_rate,
        latency_factor: outlier.latency_factor,
        min_requests: outlier.min_requests,
        window: outlier.window,
        max_ejected: outlier.max_ejected,
        ejection: outlier.ejection,
        max_ejection: outlier.max_ejection,
    }
}

impl PoolState {
    /// Sets whether a backend counts the outcomes of attempts.
    pub(super) fn count_outcomes(&self, endpoint: &Endpoint) {
        match &self.outlier {
            Some(detector) => {
                let policy = detector.policy();
                let timed = policy.latency_factor > 0.0;
                endpoint.outcomes.turn_on(policy.consecutive_errors, timed);
            }
            None => endpoint.outcomes.turn_off(),
        }
    }

    /// Applies the policy of the present configuration. Returns the backends whose ejection ends because detection
    /// was switched off.
    pub(super) fn reconfigure_outliers(&mut self) -> Vec<OutlierChange<BackendKey>> {
        let mut changes = Vec::new();
        match (&mut self.outlier, &self.config.outlier) {
            (Some(detector), Some(outlier)) => {
                let policy = policy(outlier);
                if *detector.policy() != policy {
                    detector.set_policy(policy, clock::now());
                }
            }
            (None, None) => return changes,
            (former, _) => {
                let ejected = former.iter().flat_map(OutlierDetector::ejected);
                changes.extend(
                    ejected.map(|key| OutlierChange::Returned(key, ReturnCause::SwitchedOff)),
                );
                self.outlier = detector(&self.config);
            }
        }
        for member in self.members.values() {
            self.count_outcomes(&member.endpoint);
        }
        changes
    }

    /// Returns when backends are next to be judged, or an ejection ends.
    pub(crate) fn outlier_deadline(&self) -> Option<Time> {
        self.outlier.as_ref().map(OutlierDetector::next_deadline)
    }

    /// Notes that a backend has reached the limit of consecutive errors.
    pub(crate) fn suspect_outlier(&mut self, key: BackendKey) {
        if let (Some(detector), Some(member)) = (&mut self.outlier, self.members.get(&key)) {
            let counts = member.endpoint.outcomes.peek();
            detector.suspect(key, &counts, clock::now());
        }
    }

    /// Returns the backends that are ejected from now on, and those whose ejection ends.
    pub(crate) fn judge_outliers(&mut self, now: Time) -> Vec<OutlierChange<BackendKey>> {
        let standings = self.standings();
        let Some(detector) = &mut self.outlier else {
            return Vec::new();
        };
        for (key, _) in &standings {
            if let Some(member) = self.members.get(key) {
                detector.note(*key, &member.endpoint.outcomes.take());
            }
        }
        let changes = detector.judge(&standings, now);
        self.take_over(&changes);
        changes
    }

    /// Returns the backends whose ejection ends because no other backend is left.
    pub(crate) fn relieve_outliers(&mut self, now: Time) -> Vec<OutlierChange<BackendKey>> {
        let is_any_out = |detector: &OutlierDetector<_>| detector.ejected().next().is_some();
        if !self.outlier.as_ref().is_some_and(is_any_out) {
            return Vec::new();
        }
        let standings = self.standings();
        let detector = self.outlier.as_mut();
        let changes =
            detector.map_or_else(Vec::new, |one| one.return_if_none_left(&standings, now));
        self.take_over(&changes);
        changes
    }

    /// Ends the ejection of a backend that an operator has resumed.
    pub(crate) fn lift_ejection(&mut self, key: BackendKey) -> Vec<OutlierChange<BackendKey>> {
        let detector = self.outlier.as_mut();
        if !detector.is_some_and(|detector| detector.return_early(key, clock::now())) {
            return Vec::new();
        }
        let changes = vec![OutlierChange::Returned(key, ReturnCause::Resumed)];
        self.take_over(&changes);
        changes
    }

    /// Returns the outlier record of a backend, for another registry.
    pub(crate) fn outlier_record(&self, key: BackendKey) -> Option<OutlierRecord> {
        self.outlier.as_ref()?.record(key)
    }

    /// Restores the outlier record of a backend from another registry, if this configuration detects outliers.
    pub(crate) fn restore_outlier(&mut self, key: BackendKey, record: OutlierRecord) {
        if let Some(detector) = &mut self.outlier {
            detector.restore(key, record);
            self.note_ejection(key);
        }
    }

    /// Forgets a backend's outcomes: another process is behind it, or none, or it drains or failed a health check,
    /// which says more than its responses did.
    pub(super) fn forget_outcomes(&mut self, key: BackendKey) {
        let detector = self.outlier.as_mut();
        if detector.is_some_and(|detector| detector.forget(key)) {
            self.note_ejection(key);
        }
    }

    /// Updates a backend's entry and run-time state with the detector's decision.
    fn note_ejection(&mut self, key: BackendKey) {
        let detector = self.outlier.as_ref();
        let ejection = detector
            .and_then(|detector| detector.ejection(key))
            .copied();
        if let Some(member) = self.members.get_mut(&key) {
            member.ejection = ejection;
            member.endpoint.outcomes.set_ejected(ejection.is_some());
        }
        self.dirty = true;
        self.set_last_resort(key);
    }

    pub(super) fn take_over(&mut self, changes: &[OutlierChange<BackendKey>]) {
        for change in changes {
            let (OutlierChange::Ejected(key, _) | OutlierChange::Returned(key, _)) = change;
            self.note_ejection(*key);
            let Some(member) = self.members.get(key) else {
                continue;
            };
            // The outcomes counted so far have been judged, or came during the ejection.
            member.endpoint.outcomes.forget();
            match change {
                OutlierChange::Ejected(_, ejection) => {
                    member.endpoint.outcomes.ejected(&ejection.reason);
                }
                OutlierChange::Returned(..) => member.endpoint.warm_up(clock::now()),
            }
        }
    }

    /// Sets whether fail-open may use the backend, as of now.
    pub(super) fn set_last_resort(&self, key: BackendKey) {
        if let Some(member) = self.members.get(&key) {
            let backend = self.core.get(&key);
            let may = backend.is_some_and(|backend| is_last_resort((member, backend)));
            member.endpoint.set_last_resort(may);
        }
    }

    /// Returns every backend that has a share of the requests, with its standing in the pool.
    fn standings(&self) -> Vec<(BackendKey, BackendStanding)> {
        let sharing = self
            .both()
            .filter(|(member, _)| !member.leaving && member.endpoint.weight() > 0);
        let standing = sharing.map(|(member, backend)| {
            let standing = match backend.is_eligible() {
                true => BackendStanding::Eligible,
                false => BackendStanding::Away,
            };
            (member.endpoint.key, standing)
        });
        standing.collect()
    }

    /// Returns the run-time state of a backend, with the pool's name, for reports.
    pub(crate) fn endpoint_of(&self, key: BackendKey) -> Option<Arc<Endpoint>> {
        self.members.get(&key).map(|member| member.endpoint.clone())
    }
}
