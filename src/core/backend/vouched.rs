//! Health that somebody else has found.

use super::BackendState;
use crate::core::Time;
use crate::core::health::HealthJudge;

impl BackendState {
    /// Takes it as up, as whoever judged before has found it: it needs no further row of passes, and what closes it stays.
    pub fn take_as_up(&mut self, now: Time, listener: Option<u64>) {
        self.judge = HealthJudge::known(now, listener);
    }

    /// Takes it as down, as whoever judged before has found it: as ever, it takes a row of passes to be up.
    pub fn take_as_down(&mut self, now: Time) {
        self.judge = HealthJudge::known_down(now);
    }

    /// The listening socket that probes have met, where that is known.
    pub fn listener(&self) -> Option<u64> {
        self.judge.listener()
    }
}
