//! Paused pools: no new requests go to their backends, though they may be ready.

use super::Time;
use super::hold::{HoldLimits, OnEmpty};

/// Default length of a pause that holds requests.
pub const DEFAULT_HOLD: Time = Time::from_secs(5 * 60);

/// Longest pause that holds requests: for longer ones there is the page.
pub const LONGEST_HOLD: Time = Time::from_secs(3600);

/// What happens to requests to a paused pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseMode {
    /// They wait.
    Hold,
    /// They are answered with a page.
    Page,
}

impl PauseMode {
    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Page => "page",
        }
    }
}

/// Mode and end of a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseTerm {
    /// What happens to requests.
    pub mode: PauseMode,
    /// Time at which the pause ends by itself; `None`: it has to be ended. A pause that holds requests always has an
    /// end.
    pub until: Option<Time>,
}

impl PauseTerm {
    /// Returns a pause of `length` from now; `None`: the default length. The error is the longest possible length.
    ///
    /// # Errors
    /// Requests can't be held for so long.
    pub fn asked(mode: PauseMode, length: Option<Time>, now: Time) -> Result<Self, Time> {
        let length = match mode {
            PauseMode::Hold => Some(length.unwrap_or(DEFAULT_HOLD)),
            PauseMode::Page => length,
        };
        if mode == PauseMode::Hold && length > Some(LONGEST_HOLD) {
            return Err(LONGEST_HOLD);
        }
        Ok(Self {
            mode,
            until: length.map(|length| now.saturating_add(length)),
        })
    }

    /// Returns the pause for a pool that is already paused: the present pause is never shortened, but another mode
    /// begins anew.
    #[must_use]
    pub fn extending(self, former: Option<PauseTerm>) -> Self {
        let until = match former {
            Some(former) if former.mode == self.mode => match (former.until, self.until) {
                (Some(one), Some(other)) => Some(one.max(other)),
                _ => None,
            },
            _ => self.until,
        };
        Self { until, ..self }
    }

    /// Whether the pause has ended by itself.
    pub fn is_over(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// Returns the limits of a request's wait in a pool that is paused until then: those of the pool, except that the
/// pause is not counted against the wait. `on_empty` is about backends that are not ready, and does not apply here.
#[must_use]
pub fn paused_limits(limits: HoldLimits, since: Time, until: Time) -> HoldLimits {
    HoldLimits {
        on_empty: OnEmpty::Hold,
        timeout: until.saturating_add(limits.timeout).saturating_sub(since),
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use super::super::hold::{HeldTotals, HoldAdmission, HoldCandidate, HoldRefusal, admit};
    use super::*;

    const NOW: Time = Time::from_secs(100);
    const MINUTE: Time = Time::from_secs(60);

    #[test]
    fn a_pause_that_holds_always_ends_and_a_page_may_not() {
        let hold = PauseTerm::asked(PauseMode::Hold, None, NOW).unwrap();
        assert_eq!(hold.until, Some(NOW + DEFAULT_HOLD));
        assert_eq!(
            PauseTerm::asked(PauseMode::Hold, Some(LONGEST_HOLD + MINUTE), NOW),
            Err(LONGEST_HOLD)
        );
        let page = PauseTerm::asked(PauseMode::Page, None, NOW).unwrap();
        assert!(!page.is_over(Time::MAX));
        let day = Some(Time::from_secs(86_400));
        assert!(PauseTerm::asked(PauseMode::Page, day, NOW).is_ok());
    }

    #[test]
    fn a_second_pause_extends_and_never_shortens() {
        let ask = |mode, minutes| PauseTerm::asked(mode, Some(MINUTE * minutes), NOW).unwrap();
        let (long, short) = (ask(PauseMode::Hold, 10), ask(PauseMode::Hold, 1));
        assert_eq!(short.extending(Some(long)), long);
        assert_eq!(long.extending(Some(short)), long);
        assert_eq!(long.extending(None), long);
        // Another mode is another pause: a page without an end must not lead to a hold without one.
        let page = PauseTerm::asked(PauseMode::Page, None, NOW).unwrap();
        assert_eq!(short.extending(Some(page)), short);
        assert_eq!(ask(PauseMode::Page, 5).extending(Some(page)).until, None);
    }

    #[test]
    fn it_is_over_at_its_end() {
        let term = PauseTerm::asked(PauseMode::Hold, Some(MINUTE), NOW).unwrap();
        assert!(!term.is_over(NOW + MINUTE - Time::from_millis(1)));
        assert!(term.is_over(NOW + MINUTE));
    }

    #[test]
    fn the_time_of_a_pause_does_not_count_as_a_wait_but_the_bounds_do() {
        let limits = HoldLimits {
            on_empty: OnEmpty::Fail,
            max_requests: 1,
            ..HoldLimits::default()
        };
        let until = NOW + MINUTE;
        let paused = paused_limits(limits.clone(), NOW, until);
        let waiter = HoldCandidate {
            bytes: 1,
            since: NOW,
            may_fail_open: true,
        };
        let none = HeldTotals::default();
        assert_eq!(
            admit(none, waiter, &paused, NOW),
            HoldAdmission::Hold {
                until: until + limits.timeout
            }
        );
        let full = HeldTotals {
            requests: 1,
            bytes: 0,
        };
        assert_eq!(
            admit(full, waiter, &paused, NOW),
            HoldAdmission::Fail(HoldRefusal::Requests)
        );
    }
}
