//! Requests that broke on a backend: did its process die, or was it one connection?

use super::Time;
use super::event::ProbeResult;
use super::health::ProbeSample;

/// Requests that broke since the last sign of life.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestLosses {
    requests: u32,
    /// When the last one broke.
    at: Time,
    /// The process is known to be gone.
    gone: bool,
}

impl RequestLosses {
    pub(super) fn requests(self) -> u32 {
        self.requests
    }

    /// Whether it can be said what became of the process.
    pub(super) fn is_decided(self) -> bool {
        self.requests == 0 || self.gone
    }

    pub(super) fn add(&mut self, requests: u32, now: Time) {
        self.requests = self.requests.saturating_add(requests);
        self.at = now;
    }

    /// Another process is there.
    pub(super) fn succeeded(&mut self) {
        self.gone = self.requests > 0;
    }

    /// A refusal or a row of failures says that the process is gone; an answer to a probe begun later, or that
    /// probe's time-out, that it is not.
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
