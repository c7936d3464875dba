//! Backends made from DNS records, with their names and weights.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::Address;
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet};
use crate::discovery::follow::MOST_BACKENDS;
use crate::discovery::names::{name_address, name_host};

/// Largest weight of a backend.
const MAX_WEIGHT: u64 = 1000;

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServiceTarget {
    /// Host name in lower case, without the final dot.
    pub host: String,
    pub port: u16,
    /// Priority: the lowest comes first, and targets with others are backups.
    pub priority: u16,
    pub weight: u16,
}

/// Backends at these addresses, each named by its address.
pub(super) fn address_backends(addresses: &[IpAddr], port: u16) -> DiscoveredSet<Address> {
    let backends = addresses.iter().filter_map(host_address).map(|ip| {
        let address = Address::Socket(SocketAddr::new(ip, port));
        (name_address(ip, port), DiscoveredBackend::at(address))
    });
    backends.collect()
}

/// Converts an address to one that a host can have: mapped IPv4 becomes IPv4. `None`: no host can have it. Servers that
/// block a name answer with 0.0.0.0, and a connect to that would reach this host.
fn host_address(ip: &IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!ip.is_unspecified() && !ip.is_multicast() && !is_broadcast).then_some(ip)
}

/// Backends of a service. A target with one address is named by its host, so that it stays the same backend if the
/// address changes. A target with several addresses becomes several backends, each named by its address.
pub(super) fn service_backends(
    targets: &[ServiceTarget],
    addresses: &HashMap<String, Vec<IpAddr>>,
) -> DiscoveredSet<Address> {
    let first = targets.iter().map(|target| target.priority).min();
    let largest = targets.iter().map(|target| target.weight).max();
    let largest = u64::from(largest.unwrap_or(0)).max(MAX_WEIGHT);
    let mut set = DiscoveredSet::default();
    for target in targets.iter().filter(|target| target.port != 0) {
        let found = addresses.get(&target.host).into_iter().flatten();
        let mut ips: Vec<_> = found.filter_map(host_address).collect();
        ips.sort_unstable();
        ips.dedup();
        let is_one = ips.len() == 1;
        for ip in ips {
            // No source may name more, so such an answer will be refused. The limit saves memory: an answer of 64 KiB
            // can have thousands of targets with thousands of addresses each.
            if set.len() > MOST_BACKENDS {
                return set;
            }
            let name = match is_one {
                true => name_host(&target.host, target.port),
                false => name_address(ip, target.port),
            };
            let address = Address::Socket(SocketAddr::new(ip, target.port));
            // In SRV, weight 0 means "hardly any requests", but here it would mean none.
            let weight = (u64::from(target.weight) * MAX_WEIGHT / largest).max(1);
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
