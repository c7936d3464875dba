//! A pool that is paused: nothing new goes to its backends, though they may be ready.

use super::Time;
use super::hold::{HoldLimits, OnEmpty};

/// How long requests are held where no time is given.
pub const DEFAULT_HOLD: Time = Time::from_secs(5 * 60);

/// The longest time that requests can be held: for longer pauses there is the page.
pub const LONGEST_HOLD: Time = Time::from_secs(3600);

/// What becomes of the requests that come to a paused pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseMode {
    /// They wait.
    Hold,
    /// They are answered with a page.
    Page,
}

impl PauseMode {
    /// Its name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Page => "page",
        }
    }
}

/// What is paused, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseTerm {
    /// What becomes of requests.
    pub mode: PauseMode,
    /// It ends by itself then; `None`: it lasts until somebody ends it. A pause that holds always has an end.
    pub until: Option<Time>,
}

impl PauseTerm {
    /// A pause of `length` from now; `None`: the default. The error is the longest time that there is.
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

    /// The same where the pool is paused already: it is never shortened. Another mode begins anew.
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

    /// Whether it has ended by itself.
    pub fn is_over(&self, now: Time) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The bounds of a request's wait in a pool that is paused until then: those of the pool, except that the pause is not
/// counted against the wait. What `on_empty` says is about backends that are not ready, and doesn't count here.
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
        // Another mode is another pause: a page without an end must not make a hold that has none.
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
