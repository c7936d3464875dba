//! Load balancing: which of the eligible backends takes the next request. One file per algorithm.
//!
//! A [`Balancer`] is built once per snapshot. [`Balancer::pick`] allocates nothing and takes no lock; the caller owns
//! the state that changes from pick to pick (a cursor, a random number).
//!
//! The caller is `enter` in `src/proxy/upstream/pick.rs`. It decides which candidates are ruled out by retries, slow
//! start, suspicion and `max_in_flight`, and passes them in `excluded` with each pick. Of the request, only the hash
//! of its key comes here ([`PickInput`]).

mod backups;
pub mod hash_ring;
pub mod ketama;
mod latency;
mod least_requests;
mod peak_ewma;
mod random;
mod round_robin;

use std::time::Duration;

pub use backups::{BackendRank, BackendTiers};
pub use latency::LatencyFigure;

/// Load balancing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BalanceAlgorithm {
    /// Fewest requests in flight per weight.
    #[default]
    LeastRequests,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Weighted random.
    Random,
    /// Of two random candidates, the one with the lower latency times requests in flight, per weight.
    PeakEwma,
}

impl BalanceAlgorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] = [
        Self::LeastRequests,
        Self::RoundRobin,
        Self::Random,
        Self::PeakEwma,
    ];
}

/// An eligible backend, as the balancer sees it. For requests, it is implemented in `src/proxy/upstream/pick.rs`; the
/// numbers are kept in `src/registry/endpoint.rs`.
pub trait BalanceCandidate {
    /// Returns the number of requests in flight on it now.
    fn in_flight(&self) -> u32;
    /// Returns its weight. 0: it is never picked.
    fn weight(&self) -> u32;
    /// Returns its expected response time, if known. Used by [`BalanceAlgorithm::PeakEwma`] only.
    fn latency(&self) -> Option<Duration> {
        None
    }
}

/// Input of one pick besides the candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PickInput {
    /// Number of picks so far (an atomic of the caller's).
    pub cursor: u64,
    /// A fresh random number.
    pub random: u64,
    /// Hash of the property that requests for the same candidate share; a random number if the request lacks it. Used
    /// by hashing algorithms only.
    pub key: u64,
}

/// An algorithm, prepared for one list of candidates.
#[derive(Debug, Clone)]
pub enum Balancer {
    /// Compares the present loads.
    LeastRequests,
    /// Follows a schedule.
    RoundRobin(round_robin::RoundRobinSchedule),
    /// Draws from an alias table.
    Random(random::AliasTable),
    /// Compares the present loads and latencies.
    PeakEwma,
    /// Hashes the request's key: see [`hash_ring::RingPoints::prepare`].
    Hash(hash_ring::HashRing),
    /// Hashes the request's key as nginx does: see [`ketama::KetamaPoints::prepare`].
    KetamaNginx(ketama::KetamaRing),
}

impl Balancer {
    /// Prepares `algorithm` for candidates of these weights, in this order. Hashing algorithms also need names, and
    /// are prepared by the types that keep their points from one snapshot to the next.
    pub fn new(algorithm: BalanceAlgorithm, weights: &[u32]) -> Self {
        match algorithm {
            BalanceAlgorithm::LeastRequests => Self::LeastRequests,
            BalanceAlgorithm::RoundRobin => {
                Self::RoundRobin(round_robin::RoundRobinSchedule::new(weights))
            }
            BalanceAlgorithm::Random => Self::Random(random::AliasTable::new(weights)),
            BalanceAlgorithm::PeakEwma => Self::PeakEwma,
        }
    }

    /// Whether picks depend on [`PickInput::key`].
    #[inline]
    pub fn hashes(&self) -> bool {
        matches!(self, Self::Hash(_) | Self::KetamaNginx(_))
    }

    /// Returns the index of the candidate to use, none of `excluded`; `None` if no candidate is left.
    ///
    /// `candidates` are those for which the balancer was built, in the same order. Candidates of weight 0 are never
    /// picked.
    pub fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        input: PickInput,
        excluded: &[usize],
    ) -> Option<usize> {
        match self {
            Self::LeastRequests => least_requests::pick(candidates, input.random, excluded),
            Self::RoundRobin(schedule) => schedule.pick(candidates, input.cursor, excluded),
            Self::Random(table) => table.pick(candidates, input.random, excluded),
            Self::PeakEwma => peak_ewma::pick(candidates, input.random, excluded),
            Self::Hash(ring) => ring.pick(candidates, input, excluded),
            Self::KetamaNginx(ring) => ring.pick(candidates, input, excluded),
        }
    }
}

/// Returns every index once, from `start` around.
fn around(length: usize, start: usize) -> impl Iterator<Item = usize> {
    (start..length).chain(0..start.min(length))
}

/// Returns a number below `length` (0 for 0), as evenly distributed as the upper half of `random`.
fn below(random: u64, length: usize) -> usize {
    (((random >> 32) * length as u64) >> 32) as usize
}

/// Derives another random number (the finaliser of splitmix64).
fn remix(random: u64) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
