//! A rate limit for requests with the same key: a bucket that holds `burst` requests and is filled at a steady rate.
//!
//! The algorithm is GCRA, the generic cell rate algorithm: for each key, only the time is kept at which its bucket
//! will be full again. That is one number and needs no timer, and nothing has to be kept for a full bucket. The crate
//! `governor` has the same algorithm, but its keyed store is unbounded, drops keys only in sweeps over all of them,
//! and reads a clock of its own. [`table`] keeps the keys within a limit.

pub mod table;

use std::num::NonZeroU32;
use std::time::Duration;

use super::Time;

/// The rate: number of requests in each period, and number of requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    limit: NonZeroU32,
    period: Duration,
    burst: NonZeroU32,
    /// Time in which one request is refilled.
    interval: FillTime,
    /// Time in which all but one of a burst are refilled.
    tolerance: FillTime,
}

/// A time in nanoseconds, with a fraction whose denominator is the rule's `limit`: so 3 requests a second are
/// refilled exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FillTime {
    nanos: u64,
    part: u32,
}

/// Result for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateVerdict {
    /// The request passes.
    Pass,
    /// The request comes too early: the next one of this key passes after this time.
    Wait(Duration),
}

impl RateRule {
    /// Creates a rule of `limit` requests in each `period`, of which `burst` may come at once.
    pub fn new(limit: NonZeroU32, period: Duration, burst: NonZeroU32) -> Self {
        let all = u128::from(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX));
        let share = |requests: u32| {
            let (time, limit) = (all * u128::from(requests), u128::from(limit.get()));
            FillTime {
                nanos: u64::try_from(time / limit).unwrap_or(u64::MAX),
                part: (time % limit) as u32,
            }
        };
        Self {
            limit,
            period,
            burst,
            interval: share(1),
            tolerance: share(burst.get() - 1),
        }
    }

    /// Returns the number of requests in each period.
    pub fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    /// Returns the period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Returns the number of requests at once.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Takes a request out of the bucket that is full at `full_at`, if it contains one. The bucket of a new key is
    /// full.
    pub fn take(&self, full_at: &mut FillTime, now: Time) -> RateVerdict {
        let now = FillTime {
            nanos: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            part: 0,
        };
        let base = (*full_at).max(now);
        let latest = self.sum(now, self.tolerance);
        if base > latest {
            let early = base.nanos - latest.nanos;
            let part = u64::from(base.part > latest.part);
            return RateVerdict::Wait(Duration::from_nanos(early.saturating_add(part).max(1)));
        }
        *full_at = self.sum(base, self.interval);
        RateVerdict::Pass
    }

    fn sum(&self, a: FillTime, b: FillTime) -> FillTime {
        let part = u64::from(a.part) + u64::from(b.part);
        let limit = u64::from(self.limit.get());
        let carry = u64::from(part >= limit);
        FillTime {
            nanos: a.nanos.saturating_add(b.nanos).saturating_add(carry),
            part: (part - carry * limit) as u32,
        }
    }
}

#[cfg(test)]
mod tests;
