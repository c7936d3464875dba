//! Which of many addresses get in each other's way. Each question takes as long for a hundred thousand addresses as for one.

use super::runtime::Listener;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Whether the second bind of these two would fail.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() != 0 && a.port() == b.port() && overlap
}

/// Addresses that are listened on, as far as a further one can [`clash`] with them.
#[derive(Default)]
pub(super) struct BoundPorts {
    /// The first with this address.
    addresses: HashMap<SocketAddr, usize>,
    /// The first of a family with this port, and the first that takes all addresses of it.
    families: HashMap<(bool, u16), (usize, Option<usize>)>,
}

impl BoundPorts {
    /// Adds the address with the number `index`; says which earlier one it clashes with, the first of several.
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

/// The listeners' own ports: a backend must not be behind one of them.
pub(super) struct OwnPorts(HashMap<u16, OwnPort>);

#[derive(Default)]
struct OwnPort {
    /// The first for each address.
    addresses: HashMap<IpAddr, (usize, SocketAddr)>,
    /// The first that takes all addresses of a family, and the first on a loopback address.
    for_all: Option<(usize, SocketAddr)>,
    loopback: Option<(usize, SocketAddr)>,
}

impl OwnPorts {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        let mut ports: HashMap<u16, OwnPort> = HashMap::new();
        for (index, listener) in listeners.iter().enumerate() {
            let address = listener.address;
            if address.port() == 0 {
                continue;
            }
            let port = ports.entry(address.port()).or_default();
            port.addresses
                .entry(address.ip())
                .or_insert((index, address));
            if address.ip().is_unspecified() {
                port.for_all.get_or_insert((index, address));
            }
            if address.ip().is_loopback() {
                port.loopback.get_or_insert((index, address));
            }
        }
        Self(ports)
    }

    /// The listener where a connect to this address arrives, the first of several.
    pub(super) fn reached_from(&self, to: SocketAddr) -> Option<SocketAddr> {
        let port = self.0.get(&to.port())?;
        let ip = to.ip();
        let same = port.addresses.get(&ip);
        let for_all = (port.for_all.as_ref()).filter(|_| ip.is_loopback() || ip.is_unspecified());
        let loopback = port.loopback.as_ref().filter(|_| ip.is_unspecified());
        let found = same.into_iter().chain(for_all).chain(loopback);
        found.min().map(|(_, address)| *address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Whether a connect to `to` arrives at a listener on `on`.
    fn reaches(to: SocketAddr, on: SocketAddr) -> bool {
        let local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        to.port() == on.port()
            && on.port() != 0
            && (to.ip() == on.ip()
                || (local(to.ip()) && on.ip().is_unspecified())
                || (to.ip().is_unspecified() && on.ip().is_loopback()))
    }

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

    proptest! {
        #[test]
        fn the_quick_answers_are_those_of_a_search(
            addresses in proptest::collection::vec(address(), 0..12), to in address()
        ) {
            let mut ports = BoundPorts::default();
            for (i, one) in addresses.iter().enumerate() {
                let searched = addresses[..i].iter().position(|other| clash(*other, *one));
                prop_assert_eq!(ports.add(*one, i), searched);
            }
            let listeners: Vec<_> = addresses.iter().copied().map(Listener::on).collect();
            let searched = addresses.iter().copied().find(|on| reaches(to, *on));
            prop_assert_eq!(OwnPorts::new(&listeners).reached_from(to), searched);
        }
    }
}
