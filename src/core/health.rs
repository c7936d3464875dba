//! Judgement of probes: consecutive passes, failures and timeouts, and whether another process has taken over.

use super::Time;
use super::event::{BackendPolicy, ProbeResult};
use super::state::BackendHealth;

/// State of the backend's drains and pool that matters for the judgement of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct JudgeContext {
    /// Whether drains are open.
    pub drained: bool,
    /// Whether the app's own drain is among them.
    pub drained_by_app: bool,
    /// Whether no other eligible backend answers in time.
    pub irreplaceable: bool,
    /// Whether, by the sign of some drain, the process that passes probes now is another one.
    pub replaced: bool,
}

/// One ended probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeSample {
    pub probe: ProbeResult,
    pub began: Time,
    pub listener: Option<u64>,
}

/// Findings of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProbeFinding {
    /// Whether the probe began too early to count. Nothing else is set then.
    pub stale: bool,
    /// Whether another process answers.
    pub reborn: bool,
    /// Whether there are enough consecutive passes.
    pub risen: bool,
    /// Whether the app reports that it is draining.
    pub unavailable: bool,
    /// Whether it closed its connections and now refuses new ones: it is stopping.
    pub stopping: bool,
    /// Whether there are enough consecutive failures or timeouts.
    pub fell: bool,
}

/// Judge of one backend's probes.
#[derive(Debug, Clone)]
pub(super) struct HealthJudge {
    health: BackendHealth,
    passes: u32,
    failures: u32,
    timeouts: u32,
    /// Probes that began earlier don't count.
    fresh_since: Time,
    /// Time since which no probe has had a pass or a 503 as its result.
    failing_since: Option<Time>,
    /// Whether a connection was refused and none has been accepted since.
    refused: bool,
    /// Whether this incarnation has answered a probe.
    met: bool,
    listener: Option<u64>,
    /// When the peer closed a connection, if no later probe was answered.
    closed_by_peer: Option<Time>,
    /// When the last probe that did not pass began.
    gap: Option<Time>,
    /// Whether a hint asked for an early probe.
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

    /// Creates a judge from the findings of another one: up, with this listening socket.
    pub(super) fn known(now: Time, listener: Option<u64>) -> Self {
        Self {
            health: BackendHealth::Up,
            met: true,
            listener,
            ..Self::new(now)
        }
    }

    /// Creates a judge from the findings of another one: down.
    pub(super) fn known_down(now: Time) -> Self {
        Self {
            health: BackendHealth::Down,
            failing_since: Some(now),
            ..Self::new(now)
        }
    }

    /// Returns the identity of the listening socket that probes have reached, if known.
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

    /// Returns when the last probe that did not pass began.
    pub(super) fn gap(&self) -> Option<Time> {
        self.gap
    }

    /// Asks for an early probe, because of traffic or a broken connection.
    pub(super) fn hint(&mut self) {
        self.hinted = true;
    }

    /// Notes that the peer closed a connection.
    pub(super) fn peer_closed(&mut self, now: Time) {
        self.hinted = true;
        self.closed_by_peer = Some(now);
    }

    /// Ignores probes that began before `now`.
    pub(super) fn forget_before(&mut self, now: Time) {
        self.fresh_since = now;
    }

    /// Requires new consecutive passes that begin from `now` on. Absence also counts from now.
    pub(super) fn ask_again(&mut self, now: Time) {
        self.passes = 0;
        self.fresh_since = now;
        self.failing_since = self.failing_since.map(|_| now);
    }

    /// Requires new consecutive passes: a backend that is up counts as starting until there are enough of them.
    pub(super) fn reset_health(&mut self, now: Time) {
        if self.health == BackendHealth::Up {
            self.health = BackendHealth::Starting;
        }
        self.ask_again(now);
    }

    /// Sets the health to down after too long an absence.
    pub(super) fn give_up(&mut self) {
        self.health = BackendHealth::Down;
    }

    /// Returns when the absence is too long, for backends that only passes can open.
    pub(super) fn absent_at(&self, policy: &BackendPolicy, waits_for_passes: bool) -> Option<Time> {
        let waits = waits_for_passes || self.health == BackendHealth::Starting;
        let since = self.failing_since.filter(|_| waits)?;
        Some(since.saturating_add(policy.absent_after))
    }

    /// Whether the next probe should come early.
    pub(super) fn in_a_hurry(&self, policy: &BackendPolicy, waits_for_passes: bool) -> bool {
        let waits = waits_for_passes || self.health == BackendHealth::Down;
        let on_its_way = waits && self.passes > 0 && self.passes < policy.rise;
        let falling = self.failures > 0 && self.health == BackendHealth::Up;
        self.health == BackendHealth::Starting || self.hinted || on_its_way || falling
    }

    /// Processes one probe.
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

    /// Whether another process answers: another listening socket, an answer after a refusal, or the sign that a
    /// drain's order has chosen. The first process to answer at all is no new one, unless the backend was closed or
    /// given up before.
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

    /// Handles a probe that got no connection, or one that was closed at once. Some apps still accept connections
    /// while they stop, and close each: an app that has just closed another connection, too, is stopping.
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

    /// Sets the backend to down. A backend that stops by itself first gets `absent_after`, and one that starts is not
    /// down.
    fn take_down(&mut self, setting: JudgeContext) -> bool {
        if self.health != BackendHealth::Up || setting.drained_by_app {
            return false;
        }
        self.health = BackendHealth::Down;
        true
    }
}
