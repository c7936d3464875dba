//! A bound on the memory of all buffers that peers can make grow, together (`[server] max_memory`).
//!
//! What counts is the memory that a [`Buffer`](super::buffer::Buffer) has beyond its small initial size: long heads,
//! bodies on their way, what is read of a response. A small request allocates nothing of that kind, and so it is
//! neither counted nor refused, however full the budget is.
//!
//! Where the budget is used up, buffers that can wait don't grow. A request that needs more memory evicts the one
//! that has been incomplete for longest, which is answered with 408. The process has one budget, like it has one
//! memory. Of large heads that are incomplete, only 64 are kept, however much room there is.

mod stepped;
mod streams;
mod untaken;

pub use streams::{StreamMemory, StreamPlace, UnreadBody, UnsentContent};
pub use untaken::{NARROW, SESSION_WINDOW, SessionMemory, UntakenAnswer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Bytes in all buffers that are larger than small.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// The most that they may be.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The incomplete requests with large buffers, in the order in which they began to wait.
static INCOMPLETE: Mutex<IncompleteQueue> = Mutex::new(IncompleteQueue {
    next: 0,
    waiting: BTreeMap::new(),
    large_heads: BTreeSet::new(),
    leaving_heads: BTreeSet::new(),
    leaving: 0,
});

/// An incomplete head is large when its buffer has more bytes than this: what HAProxy accepts at most by default.
pub const LARGE_HEAD: usize = 16 << 10;

/// The most incomplete heads at once that are large. A complete one is parsed and gone; one that stays incomplete for
/// longer than a few round trips is a slow client's or an attacker's, and 64 of them cost 4 MiB by default.
const MOST_LARGE_HEADS: usize = 64;

#[derive(Debug)]
struct IncompleteQueue {
    next: u64,
    waiting: BTreeMap<u64, (usize, Arc<Eviction>)>,
    /// Those of `waiting` that are large heads.
    large_heads: BTreeSet<u64>,
    /// Large heads that were evicted and haven't gone yet.
    leaving_heads: BTreeSet<u64>,
    /// Bytes of requests that were evicted and haven't gone yet.
    leaving: usize,
}

/// Sets the bound, in bytes; 0: none.
pub fn set_limit(bytes: u64) {
    let bytes = match bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
    };
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Bytes that are kept now.
pub fn kept() -> usize {
    KEPT.load(Ordering::Relaxed)
}

/// Whether a buffer may grow that could also wait.
pub fn has_room() -> bool {
    kept() < LIMIT.load(Ordering::Relaxed)
}

/// Whether all memory that is kept, with `bytes` more of an optional kind, stays within one of `parts` equal parts of
/// the budget.
pub fn fits_part(bytes: usize, parts: usize) -> bool {
    kept().saturating_add(bytes) <= LIMIT.load(Ordering::Relaxed) / parts
}

/// Makes room for so many bytes more that an incomplete request can't do without, if need be by evicting requests
/// that have been incomplete for longest. False: there is no room, and none to evict.
pub fn make_room(bytes: usize) -> bool {
    let over = kept()
        .saturating_add(bytes)
        .saturating_sub(LIMIT.load(Ordering::Relaxed));
    over == 0 || evict(over)
}

/// Whether a head may become large now, or has to wait until evicted ones have gone: otherwise a thousand that come
/// at once would all be kept for that moment.
pub fn may_head_become_large() -> bool {
    INCOMPLETE.lock().leaving_heads.len() < MOST_LARGE_HEADS
}

#[cold]
fn evict(bytes: usize) -> bool {
    let mut evicted = Vec::new();
    let mut queue = INCOMPLETE.lock();
    while queue.leaving < bytes {
        let Some(&oldest) = queue.waiting.keys().next() else {
            break;
        };
        evicted.extend(queue.evict_request(oldest));
    }
    let enough = queue.leaving >= bytes;
    // The woken task may take the lock.
    drop(queue);
    for eviction in evicted {
        eviction.waker.wake();
    }
    enough
}

impl IncompleteQueue {
    /// Evicts a request. The caller wakes its task when the lock is free again.
    fn evict_request(&mut self, number: u64) -> Option<Arc<Eviction>> {
        let (size, eviction) = self.waiting.remove(&number)?;
        if self.large_heads.remove(&number) {
            self.leaving_heads.insert(number);
        }
        self.leaving += size;
        eviction.evicted.store(true, Ordering::Release);
        Some(eviction)
    }
}

/// Whether a request was evicted.
#[derive(Debug, Default)]
struct Eviction {
    evicted: AtomicBool,
    waker: AtomicWaker,
}

/// A large buffer's share of the budget, given back on drop.
#[derive(Debug, Default)]
pub struct MemoryCharge(usize);

impl MemoryCharge {
    /// The buffer has so many bytes now; 0: none that count.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.0 {
            KEPT.fetch_add(bytes - self.0, Ordering::Relaxed);
        } else if bytes < self.0 {
            KEPT.fetch_sub(self.0 - bytes, Ordering::Relaxed);
        }
        self.0 = bytes;
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        if self.0 > 0 {
            KEPT.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

/// A place among the incomplete requests, for as long as this one is incomplete and costs memory.
#[derive(Debug)]
pub struct IncompletePlace {
    number: u64,
    /// What an eviction frees.
    bytes: usize,
    eviction: Arc<Eviction>,
    /// It is one of the large heads.
    is_large_head: bool,
    /// What it costs besides its buffer.
    _flat: MemoryCharge,
}

impl IncompletePlace {
    /// Takes the last place. `flat`: what the request costs besides its buffer, in bytes.
    pub fn take(flat: usize) -> Self {
        let mut charge = MemoryCharge::default();
        charge.set(flat);
        let bytes = flat;
        let eviction = Arc::new(Eviction::default());
        let mut queue = INCOMPLETE.lock();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, (bytes, eviction.clone()));
        Self {
            number,
            bytes,
            eviction,
            is_large_head: false,
            _flat: charge,
        }
    }

    /// Whether the request, of so many bytes now, has to make room for others. Otherwise the task is woken when it has to.
    pub fn poll_evicted(&mut self, waker: &Waker, bytes: usize) -> bool {
        if bytes != self.bytes
            && let Some((size, _)) = INCOMPLETE.lock().waiting.get_mut(&self.number)
        {
            *size = bytes;
            self.bytes = bytes;
        }
        self.eviction.waker.register(waker);
        self.eviction.evicted.load(Ordering::Acquire)
    }

    /// The same for a request of which not even the head is complete. Of large ones, only so many are kept.
    pub fn poll_head_evicted(&mut self, waker: &Waker, bytes: usize) -> bool {
        if bytes > LARGE_HEAD && !self.is_large_head {
            self.is_large_head = true;
            self.enter_large_heads();
        }
        self.poll_evicted(waker, bytes)
    }

    /// Where there are too many large heads, the oldest has to go.
    fn enter_large_heads(&self) {
        let mut queue = INCOMPLETE.lock();
        if queue.waiting.contains_key(&self.number) {
            queue.large_heads.insert(self.number);
        }
        let oldest = queue.large_heads.first().copied();
        let evicted = oldest
            .filter(|_| queue.large_heads.len() > MOST_LARGE_HEADS)
            .and_then(|oldest| queue.evict_request(oldest));
        drop(queue);
        if let Some(eviction) = evicted {
            eviction.waker.wake();
        }
    }
}

impl Drop for IncompletePlace {
    fn drop(&mut self) {
        let mut queue = INCOMPLETE.lock();
        queue.large_heads.remove(&self.number);
        queue.leaving_heads.remove(&self.number);
        if queue.waiting.remove(&self.number).is_none() {
            queue.leaving -= self.bytes;
        }
    }
}

/// With their bodies, the requests of a connection may keep so many times as much as with their heads alone.
const BODIES: usize = 4;

/// What the open requests of one HTTP/2 connection keep together, beyond a small buffer each.
#[derive(Debug)]
pub struct ConnectionMemory {
    kept: AtomicUsize,
    limit: usize,
}

impl ConnectionMemory {
    /// With a bound in bytes; 0: none.
    pub fn new(limit: u64) -> Arc<Self> {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let kept = AtomicUsize::new(0);
        Arc::new(Self { kept, limit })
    }

    /// The share of a request that keeps nothing yet.
    pub fn share(self: &Arc<Self>) -> ConnectionShare {
        ConnectionShare {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

/// One request's share of its connection's memory, given back on drop.
#[derive(Debug)]
pub struct ConnectionShare {
    memory: Arc<ConnectionMemory>,
    bytes: usize,
}

impl ConnectionShare {
    /// The request is to keep so many bytes. False: there is no room for them on this connection, and nothing has changed.
    pub fn set(&mut self, bytes: usize) -> bool {
        self.set_within(bytes, self.memory.limit)
    }

    /// The same, with a body of which all was sent that is kept: unlike what is decoded, it costs the client as much.
    pub fn set_with_body(&mut self, bytes: usize) -> bool {
        self.set_within(bytes, self.memory.limit.saturating_mul(BODIES))
    }

    fn set_within(&mut self, bytes: usize, limit: usize) -> bool {
        if bytes == self.bytes {
            return true;
        }
        // One thread serves a connection with all its streams, so nothing changes in between.
        let others = self.memory.kept.load(Ordering::Relaxed) - self.bytes;
        if bytes > self.bytes && others.saturating_add(bytes) > limit {
            return false;
        }
        self.memory.kept.store(others + bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for ConnectionShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The budget and the queue are the process's: one test at a time, of those that need room in it, too.
    pub(crate) static TURN: Mutex<()> = Mutex::new(());

    /// Other tests' buffers are part of it, so the limit is far off them.
    #[test]
    fn full_budget_evicts_the_oldest_incomplete_request_first() {
        const HUGE: usize = 1 << 40;
        let _turn = TURN.lock();
        set_limit(4 * HUGE as u64);
        let mut charges: Vec<MemoryCharge> = Vec::new();
        let mut places = Vec::new();
        for _ in 0..3 {
            let mut charge = MemoryCharge::default();
            assert!(make_room(HUGE));
            charge.set(HUGE);
            charges.push(charge);
            places.push(IncompletePlace::take(0));
        }
        let evicted = |places: &mut [IncompletePlace]| -> Vec<bool> {
            let waker = Waker::noop();
            let places = places.iter_mut();
            places
                .map(|place| place.poll_evicted(waker, HUGE))
                .collect()
        };
        assert!(has_room() && make_room(HUGE / 2));
        assert_eq!(evicted(&mut places), [false, false, false]);
        assert!(make_room(HUGE + HUGE / 2));
        assert_eq!(evicted(&mut places), [true, false, false]);
        drop(charges.remove(0));
        drop(places.remove(0));
        assert!(make_room(HUGE), "the evicted one has given its memory back");
        assert_eq!(evicted(&mut places), [false, false]);
        // Nobody is left who could be evicted: no.
        places.clear();
        let before = kept();
        charges[0].set(4 * HUGE);
        assert!(!has_room() && !make_room(1));
        charges[0].set(HUGE);
        assert!(kept() <= before + HUGE);
        charges.clear();
        assert!(kept() < HUGE);
        set_limit(0);
        assert!(make_room(usize::MAX) && has_room());
    }

    #[test]
    fn large_head_beyond_the_most_evicts_the_oldest() {
        let _turn = TURN.lock();
        let waker = Waker::noop();
        let mut places: Vec<_> = (0..=MOST_LARGE_HEADS)
            .map(|_| IncompletePlace::take(0))
            .collect();
        for place in &mut places {
            assert!(
                !place.poll_head_evicted(waker, LARGE_HEAD),
                "small ones stay"
            );
        }
        for place in &mut places {
            assert!(!place.poll_head_evicted(waker, LARGE_HEAD + 1));
        }
        let evicted = |place: &mut IncompletePlace| place.poll_head_evicted(waker, LARGE_HEAD + 2);
        let gone: Vec<bool> = places.iter_mut().map(evicted).collect();
        assert_eq!(gone[..2], [true, false]);
        assert_eq!(gone.iter().filter(|gone| **gone).count(), 1);
        // A place that was given back is free.
        places.truncate(MOST_LARGE_HEADS);
        places.push(IncompletePlace::take(0));
        assert!(!evicted(&mut places[MOST_LARGE_HEADS]));
        assert!(!evicted(&mut places[1]));
    }

    #[test]
    fn requests_of_one_connection_share_its_bound() {
        let memory = ConnectionMemory::new(100);
        let (mut one, mut two) = (memory.share(), memory.share());
        assert!(one.set(60) && !two.set(50) && two.set(40));
        assert!(!one.set(61) && one.set(10) && two.set(90));
        assert!(!two.set_with_body(391) && two.set_with_body(390) && !one.set(11));
        drop(two);
        assert!(one.set(100));
        drop(one);
        assert_eq!(memory.kept.load(Ordering::Relaxed), 0);
        assert!(ConnectionMemory::new(0).share().set(usize::MAX));
    }
}
