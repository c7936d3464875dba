//! One closing: from the first drain until no drain is left. Requests that wait for the drain are answered once.

use super::Time;
use super::drain::{DrainOutcome, DrainSet};
use super::event::{BackendEffect, BackendPolicy};
use super::sticky::hand_over::{HandOver, HandOverFacts};

/// Progress of a closing.
#[derive(Debug, Clone)]
pub(super) struct ClosingProgress {
    /// Epoch with which it began.
    epoch: u64,
    /// Time since which nothing has been in flight and no connection open.
    quiet: Option<Time>,
    /// Whether it is quiet after requests were lost: the next probe shows whether the process died.
    undecided: bool,
    /// Whether the requests that wait for the drain have been answered.
    announced: bool,
    /// Deadline for which streams have been asked to end.
    ending: Option<Time>,
    /// Hand-over, while clients with a session may still use the backend.
    hand_over: Option<HandOver>,
}

impl ClosingProgress {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            quiet: None,
            undecided: false,
            announced: false,
            ending: None,
            hand_over: None,
        }
    }

    /// Adds a hand-over, under which sessions are finished.
    pub(super) fn with_hand_over(mut self, hand_over: Option<HandOver>) -> Self {
        self.hand_over = hand_over;
        self
    }

    /// Whether clients with a session may still use the backend.
    pub(super) fn hands_over(&self) -> bool {
        self.hand_over.is_some()
    }

    /// Ends the hand-over if it is over. Returns whether it has ended now.
    pub(super) fn look_at_sessions(&mut self, facts: &HandOverFacts, now: Time) -> bool {
        let Some(hand_over) = &mut self.hand_over else {
            return false;
        };
        if hand_over.is_over(facts, now) {
            self.hand_over = None;
            // Streams may have come meanwhile that have not been asked to end.
            self.ending = None;
            return true;
        }
        hand_over.note_look(now);
        false
    }

    /// Returns when sessions have to be checked again.
    pub(super) fn next_look(&self, facts: &HandOverFacts) -> Option<Time> {
        Some(self.hand_over?.next_look(facts))
    }

    /// Creates a closing from before the proxy started: nothing is in flight, and no request waits for it.
    pub(super) fn quiet(epoch: u64, now: Time) -> Self {
        Self {
            quiet: Some(now),
            announced: true,
            ..Self::new(epoch)
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.is_some()
    }

    /// Returns the time since which nothing has been in flight and no connection open.
    pub(super) fn quiet_since(&self) -> Option<Time> {
        self.quiet
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.undecided
    }

    /// Takes in another drain order, whose caller may wait too. Returns whether the closing starts over: it was
    /// quiet, but fail-open has sent requests since.
    pub(super) fn join(&mut self, in_flight: u32, waits: bool, epoch: u64) -> bool {
        if self.is_quiet() && in_flight > 0 {
            *self = Self::new(epoch);
            return true;
        }
        if waits && !self.is_quiet() {
            self.announced = false;
        }
        false
    }

    /// Whether "quiesced" for this epoch applies to this closing, and was not known yet.
    pub(super) fn accepts_quiesced(&self, epoch: u64, current: u64) -> bool {
        !self.is_quiet() && (self.epoch..=current).contains(&epoch)
    }

    /// Notes that the backend is quiet, and that the next probe has to show whether its process died.
    pub(super) fn await_decision(&mut self) {
        self.undecided = true;
    }

    /// Notes that the backend is quiet. `outcome`: how the drain ended, for the requests that still wait for it.
    pub(super) fn settle_outcome(
        &mut self,
        outcome: DrainOutcome,
        now: Time,
    ) -> Option<BackendEffect> {
        self.quiet.get_or_insert(now);
        self.undecided = false;
        self.announce(outcome)
    }

    /// Answers the requests that wait for the drain, once.
    pub(super) fn announce(&mut self, outcome: DrainOutcome) -> Option<BackendEffect> {
        (!std::mem::replace(&mut self.announced, true)).then_some(BackendEffect::Announce(outcome))
    }

    /// Returns when streams have to begin to end, or requests have to be cut.
    pub(super) fn next_deadline(&self, drains: &DrainSet, policy: &BackendPolicy) -> Option<Time> {
        let deadline = drains.deadline().filter(|_| !self.is_quiet())?;
        if self.ending == Some(deadline) {
            return Some(deadline);
        }
        Some(deadline.saturating_sub(policy.close_spread))
    }

    /// Returns the effects that the deadline asks for now.
    pub(super) fn due(
        &mut self,
        drains: &mut DrainSet,
        policy: &BackendPolicy,
        now: Time,
        in_flight: u32,
    ) -> Vec<BackendEffect> {
        let mut effects = Vec::new();
        while let Some(deadline) = drains.deadline().filter(|_| !self.is_quiet()) {
            if deadline.saturating_sub(policy.close_spread) > now {
                return effects;
            }
            if self.ending != Some(deadline) {
                self.ending = Some(deadline);
                effects.push(BackendEffect::EndStreams {
                    from: deadline
                        .saturating_sub(policy.close_spread)
                        .max(now)
                        .min(deadline),
                    until: deadline,
                    restarting: drains.restarting(),
                });
            }
            if deadline > now {
                return effects;
            }
            drains.mark_deadlines_spent(now);
            effects.push(BackendEffect::Cut);
            effects.extend(self.announce(DrainOutcome::TimedOut { cut: in_flight }));
        }
        effects
    }
}
