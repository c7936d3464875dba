//! Another process, by the word of whoever drained the one before it.

use super::turn::StepEffects;
use super::{BackendState, DrainActor, HealthJudge};

impl BackendState {
    /// Ends a drain because another process runs. Where probes have not told the two apart yet, it is a new incarnation
    /// from here on; where they have, they know it better than the word does.
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
