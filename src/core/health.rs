//! What probes say: rows of passes, failures and time-outs, and when another process has taken over.

use super::Time;
use super::event::{BackendPolicy, ProbeResult};
use super::state::BackendHealth;

/// What the backend's drains and pool mean for the judgement of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct JudgeContext {
    /// Drains are open.
    pub drained: bool,
    /// The app's own is among them.
    pub drained_by_app: bool,
    /// No other eligible one answers in time.
    pub irreplaceable: bool,
    /// By the sign of some drain, the process that passes probes now is another one.
    pub replaced: bool,
}

/// One probe, as it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeSample {
    pub probe: ProbeResult,
    pub began: Time,
    pub listener: Option<u64>,
}

/// What a probe changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProbeFinding {
    /// The probe began too early to count. Nothing else is set then.
    pub stale: bool,
    /// Another process answers.
    pub reborn: bool,
    /// The row of passes is long enough.
    pub risen: bool,
    /// The app says that it is draining.
    pub unavailable: bool,
    /// It closed its connections and now refuses: it is stopping.
    pub stopping: bool,
    /// The row of failures or of time-outs is long enough.
    pub fell: bool,
}

/// The judge of one backend's probes.
#[derive(Debug, Clone)]
pub(super) struct HealthJudge {
    health: BackendHealth,
    passes: u32,
    failures: u32,
    timeouts: u32,
    /// Probes that began earlier say nothing.
    fresh_since: Time,
    /// Since when no probe was answered.
    failing_since: Option<Time>,
    /// A connect was refused and none has been accepted since.
    refused: bool,
    /// This incarnation has answered a probe.
    met: bool,
    listener: Option<u64>,
    /// The peer closed a connection then, and no later probe was answered.
    closed_by_peer: Option<Time>,
    /// When the last probe was begun that did not pass.
    gap: Option<Time>,
    /// A hint asked for a probe soon.
    hinted: bool,
}

impl HealthJudge {
    pub(super) fn new(now: Time) -> Self {
        Self {
            health: BackendHealth::Starting,
            passes: 0,
            failures: 0,
            timeouts: 0,
            fresh_since: now,
            failing_since: None,
            refused: false,
            met: false,
            listener: None,
            closed_by_peer: None,
            gap: None,
            hinted: false,
        }
    }

    /// A judge that starts from the findings of another one: up, with this listening socket.
    pub(super) fn known(now: Time, listener: Option<u64>) -> Self {
        Self {
            health: BackendHealth::Up,
            met: true,
            listener,
            ..Self::new(now)
        }
    }

    /// A judge that starts from the findings of another one: down.
    pub(super) fn known_down(now: Time) -> Self {
        Self {
            health: BackendHealth::Down,
            failing_since: Some(now),
            ..Self::new(now)
        }
    }

    /// The listening socket that probes have met, where that is known.
    pub(super) fn listener(&self) -> Option<u64> {
        self.listener
    }

    pub(super) fn health(&self) -> BackendHealth {
        self.health
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn timeouts(&self) -> u32 {
        self.timeouts
    }

    /// When the last probe was begun that did not pass.
    pub(super) fn gap(&self) -> Option<Time> {
        self.gap
    }

    /// Traffic or a broken connection asks for a probe soon.
    pub(super) fn hint(&mut self) {
        self.hinted = true;
    }

    /// The peer closed a connection.
    pub(super) fn peer_closed(&mut self, now: Time) {
        self.hinted = true;
        self.closed_by_peer = Some(now);
    }

    /// Probes that began before `now` say nothing any more.
    pub(super) fn forget_before(&mut self, now: Time) {
        self.fresh_since = now;
    }

    /// A new row of passes is asked for, begun from `now` on. Absence, too, counts from now.
    pub(super) fn ask_again(&mut self, now: Time) {
        self.passes = 0;
        self.fresh_since = now;
        self.failing_since = self.failing_since.map(|_| now);
    }

    /// Its health counts as unknown until a new row of passes.
    pub(super) fn reset_health(&mut self, now: Time) {
        if self.health == BackendHealth::Up {
            self.health = BackendHealth::Starting;
        }
        self.ask_again(now);
    }

    /// It stayed away too long.
    pub(super) fn give_up(&mut self) {
        self.health = BackendHealth::Down;
    }

    /// When it has stayed away too long: for those that only passes could open.
    pub(super) fn absent_at(&self, policy: &BackendPolicy, waits_for_passes: bool) -> Option<Time> {
        let waits = waits_for_passes || self.health == BackendHealth::Starting;
        let since = self.failing_since.filter(|_| waits)?;
        Some(since.saturating_add(policy.absent_after))
    }

    /// Whether the next probe should come soon.
    pub(super) fn in_a_hurry(&self, policy: &BackendPolicy, waits_for_passes: bool) -> bool {
        let waits = waits_for_passes || self.health == BackendHealth::Down;
        let on_its_way = waits && self.passes > 0 && self.passes < policy.rise;
        let falling = self.failures > 0 && self.health == BackendHealth::Up;
        self.health == BackendHealth::Starting || self.hinted || on_its_way || falling
    }

    /// Takes in one probe.
    pub(super) fn take(
        &mut self,
        sample: ProbeSample,
        setting: JudgeContext,
        policy: &BackendPolicy,
        now: Time,
    ) -> ProbeFinding {
        if sample.began < self.fresh_since {
            return ProbeFinding {
                stale: true,
                ..ProbeFinding::default()
            };
        }
        let mut finding = ProbeFinding::default();
        if self.is_another(sample, setting) {
            finding.reborn = true;
            *self = Self::new(sample.began);
        }
        self.listener = sample.listener.or(self.listener);
        if sample.probe != ProbeResult::Pass {
            self.gap = Some(sample.began);
        }
        self.hinted = false;
        match sample.probe {
            ProbeResult::Pass => {
                self.answered(sample.began);
                self.alive();
                self.passes = self.passes.saturating_add(1);
                finding.risen = self.passes >= policy.rise;
                if finding.risen {
                    self.health = BackendHealth::Up;
                }
            }
            ProbeResult::Unavailable => {
                self.answered(sample.began);
                self.alive();
                self.passes = 0;
                finding.unavailable = self.health != BackendHealth::Starting;
            }
            ProbeResult::Status(_) => {
                self.answered(sample.began);
                finding.fell = self.failed(setting, policy, now);
            }
            ProbeResult::Reset => self.turned_away(&mut finding, setting, policy, now),
            ProbeResult::Refused => {
                self.refused = true;
                self.turned_away(&mut finding, setting, policy, now);
            }
            ProbeResult::Timeout => {
                self.passes = 0;
                self.timeouts = self.timeouts.saturating_add(1);
                self.failing_since.get_or_insert(now);
                let long = self.timeouts >= policy.fall_timeout && !setting.irreplaceable;
                finding.fell = long && self.take_down(setting);
            }
        }
        finding
    }

    /// Another listening socket, an answer after a refusal, or what a drain's asker has named. The first process to answer at all is no new
    /// one, unless somebody closed this backend or gave it up before.
    fn is_another(&self, sample: ProbeSample, setting: JudgeContext) -> bool {
        if let (Some(was), Some(is)) = (self.listener, sample.listener)
            && was != is
        {
            return true;
        }
        let answers = matches!(
            sample.probe,
            ProbeResult::Pass | ProbeResult::Unavailable | ProbeResult::Status(_)
        );
        let known = self.met || setting.drained || self.health == BackendHealth::Down;
        (answers && self.refused && known) || setting.replaced
    }

    fn answered(&mut self, began: Time) {
        self.met = true;
        self.refused = false;
        if self.closed_by_peer.is_some_and(|at| at <= began) {
            self.closed_by_peer = None;
        }
    }

    fn alive(&mut self) {
        self.failures = 0;
        self.timeouts = 0;
        self.failing_since = None;
    }

    fn failed(&mut self, setting: JudgeContext, policy: &BackendPolicy, now: Time) -> bool {
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.failures >= policy.fall && self.take_down(setting)
    }

    /// The probe got no connection, or one that was closed at once. Some apps go on accepting while they stop, and
    /// close each connection: one that has just closed another connection, too, is stopping.
    fn turned_away(
        &mut self,
        finding: &mut ProbeFinding,
        setting: JudgeContext,
        policy: &BackendPolicy,
        now: Time,
    ) {
        finding.stopping = self.health == BackendHealth::Up && self.closed_by_peer.take().is_some();
        let setting = JudgeContext {
            drained_by_app: setting.drained_by_app || finding.stopping,
            ..setting
        };
        finding.fell = self.failed(setting, policy, now);
    }

    /// Takes a backend as down. One that stops by itself gets `absent_after` first, and one that starts is not down.
    fn take_down(&mut self, setting: JudgeContext) -> bool {
        if self.health != BackendHealth::Up || setting.drained_by_app {
            return false;
        }
        self.health = BackendHealth::Down;
        true
    }
}
