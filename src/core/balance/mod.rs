//! Which of the eligible backends takes the next request: one file per algorithm.
//!
//! A [`Balancer`] is built once per snapshot. [`Balancer::pick`] allocates nothing and takes no lock; what
//! changes from pick to pick (a cursor, a random number) is the caller's.
//!
//! The caller is `enter` in `src/proxy/upstream/pick.rs`. It decides what retries, slow start, suspicion and
//! `max_in_flight` rule out, and says so in `excluded`, pick after pick. Of the request, only the hash of its key comes
//! here ([`PickInput`]).

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

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BalanceAlgorithm {
    /// Fewest in flight per weight.
    #[default]
    LeastRequests,
    /// Smooth weighted round robin.
    RoundRobin,
    /// Weighted random.
    Random,
    /// Lowest latency times requests in flight, per weight, of two.
    PeakEwma,
}

impl BalanceAlgorithm {
    /// All of them.
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
    /// Requests in flight on it now.
    fn in_flight(&self) -> u32;
    /// Its share. 0: none; it is never picked.
    fn weight(&self) -> u32;
    /// How long its answers take, as far as that is known. Only [`BalanceAlgorithm::PeakEwma`] asks.
    fn latency(&self) -> Option<Duration> {
        None
    }
}

/// What one pick goes by besides the candidates: numbers of the caller's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PickInput {
    /// Counts picks (an atomic of the caller's).
    pub cursor: u64,
    /// A fresh random number.
    pub random: u64,
    /// The hash of what the request has in common with those that should meet the same candidate; a random number where
    /// it has nothing. Only algorithms that hash look at it.
    pub key: u64,
}

/// One algorithm, prepared for one list of candidates.
#[derive(Debug, Clone)]
pub enum Balancer {
    /// Looks at loads as they are.
    LeastRequests,
    /// Follows a schedule.
    RoundRobin(round_robin::RoundRobinSchedule),
    /// Draws from a table.
    Random(random::AliasTable),
    /// Looks at loads and latencies as they are.
    PeakEwma,
    /// Follows the request's key: see [`hash_ring::RingPoints::prepare`].
    Hash(hash_ring::HashRing),
    /// The same as nginx does it: see [`ketama::KetamaPoints::prepare`].
    KetamaNginx(ketama::KetamaRing),
}

impl Balancer {
    /// Prepares `algorithm` for candidates of these weights, in this order. Those that hash need names, too, and are
    /// prepared by what keeps their points from one snapshot to the next.
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

    /// Whether picks go by [`PickInput::key`].
    #[inline]
    pub fn hashes(&self) -> bool {
        matches!(self, Self::Hash(_) | Self::KetamaNginx(_))
    }

    /// The index of the candidate to use, none of `excluded`; `None` where nothing is left.
    ///
    /// `candidates` are those the balancer was built for, in the same order. Candidates of weight 0 are never picked.
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

/// Every index once, from `start` on and around.
fn around(length: usize, start: usize) -> impl Iterator<Item = usize> {
    (start..length).chain(0..start.min(length))
}

/// A number below `length` (0 for 0), as evenly spread as `random`'s upper half is.
fn below(random: u64, length: usize) -> usize {
    (((random >> 32) * length as u64) >> 32) as usize
}

/// Another random number made of this one (the finaliser of splitmix64).
fn remix(random: u64) -> u64 {
    let mut z = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
