//! A model of an app's process, as seen from outside.

use lameduck::core::backend::ProbeResult;

/// How it takes SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// 503, closes its listener and idle connections, finishes its work, exits.
    Good,
    /// Dies on the spot.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody listens yet.
    Booting,
    /// Listens, says 503: not yet.
    NotYet,
    Serving,
    /// Listens still, says 503.
    Lame,
    /// No listener; finishes its work.
    Finishing,
    Dead,
}

/// What ails it for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// Its database is away: 503, work goes on.
    Outage,
    /// Health answers come too late.
    Slow,
    /// Health answers 500.
    Sick,
}

#[derive(Debug, Clone)]
pub struct Process {
    /// Counts processes; the identity of the listening socket too.
    pub generation: u64,
    pub phase: Phase,
    pub ailment: Option<Ailment>,
}

impl Process {
    pub fn listens(&self) -> bool {
        matches!(self.phase, Phase::NotYet | Phase::Serving | Phase::Lame)
    }

    /// The answer to a probe of which the connection was accepted by `generation`.
    pub fn answer(&self, generation: u64) -> ProbeResult {
        if generation != self.generation || self.phase == Phase::Dead {
            return ProbeResult::Reset;
        }
        match (self.phase, self.ailment) {
            (Phase::NotYet | Phase::Lame | Phase::Finishing, _) => ProbeResult::Unavailable,
            (_, Some(Ailment::Outage)) => ProbeResult::Unavailable,
            (_, Some(Ailment::Slow)) => ProbeResult::Timeout,
            (_, Some(Ailment::Sick)) => ProbeResult::Status(500),
            _ => ProbeResult::Pass,
        }
    }
}
