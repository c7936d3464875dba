//! Reports of another process by the actor that drained the one before it.

use super::turn::StepEffects;
use super::{BackendState, DrainActor, HealthJudge};

impl BackendState {
    /// Ends a drain because another process runs. If probes have not seen the new process yet, it is a new
    /// incarnation from here on; if they have, the incarnation is already counted.
    pub(super) fn runs_again(&mut self, actor: DrainActor, id: &str, turn: &mut StepEffects<'_>) {
        let Some(asked_for) = self.drains.asked_for(actor, id) else {
            return;
        };
        if asked_for == self.incarnation {
            self.judge = HealthJudge::new(turn.now);
            self.begin_incarnation(turn);
            turn.probe = true;
        }
        self.lift_drains(|drain| drain.actor == actor && drain.id == id, turn);
    }
}
