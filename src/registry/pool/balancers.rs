//! A pool's balancers: made for each snapshot, with the state that they keep from one snapshot to the next.

use std::sync::Arc;

use crate::config::{BalanceConfig, PoolConfig};
use crate::core::balance::hash_ring::{RingMember, RingPoints};
use crate::core::balance::ketama::{KetamaPoints, KetamaServer};
use crate::core::balance::{BalanceAlgorithm, Balancer};
use crate::core::split;
use crate::registry::backend_entry::BackendEntry;
use crate::registry::endpoint::Endpoint;

/// Cached points of hash rings. They take time to compute, and stay the same while only the states of backends
/// change.
#[derive(Default)]
pub(super) struct PoolBalancers {
    ring: RingPoints,
    ketama: KetamaPoints,
}

impl PoolBalancers {
    /// Creates a balancer for `candidates`, which are some of `members`, in the same order.
    pub(super) fn prepare<'a>(
        &mut self,
        config: &PoolConfig,
        members: impl Iterator<Item = &'a BackendEntry>,
        candidates: &[Arc<Endpoint>],
    ) -> Balancer {
        let algorithm = match config.balance {
            BalanceConfig::LeastRequests => BalanceAlgorithm::LeastRequests,
            BalanceConfig::RoundRobin => BalanceAlgorithm::RoundRobin,
            BalanceConfig::Random => BalanceAlgorithm::Random,
            BalanceConfig::PeakEwma => BalanceAlgorithm::PeakEwma,
            BalanceConfig::Hash => {
                let members: Vec<_> = placed(members, candidates)
                    .map(|(member, place)| RingMember {
                        name: split::hash(member.base.as_bytes()),
                        weight: member.endpoint.weight(),
                        place,
                    })
                    .collect();
                let percent = (config.hash_load * 100.0).round() as u32;
                return Balancer::Hash(self.ring.prepare(&members, percent));
            }
            BalanceConfig::KetamaNginx => {
                let (servers, places): (Vec<_>, Vec<_>) = placed(members, candidates)
                    .map(|(member, place)| {
                        let server = KetamaServer {
                            address: member.endpoint.address.to_string().into(),
                            weight: member.endpoint.weight(),
                        };
                        (server, place)
                    })
                    .unzip();
                return Balancer::KetamaNginx(self.ketama.prepare(&servers, &places));
            }
        };
        let weights: Vec<u32> = candidates
            .iter()
            .map(|endpoint| endpoint.weight())
            .collect();
        Balancer::new(algorithm, &weights)
    }
}

/// Returns each member with its index among the candidates.
fn placed<'a>(
    members: impl Iterator<Item = &'a BackendEntry>,
    candidates: &[Arc<Endpoint>],
) -> impl Iterator<Item = (&'a BackendEntry, Option<u32>)> {
    let mut places = candidates.iter().zip(0_u32..).peekable();
    members.map(move |member| {
        let is_here = |(endpoint, _): &(&Arc<Endpoint>, u32)| endpoint.key == member.endpoint.key;
        let place = places.next_if(is_here).map(|(_, place)| place);
        (member, place)
    })
}
