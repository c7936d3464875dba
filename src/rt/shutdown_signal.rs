//! Interrupts a connection's task without a lock or a channel: with one atomic word and one waker.
//!
//! A connection registers once, when it is opened; a request costs a relaxed load and, when it has to wait, one waker
//! registration. Raising the level wakes the task, which then decides for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::core::Time;

/// Urgency of an interrupt. Levels only rise, except that a request to move is withdrawn if the hand-over fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShutdownLevel {
    /// Continue.
    Run = 0,
    /// Continue, and move to another process as soon as the connection can be paused. The only level that can be
    /// withdrawn.
    Move = 1,
    /// Finish what is in flight, then close; an idle connection closes now.
    Finish = 2,
    /// End streams and upgraded connections in their orderly way at the time [`ConnectionInterrupt::at`].
    End = 3,
    /// As [`ShutdownLevel::End`], for a backend that is about to be restarted (WebSocket code 1012 instead of 1001).
    EndRestart = 4,
    /// Close the connection now.
    Cut = 5,
}

impl ShutdownLevel {
    fn from_u8(value: u8) -> Self {
        match value {
            0 => ShutdownLevel::Run,
            1 => ShutdownLevel::Move,
            2 => ShutdownLevel::Finish,
            3 => ShutdownLevel::End,
            4 => ShutdownLevel::EndRestart,
            _ => ShutdownLevel::Cut,
        }
    }
}

/// One connection's interrupt.
#[derive(Debug, Default)]
pub struct ConnectionInterrupt {
    level: AtomicU8,
    /// Answer to [`ShutdownLevel::Move`]: a number of the caller's choosing, with the flags below; 0: none yet.
    answer: AtomicU8,
    at: AtomicU64,
    /// Whether the connection is asked what is in flight on it.
    inquiry: AtomicBool,
    /// Index in the set, kept under the set's lock, so that leaving needs no search among ten thousand.
    slot: AtomicUsize,
    waker: AtomicWaker,
}

impl ConnectionInterrupt {
    /// Current level.
    pub fn level(&self) -> ShutdownLevel {
        ShutdownLevel::from_u8(self.level.load(Ordering::Acquire))
    }

    /// Time at which [`ShutdownLevel::End`] takes effect.
    pub fn at(&self) -> Time {
        Time::from_millis(self.at.load(Ordering::Acquire))
    }

    /// Registers the task to wake when the level rises. Check [`ConnectionInterrupt::level`] after this call.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether the connection is asked what is in flight on it. Call this after [`ConnectionInterrupt::register`].
    #[inline]
    pub fn has_inquiry(&self) -> bool {
        self.inquiry.load(Ordering::Acquire)
    }

    /// Records that the question was answered.
    pub fn end_inquiry(&self) {
        self.inquiry.store(false, Ordering::Release);
    }

    /// Raises the level (never lowers it), and wakes the task if anything changed for it. Only one thread at a time may
    /// raise, except to [`ShutdownLevel::Cut`], which needs no time.
    pub fn raise(&self, level: ShutdownLevel, at: Time) {
        let (now, at) = (self.level(), at.as_millis() as u64);
        if level < now || (level == now && at == self.at.load(Ordering::Acquire)) {
            return;
        }
        self.at.store(at, Ordering::Release);
        self.level.fetch_max(level as u8, Ordering::AcqRel);
        self.waker.wake();
    }
}

/// Flag in an answer: this connection is not asked again during this hand-over…
const DECLINED: u8 = 0x40;
/// …nor during any later one.
const LASTING: u8 = 0x80;

impl ConnectionInterrupt {
    /// Answers [`ShutdownLevel::Move`] with a number from 1 to 63. The connection will be asked again.
    pub fn answer(&self, answer: u8) {
        self.answer.store(answer, Ordering::Release);
    }

    /// Answers, and will not be asked again: during this hand-over, or (`is_lasting`) ever.
    pub fn decline(&self, answer: u8, is_lasting: bool) {
        let flag = if is_lasting { LASTING } else { DECLINED };
        self.answer.store(answer | flag, Ordering::SeqCst);
        self.take_back();
    }

    /// Asks the connection to move, unless it has declined or has to end.
    fn ask_to_move(&self) {
        let has_declined = || self.answer.load(Ordering::SeqCst) & (DECLINED | LASTING) != 0;
        let (from, to) = (ShutdownLevel::Run as u8, ShutdownLevel::Move as u8);
        let is_news = !has_declined()
            && (self.level)
                .compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok();
        if !is_news {
            return;
        }
        // It may have declined at the same moment: one of the two threads sees what the other has written.
        match has_declined() {
            true => self.take_back(),
            false => self.waker.wake(),
        }
    }

    /// Withdraws the request to move.
    fn take_back(&self) {
        let (from, to) = (ShutdownLevel::Move as u8, ShutdownLevel::Run as u8);
        let _ = (self.level).compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed);
    }

    fn forget_answer(&self) {
        let lasting = |answer: u8| (answer & LASTING == 0 && answer != 0).then_some(0);
        let _ = (self.answer).fetch_update(Ordering::SeqCst, Ordering::Relaxed, lasting);
    }
}

/// The set of open connections: counts them, and interrupts all of them.
#[derive(Debug, Default)]
pub struct InterruptSet {
    open: AtomicU32,
    members: Mutex<Vec<Arc<ConnectionInterrupt>>>,
}

impl InterruptSet {
    /// Adds a connection. Call [`InterruptSet::leave`] after its descriptor is closed.
    pub fn join(&self) -> Arc<ConnectionInterrupt> {
        let interrupt = Arc::new(ConnectionInterrupt::default());
        let mut members = self.members.lock();
        interrupt.slot.store(members.len(), Ordering::Relaxed);
        members.push(interrupt.clone());
        drop(members);
        self.open.fetch_add(1, Ordering::AcqRel);
        interrupt
    }

    /// Removes a connection.
    pub fn leave(&self, interrupt: &Arc<ConnectionInterrupt>) {
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
        // Pairs with the gate's own read-modify-write: the last one that leaves sees both counts at zero.
        fence(Ordering::SeqCst);
    }

    /// Number of open connections.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Asks all connections what is in flight on them. Connections with nothing in flight don't answer.
    pub fn ask_all_connections(&self) {
        for member in self.members.lock().iter() {
            member.inquiry.store(true, Ordering::Release);
            member.waker.wake();
        }
    }

    /// Raises the level of all connections at once.
    pub fn raise(&self, level: ShutdownLevel) {
        for member in self.members.lock().iter() {
            member.raise(level, Time::ZERO);
        }
    }

    /// Starts to ask all connections to move; their answers to an earlier hand-over are forgotten.
    pub fn begin_move(&self) {
        for member in self.members.lock().iter() {
            member.forget_answer();
            member.ask_to_move();
        }
    }

    /// Also asks connections that were opened since then.
    pub fn ask_to_move(&self) {
        for member in self.members.lock().iter() {
            member.ask_to_move();
        }
    }

    /// Withdraws the request to move.
    pub fn end_move(&self) {
        for member in self.members.lock().iter() {
            member.take_back();
        }
    }

    /// Calls `take` with each connection's answer; 0: none yet.
    pub fn for_each_answer(&self, mut take: impl FnMut(u8)) {
        for member in self.members.lock().iter() {
            take(member.answer.load(Ordering::Acquire) & !(DECLINED | LASTING));
        }
    }

    /// Raises the level of all connections, each to act at its own moment, evenly spread from `from` to `until`.
    pub fn raise_spread(&self, level: ShutdownLevel, from: Time, until: Time) {
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
        let interrupt = ConnectionInterrupt::default();
        interrupt.raise(ShutdownLevel::Cut, Time::ZERO);
        interrupt.raise(ShutdownLevel::Finish, Time::ZERO);
        assert_eq!(interrupt.level(), ShutdownLevel::Cut);
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
        let interrupt = ConnectionInterrupt::default();
        let woken_by = |level, at| {
            interrupt.register(&waker);
            let before = count.0.load(Ordering::SeqCst);
            interrupt.raise(level, Time::from_secs(at));
            (
                count.0.load(Ordering::SeqCst) - before,
                interrupt.at().as_secs(),
            )
        };
        assert_eq!(woken_by(ShutdownLevel::End, 10), (1, 10));
        assert_eq!(woken_by(ShutdownLevel::Finish, 0), (0, 10));
        assert_eq!(woken_by(ShutdownLevel::End, 10), (0, 10));
        assert_eq!(woken_by(ShutdownLevel::End, 20), (1, 20));
    }

    #[test]
    fn move_is_asked_for_and_taken_back_and_hides_no_higher_level() {
        let set = InterruptSet::default();
        let (one, two, three) = (set.join(), set.join(), set.join());
        two.raise(ShutdownLevel::Finish, Time::ZERO);
        three.decline(5, true);
        set.begin_move();
        let levels = || [&one, &two, &three].map(|member| member.level());
        assert_eq!(
            levels(),
            [
                ShutdownLevel::Move,
                ShutdownLevel::Finish,
                ShutdownLevel::Run
            ]
        );
        one.raise(ShutdownLevel::End, Time::ZERO);
        set.end_move();
        assert_eq!(
            levels(),
            [
                ShutdownLevel::End,
                ShutdownLevel::Finish,
                ShutdownLevel::Run
            ]
        );
    }

    #[test]
    fn connection_that_declined_is_asked_again_only_by_the_next_hand_over() {
        let set = InterruptSet::default();
        let one = set.join();
        set.begin_move();
        one.decline(7, false);
        set.ask_to_move();
        assert_eq!(one.level(), ShutdownLevel::Run);
        let answers = |set: &InterruptSet| {
            let mut answers = Vec::new();
            set.for_each_answer(|answer| answers.push(answer));
            answers
        };
        assert_eq!(answers(&set), [7]);
        set.end_move();
        set.begin_move();
        assert_eq!((one.level(), answers(&set)), (ShutdownLevel::Move, vec![0]));
    }

    #[test]
    fn a_spread_reaches_each_member_at_its_own_moment() {
        let set = InterruptSet::default();
        let members: Vec<_> = (0..4).map(|_| set.join()).collect();
        set.raise_spread(ShutdownLevel::End, Time::from_secs(10), Time::from_secs(14));
        let at: Vec<_> = members.iter().map(|member| member.at().as_secs()).collect();
        assert_eq!(at, [10, 11, 12, 13]);
    }

    #[test]
    fn members_leave_in_any_order() {
        let set = InterruptSet::default();
        let mut members: Vec<_> = (0..50).map(|_| set.join()).collect();
        for left in (0..50).rev() {
            let member = members.swap_remove(left * 7 % (left + 1));
            set.leave(&member);
            assert_eq!(set.open() as usize, left);
        }
        set.raise(ShutdownLevel::Cut);
    }

    #[test]
    fn leaving_twice_counts_once() {
        let set = InterruptSet::default();
        let one = set.join();
        let _two = set.join();
        set.leave(&one);
        set.leave(&one);
        assert_eq!(set.open(), 1);
    }
}
