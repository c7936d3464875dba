//! Backends from records: which names they have, and which weights.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Address;
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet};
use crate::discovery::follow::MOST_BACKENDS;
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
    let backends = addresses.iter().filter_map(host_address).map(|ip| {
        let address = Address::Socket(SocketAddr::new(ip, port));
        (name_address(ip, port), DiscoveredBackend::at(address))
    });
    backends.collect()
}

/// The address as one that a host has: mapped IPv4 is IPv4. `None`: no host has it. Servers that block a name answer
/// with 0.0.0.0, and a connect to that reaches this host.
fn host_address(ip: &IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!ip.is_unspecified() && !ip.is_multicast() && !is_broadcast).then_some(ip)
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
        let found = addresses.get(&target.host).into_iter().flatten();
        let mut ips: Vec<_> = found.filter_map(host_address).collect();
        ips.sort_unstable();
        ips.dedup();
        let is_one = ips.len() == 1;
        for ip in ips {
            // More than any source may name, and refused for that: thousands of targets with thousands of addresses each
            // fit into answers of 64 KiB.
            if set.len() > MOST_BACKENDS {
                return set;
            }
            let name = match is_one {
                true => name_host(&target.host, target.port),
                false => name_address(ip, target.port),
            };
            let address = Address::Socket(SocketAddr::new(ip, target.port));
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
