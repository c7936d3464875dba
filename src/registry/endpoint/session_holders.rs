//! Client sessions that are bound to a backend, and when each was last used.
//!
//! The count is exact as long as there is room. A process remembers [`MOST`] sessions, some 64 MiB; beyond that each
//! new session replaces an old one, so that the count is of those used last. A session whose client never sends its
//! token back, like a client without cookies, counts for [`TRIAL`] only. A session does not expire while a request of
//! it is in progress, even a WebSocket that has been open for hours: its idle time begins with the end of its last
//! request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::Time;

/// Most sessions that one process remembers, of all pools together.
pub(super) const MOST: usize = 1 << 20;
/// Time for which a new session counts if its token does not come back.
pub(super) const TRIAL: Duration = Duration::from_secs(60);

const SHARDS: usize = 16;
/// Number of sessions out of which the oldest is replaced.
const SAMPLE: usize = 8;

/// Number of sessions that are remembered.
static REMEMBERED: AtomicUsize = AtomicUsize::new(0);

/// A session as it is handed over to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSession {
    /// Number of the session.
    pub session: u64,
    /// Time of its last request, to the second.
    pub seen: Time,
    /// Whether its client has sent its token back.
    pub has_returned: bool,
}

/// The sessions of one backend. Allocates nothing before the first session.
#[derive(Debug, Default)]
pub struct SessionHolders {
    shards: OnceLock<Box<[Mutex<HolderShard>; SHARDS]>>,
    /// Idle timeout of sessions in seconds, as last given.
    idle: AtomicU32,
}

#[derive(Debug, Default)]
struct HolderShard {
    holders: HashMap<u64, SessionHolder>,
    /// Number of sessions from which on expired ones are removed.
    sweep: usize,
}

#[derive(Debug, Clone, Copy)]
struct SessionHolder {
    /// Time of the last request, in seconds.
    seen: u32,
    /// Requests in progress.
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
    /// Returns the known sessions in parts, for another process; nothing if there has never been a session.
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
                    // A request of it is in progress: the session is in use now.
                    _ => now,
                },
                has_returned: holder.has_returned,
            });
            known.collect::<Vec<_>>()
        })
    }

    /// Returns the idle timeout of sessions.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle.load(Ordering::Relaxed).into())
    }

    /// Adds sessions that another process knew.
    pub fn take(&self, known: &[KnownSession], idle: Duration) {
        for one in known {
            self.add(one.session, one.has_returned, idle, one.seen, 0);
        }
    }

    /// Notes the start of a request of this session; [`SessionHolders::leave`] notes its end. `has_returned`: whether
    /// the request came with a token for this backend. `idle`: the idle timeout of the session.
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
                // The time from another process may be older.
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

    /// Notes the end of a request of this session. Ignored if the session has moved or ended meanwhile.
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

    /// Removes a session that has moved or ended.
    pub fn forget(&self, session: u64) {
        if let Some(shards) = self.shards.get() {
            shards[shard_of(session)].lock().remove(session);
        }
    }

    /// Whether this session is bound to the backend.
    pub fn has(&self, session: u64) -> bool {
        let Some(shards) = self.shards.get() else {
            return false;
        };
        let shard = shards[shard_of(session)].lock();
        shard.holders.contains_key(&session)
    }

    /// Returns the number of sessions; `None`: there has never been one.
    pub fn count_if_any(&self, now: Time) -> Option<u32> {
        self.shards.get().map(|_| self.count(now))
    }

    /// Returns the number of sessions.
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

    /// Removes all sessions, because another process is behind the backend and no longer knows them.
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
        /// Notes the start and end of a request.
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
        // The session has ended, and another request of it ends later.
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
    fn sessions_of_another_process_count_like_own_ones() {
        let (old, new) = (SessionHolders::default(), SessionHolders::default());
        old.note(1 << 32, true, IDLE, at(10));
        old.note(2 << 32, false, IDLE, at(10));
        // Used here meanwhile, later than in the other process.
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
    fn expired_sessions_are_removed_as_new_ones_come() {
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
