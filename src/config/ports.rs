//! Conflicts between addresses. Each check takes as long for a hundred thousand addresses as for one.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Config;

impl Config {
    /// Whether a socket on `address` has to accept IPv6 only (`IPV6_V6ONLY`).
    ///
    /// `[::]:8080` accepts IPv4 as well, as users expect by default; but if another socket of the proxy has to listen
    /// on an IPv4 address with that port, as in nginx's `listen 80; listen [::]:80;`, each accepts its own family.
    pub fn takes_ipv6_alone(&self, address: SocketAddr) -> bool {
        let mut others = self
            .tcp_listeners()
            .chain(self.admin.http)
            .chain(self.admin.probes);
        takes_all(address) && others.any(|other| takes_ipv4_of(address.port(), other))
    }
}

/// Whether an address is that of every family, `[::]`.
pub(super) fn takes_all(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Whether a listener on `address` accepts IPv4 on this port, without IPv6.
pub(super) fn takes_ipv4_of(port: u16, address: SocketAddr) -> bool {
    port != 0 && address.is_ipv4() && address.port() == port
}

/// Whether the second bind of these two would fail.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && overlap
}

/// Addresses of listeners, as far as a further one can [`clash`] with them.
#[derive(Default)]
pub(super) struct BoundPorts {
    /// Index of the first with each address.
    addresses: HashMap<SocketAddr, usize>,
    /// Index of the first of each family and port, and of the first that accepts all addresses of the family.
    families: HashMap<(bool, u16), (usize, Option<usize>)>,
}

impl BoundPorts {
    /// Adds the address with the number `index`; returns the first earlier one that it clashes with.
    pub(super) fn add(&mut self, address: SocketAddr, index: usize) -> Option<usize> {
        if address.port() == 0 {
            return None;
        }
        let for_all = address.ip().is_unspecified();
        let same = self.addresses.get(&address).copied();
        self.addresses.entry(address).or_insert(index);
        let family = (address.is_ipv4(), address.port());
        let Some((first, first_for_all)) = self.families.get_mut(&family) else {
            self.families
                .insert(family, (index, for_all.then_some(index)));
            return None;
        };
        let other = match for_all {
            true => Some(*first),
            false => *first_for_all,
        };
        if for_all {
            first_for_all.get_or_insert(index);
        }
        same.into_iter().chain(other).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn address() -> impl Strategy<Value = SocketAddr> {
        let ips = [
            "0.0.0.0",
            "127.0.0.1",
            "127.0.0.2",
            "10.0.0.1",
            "::",
            "::1",
            "fd00::1",
        ];
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        (proptest::sample::select(ips), 0u16..3).prop_map(SocketAddr::from)
    }

    #[test]
    fn all_addresses_are_those_of_ipv6_beside_a_listener_on_ipv4() {
        let config = |text: &str| {
            let text = format!("{text}\n[[pool]]\nname = \"app\"");
            super::super::parse("x.toml", &text).unwrap().config
        };
        let listen = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
        let alone =
            |config: &Config, address: &str| config.takes_ipv6_alone(address.parse().unwrap());
        let one = config(&listen("[::]:80"));
        assert!(!alone(&one, "[::]:80"));
        for beside in ["0.0.0.0:80", "127.0.0.1:80"] {
            let both = config(&(listen("[::]:80") + &listen(beside)));
            assert!(alone(&both, "[::]:80"), "{beside}");
            assert!(!alone(&both, "[::1]:80"), "{beside}");
            assert!(!alone(&both, "[::]:81"), "{beside}");
        }
        let admin =
            config(&("[admin]\nprobes = \"127.0.0.1:80\"\n".to_owned() + &listen("[::]:80")));
        assert!(alone(&admin, "[::]:80"));
    }

    proptest! {
        #[test]
        fn indexed_results_equal_those_of_a_search(
            addresses in proptest::collection::vec(address(), 0..12)
        ) {
            let mut ports = BoundPorts::default();
            for (i, one) in addresses.iter().enumerate() {
                let searched = addresses[..i].iter().position(|other| clash(*other, *one));
                prop_assert_eq!(ports.add(*one, i), searched);
            }
        }
    }
}
