//! One backend: health × drains. [`BackendState::step`] is the only way to change it; [`BackendState::state`] is the
//! only place that decides whether it takes requests.

use super::Time;
use super::closing::ClosingProgress;
use super::drain::{DrainActor, DrainOutcome, DrainSet, DrainSpec, DrainUntil, OpenDrain, Probed};
pub use super::event::{BackendEffect, BackendEvent, BackendPolicy, EventContext, ProbeResult};
use super::health::{HealthJudge, JudgeContext, ProbeSample};
use super::losses::RequestLosses;
pub use super::state::{BackendHealth, DerivedState};

mod hand_over;
mod successor;
mod turn;
mod vouched;

use turn::StepEffects;

/// ID of the app's own drain, of which there is at most one.
pub const APP_DRAIN: &str = "app";

/// The state of one backend. It starts closed.
#[derive(Debug, Clone)]
pub struct BackendState {
    judge: HealthJudge,
    drains: DrainSet,
    /// Progress of the closing; present while the set of drains isn't empty.
    closing: Option<ClosingProgress>,
    losses: RequestLosses,
    epoch: u64,
    incarnation: u64,
}

impl BackendState {
    /// Creates a backend without drains: it waits for its first `rise` passes.
    pub fn new(now: Time) -> Self {
        Self {
            judge: HealthJudge::new(now),
            drains: DrainSet::default(),
            closing: None,
            losses: RequestLosses::default(),
            epoch: 0,
            incarnation: 1,
        }
    }

    /// Creates a backend as it was before the proxy restarted: closed by these drains, with nothing in flight. A
    /// drain that ends with a restart waits for a restart that this proxy sees; if the restart happened unseen, the
    /// drain lasts until it expires.
    pub fn restore(now: Time, drains: impl IntoIterator<Item = OpenDrain>) -> Self {
        let mut backend = Self::new(now);
        for drain in drains {
            backend.drains.put_back(drain, backend.incarnation, now);
        }
        if !backend.drains.is_empty() {
            backend.closing = Some(ClosingProgress::quiet(backend.epoch, now));
        }
        backend
    }

    /// Returns the same backend, with `incarnation` as the number of its process. A drain that ends with a restart
    /// waits for a later one.
    pub fn counted_from(mut self, incarnation: u64) -> Self {
        self.incarnation = incarnation.max(1);
        self.drains.count_from(self.incarnation);
        self
    }

    /// Returns the state, derived from drains and health.
    pub fn state(&self) -> DerivedState {
        match (&self.closing, self.judge.health()) {
            (Some(closing), _) if closing.is_quiet() => DerivedState::Drained,
            (Some(_), _) => DerivedState::Draining,
            (None, BackendHealth::Starting) => DerivedState::Starting,
            (None, BackendHealth::Down) => DerivedState::Down,
            (None, BackendHealth::Up) => DerivedState::Ready,
        }
    }

    /// Whether the backend takes new requests.
    pub fn is_eligible(&self) -> bool {
        self.state() == DerivedState::Ready
    }

    /// Returns its health according to probes.
    pub fn health(&self) -> BackendHealth {
        self.judge.health()
    }

    /// Returns the epoch, which changes at each closing and each incarnation. Pooled connections belong to an epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the number of the process behind the backend, counted from 1.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Returns the open drains, by actor and ID.
    pub fn drains(&self) -> impl Iterator<Item = (&(DrainActor, String), &OpenDrain)> {
        self.drains.iter()
    }

    /// Whether fail-open may use the backend: it is down, or only the app itself has closed it.
    pub fn may_fail_open(&self) -> bool {
        match self.state() {
            DerivedState::Drained | DerivedState::Draining => self.drains.only_app(),
            DerivedState::Down => true,
            DerivedState::Starting | DerivedState::Ready => false,
        }
    }

    /// Returns when [`BackendEvent::Tick`] is next needed. After that tick, the next time is later.
    pub fn next_deadline(&self, policy: &BackendPolicy) -> Option<Time> {
        let cut = self
            .closing
            .as_ref()
            .and_then(|closing| closing.next_deadline(&self.drains, policy));
        let absent = self.judge.absent_at(policy, self.waits_for_passes());
        let sessions = self.next_session_look(policy);
        [cut, self.drains.next_expiry(), absent, sessions]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the time between two probes: `fast_interval` in transition, else `interval`.
    pub fn probe_interval(&self, policy: &BackendPolicy) -> Time {
        // A drain that ends with a restart is watched closely, so that the new process is seen soon.
        let watched = self.drains.restarting() || self.drains.any_expired();
        if watched || self.judge.in_a_hurry(policy, self.waits_for_passes()) {
            policy.fast_interval.min(policy.interval)
        } else {
            policy.interval
        }
    }

    /// Processes one event, and returns what the edge (the code around the core) has to do, in this order.
    pub fn step(
        &mut self,
        event: BackendEvent,
        context: &EventContext,
        policy: &BackendPolicy,
        now: Time,
    ) -> Vec<BackendEffect> {
        let before = self.state();
        let mut turn = StepEffects {
            context,
            policy,
            now,
            acts: Vec::new(),
            reason: String::new(),
            shut: false,
            bumped: false,
            probe: false,
            planned: false,
            alert: false,
        };
        match event {
            BackendEvent::Probed {
                probe,
                began,
                listener,
            } => {
                self.probed(
                    ProbeSample {
                        probe,
                        began,
                        listener,
                    },
                    &mut turn,
                );
            }
            BackendEvent::PeerClosed => {
                self.judge.peer_closed(now);
                turn.probe = true;
            }
            BackendEvent::Hint => {
                self.judge.hint();
                turn.probe = true;
            }
            BackendEvent::Lost { requests } => {
                self.losses.add(requests, now);
                self.judge.hint();
                turn.probe = true;
            }
            BackendEvent::Drain(order) => self.close(order, &mut turn),
            BackendEvent::Resume { all } => self.resume(all, &mut turn),
            BackendEvent::Withdrawn { actor, id } => {
                turn.set_reason("whoever drained it took that back");
                self.lift_drains(|drain| drain.actor == actor && drain.id == id, &mut turn);
            }
            BackendEvent::Orphaned { actor, id, expires } => {
                self.drains.hasten(actor, &id, expires)
            }
            BackendEvent::Ended { actor, id } => {
                self.drains.note_end(actor, &id, now);
                turn.probe = true;
            }
            BackendEvent::RunsAgain { actor, id } => self.runs_again(actor, &id, &mut turn),
            BackendEvent::LeaseEnded { id } => {
                turn.set_reason("its lease ended");
                self.lift_drains(
                    |drain| drain.actor == DrainActor::Supervisor && drain.id == id,
                    &mut turn,
                );
            }
            BackendEvent::Quiesced { epoch } => self.quiesced(epoch, &mut turn),
            BackendEvent::Replaced => {
                self.judge = HealthJudge::new(now);
                self.begin_incarnation(&mut turn);
                turn.probe = true;
            }
            BackendEvent::Tick => {}
        }
        self.pass_time(&mut turn);
        self.finish(turn, before)
    }

    fn probed(&mut self, sample: ProbeSample, turn: &mut StepEffects<'_>) {
        let probed = Probed {
            well: sample.probe == ProbeResult::Pass,
            began: sample.began,
            gap: self.judge.gap(),
            quiet: self.closing.as_ref().and_then(ClosingProgress::quiet_since),
            incarnation: self.incarnation,
        };
        let setting = JudgeContext {
            drained: !self.drains.is_empty(),
            drained_by_app: self.drains.has(DrainActor::App),
            irreplaceable: turn.context.irreplaceable,
            replaced: self.drains.show_restart(probed),
        };
        let finding = self.judge.take(sample, setting, turn.policy, turn.now);
        if finding.stale {
            return;
        }
        if finding.reborn {
            self.begin_incarnation(turn);
        } else {
            let given_up = self.judge.failures() >= turn.policy.fall;
            self.losses.weigh(sample, given_up);
            self.settle_if_decided(turn);
            turn.acts.extend(self.drains.note_unseen(probed));
        }
        if finding.unavailable {
            let deadline = turn
                .policy
                .cut_on_503
                .then(|| turn.now.saturating_add(turn.policy.drain_deadline));
            self.close_by_app("its health check answered 503", deadline, turn);
        } else if finding.stopping {
            self.close_by_app(
                "stopping: it closed its connections and refuses new ones",
                None,
                turn,
            );
        } else if finding.fell {
            let row = if sample.probe == ProbeResult::Timeout {
                self.judge.timeouts()
            } else {
                self.judge.failures()
            };
            turn.set_reason(format!("{row} probes failed"));
        } else if finding.risen {
            self.drains.lift_passed(self.incarnation);
            turn.set_reason(format!("passed {} probes in a row", turn.policy.rise));
        }
    }

    /// Returns the number of consecutive probes that timed out, up to the last one.
    pub fn timeouts(&self) -> u32 {
        self.judge.timeouts()
    }

    /// Opens the app's drain, once; later signs change only its reason.
    fn close_by_app(&mut self, reason: &str, deadline: Option<Time>, turn: &mut StepEffects<'_>) {
        if self.drains.explain(DrainActor::App, APP_DRAIN, reason) {
            return;
        }
        let order = DrainSpec {
            actor: DrainActor::App,
            id: APP_DRAIN.to_owned(),
            reason: reason.to_owned(),
            deadline,
            until: DrainUntil::Resumed,
            expires: None,
        };
        self.close(order, turn);
        turn.set_reason(reason);
    }

    fn close(&mut self, order: DrainSpec, turn: &mut StepEffects<'_>) {
        let told = if order.reason.is_empty() {
            "no reason given"
        } else {
            &order.reason
        };
        turn.set_reason(format!("drain by {}: {told}", order.actor.as_str()));
        if order.actor == DrainActor::App {
            self.judge.ask_again(turn.now);
        }
        let waits = order.actor != DrainActor::App;
        self.drains.put(order, self.incarnation, turn.now);
        let in_flight = turn.context.in_flight;
        match &mut self.closing {
            Some(closing) => {
                if closing.join(in_flight, waits, self.epoch.saturating_add(1)) {
                    turn.shut = true;
                    self.bump(turn);
                }
            }
            None => {
                turn.shut = true;
                self.judge.forget_before(turn.now);
                self.bump(turn);
                let hand_over = self.begin_hand_over(turn.policy, turn.now);
                self.closing = Some(ClosingProgress::new(self.epoch).with_hand_over(hand_over));
            }
        }
    }

    fn resume(&mut self, all: bool, turn: &mut StepEffects<'_>) {
        turn.set_reason(if all {
            "every drain lifted"
        } else {
            "resumed by operator"
        });
        self.lift_drains(|drain| all || drain.actor == DrainActor::Operator, turn);
    }

    /// Lifts drains. Earlier findings about the process count only if the process can't have been replaced unseen.
    /// That may have happened while the backend was drained (no connection was open that could have broken), and if
    /// the app's own drain is overruled: then the backend opens after `rise` passes that begin from now on.
    fn lift_drains(&mut self, which: impl Fn(&OpenDrain) -> bool, turn: &mut StepEffects<'_>) {
        let apps_own = self.drains.has(DrainActor::App);
        turn.planned = true;
        if !self.drains.lift(which) {
            return;
        }
        let overruled = apps_own && !self.drains.has(DrainActor::App);
        if overruled || self.state() == DerivedState::Drained {
            self.judge.reset_health(turn.now);
            turn.probe = true;
        }
    }

    fn quiesced(&mut self, epoch: u64, turn: &mut StepEffects<'_>) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        let is_in_use = turn.context.in_flight > 0 || closing.hands_over();
        if is_in_use || !closing.accepts_quiesced(epoch, self.epoch) {
            return;
        }
        if !self.losses.is_decided() {
            closing.await_decision();
            turn.probe = true;
            return;
        }
        self.settle_closing(turn);
    }

    /// Begins a new incarnation: another process is behind the backend. Requests in flight on the old one continue.
    fn begin_incarnation(&mut self, turn: &mut StepEffects<'_>) {
        self.incarnation = self.incarnation.saturating_add(1);
        self.bump(turn);
        turn.set_reason(format!(
            "another process is behind it (incarnation {})",
            self.incarnation
        ));
        match self.closing {
            Some(_) => self.losses.succeeded(),
            None => self.losses = RequestLosses::default(),
        }
        self.settle_if_decided(turn);
    }

    fn settle_if_decided(&mut self, turn: &mut StepEffects<'_>) {
        let undecided = self
            .closing
            .as_ref()
            .is_some_and(ClosingProgress::is_undecided);
        if undecided && self.losses.is_decided() {
            self.settle_closing(turn);
        }
    }

    fn settle_closing(&mut self, turn: &mut StepEffects<'_>) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        let lost = self.losses.requests();
        let outcome = if lost > 0 {
            DrainOutcome::Died { lost }
        } else {
            DrainOutcome::Drained
        };
        turn.acts.extend(closing.settle_outcome(outcome, turn.now));
        if lost > 0 {
            turn.set_reason(format!("its process died and took {lost} requests along"));
            turn.alert = true;
        } else {
            turn.set_reason("nothing is in flight and no connection is open");
        }
        self.losses = RequestLosses::default();
    }

    /// Handles expiries, absence and deadlines that are due.
    fn pass_time(&mut self, turn: &mut StepEffects<'_>) {
        if self.drains.expire(turn.now) {
            self.judge.ask_again(turn.now);
            turn.probe = true;
        }
        let absent = self.judge.absent_at(turn.policy, self.waits_for_passes());
        if absent.is_some_and(|at| at <= turn.now) {
            self.drains.lift_absent();
            self.judge.give_up();
            turn.set_reason(format!(
                "no probe passed for {:?}",
                turn.policy.absent_after
            ));
            if self.drains.is_empty()
                && let Some(closing) = &mut self.closing
            {
                let lost = self.losses.requests();
                turn.acts
                    .extend(closing.announce(DrainOutcome::Died { lost }));
            }
        }
        self.look_at_sessions(turn);
        if self.drains.is_empty() {
            self.open(turn);
        } else if let Some(closing) = &mut self.closing {
            let in_flight = turn.context.in_flight;
            let due = closing.due(&mut self.drains, turn.policy, turn.now, in_flight);
            turn.acts.extend(due);
        }
    }

    /// Ends the closing, because no drain is left. From here on, health alone decides.
    fn open(&mut self, turn: &mut StepEffects<'_>) {
        if let Some(mut closing) = self.closing.take() {
            turn.shut |= closing.hands_over();
            turn.acts.extend(closing.announce(DrainOutcome::Resumed));
            self.losses = RequestLosses::default();
        }
    }

    /// Whether only passes can open the backend (other things being equal).
    fn waits_for_passes(&self) -> bool {
        self.drains.has(DrainActor::App) || self.drains.any_expired()
    }

    fn bump(&mut self, turn: &mut StepEffects<'_>) {
        if !std::mem::replace(&mut turn.bumped, true) {
            self.epoch = self.epoch.saturating_add(1);
        }
    }

    fn finish(&mut self, mut turn: StepEffects<'_>, from: DerivedState) -> Vec<BackendEffect> {
        let to = self.state();
        let left = from == DerivedState::Ready && to != DerivedState::Ready;
        if left {
            self.bump(&mut turn);
        }
        let mut effects = Vec::new();
        if left || turn.shut {
            effects.push(match self.hands_over() {
                true => BackendEffect::CloseGateToNew,
                false => BackendEffect::CloseGate,
            });
        }
        if turn.bumped {
            effects.push(BackendEffect::NewEpoch(self.epoch));
        }
        effects.append(&mut turn.acts);
        if from != to {
            let alert = turn.alert || (to == DerivedState::Down && !turn.planned);
            effects.push(BackendEffect::Changed {
                from,
                to,
                reason: turn.reason,
                alert,
            });
        }
        if to == DerivedState::Ready && from != DerivedState::Ready {
            effects.push(BackendEffect::OpenGate);
        }
        // While drained, no probe kept its connection open: that of the next probe becomes the sentinel.
        if turn.probe || (from == DerivedState::Drained && to == DerivedState::Ready) {
            effects.push(BackendEffect::ProbeNow);
        }
        effects
    }
}

#[cfg(test)]
mod tests;
