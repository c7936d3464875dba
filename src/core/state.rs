//! State of a backend: its health according to probes, and the state derived from health and drains.

/// Health according to probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendHealth {
    /// No `rise` consecutive passes yet in this incarnation.
    Starting,
    /// The probes pass.
    Up,
    /// The probes fail.
    Down,
}

impl BackendHealth {
    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// State of a backend for the balancer and for operators. Derived from health and drains; the first match counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DerivedState {
    /// There are drains, nothing is in flight, and no connection to the backend is open.
    Drained,
    /// There are drains.
    Draining,
    /// The backend waits for its first `rise` passes.
    Starting,
    /// The probes fail.
    Down,
    /// Eligible: the only state that takes new requests.
    Ready,
}

impl DerivedState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Drained,
        Self::Draining,
        Self::Starting,
        Self::Down,
        Self::Ready,
    ];

    /// Returns the name in the API and the metrics.
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
