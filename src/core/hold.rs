//! Requests that wait because no backend is eligible: which may wait, for how long, and how they are released.

use super::Time;

/// What to do with a request while no backend is eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnEmpty {
    /// Hold the request.
    #[default]
    Hold,
    /// Answer 503 at once.
    Fail,
    /// Send the request to a backend that is down or drained by the app itself; if there is none, hold it.
    FailOpen,
}

/// Run-time form of `[pool.hold]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldLimits {
    /// What to do while no backend is eligible.
    pub on_empty: OnEmpty,
    /// Longest wait of one request, over all its waits. Default: 10 s.
    pub timeout: Time,
    /// Most waiting requests. Default: 10,000, which come within `timeout` at 1,000 a second. Each has its client's
    /// connection anyway; the memory that they take beyond that is limited by `max_bytes`.
    pub max_requests: usize,
    /// Most bytes that are buffered for them. Default: 16 MiB.
    pub max_bytes: u64,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self {
            on_empty: OnEmpty::Hold,
            timeout: Time::from_secs(10),
            max_requests: 10_000,
            max_bytes: 16 << 20,
        }
    }
}

/// Totals of the requests that wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldTotals {
    /// Number of requests.
    pub requests: usize,
    /// Bytes that are buffered for them.
    pub bytes: u64,
}

/// A request that found no eligible backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldCandidate {
    /// Bytes that would be buffered for it while it waits.
    pub bytes: u64,
    /// When it first waited (if it has not waited yet: now).
    pub since: Time,
    /// Whether fail-open may use some backend that this request has not tried.
    pub may_fail_open: bool,
}

/// What happens to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldAdmission {
    /// It waits until this time at most; after that [`HoldRefusal::TooLong`].
    Hold {
        /// End of its wait.
        until: Time,
    },
    /// It is answered with 503 and `Retry-After`.
    Fail(HoldRefusal),
    /// It may try a backend for which [`BackendState::may_fail_open`](super::backend::BackendState::may_fail_open)
    /// holds.
    FailOpen,
}

/// Why a request may not wait (any longer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldRefusal {
    /// The configuration does not allow it.
    Configured,
    /// Too many requests wait.
    Requests,
    /// Too many bytes are buffered.
    Bytes,
    /// The request has waited long enough.
    TooLong,
}

impl HoldRefusal {
    /// Returns the configuration key that decided, for the operator's log.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Configured => "hold.on_empty",
            Self::Requests => "hold.max_requests",
            Self::Bytes => "hold.max_bytes",
            Self::TooLong => "hold.timeout",
        }
    }

    /// Returns the reason for the client, who does not know the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "no backend is ready",
            Self::Requests | Self::Bytes => {
                "no backend is ready, and too many requests wait for one"
            }
            Self::TooLong => "no backend became ready in time",
        }
    }
}

/// Decides whether a request may wait.
pub fn admit(
    held: HeldTotals,
    waiter: HoldCandidate,
    limits: &HoldLimits,
    now: Time,
) -> HoldAdmission {
    match limits.on_empty {
        OnEmpty::Fail => return HoldAdmission::Fail(HoldRefusal::Configured),
        OnEmpty::FailOpen if waiter.may_fail_open => return HoldAdmission::FailOpen,
        OnEmpty::FailOpen | OnEmpty::Hold => {}
    }
    let until = waiter.since.saturating_add(limits.timeout);
    if until <= now {
        return HoldAdmission::Fail(HoldRefusal::TooLong);
    }
    if held.requests >= limits.max_requests {
        return HoldAdmission::Fail(HoldRefusal::Requests);
    }
    if held.bytes.saturating_add(waiter.bytes) > limits.max_bytes {
        return HoldAdmission::Fail(HoldRefusal::Bytes);
    }
    HoldAdmission::Hold { until }
}

/// Value of `Retry-After` in such a 503, in seconds: about as long as a restart takes, and never 0.
pub const RETRY_AFTER: u32 = 2;

/// Returns when a request that waits although a backend is eligible (it has tried that, and could not connect) should
/// try again, counted from the start of its wait, because after a temporary refusal the state may never change.
/// `round` counts its waits, from 0.
pub const fn second_look(round: u32) -> Time {
    let doublings = if round > 4 { 4 } else { round };
    Time::from_millis(50 << doublings)
}

/// Requests per eligible backend that are released at first: a number that a cold process takes without harm.
const FIRST: u64 = 4;
/// Time between two releases, each of which is twice as large as the one before. 1000 requests on one backend take
/// 70 ms.
const PACE: Time = Time::from_millis(10);

/// How many of the waiting requests may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldRelease {
    /// Number of requests to release, from the oldest on.
    pub count: usize,
    /// When to ask again (or as soon as a backend becomes eligible); `None`: no request waits any more, or no backend
    /// is eligible.
    pub again: Option<Time>,
}

/// Releases held requests gradually, so that they don't all go to the first instance that is ready.
#[derive(Debug, Clone, Default)]
pub struct ReleasePacer {
    /// When the present release began.
    began: Option<Time>,
    /// Number of requests that it has released so far.
    gone: u64,
}

impl ReleasePacer {
    /// Creates a pacer that has released nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many of `waiting` requests may go now, with this number of `eligible` backends. The release is
    /// over when no request waits or no backend is eligible: the next one begins small again.
    pub fn release(&mut self, waiting: usize, eligible: usize, now: Time) -> HoldRelease {
        if waiting == 0 || eligible == 0 {
            *self = Self::new();
            return HoldRelease {
                count: 0,
                again: None,
            };
        }
        let began = *self.began.get_or_insert(now);
        let steps = now.saturating_sub(began).as_millis() / PACE.as_millis();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        // 1 + 2 + 4 + … times the size of the first release.
        let sizes = 1_u64
            .checked_shl(steps.saturating_add(1))
            .map_or(u64::MAX, |power| power - 1);
        let allowed = sizes.saturating_mul(FIRST).saturating_mul(eligible as u64);
        let count = usize::try_from(allowed.saturating_sub(self.gone))
            .unwrap_or(usize::MAX)
            .min(waiting);
        self.gone = self.gone.saturating_add(count as u64);
        if count == waiting {
            *self = Self::new();
            return HoldRelease { count, again: None };
        }
        let again = began.saturating_add(PACE.saturating_mul(steps.saturating_add(1)));
        HoldRelease {
            count,
            again: Some(again),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(100);

    fn waiter() -> HoldCandidate {
        HoldCandidate {
            bytes: 100,
            since: NOW,
            may_fail_open: true,
        }
    }

    #[test]
    fn request_waits_within_the_limits() {
        let limits = HoldLimits {
            max_requests: 2,
            max_bytes: 250,
            ..HoldLimits::default()
        };
        let ask = |requests, bytes| admit(HeldTotals { requests, bytes }, waiter(), &limits, NOW);
        assert_eq!(
            ask(1, 150),
            HoldAdmission::Hold {
                until: NOW + limits.timeout
            }
        );
        assert_eq!(ask(2, 150), HoldAdmission::Fail(HoldRefusal::Requests));
        assert_eq!(ask(1, 151), HoldAdmission::Fail(HoldRefusal::Bytes));
        assert_eq!(ask(1, u64::MAX), HoldAdmission::Fail(HoldRefusal::Bytes));
    }

    #[test]
    fn all_waits_of_a_request_have_one_timeout() {
        let limits = HoldLimits::default();
        let second = HoldCandidate {
            since: NOW - Time::from_secs(7),
            ..waiter()
        };
        let until = NOW + Time::from_secs(3);
        assert_eq!(
            admit(HeldTotals::default(), second, &limits, NOW),
            HoldAdmission::Hold { until }
        );
        assert_eq!(
            admit(HeldTotals::default(), second, &limits, until),
            HoldAdmission::Fail(HoldRefusal::TooLong)
        );
    }

    #[test]
    fn refusals_name_their_key_to_the_operator_and_none_to_the_client() {
        for refusal in [
            HoldRefusal::Configured,
            HoldRefusal::Requests,
            HoldRefusal::Bytes,
            HoldRefusal::TooLong,
        ] {
            assert!(refusal.key().starts_with("hold."));
            let text = refusal.as_str();
            assert!(text.contains(' ') && !text.contains(['_', '.']), "{text}");
        }
    }

    #[test]
    fn on_empty_decides_first() {
        let fail = HoldLimits {
            on_empty: OnEmpty::Fail,
            ..HoldLimits::default()
        };
        assert_eq!(
            admit(HeldTotals::default(), waiter(), &fail, NOW),
            HoldAdmission::Fail(HoldRefusal::Configured)
        );
        let open = HoldLimits {
            on_empty: OnEmpty::FailOpen,
            ..HoldLimits::default()
        };
        assert_eq!(
            admit(HeldTotals::default(), waiter(), &open, NOW),
            HoldAdmission::FailOpen
        );
        let nothing = HoldCandidate {
            may_fail_open: false,
            ..waiter()
        };
        assert!(matches!(
            admit(HeldTotals::default(), nothing, &open, NOW),
            HoldAdmission::Hold { .. }
        ));
    }

    #[test]
    fn release_begins_small_and_doubles() {
        let mut pacer = ReleasePacer::new();
        let (mut waiting, mut now, mut counts) = (1000, NOW, Vec::new());
        loop {
            let release = pacer.release(waiting, 1, now);
            counts.push(release.count);
            waiting -= release.count;
            let Some(again) = release.again else { break };
            assert_eq!(again, now + PACE);
            now = again;
        }
        assert_eq!(counts, [4, 8, 16, 32, 64, 128, 256, 492]);
        assert_eq!(waiting, 0);
        assert_eq!(
            pacer.release(10, 1, now).count,
            4,
            "the next one begins small again"
        );
    }

    #[test]
    fn more_backends_take_more_and_asking_twice_gives_nothing() {
        let mut pacer = ReleasePacer::new();
        assert_eq!(pacer.release(1000, 3, NOW).count, 12);
        assert_eq!(
            pacer.release(988, 3, NOW),
            HoldRelease {
                count: 0,
                again: Some(NOW + PACE)
            }
        );
        assert_eq!(
            pacer.release(988, 4, NOW).count,
            4,
            "a fourth became eligible"
        );
        assert_eq!(
            pacer.release(984, 0, NOW + PACE),
            HoldRelease {
                count: 0,
                again: None
            }
        );
        assert_eq!(
            pacer.release(984, 1, NOW + PACE * 2).count,
            4,
            "and all over again"
        );
        assert_eq!(
            pacer.release(980, 1, NOW + PACE * 1000).count,
            980,
            "late is no harm"
        );
    }

    #[test]
    fn second_looks_come_at_growing_intervals() {
        let looks: Vec<u128> = [0, 1, 4, 99]
            .map(|round| second_look(round).as_millis())
            .into();
        assert_eq!(looks, [50, 100, 800, 800]);
    }
}
