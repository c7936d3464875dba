//! Kinds of events at `GET /v1/events`.

/// What an event is about; its name is the event's `kind`. Clients have to expect names of later versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A backend has another state.
    State,
    /// A drain has ended, or waits for a restart that isn't seen.
    Drain,
    /// A backend was added.
    Registered,
    /// A backend has left.
    Deregistered,
    /// Another configuration is in force.
    Config,
    /// A pool's source has named other backends.
    Discovery,
    /// A roll of a pool has begun or ended.
    Roll,
    /// A pool's pause has begun or ended.
    Pause,
    /// The weights of a split were moved.
    Split,
    /// A plan that moves a split has begun or ended.
    SplitPlan,
    /// Sticky sessions at a backend that is being drained.
    Sessions,
    /// A backend was ejected, or is back.
    Outlier,
    /// A pool's supervisor can be reached, or no longer.
    Supervisor,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::State,
        Self::Drain,
        Self::Registered,
        Self::Deregistered,
        Self::Config,
        Self::Discovery,
        Self::Roll,
        Self::Pause,
        Self::Split,
        Self::SplitPlan,
        Self::Sessions,
        Self::Outlier,
        Self::Supervisor,
    ];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Drain => "drain",
            Self::Registered => "registered",
            Self::Deregistered => "deregistered",
            Self::Config => "config",
            Self::Discovery => "discovery",
            Self::Roll => "roll",
            Self::Pause => "pause",
            Self::Split => "split",
            Self::SplitPlan => "split_plan",
            Self::Sessions => "sessions",
            Self::Outlier => "outlier",
            Self::Supervisor => "supervisor",
        }
    }
}
