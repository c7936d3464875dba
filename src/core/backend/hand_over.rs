//! Drains under which sessions are finished: when the hand-over begins, and when it is over.

use super::{BackendHealth, BackendPolicy, BackendState, DrainActor, StepEffects};
use crate::core::Time;
use crate::core::sticky::hand_over::{HandOver, HandOverFacts};

impl BackendState {
    /// Returns the hand-over with which a drain begins, if the policy asks for one. Reasons against it are checked at
    /// the end of the same step.
    pub(super) fn begin_hand_over(&self, policy: &BackendPolicy, now: Time) -> Option<HandOver> {
        (policy.finishes_sessions).then(|| HandOver::new(self.incarnation, now))
    }

    /// Whether clients with a session may still use the backend, although it is closed.
    pub fn hands_over(&self) -> bool {
        (self.closing.as_ref()).is_some_and(|closing| closing.hands_over())
    }

    /// Ends the hand-over if there is no more reason for it.
    pub(super) fn look_at_sessions(&mut self, turn: &mut StepEffects<'_>) {
        let facts = self.hand_over_facts(turn.policy, turn.context.sessions);
        if let Some(closing) = &mut self.closing
            && closing.look_at_sessions(&facts, turn.now)
        {
            turn.shut = true;
        }
    }

    /// Returns when sessions have to be checked again.
    pub(super) fn next_session_look(&self, policy: &BackendPolicy) -> Option<Time> {
        let closing = self.closing.as_ref()?;
        closing.next_look(&self.hand_over_facts(policy, 0))
    }

    /// Collects the facts for the hand-over. A process that reports that it stops, fails its probes or has ended
    /// takes no requests.
    fn hand_over_facts(&self, policy: &BackendPolicy, sessions: u32) -> HandOverFacts {
        HandOverFacts {
            sessions,
            can_take_requests: self.judge.health() == BackendHealth::Up
                && !self.drains.has(DrainActor::App)
                && !self.drains.any_ended(),
            incarnation: self.incarnation,
            deadline: self.drains.deadline(),
            is_past_deadline: self.drains.any_spent(),
            reserve: policy.close_spread,
        }
    }
}
