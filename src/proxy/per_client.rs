//! Connections per client address: counted when one is accepted and when it ends, never in between.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;

use parking_lot::Mutex;

/// Locks to spread the addresses over: a power of two.
const SHARDS: usize = 64;

/// How many connections each client has. An address without any takes no memory.
#[derive(Debug)]
pub struct PerClient {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<ClientKey, NonZeroU32>>]>,
}

/// A client: an IPv4 address, or the /64 of an IPv6 one, which is the least that one customer gets (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ClientKey {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// One connection of a client; counted out on drop.
#[derive(Debug)]
pub struct OneOf<'a> {
    all: &'a PerClient,
    who: ClientKey,
}

impl Default for PerClient {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl PerClient {
    /// Counts a connection in; `None`: this client has `limit` already.
    pub fn enter(&self, address: IpAddr, limit: usize) -> Option<OneOf<'_>> {
        let who = ClientKey::from(address);
        let mut shard = self.shard(who).lock();
        match shard.entry(who) {
            Entry::Occupied(count) if count.get().get() as usize >= limit => return None,
            Entry::Occupied(mut count) => {
                *count.get_mut() = count.get().saturating_add(1);
            }
            Entry::Vacant(_) if limit == 0 => return None,
            Entry::Vacant(place) => {
                place.insert(NonZeroU32::MIN);
            }
        }
        Some(OneOf { all: self, who })
    }

    fn shard(&self, who: ClientKey) -> &Mutex<HashMap<ClientKey, NonZeroU32>> {
        &self.shards[self.hasher.hash_one(who) as usize % SHARDS]
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        let mut shard = self.all.shard(self.who).lock();
        if let Entry::Occupied(mut count) = shard.entry(self.who) {
            match NonZeroU32::new(count.get().get() - 1) {
                Some(fewer) => {
                    count.insert(fewer);
                }
                None => {
                    count.remove();
                }
            }
        }
        // After a flood from many addresses the table would stay as large as it ever was.
        if shard.is_empty() && shard.capacity() > 64 {
            shard.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_client_has_its_own_count() {
        let all = PerClient::default();
        let first = all.enter(ip("192.0.2.1"), 2);
        let second = all.enter(ip("::ffff:192.0.2.1"), 2);
        assert!(first.is_some() && second.is_some());
        assert!(all.enter(ip("192.0.2.1"), 2).is_none());
        assert!(all.enter(ip("192.0.2.2"), 2).is_some());
        drop(first);
        assert!(all.enter(ip("192.0.2.1"), 2).is_some());
    }

    #[test]
    fn a_client_of_ipv6_is_a_64() {
        let all = PerClient::default();
        let _one = all.enter(ip("2001:db8::1"), 1).unwrap();
        assert!(all.enter(ip("2001:db8::ffff:1"), 1).is_none());
        assert!(all.enter(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn who_has_left_takes_no_memory() {
        let all = PerClient::default();
        let entered: Vec<_> = (0..10_000)
            .filter_map(|n: u32| all.enter(IpAddr::V4(n.into()), 1))
            .collect();
        assert_eq!(entered.len(), 10_000);
        drop(entered);
        let shards = all.shards.iter().map(|shard| shard.lock());
        assert!(
            shards
                .into_iter()
                .all(|shard| shard.is_empty() && shard.capacity() <= 64)
        );
    }

    #[test]
    fn threads_agree() {
        let all = PerClient::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let one = all.enter(ip("192.0.2.1"), 3);
                        std::hint::black_box(&one);
                    }
                });
            }
        });
        assert!(all.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
