//! Requests that were lost on a backend: did its process die, or only a connection?

use super::Time;
use super::event::ProbeResult;
use super::health::ProbeSample;

/// Requests that were lost since the last sign of life.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestLosses {
    requests: u32,
    /// When the last one was lost.
    at: Time,
    /// Whether the process is known to be gone.
    gone: bool,
}

impl RequestLosses {
    pub(super) fn requests(self) -> u32 {
        self.requests
    }

    /// Whether it is known what happened to the process.
    pub(super) fn is_decided(self) -> bool {
        self.requests == 0 || self.gone
    }

    pub(super) fn add(&mut self, requests: u32, now: Time) {
        self.requests = self.requests.saturating_add(requests);
        self.at = now;
    }

    /// Notes that another process is there.
    pub(super) fn succeeded(&mut self) {
        self.gone = self.requests > 0;
    }

    /// Judges by a probe whether the process is gone: a refusal or enough consecutive failures show that it is; a
    /// response to a probe that began later, or such a probe's timeout, that it is not.
    pub(super) fn weigh(&mut self, sample: ProbeSample, given_up: bool) {
        if self.is_decided() {
            return;
        }
        match sample.probe {
            ProbeResult::Refused => self.gone = true,
            ProbeResult::Reset => self.gone = given_up,
            _ if sample.began >= self.at => *self = Self::default(),
            _ => {}
        }
    }
}
