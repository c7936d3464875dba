//! Outcomes of attempts on a backend, for pools that judge their backends by them.
//!
//! `Endpoint::note_outcome` is the only place where an attempt is counted: when the head of its response has come,
//! when it is over, and when it has failed. It is called through an [`AttemptWatch`]. Attempts on other pools have no
//! watch: they read no clock for this and count nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Endpoint;
use crate::core::Time;
use crate::core::outlier::{
    AttemptError, LATENCY_STEPS, OutcomeCounts, OutlierReason, latency_step,
};

/// Outcome of one attempt. A response is reported twice: when its head has come, and when it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The head of the final response has come.
    Head {
        /// The error that its status stands for, if any.
        error: Option<AttemptError>,
    },
    /// The response is complete, without an error.
    Whole,
    /// The attempt has failed through the backend's fault.
    Failed(AttemptError),
    /// The attempt ended before its response began, through no fault of the backend: the client has gone.
    Abandoned,
}

/// An attempt on a backend whose pool judges by attempts.
#[derive(Debug, Clone, Copy)]
pub struct AttemptWatch<'a> {
    /// The backend.
    pub endpoint: &'a Endpoint,
    /// Epoch in which the gate was entered: outcomes of a process that has been replaced don't count.
    pub epoch: u64,
    /// When the attempt began.
    pub began: Time,
    /// Whether the whole request was there by then, so that the response time is the backend's own.
    pub is_prompt: bool,
}

impl AttemptWatch<'_> {
    /// Reports an outcome, as of `now`.
    pub fn note(&self, outcome: AttemptOutcome, now: Time) {
        if self.endpoint.epoch() == self.epoch {
            let took = now.saturating_sub(self.began);
            self.endpoint
                .note_outcome(outcome, self.is_prompt.then_some(took), now);
        }
    }
}

impl Endpoint {
    /// Records the outcome of an attempt in this epoch. `took`: the time since its start, if that is the backend's
    /// own.
    fn note_outcome(&self, outcome: AttemptOutcome, took: Option<Duration>, now: Time) {
        self.latency.note(outcome, took, now);
        if self.outcomes.note(outcome, took) {
            self.wake_registry();
        }
    }
}

/// Outcomes of attempts on one backend, counted since the registry last took the counts.
#[derive(Debug, Default)]
pub struct OutcomeCounters {
    /// Number of consecutive errors that is reported at once; 0: none is.
    limit: AtomicU32,
    /// Consecutive errors up to now.
    streak: AtomicU32,
    well: AtomicU32,
    failed: AtomicU32,
    /// The last error, as [`AttemptError::number`].
    last: AtomicU32,
    /// Whether the limit was reached and the registry has not read that yet.
    crossed: AtomicBool,
    /// Response times, counted by step; allocated when first needed.
    latencies: OnceLock<Box<[AtomicU32; LATENCY_STEPS]>>,
    /// Whether response times are counted now.
    is_timed: AtomicBool,
    /// Whether anything is counted.
    is_on: AtomicBool,
    /// Whether the backend is ejected: it gets no new requests.
    is_ejected: AtomicBool,
    /// Number of ejections, for each of [`OutlierReason::NAMES`].
    ejections: [AtomicU64; OutlierReason::NAMES.len()],
}

impl OutcomeCounters {
    /// Starts counting. `limit`: number of consecutive errors that is reported at once (0: none is); `timed`: whether
    /// response times are counted, too.
    pub fn turn_on(&self, limit: u32, timed: bool) {
        self.limit.store(limit, Ordering::Relaxed);
        if timed {
            self.latencies
                .get_or_init(|| Box::new([const { AtomicU32::new(0) }; LATENCY_STEPS]));
        }
        self.is_timed.store(timed, Ordering::Relaxed);
        self.is_on.store(true, Ordering::Release);
    }

    /// Stops counting.
    pub fn turn_off(&self) {
        self.is_on.store(false, Ordering::Release);
        self.forget();
    }

    /// Resets all counts.
    pub fn forget(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.crossed.store(false, Ordering::Relaxed);
        self.take();
    }

    /// Whether the limit of consecutive errors was reached since the last call.
    pub fn take_crossing(&self) -> bool {
        self.crossed.swap(false, Ordering::AcqRel)
    }

    /// Counts an ejection for this reason.
    pub fn ejected(&self, reason: &OutlierReason) {
        let names = OutlierReason::NAMES.iter();
        let counts = names.zip(&self.ejections);
        for (_, count) in counts.filter(|(name, _)| **name == reason.as_str()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of ejections by reason.
    pub fn ejections(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.ejections.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        OutlierReason::NAMES.into_iter().zip(counts)
    }

    /// Whether the backend is ejected now.
    pub fn is_ejected(&self) -> bool {
        self.is_ejected.load(Ordering::Relaxed)
    }

    /// Sets whether the backend is ejected.
    pub fn set_ejected(&self, is_ejected: bool) {
        self.is_ejected.store(is_ejected, Ordering::Relaxed);
    }

    /// Takes and resets the counts, except that of consecutive errors. Outcomes that come meanwhile are in these
    /// counts or the next.
    pub fn take(&self) -> OutcomeCounts {
        let mut counts = self.peek();
        counts.well = self.well.swap(0, Ordering::Relaxed);
        counts.failed = self.failed.swap(0, Ordering::Relaxed);
        if let Some(latencies) = self.latencies.get() {
            for (step, count) in latencies.iter().enumerate() {
                // Most are zero, and reading is cheaper than writing.
                if count.load(Ordering::Relaxed) > 0 {
                    counts.latencies[step] = count.swap(0, Ordering::Relaxed);
                }
            }
        }
        counts
    }

    /// Returns the counts so far, without response times.
    pub fn peek(&self) -> OutcomeCounts {
        OutcomeCounts {
            well: self.well.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            streak: self.streak.load(Ordering::Relaxed),
            last: AttemptError::from_number(self.last.load(Ordering::Relaxed)),
            latencies: [0; LATENCY_STEPS],
        }
    }

    /// Counts an outcome; returns whether the registry has to be told now.
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
                // At least that long: a backend that hangs must not look faster because clients give up.
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
        // Once per row of errors, however long it gets: so the queue can't hold more entries than there were rows.
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
