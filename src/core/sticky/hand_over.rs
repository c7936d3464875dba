//! `on_drain = "finish"`: while a backend drains, clients with a session there may still use it, and no others.

use crate::core::Time;

/// Interval at which the number of remaining sessions is checked.
const LOOK: Time = Time::from_secs(1);

/// A drain under which sessions are finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOver {
    began: Time,
    /// Number of the process that it is about.
    incarnation: u64,
    look: Time,
}

/// Facts that decide whether a hand-over is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOverFacts {
    /// Number of remaining sessions.
    pub sessions: u32,
    /// Whether the process passes its probes, and has not reported that it stops.
    pub can_take_requests: bool,
    /// Number of the process behind the backend.
    pub incarnation: u64,
    /// Deadline of the drain; `None`: it has none, or it is over.
    pub deadline: Option<Time>,
    /// Whether some deadline is over.
    pub is_past_deadline: bool,
    /// Time before a deadline that is kept for requests in flight.
    pub reserve: Time,
}

impl HandOver {
    /// Creates a hand-over that begins now.
    pub fn new(incarnation: u64, now: Time) -> Self {
        Self {
            began: now,
            incarnation,
            look: now.saturating_add(LOOK),
        }
    }

    /// Returns when clients with a session are sent to other backends, however many are left: requests in flight then
    /// have the rest of the time. At most half of the time is kept for that.
    fn end(&self, facts: &HandOverFacts) -> Option<Time> {
        let deadline = facts.deadline?;
        let half = deadline.saturating_sub(self.began) / 2;
        Some(deadline.saturating_sub(facts.reserve.min(half)))
    }

    /// Whether all clients go to other backends from now on.
    pub fn is_over(&self, facts: &HandOverFacts, now: Time) -> bool {
        facts.sessions == 0
            || !facts.can_take_requests
            || facts.incarnation != self.incarnation
            || facts.is_past_deadline
            || self.end(facts).is_some_and(|end| end <= now)
    }

    /// Notes that the sessions have been checked.
    pub fn note_look(&mut self, now: Time) {
        if self.look <= now {
            self.look = now.saturating_add(LOOK);
        }
    }

    /// Returns when the next check is due.
    pub fn next_look(&self, facts: &HandOverFacts) -> Time {
        self.end(facts).map_or(self.look, |end| end.min(self.look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(100);

    fn at(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    fn facts() -> HandOverFacts {
        HandOverFacts {
            sessions: 3,
            can_take_requests: true,
            incarnation: 1,
            deadline: Some(at(130)),
            is_past_deadline: false,
            reserve: at(5),
        }
    }

    #[test]
    fn hand_over_lasts_until_the_reserve_before_the_deadline() {
        let hand_over = HandOver::new(1, START);
        assert!(!hand_over.is_over(&facts(), START));
        assert!(!hand_over.is_over(&facts(), at(124)));
        assert!(hand_over.is_over(&facts(), at(125)));
        let unbounded = HandOverFacts {
            deadline: None,
            ..facts()
        };
        assert!(!hand_over.is_over(&unbounded, at(1_000_000)));
    }

    #[test]
    fn reserve_takes_no_more_than_half_of_a_short_drain() {
        let hand_over = HandOver::new(1, START);
        let short = HandOverFacts {
            deadline: Some(at(104)),
            ..facts()
        };
        assert!(!hand_over.is_over(&short, at(101)));
        assert!(hand_over.is_over(&short, at(102)));
        let none = HandOverFacts {
            deadline: Some(START),
            ..facts()
        };
        assert!(hand_over.is_over(&none, START));
    }

    #[test]
    fn hand_over_ends_with_the_last_session_the_process_or_the_deadline() {
        let hand_over = HandOver::new(1, START);
        for over in [
            HandOverFacts {
                sessions: 0,
                ..facts()
            },
            HandOverFacts {
                can_take_requests: false,
                ..facts()
            },
            HandOverFacts {
                incarnation: 2,
                ..facts()
            },
            HandOverFacts {
                is_past_deadline: true,
                deadline: None,
                ..facts()
            },
        ] {
            assert!(hand_over.is_over(&over, at(101)), "{over:?}");
        }
    }

    #[test]
    fn sessions_are_looked_at_each_second() {
        let mut hand_over = HandOver::new(1, START);
        assert_eq!(hand_over.next_look(&facts()), at(101));
        hand_over.note_look(Time::from_millis(100_500));
        assert_eq!(hand_over.next_look(&facts()), at(101));
        hand_over.note_look(at(101));
        assert_eq!(hand_over.next_look(&facts()), at(102));
        hand_over.note_look(Time::from_millis(124_500));
        assert_eq!(hand_over.next_look(&facts()), at(125));
    }
}
