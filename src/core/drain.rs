//! Drains: what we were told about a backend. Kept as a set, keyed by actor and id; open means empty.

use super::Time;

/// Who asked for a drain. Each actor lifts its own drains and nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// The app itself: its probe answered 503, or it closed its listener. Lifted by `rise` passes.
    App,
    /// A supervisor or launcher, through a lease or a hook.
    Supervisor,
    /// A person, through the CLI or the API.
    Operator,
    /// The configuration: the backend is no longer in the file.
    Config,
}

/// What ends a drain by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// Only `resume` (or its expiry) ends it.
    #[default]
    Resumed,
    /// It ends when a new incarnation has passed its probes.
    Restarted,
}

/// A request to drain, as the core takes it. Times are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Who asks.
    pub actor: Actor,
    /// Tells this actor's drains apart (a lease's id, `"operator"`, a deploy's id). A second order with the
    /// same actor and id replaces the first's deadline, reason, end and expiry.
    pub id: String,
    /// For people: shown in status and logs.
    pub reason: String,
    /// When what is still in flight is cut. `None`: never.
    pub deadline: Option<Time>,
    /// What ends it by itself.
    pub until: Until,
    /// When it ends by itself even so; it then reopens only after `rise` fresh passes.
    pub expires: Option<Time>,
}

/// How a drain ended for those who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing in flight, and no connection of ours is open.
    Drained,
    /// The deadline passed and `cut` requests and streams were cut.
    TimedOut {
        /// How many were still in flight at the deadline.
        cut: u32,
    },
    /// The backend's process died while requests were in flight on it.
    Died {
        /// How many requests it took along.
        lost: u32,
    },
    /// The drain was lifted before it was complete.
    Resumed,
}
