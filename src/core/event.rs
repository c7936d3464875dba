//! What goes into [`BackendState::step`](super::backend::BackendState::step) and what comes out of it.

use super::Time;
use super::drain::{DrainActor, DrainOutcome, DrainSpec};
use super::state::DerivedState;

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// 2xx, or what `expect` lists.
    Pass,
    /// 503: the app says that it is draining.
    Unavailable,
    /// Connection refused (or the unix socket is gone): nobody listens.
    Refused,
    /// Connected, then reset or closed without an answer.
    Reset,
    /// Another status.
    Status(u16),
    /// No answer within `timeout`.
    Timeout,
}

/// The numbers that judge a backend. Runtime form of `[pool.health]` and `[pool.drain]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendPolicy {
    /// Passes in a row that make it up.
    pub rise: u32,
    /// Failures in a row that make it down.
    pub fall: u32,
    /// Time-outs in a row that make it down, while another eligible one answers in time.
    pub fall_timeout: u32,
    /// Between probes.
    pub interval: Time,
    /// Between probes while starting, and after a first failure or hint.
    pub fast_interval: Time,
    /// A backend that stopped by itself becomes `down` (with an alert) when it stays away longer.
    pub absent_after: Time,
    /// Whether an app's own 503 sets a cutting deadline.
    pub cut_on_503: bool,
    /// The drain's deadline where the asker names none.
    pub drain_deadline: Time,
    /// Streams and upgrades end this long before the deadline, spread over it.
    pub close_spread: Time,
    /// Clients with a session still go to a backend that drains ([`HandOver`](super::sticky::hand_over::HandOver)).
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

/// What only the edge knows at the time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventContext {
    /// Requests, streams and upgrades in flight on this backend.
    pub in_flight: u32,
    /// Sessions that it has, where drains finish them; else 0.
    pub sessions: u32,
    /// It is eligible, and no other eligible one of its pool answers its probes in time: where all of them are slow at
    /// once, it is the machine or the network, and taking some out would only burden the rest.
    pub irreplaceable: bool,
}

/// What happens to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendEvent {
    /// A probe ended.
    Probed {
        /// Its result.
        probe: ProbeResult,
        /// When it was begun: one that began before a drain or restart says nothing about what came after.
        began: Time,
        /// Identity of the listening socket where it can be known (same host): a change is a new incarnation.
        listener: Option<u64>,
    },
    /// The sentinel or a pooled connection was closed by its peer. Asks for a probe, proves nothing.
    PeerClosed,
    /// Traffic saw 503, refused or reset. Asks for a probe, evicts nothing.
    Hint,
    /// Requests broke on the backend: their connections died before the responses were complete, whether or not they
    /// could be retried elsewhere. Asks for a probe; if that finds the process gone, a drain that waits ends as
    /// [`DrainOutcome::Died`] with these.
    Lost {
        /// How many.
        requests: u32,
    },
    /// Somebody asks for a drain.
    Drain(DrainSpec),
    /// The operator's drains are lifted; with `all`, everybody's. Where `all` lifts the app's own, or where the
    /// backend was drained, `rise` new passes are asked for: a process that answers 503 or refuses may not be
    /// healthy, nor may one that was not watched.
    Resume {
        /// Lift every actor's drains.
        all: bool,
    },
    /// Whoever asked for this drain takes it back, and nothing else: lifted as in [`BackendEvent::Resume`].
    Withdrawn {
        /// Who asked.
        actor: DrainActor,
        /// The drain's id.
        id: String,
    },
    /// Whoever asked for this drain is gone and will not come back to lift it: it expires at this time at the
    /// latest.
    Orphaned {
        /// Who asked.
        actor: DrainActor,
        /// The drain's id.
        id: String,
        /// When it ends by itself, after fresh passes.
        expires: Time,
    },
    /// Every process that accepted connections on the backend's listening socket when this drain was asked for has
    /// ended, or let go of the socket: for a drain that waits for that ([`RestartSign::Exit`](super::drain::RestartSign)).
    Ended {
        /// Who asked for the drain.
        actor: DrainActor,
        /// The drain's id.
        id: String,
    },
    /// Whoever asked for this drain says that another process runs now: the drain ends. Unless probes have seen the new
    /// process already, it is a new incarnation from here on, and health decides when it takes requests.
    RunsAgain {
        /// Who asked.
        actor: DrainActor,
        /// The drain's id.
        id: String,
    },
    /// A lease ended: its drains (actor supervisor, this id) are lifted; from drained, as in [`BackendEvent::Resume`].
    LeaseEnded {
        /// The lease's id.
        id: String,
    },
    /// The edge saw the gate closed, permits at zero and every connection of ours closed, in this epoch.
    Quiesced {
        /// The epoch it saw.
        epoch: u64,
    },
    /// Another process is behind it (registered again, another address).
    Replaced,
    /// Time passed: a deadline, an expiry or `absent_after` may be due.
    Tick,
}

/// What the edge has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendEffect {
    /// Open the gate.
    OpenGate,
    /// Close the gate; idle connections of older epochs are evicted, pooled ones no longer picked.
    CloseGate,
    /// Close the gate to all but clients with a session, until [`BackendEffect::CloseGate`] comes.
    CloseGateToNew,
    /// A new epoch: connections of earlier ones are evicted and never picked again.
    NewEpoch(u64),
    /// Probe at once.
    ProbeNow,
    /// End streams and upgrades in their orderly way, spread evenly between these two times. `restarting`
    /// picks close code 1012 over 1001.
    EndStreams {
        /// From here…
        from: Time,
        /// …to here (the deadline).
        until: Time,
        /// The drain ends with a restart.
        restarting: bool,
    },
    /// The deadline: cut what is in flight.
    Cut,
    /// Answer the requests that wait for this backend's drain.
    Announce(DrainOutcome),
    /// Warn: this drain waits for a restart, and the same process goes on passing its probes.
    Unseen {
        /// Who asked for the drain.
        actor: DrainActor,
        /// The drain's id.
        id: String,
    },
    /// The state changed: for log, event stream and snapshot.
    Changed {
        /// Before.
        from: DerivedState,
        /// After.
        to: DerivedState,
        /// Why, for people.
        reason: String,
        /// The change deserves an operator's attention (planned drains never alert).
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
