//! Outlier detection: ejects and returns backends as the core decides, and reports it.

use tracing::{info, warn};

use super::endpoint::BackendKey;
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::backend::BackendEvent;
use crate::core::outlier::OutlierChange;
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

impl RegistryWriter {
    /// Checks a backend that has reached the limit of consecutive errors. A probe is made first, which may show the
    /// cause.
    pub(super) fn suspect_outlier(&mut self, key: BackendKey) {
        if let Some(pool) = self.home_mut(key) {
            pool.suspect_outlier(key);
        }
        self.step(key, BackendEvent::Hint);
    }

    /// Judges the backends of every pool whose interval is over.
    pub(super) fn judge_outliers(&mut self, now: Time) {
        for index in 0..self.pools.len() {
            let pool = &mut self.pools[index];
            if pool.outlier_deadline().is_some_and(|at| at <= now) {
                let changes = pool.judge_outliers(now);
                self.tell_outliers(index, changes);
            }
        }
    }

    /// Called before a snapshot: ends ejections in pools without any other backend, whatever has taken the others
    /// away: a drain, a failed health check, a weight of 0, or their removal.
    pub(super) fn relieve_outliers(&mut self) {
        for index in 0..self.pools.len() {
            let pool = &mut self.pools[index];
            if pool.dirty {
                let changes = pool.relieve_outliers(clock::now());
                self.tell_outliers(index, changes);
            }
        }
    }

    /// Ends the ejection of a backend that an operator has resumed.
    pub(super) fn lift_ejection(&mut self, index: usize, key: BackendKey) {
        let changes = self.pools[index].lift_ejection(key);
        self.tell_outliers(index, changes);
    }

    /// Reports ejections and returns, in the log and as events.
    pub(super) fn tell_outliers(&mut self, index: usize, changes: Vec<OutlierChange<BackendKey>>) {
        for change in changes {
            let pool = &self.pools[index];
            let name = pool.name.clone();
            let (OutlierChange::Ejected(key, _) | OutlierChange::Returned(key, _)) = change;
            let Some(endpoint) = pool.endpoint_of(key) else {
                continue;
            };
            let backend = endpoint.name.clone();
            let whom = Some((&*name, &*backend));
            match change {
                OutlierChange::Ejected(_, ejection) => {
                    let lasts = ejection.until.saturating_sub(ejection.since);
                    let reason = ejection.reason.to_string();
                    warn!(pool = %name, backend = %backend, reason, times = ejection.times,
                          seconds = lasts.as_secs_f64(), "ejected: it gets no new requests");
                    self.event(
                        EventKind::Outlier,
                        whom,
                        Some("ready"),
                        Some("ejected"),
                        reason,
                    );
                }
                OutlierChange::Returned(_, cause) => {
                    let reason = cause.as_str();
                    info!(pool = %name, backend = %backend, reason, "back from ejection");
                    let reason = reason.to_owned();
                    self.event(
                        EventKind::Outlier,
                        whom,
                        Some("ejected"),
                        Some("ready"),
                        reason,
                    );
                }
            }
        }
    }
}
