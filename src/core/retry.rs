//! Decides about a request whose attempt failed: whether it is tried again, given up, or held.
//!
//! The rule behind it is RFC 9110 §9.2.2: a request that is not idempotent is repeated only if it is known that the
//! original was never applied.

use super::Time;
pub use super::budget::{RetryBudget, RetryRates};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptFailure {
    /// No connection could be made: nothing was sent.
    ConnectFailed,
    /// A reused connection had been closed before the request reached it, which is proven.
    StaleProven,
    /// The connection broke before a byte of the response, and it is not known what the backend received.
    DiedBeforeResponse {
        /// Time since the attempt began.
        after: Time,
    },
    /// A drain's deadline cut the attempt before a byte of the response: the proxy itself did it.
    CutByDrain,
    /// HTTP/2 REFUSED_STREAM (RFC 9113 §8.7): not processed.
    RefusedStream,
    /// HTTP/2 GOAWAY with a last stream id below this request's (RFC 9113 §6.8): not processed.
    GoAway,
    /// There was no response in time: the backend may still be working on the request.
    Timeout,
    /// Part of the response has been forwarded.
    ResponseBegun,
}

impl AttemptFailure {
    /// Returns the failure as a reason to try again, or not to.
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

    /// Whether the request was certainly not processed.
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
    /// Not tried again: its body is no longer available.
    BodyGone,
    /// Not tried again: `attempts` are used up.
    Attempts,
    /// Not tried again: the retry budget has no token left.
    Budget,
}

impl RetryReason {
    /// All reasons.
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

    /// Returns the reason with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Returns the name in the access log and `lameduck_retries_total`.
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

/// Properties of a request that matter for retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryFacts {
    /// Whether its method is idempotent (RFC 9110 §9.2.2): GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub idempotent: bool,
    /// Whether it has an `Idempotency-Key`.
    pub has_idempotency_key: bool,
    /// Whether all that was read of its body is still available (`true` if nothing was read, or there is no body).
    pub body_replayable: bool,
}

impl RetryFacts {
    /// Whether it may be sent again although the backend may have received it (RFC 9110 §9.2.2).
    pub const fn may_be_repeated(&self, limits: &RetryLimits) -> bool {
        self.idempotent || (limits.idempotency_key && self.has_idempotency_key)
    }
}

/// Run-time form of `[pool.retry]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryLimits {
    /// Most attempts in total that may have reached an app. Default: 3. Attempts that broke only after [`LONG`], or
    /// that a drain has cut, don't count, but at most `attempts - 1` more are made for them.
    pub attempts: u32,
    /// Most attempts in total that certainly did not. Default: 10, as each instance may refuse once in a rolling
    /// restart.
    pub proven_attempts: u32,
    /// Whether `Idempotency-Key` makes any method idempotent. Default: false.
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

/// An attempt that breaks after this time counts as broken by a restart: a request that itself causes the failure
/// usually does so sooner. It is repeated at most once in this time, so that it can't do much harm, and a request that
/// takes longer than the pause between two restarts survives more than three of them.
pub const LONG: Time = Time::from_secs(1);

/// The failed attempts of one request, including the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttemptHistory {
    /// Attempts that may have reached an app.
    pub unproven: u32,
    /// Those of them that lasted [`LONG`] or more, or that a drain has cut.
    pub long: u32,
    /// Attempts that certainly did not reach an app.
    pub proven: u32,
}

impl AttemptHistory {
    /// Counts a failed attempt.
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

    /// Whether no attempt of the kind of `failure` is left.
    fn is_spent(self, failure: AttemptFailure, limits: &RetryLimits) -> bool {
        if failure.is_proven() {
            return self.proven >= limits.proven_attempts;
        }
        let most = limits.attempts.saturating_mul(2).saturating_sub(1);
        self.unproven.saturating_sub(self.long) >= limits.attempts || self.unproven >= most
    }
}

/// What is available for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// Whether there is an eligible backend that has not been tried.
    pub others: bool,
    /// Whether there is a token in the retry budget.
    pub token: bool,
}

/// What to do with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryVerdict {
    /// Try again. If no backend can be picked, hold the request.
    Retry {
        /// Whether to use a backend that has not been tried; else the same one may be used, on a fresh connection.
        elsewhere: bool,
        /// Reason.
        reason: RetryReason,
        /// Whether to take a token first; without one, give up.
        spend_budget: bool,
    },
    /// Give up: the failure is the response.
    GiveUp {
        /// Why it isn't tried again.
        reason: RetryReason,
    },
    /// Wait for a backend ([`super::hold`]); after that, all backends may be tried again.
    Hold,
}

/// Decides about a failed attempt. `tried` includes it already.
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
    // A failed connection attempt has read no more of the body than earlier attempts.
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
    // An attempt that the proxy itself has cut is no sign of trouble, and there are no more of these than the drained
    // backend had in flight.
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

/// Time after one backend has become ready in which others are likely to be restarted next, by the same roll.
const ROLL: Time = Time::from_secs(60);

/// Backends that become ready within this time count as equally old.
const TOGETHER: Time = Time::from_millis(500);

/// Returns the time since which a backend must have been ready for a request whose backend has just died: a rolling
/// restart comes last to the backend that it restarted last. `None`: any will do. `ready`: the time since which each
/// backend has been ready.
pub fn youngest(ready: impl Iterator<Item = Time>, now: Time) -> Option<Time> {
    let last = ready.max()?;
    (now.saturating_sub(last) < ROLL).then(|| last.saturating_sub(TOGETHER))
}

#[cfg(test)]
mod tests;
