//! Counts concurrent uses of a key: connections of a client address, requests of a route's key. Counting happens when
//! a use begins and when it ends, never in between.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;

/// Number of locks over which the addresses are distributed: a power of two.
const SHARDS: usize = 64;

/// The number of connections of each client.
pub type PerClient = KeyCounts<ClientKey>;

/// The number of concurrent uses of each key. A key without any takes no memory.
#[derive(Debug)]
pub struct KeyCounts<K> {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<K, NonZeroU32>>]>,
}

/// A client: an IPv4 address, or the /64 network of an IPv6 address, the smallest that one customer gets (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// The whole address.
    V4(u32),
    /// The first half of the address.
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

/// One connection of a client; uncounted on drop.
#[derive(Debug)]
pub struct OneOf<'a> {
    all: &'a PerClient,
    who: ClientKey,
}

/// One use of a key, which keeps the counts alive instead of borrowing them; uncounted on drop.
#[derive(Debug)]
pub struct CountedKey<K: Copy + Eq + Hash> {
    all: Arc<KeyCounts<K>>,
    key: K,
}

impl<K> Default for KeyCounts<K> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl PerClient {
    /// Counts a connection; `None`: this client has `limit` connections already.
    pub fn enter(&self, address: IpAddr, limit: usize) -> Option<OneOf<'_>> {
        let who = ClientKey::from(address);
        self.add(who, limit).then(|| OneOf { all: self, who })
    }

    /// Counts a connection that another process has admitted, whatever the limit.
    pub fn enter_moved(&self, address: IpAddr) -> OneOf<'_> {
        let who = ClientKey::from(address);
        self.add(who, usize::MAX);
        OneOf { all: self, who }
    }
}

impl<K: Copy + Eq + Hash> KeyCounts<K> {
    /// Counts a use; `None`: there are `limit` uses of this key already.
    pub fn count(all: &Arc<Self>, key: K, limit: usize) -> Option<CountedKey<K>> {
        let all = all.clone();
        all.add(key, limit).then(|| CountedKey { all, key })
    }

    fn add(&self, key: K, limit: usize) -> bool {
        let mut shard = self.shard(key).lock();
        match shard.entry(key) {
            Entry::Occupied(count) if count.get().get() as usize >= limit => return false,
            Entry::Occupied(mut count) => {
                *count.get_mut() = count.get().saturating_add(1);
            }
            Entry::Vacant(_) if limit == 0 => return false,
            Entry::Vacant(place) => {
                place.insert(NonZeroU32::MIN);
            }
        }
        true
    }

    fn remove(&self, key: K) {
        let mut shard = self.shard(key).lock();
        if let Entry::Occupied(mut count) = shard.entry(key) {
            match NonZeroU32::new(count.get().get() - 1) {
                Some(fewer) => {
                    count.insert(fewer);
                }
                None => {
                    count.remove();
                }
            }
        }
        // After a flood from many addresses, the table would otherwise keep its largest size.
        if shard.is_empty() && shard.capacity() > 64 {
            shard.shrink_to_fit();
        }
    }

    fn shard(&self, key: K) -> &Mutex<HashMap<K, NonZeroU32>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        self.all.remove(self.who);
    }
}

impl<K: Copy + Eq + Hash> Drop for CountedKey<K> {
    fn drop(&mut self) {
        self.all.remove(self.key);
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
    fn refused_client_takes_no_place() {
        let all = Arc::new(PerClient::default());
        let _first = all.enter(ip("192.0.2.1"), 1).unwrap();
        let key = ClientKey::from(ip("192.0.2.2"));
        let _other = KeyCounts::count(&all, key, 1).unwrap();
        for _ in 0..3 {
            assert!(all.enter(ip("192.0.2.1"), 1).is_none());
            assert!(KeyCounts::count(&all, key, 1).is_none());
        }
    }

    #[test]
    fn ipv6_client_is_a_64_network() {
        let all = PerClient::default();
        let _one = all.enter(ip("2001:db8::1"), 1).unwrap();
        assert!(all.enter(ip("2001:db8::ffff:1"), 1).is_none());
        assert!(all.enter(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn client_without_connections_takes_no_memory() {
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
    fn counts_are_correct_across_threads() {
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
