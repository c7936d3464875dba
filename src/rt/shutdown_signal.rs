//! How a connection's task is interrupted without a lock or a channel: one atomic word and one waker.
//!
//! A connection registers once, when it is opened; a request costs a relaxed load and, when it has to wait, one waker
//! registration. Raising the level wakes the task, which then decides for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::core::Time;

/// How urgent it is. Levels only rise; only the request to move is withdrawn when the hand-over has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShutdownLevel {
    /// Go on.
    Run = 0,
    /// Go on, and move to another process at the next still point. The one level that is taken back.
    Move = 1,
    /// Finish what is in flight, then close; an idle connection closes now.
    Finish = 2,
    /// Streams and upgrades end in their orderly way at [`ConnectionInterrupt::at`].
    End = 3,
    /// As [`ShutdownLevel::End`], for a backend that is about to be restarted (WebSocket code 1012 instead of 1001).
    EndRestart = 4,
    /// Drop it now.
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
    /// What was answered to [`ShutdownLevel::Move`]: a number of the caller's choosing, with the flags below; 0: nothing yet.
    answer: AtomicU8,
    at: AtomicU64,
    /// An inquiry asks what is in flight here.
    inquiry: AtomicBool,
    /// Its place in the set, kept under the set's lock: leaving must not search among ten thousand.
    slot: AtomicUsize,
    waker: AtomicWaker,
}

impl ConnectionInterrupt {
    /// The level now.
    pub fn level(&self) -> ShutdownLevel {
        ShutdownLevel::from_u8(self.level.load(Ordering::Acquire))
    }

    /// When [`ShutdownLevel::End`] is to be obeyed.
    pub fn at(&self) -> Time {
        Time::from_millis(self.at.load(Ordering::Acquire))
    }

    /// The task to wake when the level rises. Check [`ConnectionInterrupt::level`] after calling it.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Whether an inquiry asks what is in flight here. Call it after [`ConnectionInterrupt::register`].
    #[inline]
    pub fn has_inquiry(&self) -> bool {
        self.inquiry.load(Ordering::Acquire)
    }

    /// The inquiry is answered.
    pub fn end_inquiry(&self) {
        self.inquiry.store(false, Ordering::Release);
    }

    /// Raises the level (never lowers it) and wakes the task, if that is news to it. One raiser at a time, but for
    /// [`ShutdownLevel::Cut`], which needs no time.
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

/// In an answer: this one is asked no more in the hand-over under way…
const DECLINED: u8 = 0x40;
/// …nor in any later one.
const LASTING: u8 = 0x80;

impl ConnectionInterrupt {
    /// Answers to [`ShutdownLevel::Move`] with a number between 1 and 63. It is still asked.
    pub fn answer(&self, answer: u8) {
        self.answer.store(answer, Ordering::Release);
    }

    /// Answers, and is asked no more: in this hand-over, or (`is_lasting`) never.
    pub fn decline(&self, answer: u8, is_lasting: bool) {
        let flag = if is_lasting { LASTING } else { DECLINED };
        self.answer.store(answer | flag, Ordering::SeqCst);
        self.take_back();
    }

    /// Asks it to move, unless it has declined, or has to end.
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
        // It may have declined in between: of the two, one sees the other.
        match has_declined() {
            true => self.take_back(),
            false => self.waker.wake(),
        }
    }

    /// It is no longer asked to move.
    fn take_back(&self) {
        let (from, to) = (ShutdownLevel::Move as u8, ShutdownLevel::Run as u8);
        let _ = (self.level).compare_exchange(from, to, Ordering::SeqCst, Ordering::Relaxed);
    }

    fn forget_answer(&self) {
        let lasting = |answer: u8| (answer & LASTING == 0 && answer != 0).then_some(0);
        let _ = (self.answer).fetch_update(Ordering::SeqCst, Ordering::Relaxed, lasting);
    }
}

/// A set of open connections: counts them and reaches all of them.
#[derive(Debug, Default)]
pub struct InterruptSet {
    open: AtomicU32,
    members: Mutex<Vec<Arc<ConnectionInterrupt>>>,
}

impl InterruptSet {
    /// Counts a connection in. Count it out ([`InterruptSet::leave`]) after its descriptor is closed.
    pub fn join(&self) -> Arc<ConnectionInterrupt> {
        let interrupt = Arc::new(ConnectionInterrupt::default());
        let mut members = self.members.lock();
        interrupt.slot.store(members.len(), Ordering::Relaxed);
        members.push(interrupt.clone());
        drop(members);
        self.open.fetch_add(1, Ordering::AcqRel);
        interrupt
    }

    /// Counts it out again.
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
        // Pairs with the gate's own read-modify-write: the last one to leave sees both counts at zero.
        fence(Ordering::SeqCst);
    }

    /// How many are open.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Asks all connections what is in flight on them. Those with nothing in flight don't answer.
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

    /// Begins to ask all to move: what they answered to an earlier hand-over counts no more.
    pub fn begin_move(&self) {
        for member in self.members.lock().iter() {
            member.forget_answer();
            member.ask_to_move();
        }
    }

    /// Asks connections that have come since to move, too.
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

    /// What each has answered; 0: nothing yet.
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
