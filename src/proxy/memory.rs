//! The limit on the memory of all buffers that peers can make grow (`[server] max_memory`).
//!
//! Counted is the memory of a [`Buffer`](super::buffer::Buffer) beyond its small initial size: for long heads, bodies
//! in transit, and responses. A small request allocates no such memory, and so is neither counted nor refused,
//! however full the budget is.
//!
//! If the budget is used up, buffers that can wait don't grow. A request that needs more memory evicts the request
//! that has been incomplete for longest, which is answered with 408. There is one budget for the process, as there is
//! one memory. Regardless of the budget, at most 64 large incomplete heads are kept.

mod stepped;
mod streams;
mod unread_answers;

pub use streams::{StreamMemory, StreamPlace, UnreadBody, UnsentContent};
pub use unread_answers::{NARROW, SESSION_WINDOW, SessionMemory, UnreadAnswer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// Total size of all buffers larger than the initial size, in bytes.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Maximum of that total.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The incomplete requests with large buffers, in the order in which they began to wait.
static INCOMPLETE: Mutex<IncompleteQueue> = Mutex::new(IncompleteQueue {
    next: 0,
    waiting: BTreeMap::new(),
    large_heads: BTreeSet::new(),
    leaving_heads: BTreeSet::new(),
    leaving: 0,
});

/// An incomplete head is large if its buffer is larger than this, in bytes: HAProxy's default maximum.
pub const LARGE_HEAD: usize = 16 << 10;

/// Maximum number of large incomplete heads. A complete head is parsed and gone; one that stays incomplete for longer
/// than a few round trips comes from a slow client or an attacker, and 64 of them use 4 MiB by default.
const MOST_LARGE_HEADS: usize = 64;

#[derive(Debug)]
struct IncompleteQueue {
    next: u64,
    waiting: BTreeMap<u64, (usize, Arc<Eviction>)>,
    /// The numbers of large heads in `waiting`.
    large_heads: BTreeSet<u64>,
    /// Large heads that were evicted and not yet freed.
    leaving_heads: BTreeSet<u64>,
    /// Bytes of requests that were evicted and not yet freed.
    leaving: usize,
}

/// Sets the limit, in bytes; 0: none.
pub fn set_limit(bytes: u64) {
    let bytes = match bytes {
        0 => usize::MAX,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
    };
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Returns the number of bytes in use.
pub fn kept() -> usize {
    KEPT.load(Ordering::Relaxed)
}

/// Returns whether a buffer may grow that could also wait.
pub fn has_room() -> bool {
    kept() < LIMIT.load(Ordering::Relaxed)
}

/// Returns whether the memory in use, plus `bytes` of an optional kind, stays within the budget divided by `parts`.
pub fn fits_part(bytes: usize, parts: usize) -> bool {
    kept().saturating_add(bytes) <= LIMIT.load(Ordering::Relaxed) / parts
}

/// Makes room for this many bytes that an incomplete request can't do without, if necessary by evicting the requests
/// that have been incomplete for longest. Returns false if there is no room and nothing to evict.
pub fn make_room(bytes: usize) -> bool {
    let over = kept()
        .saturating_add(bytes)
        .saturating_sub(LIMIT.load(Ordering::Relaxed));
    over == 0 || evict(over)
}

/// Returns whether a head may become large now, or has to wait until evicted ones have been freed: otherwise a
/// thousand that arrive at once would all be kept for that moment.
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
    /// Evicts a request. The caller wakes its task after the lock is released.
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
    /// Sets the size of the buffer in bytes; 0: nothing that counts.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.0 {
            KEPT.fetch_add(bytes - self.0, Ordering::Relaxed);
        } else if bytes < self.0 {
            KEPT.fetch_sub(self.0 - bytes, Ordering::Relaxed);
        }
        self.0 = bytes;
    }

    /// Returns whether anything is counted.
    pub fn is_in_use(&self) -> bool {
        self.0 > 0
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        if self.0 > 0 {
            KEPT.fetch_sub(self.0, Ordering::Relaxed);
        }
    }
}

/// A place among the incomplete requests, for as long as this one is incomplete and uses memory.
#[derive(Debug)]
pub struct IncompletePlace {
    number: u64,
    /// Bytes that an eviction frees.
    bytes: usize,
    eviction: Arc<Eviction>,
    /// Whether it is one of the large heads.
    is_large_head: bool,
    /// Memory of the request besides its buffer.
    _flat: MemoryCharge,
}

impl IncompletePlace {
    /// Takes the last place. `flat`: memory of the request besides its buffer, in bytes.
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

    /// Returns whether the request, now of this many bytes, was evicted to make room for others. Otherwise the task
    /// is woken when that happens.
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

    /// The same for a request whose head is incomplete. The number of large ones is limited.
    pub fn poll_head_evicted(&mut self, waker: &Waker, bytes: usize) -> bool {
        if bytes > LARGE_HEAD && !self.is_large_head {
            self.is_large_head = true;
            self.enter_large_heads();
        }
        self.poll_evicted(waker, bytes)
    }

    /// Evicts the oldest large head if there are too many.
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

/// Factor by which the memory limit of a connection's requests is larger with their bodies than with their heads
/// alone.
const BODIES: usize = 4;

/// The memory of all open requests of one HTTP/2 connection, beyond a small buffer each.
#[derive(Debug)]
pub struct ConnectionMemory {
    kept: AtomicUsize,
    limit: usize,
}

impl ConnectionMemory {
    /// Creates it with a limit in bytes; 0: none.
    pub fn new(limit: u64) -> Arc<Self> {
        let limit = match limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let kept = AtomicUsize::new(0);
        Arc::new(Self { kept, limit })
    }

    /// Returns the share of a request that uses nothing yet.
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
    /// Sets the request's memory to this many bytes. Returns false if the connection's limit doesn't allow it, and
    /// then changes nothing.
    pub fn set(&mut self, bytes: usize) -> bool {
        self.set_within(bytes, self.memory.limit)
    }

    /// The same for a request with a body whose bytes were all sent as they are kept: unlike decoded header fields,
    /// they cost the client as much.
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

    /// The budget and the queue belong to the process: tests that need room in them run one at a time.
    pub(crate) static TURN: Mutex<()> = Mutex::new(());

    /// The buffers of other tests count too, so the limit is far above them.
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
        // No request is left to evict: refused.
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
    fn requests_of_one_connection_share_its_limit() {
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
