//! Input and output of [`BackendState::step`](super::backend::BackendState::step).

use super::Time;
use super::drain::{DrainActor, DrainOutcome, DrainSpec};
use super::state::DerivedState;

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// 2xx, or a status in `expect`.
    Pass,
    /// 503: the app says that it is draining.
    Unavailable,
    /// Connection refused (or the unix socket is gone): no process listens.
    Refused,
    /// Connected, then reset or closed without an answer.
    Reset,
    /// Another status code.
    Status(u16),
    /// No response within `timeout`.
    Timeout,
}

/// Settings by which a backend is judged. Run-time form of `[pool.health]` and `[pool.drain]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendPolicy {
    /// Consecutive passes after which the backend is up.
    pub rise: u32,
    /// Consecutive failures after which the backend is down.
    pub fall: u32,
    /// Consecutive timeouts after which the backend is down, if another eligible backend answers in time.
    pub fall_timeout: u32,
    /// Time between probes.
    pub interval: Time,
    /// Time between probes while starting, and after a first failure or hint.
    pub fast_interval: Time,
    /// Longest absence of a backend that stopped by itself, after which it becomes `down` (with an alert).
    pub absent_after: Time,
    /// Whether an app's own 503 sets a cutting deadline.
    pub cut_on_503: bool,
    /// Deadline of a drain whose order has none.
    pub drain_deadline: Time,
    /// Time before the deadline at which streams and upgrades begin to be closed, spread until the deadline.
    pub close_spread: Time,
    /// Whether clients with a session may still use a draining backend
    /// ([`HandOver`](super::sticky::hand_over::HandOver)).
    pub finishes_sessions: bool,
}

impl Default for BackendPolicy {
    fn default() -> Self {
        Self {
            rise: 2,
            fall: 3,
            fall_timeout: 5,
            interval: Time::from_secs(1),
            fast_interval: Time::from_millis(100),
            absent_after: Time::from_secs(30),
            cut_on_503: false,
            drain_deadline: Time::from_secs(30),
            close_spread: Time::from_secs(5),
            finishes_sessions: false,
        }
    }
}

/// Facts at the time of an event that only the edge knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventContext {
    /// Number of requests, streams and upgrades in flight on this backend.
    pub in_flight: u32,
    /// Number of its sessions, if drains finish them; else 0.
    pub sessions: u32,
    /// Whether it is eligible, and no other eligible backend of its pool answers its probes in time. If all of them
    /// are slow at once, the cause is the machine or the network, and taking some out would only burden the rest.
    pub irreplaceable: bool,
}

/// An event of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendEvent {
    /// A probe ended.
    Probed {
        /// Its result.
        probe: ProbeResult,
        /// When it began: a probe that began before a drain or restart says nothing about what came after.
        began: Time,
        /// Identity of the listening socket, if it can be known (same host): a change means a new incarnation.
        listener: Option<u64>,
    },
    /// The peer closed the sentinel or a pooled connection. Causes a probe, and proves nothing.
    PeerClosed,
    /// Traffic saw a 503, a refused connection or a reset. Causes a probe, and evicts nothing.
    Hint,
    /// Requests on the backend were lost: their connections broke before the responses were complete, whether or not
    /// they could be retried elsewhere. Causes a probe; if that finds the process gone, a drain that waits ends as
    /// [`DrainOutcome::Died`] with these requests.
    Lost {
        /// Number of lost requests.
        requests: u32,
    },
    /// A drain is ordered.
    Drain(DrainSpec),
    /// The operator's drains are lifted; with `all`, the drains of all actors. If `all` lifts the app's own drain, or
    /// if the backend was drained, `rise` new passes are needed: a process that answers 503 or refuses may not be
    /// healthy, nor may one that was not watched.
    Resume {
        /// Whether the drains of all actors are lifted.
        all: bool,
    },
    /// The actor that ordered this drain withdraws it, and no other: lifted as in [`BackendEvent::Resume`].
    Withdrawn {
        /// Who ordered the drain.
        actor: DrainActor,
        /// ID of the drain.
        id: String,
    },
    /// The actor that ordered this drain is gone and will not lift it: it expires at this time at the latest.
    Orphaned {
        /// Who ordered the drain.
        actor: DrainActor,
        /// ID of the drain.
        id: String,
        /// When it expires, so that fresh passes lift it.
        expires: Time,
    },
    /// Every process that accepted connections on the backend's listening socket when this drain was ordered has
    /// ended or closed the socket: for a drain that waits for that
    /// ([`RestartSign::Exit`](super::drain::RestartSign)).
    Ended {
        /// Who ordered the drain.
        actor: DrainActor,
        /// ID of the drain.
        id: String,
    },
    /// The actor that ordered this drain reports that another process runs now: the drain ends. Unless probes have
    /// seen the new process already, it is a new incarnation from here on, and health decides when it takes requests.
    RunsAgain {
        /// Who ordered the drain.
        actor: DrainActor,
        /// ID of the drain.
        id: String,
    },
    /// A lease has ended: its drains (actor `supervisor`, this ID) are lifted; if drained, as in
    /// [`BackendEvent::Resume`].
    LeaseEnded {
        /// ID of the lease.
        id: String,
    },
    /// In this epoch, the edge saw the gate closed, no permits, and all connections to the backend closed.
    Quiesced {
        /// The epoch.
        epoch: u64,
    },
    /// Another process is behind the backend (registered again, another address).
    Replaced,
    /// Time has passed: a deadline, an expiry or `absent_after` may be due.
    Tick,
}

/// An effect that the edge has to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendEffect {
    /// Open the gate.
    OpenGate,
    /// Close the gate; evict idle connections of older epochs, and no longer pick pooled ones.
    CloseGate,
    /// Close the gate to all but clients with a session, until [`BackendEffect::CloseGate`] follows.
    CloseGateToNew,
    /// Begin a new epoch: connections of earlier epochs are evicted and never picked again.
    NewEpoch(u64),
    /// Probe at once.
    ProbeNow,
    /// Close streams and upgrades in an orderly way, spread evenly between these two times. `restarting` selects
    /// close code 1012 instead of 1001.
    EndStreams {
        /// Time of the first close.
        from: Time,
        /// Time of the last close (the deadline).
        until: Time,
        /// Whether the drain ends with a restart.
        restarting: bool,
    },
    /// Cut the requests in flight, because the deadline has passed.
    Cut,
    /// Answer the requests that wait for this backend's drain.
    Announce(DrainOutcome),
    /// Warn that this drain waits for a restart while the same process still passes its probes.
    Unseen {
        /// Who ordered the drain.
        actor: DrainActor,
        /// ID of the drain.
        id: String,
    },
    /// The state has changed: for log, event stream and snapshot.
    Changed {
        /// State before.
        from: DerivedState,
        /// State after.
        to: DerivedState,
        /// Reason, as text.
        reason: String,
        /// Whether the change deserves an operator's attention (planned drains never alert).
        alert: bool,
    },
}

impl std::fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => f.write_str("passed"),
            Self::Unavailable => f.write_str("503"),
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Timeout => f.write_str("timed out"),
        }
    }
}
