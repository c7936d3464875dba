//! Health that another process of the proxy has found.

use super::BackendState;
use crate::core::Time;
use crate::core::health::HealthJudge;

impl BackendState {
    /// Sets the backend to up, as the previous process found it: no further passes are needed. Its drains stay.
    pub fn take_as_up(&mut self, now: Time, listener: Option<u64>) {
        self.judge = HealthJudge::known(now, listener);
    }

    /// Sets the backend to down, as the previous process found it: it needs passes to be up again.
    pub fn take_as_down(&mut self, now: Time) {
        self.judge = HealthJudge::known_down(now);
    }

    /// Returns the identity of the listening socket that probes have reached, if known.
    pub fn listener(&self) -> Option<u64> {
        self.judge.listener()
    }
}
