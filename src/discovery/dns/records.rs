//! Backends from records: which names they have, and which weights.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::Address;
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet};
use crate::discovery::names::{name_address, name_host};

/// The largest weight of a backend.
const MOST_WEIGHT: u64 = 1000;

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceTarget {
    /// In lower case, without the last dot.
    pub host: String,
    pub port: u16,
    /// The lowest comes first; the others are backups.
    pub priority: u16,
    pub weight: u16,
}

/// Backends at these addresses, each named by its own.
pub(super) fn address_backends(addresses: &[IpAddr], port: u16) -> DiscoveredSet<Address> {
    let backends = addresses.iter().map(|ip| {
        let address = Address::Socket(SocketAddr::new(ip.to_canonical(), port));
        (name_address(*ip, port), DiscoveredBackend::at(address))
    });
    backends.collect()
}

/// Backends of a service. A target with one address is named by its host, so that it stays the same backend where the
/// address changes; one with several is several backends, each named by its address.
pub(super) fn service_backends(
    targets: &[ServiceTarget],
    addresses: &HashMap<String, Vec<IpAddr>>,
) -> DiscoveredSet<Address> {
    let first = targets.iter().map(|target| target.priority).min();
    let largest = targets.iter().map(|target| target.weight).max();
    let largest = u64::from(largest.unwrap_or(0)).max(MOST_WEIGHT);
    let mut set = DiscoveredSet::default();
    for target in targets.iter().filter(|target| target.port != 0) {
        let mut ips = addresses.get(&target.host).cloned().unwrap_or_default();
        ips.sort_unstable();
        ips.dedup();
        let is_one = ips.len() == 1;
        for ip in ips {
            let name = match is_one {
                true => name_host(&target.host, target.port),
                false => name_address(ip, target.port),
            };
            let address = Address::Socket(SocketAddr::new(ip.to_canonical(), target.port));
            // 0 means "hardly anything" there, and nothing here.
            let weight = (u64::from(target.weight) * MOST_WEIGHT / largest).max(1);
            let backend = DiscoveredBackend {
                weight: u32::try_from(weight).unwrap_or(1),
                is_backup: Some(target.priority) != first,
                ..DiscoveredBackend::at(address)
            };
            set.insert(name, backend);
        }
    }
    set
}
