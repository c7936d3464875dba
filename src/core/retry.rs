//! What becomes of a request whose attempt failed: tried again, given up, or held.
//!
//! The rule behind the table is RFC 9110 §9.2.2: a request that is not idempotent is repeated only where it is
//! known that the original was never applied.

use super::Time;
pub use super::budget::{RetryBudget, RetryRates};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFailure {
    /// No connection: nothing was sent.
    ConnectFailed,
    /// A reused connection had been closed before the request reached it, and that is proven.
    StaleProven,
    /// The connection died before a byte of the response, and what the backend got is not known.
    DiedBeforeResponse {
        /// How long the attempt had been under way.
        after: Time,
    },
    /// A drain's deadline has cut it before a byte of the response: our own doing.
    CutByDrain,
    /// HTTP/2 REFUSED_STREAM (RFC 9113 §8.7): not processed.
    RefusedStream,
    /// HTTP/2 GOAWAY with a last stream id below this request's (RFC 9113 §6.8): not processed.
    GoAway,
    /// No answer in time: the backend may well be working on it.
    Timeout,
    /// Part of the response has been passed on.
    ResponseBegun,
}

impl AttemptFailure {
    /// The same as a reason to try again, or not to.
    pub const fn reason(self) -> RetryReason {
        match self {
            Self::ConnectFailed => RetryReason::ConnectFailed,
            Self::StaleProven => RetryReason::StaleConnection,
            Self::DiedBeforeResponse { .. } => RetryReason::ConnectionDied,
            Self::CutByDrain => RetryReason::CutByDrain,
            Self::RefusedStream => RetryReason::RefusedStream,
            Self::GoAway => RetryReason::GoAway,
            Self::Timeout => RetryReason::TimedOut,
            Self::ResponseBegun => RetryReason::ResponseBegun,
        }
    }

    /// Whether the request surely was not processed.
    pub const fn is_proven(self) -> bool {
        matches!(
            self,
            Self::ConnectFailed | Self::StaleProven | Self::RefusedStream | Self::GoAway
        )
    }
}

/// Why a request was tried again, or was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// [`AttemptFailure::ConnectFailed`].
    ConnectFailed,
    /// [`AttemptFailure::StaleProven`].
    StaleConnection,
    /// [`AttemptFailure::DiedBeforeResponse`].
    ConnectionDied,
    /// [`AttemptFailure::CutByDrain`].
    CutByDrain,
    /// [`AttemptFailure::RefusedStream`].
    RefusedStream,
    /// [`AttemptFailure::GoAway`].
    GoAway,
    /// [`AttemptFailure::Timeout`]: not tried again.
    TimedOut,
    /// [`AttemptFailure::ResponseBegun`]: not tried again.
    ResponseBegun,
    /// Not tried again: the request may have been applied, and its method isn't idempotent.
    NotIdempotent,
    /// Not tried again: its body is not here any more.
    BodyGone,
    /// Not tried again: `attempts` are used up.
    Attempts,
    /// Not tried again: the retry budget has no token left.
    Budget,
}

impl RetryReason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ConnectFailed,
        Self::StaleConnection,
        Self::ConnectionDied,
        Self::CutByDrain,
        Self::RefusedStream,
        Self::GoAway,
        Self::TimedOut,
        Self::ResponseBegun,
        Self::NotIdempotent,
        Self::BodyGone,
        Self::Attempts,
        Self::Budget,
    ];

    /// The reverse of [`RetryReason::as_str`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// For the access log and `lameduck_retries_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::StaleConnection => "stale_connection",
            Self::ConnectionDied => "connection_died",
            Self::CutByDrain => "cut_by_drain",
            Self::RefusedStream => "refused_stream",
            Self::GoAway => "goaway",
            Self::TimedOut => "timed_out",
            Self::ResponseBegun => "response_begun",
            Self::NotIdempotent => "not_idempotent",
            Self::BodyGone => "body_gone",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
        }
    }
}

/// What matters of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryFacts {
    /// Its method is idempotent (RFC 9110 §9.2.2): GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub idempotent: bool,
    /// It carries `Idempotency-Key`.
    pub has_idempotency_key: bool,
    /// All that was read of its body is still at hand (true where nothing was read, or there is none).
    pub body_replayable: bool,
}

impl RetryFacts {
    /// Whether it may be sent again though the backend may have got it (RFC 9110 §9.2.2).
    pub const fn may_be_repeated(&self, limits: &RetryLimits) -> bool {
        self.idempotent || (limits.idempotency_key && self.has_idempotency_key)
    }
}

/// `[pool.retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// Attempts in total that may have reached an app. Default 3. Those that broke only after [`LONG`], or that a drain
    /// has cut, don't count, but at most `attempts - 1` more are made for them.
    pub attempts: u32,
    /// Attempts in total that surely did not. Default 10: in a rolling restart each instance may refuse once.
    pub proven_attempts: u32,
    /// Whether `Idempotency-Key` makes any method idempotent. Default false.
    pub idempotency_key: bool,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            attempts: 3,
            proven_attempts: 10,
            idempotency_key: false,
        }
    }
}

/// An attempt that breaks after this time was broken by a restart: a request that itself breaks what it reaches does
/// so sooner, as a rule. It is made again at most once in this time, so that it can't do much harm, and a request that
/// takes longer than the pause between two restarts survives more than three of them.
pub const LONG: Time = Time::from_secs(1);

/// The failed attempts of one request, the last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptHistory {
    /// Those that may have reached an app.
    pub unproven: u32,
    /// Of those, the ones that were under way for [`LONG`] or more, or that a drain has cut.
    pub long: u32,
    /// Those that surely did not.
    pub proven: u32,
}

impl AttemptHistory {
    /// Counts one more.
    pub fn note(&mut self, failure: AttemptFailure) {
        let count = if failure.is_proven() {
            &mut self.proven
        } else {
            &mut self.unproven
        };
        *count = count.saturating_add(1);
        let is_spared = match failure {
            AttemptFailure::DiedBeforeResponse { after } => after >= LONG,
            AttemptFailure::CutByDrain => true,
            _ => false,
        };
        if is_spared {
            self.long = self.long.saturating_add(1);
        }
    }

    /// Whether no attempt is left of the kind that `failure` belongs to.
    fn is_spent(self, failure: AttemptFailure, limits: &RetryLimits) -> bool {
        if failure.is_proven() {
            return self.proven >= limits.proven_attempts;
        }
        let most = limits.attempts.saturating_mul(2).saturating_sub(1);
        self.unproven.saturating_sub(self.long) >= limits.attempts || self.unproven >= most
    }
}

/// What is left to try it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// An eligible backend that has not been tried.
    pub others: bool,
    /// A token in the retry budget.
    pub token: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// Try again. Where nothing can be picked, hold.
    Retry {
        /// On a backend that has not been tried; else the same one will do, on a fresh connection.
        elsewhere: bool,
        /// Why.
        reason: RetryReason,
        /// Take a token first; without one, give up.
        spend_budget: bool,
    },
    /// The failure is the answer.
    GiveUp {
        /// Why it isn't tried again.
        reason: RetryReason,
    },
    /// Wait for a backend ([`super::hold`]); all may be tried again after that.
    Hold,
}

/// Judges a failed attempt. `tried` counts it already.
pub fn decide(
    failure: AttemptFailure,
    request: &RetryFacts,
    tried: AttemptHistory,
    limits: &RetryLimits,
    left: RetryOptions,
) -> RetryVerdict {
    if matches!(
        failure,
        AttemptFailure::Timeout | AttemptFailure::ResponseBegun
    ) {
        return RetryVerdict::GiveUp {
            reason: failure.reason(),
        };
    }
    let proven = failure.is_proven();
    if !proven && !request.may_be_repeated(limits) {
        return RetryVerdict::GiveUp {
            reason: RetryReason::NotIdempotent,
        };
    }
    // A failed connect read nothing of the body that an earlier attempt had not.
    if failure != AttemptFailure::ConnectFailed && !request.body_replayable {
        return RetryVerdict::GiveUp {
            reason: RetryReason::BodyGone,
        };
    }
    if tried.is_spent(failure, limits) {
        return RetryVerdict::GiveUp {
            reason: RetryReason::Attempts,
        };
    }
    if failure == AttemptFailure::ConnectFailed && !left.others {
        return RetryVerdict::Hold;
    }
    // What we have cut is no sign of trouble, and there is no more of it than the drained backend had in flight.
    let spend_budget = !proven && failure != AttemptFailure::CutByDrain;
    if spend_budget && !left.token {
        return RetryVerdict::GiveUp {
            reason: RetryReason::Budget,
        };
    }
    RetryVerdict::Retry {
        elsewhere: left.others,
        reason: failure.reason(),
        spend_budget,
    }
}

/// A roll that is under way goes on: for so long after one backend has become ready, the others are likely to be next.
const ROLL: Time = Time::from_secs(60);

/// Backends that become ready within this time are of one age.
const TOGETHER: Time = Time::from_millis(500);

/// Since when a backend must have been ready for a request whose backend has just died under it: a rolling restart
/// comes last to the one that it came to last. `None`: any will do. `ready` is since when each one is.
pub fn youngest(ready: impl Iterator<Item = Time>, now: Time) -> Option<Time> {
    let last = ready.max()?;
    (now.saturating_sub(last) < ROLL).then(|| last.saturating_sub(TOGETHER))
}

#[cfg(test)]
mod tests;
