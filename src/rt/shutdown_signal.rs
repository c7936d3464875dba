//! How the outside reaches a connection's task without a lock or a channel on its way: one word and one waker.
//!
//! A connection registers once, when it is opened; a request costs a relaxed load and, when it has to wait,
//! one waker registration. The one who raises the level wakes the task, which then decides for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::core::Time;

/// How urgent it is. Levels only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Go on.
    Run = 0,
    /// Finish what is in flight, then close; an idle connection closes now.
    Finish = 1,
    /// Streams and upgrades end in their orderly way at [`Interrupt::at`].
    End = 2,
    /// As [`Level::End`], for a backend that is about to be restarted (WebSocket code 1012 instead of 1001).
    EndRestart = 3,
    /// Drop it now.
    Cut = 4,
}

impl Level {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => Level::Run,
            1 => Level::Finish,
            2 => Level::End,
            3 => Level::EndRestart,
            _ => Level::Cut,
        }
    }
}

/// One connection's interrupt.
#[derive(Debug, Default)]
pub struct Interrupt {
    level: AtomicU8,
    at: AtomicU64,
    /// Its place in the set, kept under the set's lock: leaving must not search among ten thousand.
    slot: AtomicUsize,
    waker: AtomicWaker,
}

impl Interrupt {
    /// The level now.
    pub fn level(&self) -> Level {
        Level::from_u8(self.level.load(Ordering::Acquire))
    }

    /// When [`Level::End`] is to be obeyed.
    pub fn at(&self) -> Time {
        Time::from_millis(self.at.load(Ordering::Acquire))
    }

    /// The task to wake when the level rises. Check [`Interrupt::level`] after calling it.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Raises the level (never lowers it) and wakes the task, if that is news to it. One raiser at a time.
    pub fn raise(&self, level: Level, at: Time) {
        let (now, at) = (self.level(), at.as_millis() as u64);
        if level < now || (level == now && at == self.at.load(Ordering::Acquire)) {
            return;
        }
        self.at.store(at, Ordering::Release);
        self.level.store(level as u8, Ordering::Release);
        self.waker.wake();
    }
}

/// A set of open connections: counts them and reaches all of them.
#[derive(Debug, Default)]
pub struct Interrupts {
    open: AtomicU32,
    members: Mutex<Vec<Arc<Interrupt>>>,
}

impl Interrupts {
    /// Counts a connection in. Count it out ([`Interrupts::leave`]) after its descriptor is closed.
    pub fn join(&self) -> Arc<Interrupt> {
        let interrupt = Arc::new(Interrupt::default());
        let mut members = self.members.lock();
        interrupt.slot.store(members.len(), Ordering::Relaxed);
        members.push(interrupt.clone());
        drop(members);
        self.open.fetch_add(1, Ordering::AcqRel);
        interrupt
    }

    /// Counts it out again.
    pub fn leave(&self, interrupt: &Arc<Interrupt>) {
        let mut members = self.members.lock();
        let slot = interrupt.slot.load(Ordering::Relaxed);
        if members
            .get(slot)
            .is_some_and(|member| Arc::ptr_eq(member, interrupt))
        {
            members.swap_remove(slot);
            if let Some(moved) = members.get(slot) {
                moved.slot.store(slot, Ordering::Relaxed);
            }
            self.open.fetch_sub(1, Ordering::AcqRel);
        }
        drop(members);
        // Pairs with the gate's own read-modify-write: whoever leaves last sees both counts at zero.
        fence(Ordering::SeqCst);
    }

    /// How many are open.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Raises everybody's level at once.
    pub fn raise(&self, level: Level) {
        for member in self.members.lock().iter() {
            member.raise(level, Time::ZERO);
        }
    }

    /// Raises everybody's level, each to be obeyed at its own moment, evenly spread from `from` to `until`.
    pub fn raise_spread(&self, level: Level, from: Time, until: Time) {
        let members = self.members.lock();
        let step = until.saturating_sub(from) / (members.len().max(1) as u32);
        for (index, member) in members.iter().enumerate() {
            member.raise(level, from + step * index as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_only_rise() {
        let interrupt = Interrupt::default();
        interrupt.raise(Level::Cut, Time::ZERO);
        interrupt.raise(Level::Finish, Time::ZERO);
        assert_eq!(interrupt.level(), Level::Cut);
    }

    #[test]
    fn a_lower_level_moves_no_deadline_and_wakes_nobody() {
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(count.clone());
        let interrupt = Interrupt::default();
        let woken_by = |level, at| {
            interrupt.register(&waker);
            let before = count.0.load(Ordering::SeqCst);
            interrupt.raise(level, Time::from_secs(at));
            (
                count.0.load(Ordering::SeqCst) - before,
                interrupt.at().as_secs(),
            )
        };
        assert_eq!(woken_by(Level::End, 10), (1, 10));
        assert_eq!(woken_by(Level::Finish, 0), (0, 10));
        assert_eq!(woken_by(Level::End, 10), (0, 10));
        assert_eq!(woken_by(Level::End, 20), (1, 20));
    }

    #[test]
    fn a_spread_reaches_each_member_at_its_own_moment() {
        let set = Interrupts::default();
        let members: Vec<_> = (0..4).map(|_| set.join()).collect();
        set.raise_spread(Level::End, Time::from_secs(10), Time::from_secs(14));
        let at: Vec<_> = members.iter().map(|member| member.at().as_secs()).collect();
        assert_eq!(at, [10, 11, 12, 13]);
    }

    #[test]
    fn members_leave_in_any_order() {
        let set = Interrupts::default();
        let mut members: Vec<_> = (0..50).map(|_| set.join()).collect();
        for left in (0..50).rev() {
            let member = members.swap_remove(left * 7 % (left + 1));
            set.leave(&member);
            assert_eq!(set.open() as usize, left);
        }
        set.raise(Level::Cut);
    }

    #[test]
    fn leaving_twice_counts_once() {
        let set = Interrupts::default();
        let one = set.join();
        let _two = set.join();
        set.leave(&one);
        set.leave(&one);
        assert_eq!(set.open(), 1);
    }
}
