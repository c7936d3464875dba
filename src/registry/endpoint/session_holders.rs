//! Sessions that a backend has: which, and when each was last seen.
//!
//! The count is exact as long as there is room. A process keeps [`MOST`] of them, some 64 MiB; beyond that an old one
//! makes room for each new one, so that the count is of those seen last. A client that never sends its token back
//! counts for [`TRIAL`] only, as one that keeps no cookies. While a request of a session is under way, be it a
//! WebSocket that has been open for hours, the session is there: its idle time begins with the end of its last
//! request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::Time;

/// Sessions that are remembered in one process at most, of all pools together.
pub(super) const MOST: usize = 1 << 20;
/// A session that was begun and has not come back counts for so long.
pub(super) const TRIAL: Duration = Duration::from_secs(60);

const SHARDS: usize = 16;
/// Of so many the oldest makes room.
const SAMPLE: usize = 8;

/// How many are remembered.
static REMEMBERED: AtomicUsize = AtomicUsize::new(0);

/// A session as another process gets to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSession {
    /// Its number.
    pub session: u64,
    /// Its last request, to the second.
    pub seen: Time,
    /// It has come back with its token.
    pub has_returned: bool,
}

/// The sessions of one backend. Costs nothing before the first one.
#[derive(Debug, Default)]
pub struct SessionHolders {
    shards: OnceLock<Box<[Mutex<HolderShard>; SHARDS]>>,
    /// Without a request a session ends after so many seconds: what was said last.
    idle: AtomicU32,
}

#[derive(Debug, Default)]
struct HolderShard {
    holders: HashMap<u64, SessionHolder>,
    /// With so many, those whose time is over are looked for.
    sweep: usize,
}

#[derive(Debug, Clone, Copy)]
struct SessionHolder {
    /// In seconds.
    seen: u32,
    /// Requests under way.
    open: u16,
    has_returned: bool,
}

impl SessionHolder {
    fn counts(self, now: u32, idle: u32) -> bool {
        if self.open > 0 {
            return true;
        }
        let most = match self.has_returned {
            true => idle,
            false => idle.min(TRIAL.as_secs() as u32),
        };
        now.saturating_sub(self.seen) <= most
    }
}

impl HolderShard {
    fn sweep(&mut self, now: u32, idle: u32) {
        let before = self.holders.len();
        self.holders.retain(|_, holder| holder.counts(now, idle));
        REMEMBERED.fetch_sub(before - self.holders.len(), Ordering::Relaxed);
        self.sweep = (2 * self.holders.len()).max(64);
    }

    fn remove(&mut self, session: u64) -> bool {
        let was_there = self.holders.remove(&session).is_some();
        if was_there {
            REMEMBERED.fetch_sub(1, Ordering::Relaxed);
        }
        was_there
    }

    fn make_room(&mut self) {
        let sample = self.holders.iter().take(SAMPLE);
        let oldest = sample.min_by_key(|(_, holder)| (holder.open > 0, holder.seen));
        if let Some(session) = oldest.map(|(session, _)| *session) {
            self.remove(session);
        }
    }
}

impl SessionHolders {
    /// What is known, for another process, a part at a time; nothing where there has never been one.
    pub fn known(&self, now: Time) -> impl Iterator<Item = Vec<KnownSession>> + '_ {
        let shards = self
            .shards
            .get()
            .into_iter()
            .flat_map(|shards| shards.iter());
        shards.map(move |shard| {
            let shard = shard.lock();
            let known = shard.holders.iter().map(|(session, holder)| KnownSession {
                session: *session,
                seen: match holder.open {
                    0 => Time::from_secs(holder.seen.into()),
                    // Its request is being answered: the session is used now.
                    _ => now,
                },
                has_returned: holder.has_returned,
            });
            known.collect::<Vec<_>>()
        })
    }

    /// Without a request a session ends after this time.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle.load(Ordering::Relaxed).into())
    }

    /// Goes on with what another process knew.
    pub fn take(&self, known: &[KnownSession], idle: Duration) {
        for one in known {
            self.add(one.session, one.has_returned, idle, one.seen, 0);
        }
    }

    /// A request of this session begins; [`SessionHolders::leave`] ends it. `has_returned`: it has come with a token for
    /// this backend. `idle`: without requests the session ends after this time.
    pub fn enter(&self, session: u64, has_returned: bool, idle: Duration, now: Time) {
        self.add(session, has_returned, idle, now, 1);
    }

    fn add(&self, session: u64, has_returned: bool, idle: Duration, now: Time, open: u16) {
        let (seen, idle) = (now.as_secs() as u32, seconds(idle));
        if self.idle.load(Ordering::Relaxed) != idle {
            self.idle.store(idle, Ordering::Relaxed);
        }
        let shards = self.shards.get_or_init(Box::default);
        let mut shard = shards[shard_of(session)].lock();
        match shard.holders.entry(session) {
            Entry::Occupied(mut entry) => {
                let holder = entry.get_mut();
                // What another process knew may be older.
                holder.seen = holder.seen.max(seen);
                holder.open = holder.open.saturating_add(open);
                holder.has_returned |= has_returned;
                return;
            }
            Entry::Vacant(entry) => entry.insert(SessionHolder {
                seen,
                open,
                has_returned,
            }),
        };
        if REMEMBERED.fetch_add(1, Ordering::Relaxed) >= MOST {
            shard.make_room();
        }
        if shard.holders.len() > shard.sweep {
            shard.sweep(seen, idle);
        }
    }

    /// A request of this session is over. One that has moved or ended meanwhile is not here any more.
    pub fn leave(&self, session: u64, now: Time) {
        let Some(shards) = self.shards.get() else {
            return;
        };
        let mut shard = shards[shard_of(session)].lock();
        if let Some(holder) = shard.holders.get_mut(&session) {
            holder.seen = now.as_secs() as u32;
            holder.open = holder.open.saturating_sub(1);
        }
    }

    /// The session has moved or ended.
    pub fn forget(&self, session: u64) {
        if let Some(shards) = self.shards.get() {
            shards[shard_of(session)].lock().remove(session);
        }
    }

    /// Whether this session is here.
    pub fn has(&self, session: u64) -> bool {
        let Some(shards) = self.shards.get() else {
            return false;
        };
        let shard = shards[shard_of(session)].lock();
        shard.holders.contains_key(&session)
    }

    /// How many there are; `None`: there has never been one.
    pub fn count_if_any(&self, now: Time) -> Option<u32> {
        self.shards.get().map(|_| self.count(now))
    }

    /// How many there are.
    pub fn count(&self, now: Time) -> u32 {
        let Some(shards) = self.shards.get() else {
            return 0;
        };
        let (now, idle) = (now.as_secs() as u32, self.idle.load(Ordering::Relaxed));
        let counts = shards.iter().map(|shard| {
            let mut shard = shard.lock();
            shard.sweep(now, idle);
            shard.holders.len() as u32
        });
        counts.sum()
    }

    /// Another process is behind the backend: what the former one knew of sessions is gone.
    pub fn clear(&self) {
        for shard in self
            .shards
            .get()
            .into_iter()
            .flat_map(|shards| shards.iter())
        {
            let mut shard = shard.lock();
            REMEMBERED.fetch_sub(shard.holders.len(), Ordering::Relaxed);
            shard.holders.clear();
        }
    }
}

impl Drop for SessionHolders {
    fn drop(&mut self) {
        self.clear();
    }
}

fn shard_of(session: u64) -> usize {
    (session >> 32) as usize % SHARDS
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    impl SessionHolders {
        /// A whole request, over at once.
        fn note(&self, session: u64, has_returned: bool, idle: Duration, now: Time) {
            self.enter(session, has_returned, idle, now);
            self.leave(session, now);
        }
    }

    #[test]
    fn session_with_a_request_under_way_is_never_idle() {
        let holders = SessionHolders::default();
        holders.enter(1, false, IDLE, at(10));
        holders.enter(2, true, IDLE, at(10));
        holders.enter(2, true, IDLE, at(20));
        holders.leave(2, at(30));
        assert_eq!(holders.count(at(9000)), 2);
        holders.leave(1, at(9000));
        holders.leave(2, at(9000));
        assert_eq!(holders.count(at(9060)), 2);
        assert_eq!(holders.count(at(9061)), 1, "it has never come back");
        assert_eq!(holders.count(at(9301)), 0);
        // It has ended, and another request of it ends later.
        holders.enter(3, true, IDLE, at(9400));
        holders.forget(3);
        holders.leave(3, at(9401));
        assert_eq!(holders.count(at(9401)), 0);
    }

    #[test]
    fn sessions_are_counted_once_until_they_are_idle() {
        let holders = SessionHolders::default();
        assert_eq!(holders.count(at(0)), 0);
        for session in 0..100 {
            holders.note(session << 30, true, IDLE, at(10));
            holders.note(session << 30, true, IDLE, at(20));
        }
        assert_eq!(holders.count(at(320)), 100);
        holders.note(5 << 30, true, IDLE, at(300));
        assert_eq!(holders.count(at(321)), 1);
        assert!(holders.has(5 << 30) && !holders.has(6 << 30));
        holders.forget(5 << 30);
        assert_eq!(holders.count(at(321)), 0);
    }

    #[test]
    fn what_another_process_knew_counts_as_if_it_had_been_seen_here() {
        let (old, new) = (SessionHolders::default(), SessionHolders::default());
        old.note(1 << 32, true, IDLE, at(10));
        old.note(2 << 32, false, IDLE, at(10));
        // Seen here meanwhile, later than there.
        new.note(1 << 32, true, IDLE, at(12));
        for known in old.known(at(20)) {
            new.take(&known, old.idle());
        }
        assert_eq!((new.count(at(70)), new.count(at(71))), (2, 1));
        assert_eq!((new.count(at(312)), new.count(at(313))), (1, 0));
    }

    #[test]
    fn session_that_never_returned_counts_for_its_trial_only() {
        let holders = SessionHolders::default();
        holders.note(1, false, IDLE, at(10));
        holders.note(2, false, IDLE, at(10));
        holders.note(2, true, IDLE, at(11));
        assert_eq!(holders.count(at(70)), 2);
        assert_eq!(holders.count(at(71)), 1);
        assert_eq!(holders.count(at(311)), 1);
        assert_eq!(holders.count(at(312)), 0);
    }

    #[test]
    fn those_whose_time_is_over_are_forgotten_as_new_ones_come() {
        let holders = SessionHolders::default();
        for session in 0..100_000_u64 {
            holders.note(session << 32, false, IDLE, at(session / 100));
        }
        let shards = holders.shards.get().unwrap();
        let kept: usize = shards.iter().map(|shard| shard.lock().holders.len()).sum();
        assert!(
            kept < 20_000,
            "{kept} of 100,000 are remembered, and 6,000 count"
        );
    }
}
