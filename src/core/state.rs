//! What a backend is: what probes say of it, and what that and its drains make of it.

/// What probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendHealth {
    /// Not one `rise` yet in this incarnation.
    Starting,
    /// Passes its probes.
    Up,
    /// Fails them.
    Down,
}

impl BackendHealth {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What a backend is to the balancer and to people. Derived from health and drains; first match wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedState {
    /// Drains not empty, nothing in flight, no connection of ours open.
    Drained,
    /// Drains not empty.
    Draining,
    /// Waits for its first `rise` passes.
    Starting,
    /// Fails its probes.
    Down,
    /// Eligible: the one state that takes new requests.
    Ready,
}

impl DerivedState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Drained,
        Self::Draining,
        Self::Starting,
        Self::Down,
        Self::Ready,
    ];

    /// As the API and the metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Draining => "draining",
            Self::Starting => "starting",
            Self::Down => "down",
            Self::Ready => "ready",
        }
    }
}
