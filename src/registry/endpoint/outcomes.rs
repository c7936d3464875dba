//! How attempts on a backend ended, for pools that judge their backends by that.
//!
//! `Endpoint::note_outcome` is the only place where such a pool counts an attempt: when the head of its answer has
//! come, when it is over, and when it has failed. It is called through an [`AttemptWatch`], which attempts on other
//! pools don't have: these read no clock for it and count nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Endpoint;
use crate::core::Time;
use crate::core::outlier::{
    AttemptError, LATENCY_STEPS, OutcomeCounts, OutlierReason, latency_step,
};

/// What is learned of a backend by one attempt. An answer is told of twice: when its head comes, and when it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The head of the final answer has come.
    Head {
        /// What its status says against the backend, if anything.
        error: Option<AttemptError>,
    },
    /// The answer is here whole, and nothing speaks against it.
    Whole,
    /// The attempt has failed, and that is the backend's fault.
    Failed(AttemptError),
    /// It ended before its answer began, and by no fault of the backend: its client has gone.
    Abandoned,
}

/// An attempt on a backend whose pool judges by attempts.
#[derive(Debug, Clone, Copy)]
pub struct AttemptWatch<'a> {
    /// The backend.
    pub endpoint: &'a Endpoint,
    /// The epoch in which its gate was entered: outcomes of a process that has been replaced don't count.
    pub epoch: u64,
    /// When the attempt began.
    pub began: Time,
    /// All of the request was here by then: the time to its answer is the backend's own.
    pub is_prompt: bool,
}

impl AttemptWatch<'_> {
    /// Tells how it went, as of `now`.
    pub fn note(&self, outcome: AttemptOutcome, now: Time) {
        if self.endpoint.epoch() == self.epoch {
            let took = now.saturating_sub(self.began);
            self.endpoint
                .note_outcome(outcome, self.is_prompt.then_some(took), now);
        }
    }
}

impl Endpoint {
    /// Takes note of how an attempt in this epoch went. `took`: the time since it began, where that is the backend's own.
    fn note_outcome(&self, outcome: AttemptOutcome, took: Option<Duration>, now: Time) {
        self.latency.note(outcome, took, now);
        if self.outcomes.note(outcome, took) {
            self.wake_registry();
        }
    }
}

/// Counts of what attempts on one backend showed, since the registry has last taken them.
#[derive(Debug, Default)]
pub struct OutcomeCounters {
    /// So many errors in a row are told of at once; 0: none are.
    limit: AtomicU32,
    /// Errors in a row up to now.
    streak: AtomicU32,
    well: AtomicU32,
    failed: AtomicU32,
    /// The last error, as [`AttemptError::number`].
    last: AtomicU32,
    /// The limit was reached, and the registry has not read that yet.
    crossed: AtomicBool,
    /// Times to the head, by step; made when they are first wanted.
    latencies: OnceLock<Box<[AtomicU32; LATENCY_STEPS]>>,
    /// Whether they are wanted now.
    is_timed: AtomicBool,
    /// Whether anything is counted.
    is_on: AtomicBool,
    /// It gets no new requests.
    is_ejected: AtomicBool,
    /// How often it was ejected, for each of [`OutlierReason::NAMES`].
    ejections: [AtomicU64; OutlierReason::NAMES.len()],
}

impl OutcomeCounters {
    /// Counts from now on. `limit`: so many errors in a row are told of at once (0: none are); `timed`: the times to the
    /// heads are counted, too.
    pub fn turn_on(&self, limit: u32, timed: bool) {
        self.limit.store(limit, Ordering::Relaxed);
        if timed {
            self.latencies
                .get_or_init(|| Box::new([const { AtomicU32::new(0) }; LATENCY_STEPS]));
        }
        self.is_timed.store(timed, Ordering::Relaxed);
        self.is_on.store(true, Ordering::Release);
    }

    /// Counts no more.
    pub fn turn_off(&self) {
        self.is_on.store(false, Ordering::Release);
        self.forget();
    }

    /// Drops everything that was counted so far.
    pub fn forget(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.crossed.store(false, Ordering::Relaxed);
        self.take();
    }

    /// Whether the limit of errors in a row was reached; once.
    pub fn take_crossing(&self) -> bool {
        self.crossed.swap(false, Ordering::AcqRel)
    }

    /// It was ejected for this reason.
    pub fn ejected(&self, reason: &OutlierReason) {
        let names = OutlierReason::NAMES.iter();
        let counts = names.zip(&self.ejections);
        for (_, count) in counts.filter(|(name, _)| **name == reason.as_str()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was ejected, by reason.
    pub fn ejections(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ejections.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        OutlierReason::NAMES.into_iter().zip(counts)
    }

    /// Whether it is left out now.
    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    /// From now on it is left out, or isn't.
    pub fn set_ejected(&self, is_ejected: bool) {
        self.is_ejected.store(is_ejected, Ordering::Relaxed);
    }

    /// Takes what was counted; the errors in a row stay. Counts that come meanwhile are in this one or the next.
    pub fn take(&self) -> OutcomeCounts {
        let mut counts = self.peek();
        counts.well = self.well.swap(0, Ordering::Relaxed);
        counts.failed = self.failed.swap(0, Ordering::Relaxed);
        if let Some(latencies) = self.latencies.get() {
            for (step, count) in latencies.iter().enumerate() {
                // Most are zero, and a look is cheaper than a change.
                if count.load(Ordering::Relaxed) > 0 {
                    counts.latencies[step] = count.swap(0, Ordering::Relaxed);
                }
            }
        }
        counts
    }

    /// What was counted so far, times aside.
    pub fn peek(&self) -> OutcomeCounts {
        OutcomeCounts {
            well: self.well.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            streak: self.streak.load(Ordering::Relaxed),
            last: AttemptError::from_number(self.last.load(Ordering::Relaxed)),
            latencies: [0; LATENCY_STEPS],
        }
    }

    /// Counts one; says whether the registry has to hear of it now.
    fn note(&self, outcome: AttemptOutcome, took: Option<Duration>) -> bool {
        if !self.is_on.load(Ordering::Acquire) {
            return false;
        }
        let error = match outcome {
            AttemptOutcome::Head { error } => {
                self.note_latency(took);
                error
            }
            AttemptOutcome::Failed(error) => {
                if error == AttemptError::Timeout {
                    self.note_latency(took);
                }
                Some(error)
            }
            AttemptOutcome::Abandoned => {
                // At least that long: a backend that hangs doesn't look faster because clients give up.
                self.note_latency(took);
                None
            }
            AttemptOutcome::Whole => {
                self.well.fetch_add(1, Ordering::Relaxed);
                if self.streak.load(Ordering::Relaxed) != 0 {
                    self.streak.store(0, Ordering::Relaxed);
                }
                None
            }
        };
        error.is_some_and(|error| self.note_error(error))
    }

    fn note_error(&self, error: AttemptError) -> bool {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.last.store(error.number(), Ordering::Relaxed);
        let streak = self.streak.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let limit = self.limit.load(Ordering::Relaxed);
        // Once per row, however long that gets: the queue holds no more than the rows that were begun.
        let is_reached = limit > 0 && streak == limit;
        if is_reached {
            self.crossed.store(true, Ordering::Release);
        }
        is_reached
    }

    fn note_latency(&self, took: Option<Duration>) {
        if !self.is_timed.load(Ordering::Relaxed) {
            return;
        }
        if let (Some(took), Some(latencies)) = (took, self.latencies.get()) {
            latencies[latency_step(took)].fetch_add(1, Ordering::Relaxed);
        }
    }
}
