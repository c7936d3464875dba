//! The roles that a request had in restarts of backends (`served`, `retried`, `lost`, …): counted, and written to its
//! log line. Only relevant for requests that lost an attempt, waited, changed their backend, or were answered by a
//! backend that accepts no new requests.

use std::fmt::Write;
use std::sync::Arc;

use super::record::{RequestEnd, RequestRecord};
use crate::core::Time;
use crate::core::restart::role::{RestartRole, RestartRoles, SeenEnd, is_loss};
use crate::metrics::restart_meter::RestartMeter;
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// Attempts that broke: the meter of the backend's restart, and the number of the attempt within the request.
#[derive(Debug, Default)]
pub(super) struct BrokenAttempts(Vec<(Arc<RestartMeter>, u32)>);

/// Restarts, and the request's roles in each.
#[derive(Debug, Default)]
struct CountedRoles(Vec<(Arc<RestartMeter>, RestartRoles)>);

impl CountedRoles {
    fn add(&mut self, meter: &Arc<RestartMeter>, role: RestartRole) {
        let known = self.0.iter().position(|(one, _)| Arc::ptr_eq(one, meter));
        let place = known.unwrap_or_else(|| {
            self.0.push((meter.clone(), RestartRoles::default()));
            self.0.len() - 1
        });
        self.0[place].1.add(role);
    }
}

impl RequestRecord {
    /// Records that the current attempt broke on this backend. Failures that the client or a limit caused are ignored,
    /// and so are timeouts and invalid responses, unless the backend is leaving.
    #[cold]
    pub(super) fn note_broken(&mut self, permit: &Permit) {
        let endpoint = permit.endpoint();
        let is_leaving = endpoint.gate.is_closed();
        match self.end {
            RequestEnd::ClientClosed | RequestEnd::BadRequest | RequestEnd::Limited(_) => return,
            RequestEnd::Timeout | RequestEnd::BadResponse if !is_leaving => return,
            _ => {}
        }
        // If the client reads slowly, its attempt only breaks after the restart is over.
        let is_late = !is_leaving && permit.epoch() != endpoint.epoch();
        let past = is_late.then(|| endpoint.past_restart.load_full()).flatten();
        let meter = past.unwrap_or_else(|| endpoint.restart.load_full());
        meter.touch(clock::now());
        let broken = self.broken.get_or_insert_default();
        broken.0.push((meter, self.attempts));
    }

    /// Returns whether the request may have been affected by a restart.
    pub(super) fn met_restart(&self) -> bool {
        self.broken.is_some()
            || !self.held.is_zero()
            || self.session == "moved"
            || (self.backend.as_ref()).is_some_and(|endpoint| endpoint.gate.is_closed())
    }

    /// Counts the request's roles in each restart, and returns them in the log's format: `ID:served,ID:retried+lost`.
    #[cold]
    pub(super) fn count_restarts(&self, pool: Option<&PoolSnapshot>, now: Time) -> String {
        let counted = self.restart_roles(pool);
        let mut text = String::new();
        for (meter, roles) in counted.0 {
            meter.count(roles, now);
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{}:{roles}", meter.id());
        }
        text
    }

    fn restart_roles(&self, pool: Option<&PoolSnapshot>) -> CountedRoles {
        let mut counted = CountedRoles::default();
        let broken = self.broken.as_ref().map_or(&[][..], |broken| &broken.0);
        let end = self.end.as_str();
        let is_ours = !self.cause.is_empty();
        for (meter, attempt) in broken {
            if *attempt < self.attempts {
                counted.add(meter, RestartRole::Retried);
            }
        }
        // The pool's last restart, if the request arrived during it.
        let of_pool = pool.and_then(|pool| pool.shared.restart.load_full());
        let of_pool = of_pool.filter(|meter| meter.spans(self.complete));
        if let Some(meter) = &of_pool {
            if !self.held.is_zero() {
                counted.add(meter, RestartRole::Held);
            }
            if self.session == "moved" {
                counted.add(meter, RestartRole::Moved);
            }
        }
        let leaving = self.backend.as_ref().filter(|one| one.gate.is_closed());
        let leaving = leaving.map(|endpoint| endpoint.restart.load_full());
        if is_loss(SeenEnd {
            status: self.status(),
            end,
            is_ours,
        }) {
            let last = broken.last().map(|(meter, _)| meter.clone());
            // If no backend was tried, or the request waited in the end, there was no backend.
            let had_none = self.attempts == 0 || matches!(self.end, RequestEnd::NotReady(_));
            let blamed = last.or(leaving).or(of_pool.filter(|_| had_none));
            if let Some(meter) = blamed {
                counted.add(&meter, RestartRole::Lost);
                if end == "cut" {
                    counted.add(&meter, RestartRole::Cut);
                }
            }
        } else if !is_ours
            && self.status() > 0
            && let Some(meter) = leaving
        {
            match end {
                "" => counted.add(&meter, RestartRole::Served),
                "closed_orderly" => counted.add(&meter, RestartRole::Closed),
                _ => {}
            }
        }
        counted
    }
}
