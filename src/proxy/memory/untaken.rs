//! What backends have sent of their answers over HTTP/2, and what is not read, because a client doesn't take it.
//!
//! A session with a backend carries the answers of many clients. So it is read whatever becomes of each of them, and what
//! comes for a client that takes nothing waits in the `h2` crate: as much as the answer's window lets the backend send. All
//! of it counts in `max_memory`. In this order it is kept small:
//!
//! 1. Windows are [`WIDE`], as long as little is untaken.
//! 2. Where more is untaken, they are [`NARROW`]: no more comes than an answer over HTTP/1 would keep. Nobody loses anything.
//! 3. Where it is half of `max_memory`, or all of that is used up, or a session's own window is about to close for everybody:
//!    of the answers that hold more than a narrow window, those that were not read for longest are ended; among those of the
//!    same second, the ones of which least was read. What was on its way when the windows became narrow is not kept for
//!    clients that read nothing, and one that reads is the last to lose its answer, however slow it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::stepped::SteppedCharge;
use super::{LIMIT, has_room, kept};
use crate::core::Time;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// What a backend may send of one answer before it was read: as much as two buffers of the HTTP/1 plane.
const WIDE: u32 = 128 << 10;

/// The same where more is untaken than there should be.
pub const NARROW: u32 = 16 << 10;

/// What all answers of one session may be ahead: clients that don't read theirs must not hold up the others.
pub const SESSION_WINDOW: u32 = 32 << 20;

/// Of that, so much may be untaken before windows are narrow…
const BUSY_SESSION: usize = SESSION_WINDOW as usize / 4;

/// …so much, before they are wide again…
const CALM_SESSION: usize = SESSION_WINDOW as usize / 16;

/// …and so much, before answers are ended.
const FULL_SESSION: usize = SESSION_WINDOW as usize / 2;

/// What is untaken of all sessions, as far as it is counted.
static UNTAKEN: AtomicUsize = AtomicUsize::new(0);

/// What goes with answers that were ended and are still there.
static LEAVING: AtomicUsize = AtomicUsize::new(0);

/// Answers of which more than a narrow window was untaken when they were last looked through, or since, by number.
static AHEAD: Mutex<AheadAnswers> = Mutex::new(AheadAnswers {
    next: 0,
    answers: BTreeMap::new(),
});

#[derive(Debug)]
struct AheadAnswers {
    next: u64,
    answers: BTreeMap<u64, Arc<AnswerState>>,
}

/// The account of one session with a backend.
#[derive(Debug, Default)]
pub struct SessionMemory {
    answers: Mutex<SessionAnswers>,
    /// Its windows are narrow.
    is_narrow: AtomicBool,
    /// Its task reads no further before it has had a look at the windows, and answers that were ended have had a turn to go.
    wants_turn: AtomicBool,
}

#[derive(Debug, Default)]
struct SessionAnswers {
    open: BTreeMap<u32, Arc<AnswerState>>,
    charge: SteppedCharge,
}

#[derive(Debug)]
struct AnswerState {
    untaken: AtomicUsize,
    /// What was read of it.
    taken: AtomicUsize,
    /// When that was last more, in milliseconds; followed once it is ahead.
    read_at: AtomicU64,
    /// Its number among [`AHEAD`]; 0: it is not there.
    number: AtomicU64,
    /// It was ended, and so much was untaken of it then; 0: it was not.
    ended_with: AtomicUsize,
    /// Through which it is ended.
    interrupt: Arc<ConnectionInterrupt>,
}

impl AnswerState {
    fn is_ended(&self) -> bool {
        self.ended_with.load(Ordering::Acquire) > 0
    }

    /// What is freed if it is ended; `None`: it holds no more than each may.
    fn gain(&self) -> Option<usize> {
        let untaken = self.untaken.load(Ordering::Relaxed);
        (untaken > NARROW as usize && !self.is_ended()).then_some(untaken)
    }
}

impl SessionAnswers {
    fn change(&self, change: impl FnOnce(&SteppedCharge)) {
        let before = self.charge.counted();
        change(&self.charge);
        let now = self.charge.counted();
        match now > before {
            true => UNTAKEN.fetch_add(now - before, Ordering::Relaxed),
            false => UNTAKEN.fetch_sub(before - now, Ordering::Relaxed),
        };
    }
}

impl SessionMemory {
    /// The answer on this stream, which is ended through `interrupt`. The stream was opened just now.
    pub fn open_answer(
        self: &Arc<Self>,
        stream: u32,
        interrupt: &Arc<ConnectionInterrupt>,
    ) -> UntakenAnswer {
        let state = Arc::new(AnswerState {
            untaken: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            read_at: AtomicU64::new(0),
            number: AtomicU64::new(0),
            ended_with: AtomicUsize::new(0),
            interrupt: interrupt.clone(),
        });
        self.answers.lock().open.insert(stream, state.clone());
        UntakenAnswer {
            memory: self.clone(),
            stream,
            state,
        }
    }

    /// Content has come on this stream.
    pub fn receive(&self, stream: u32, bytes: usize) {
        let answers = self.answers.lock();
        // What comes on a stream that has ended is thrown away.
        let Some(answer) = answers.open.get(&stream) else {
            return;
        };
        let untaken = answer.untaken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        answers.change(|charge| charge.hold(bytes));
        if untaken > NARROW as usize && answer.number.load(Ordering::Relaxed) == 0 {
            answer.read_at.store(now(), Ordering::Relaxed);
            let mut ahead = AHEAD.lock();
            ahead.next += 1;
            answer.number.store(ahead.next, Ordering::Relaxed);
            let number = ahead.next;
            ahead.answers.insert(number, answer.clone());
        }
        let held = answers.charge.held();
        let excess = excess();
        let ended = match held.saturating_sub(FULL_SESSION) {
            _ if excess > 0 => end_answers(excess),
            0 => Vec::new(),
            excess => end_answers_of(&answers, excess),
        };
        drop(answers);
        let ends_any = !ended.is_empty() || excess > 0;
        for answer in ended {
            answer.interrupt.raise(ShutdownLevel::Cut, Time::ZERO);
        }
        let is_narrow = self.is_narrow.load(Ordering::Relaxed);
        if ends_any || (!is_narrow && is_busy(held)) {
            self.wants_turn.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the session's task is to have a turn before more is read.
    pub fn take_turn(&self) -> bool {
        self.wants_turn.swap(false, Ordering::Relaxed)
    }

    /// How wide the windows should be: [`NARROW`] or [`WIDE`].
    pub fn window(&self) -> u32 {
        let held = self.answers.lock().charge.held();
        let is_narrow = match self.is_narrow.load(Ordering::Relaxed) {
            true => !is_calm(held),
            false => is_busy(held),
        };
        if is_narrow { NARROW } else { WIDE }
    }

    /// The windows are so wide from now on.
    pub fn set_window(&self, window: u32) {
        self.is_narrow.store(window == NARROW, Ordering::Relaxed);
    }
}

fn now() -> u64 {
    clock::now().as_millis() as u64
}

/// Whether windows become narrow.
fn is_busy(held: usize) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    held > BUSY_SESSION || UNTAKEN.load(Ordering::Relaxed) > limit / 8 || !has_room()
}

/// Whether they become wide again.
fn is_calm(held: usize) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    held < CALM_SESSION && UNTAKEN.load(Ordering::Relaxed) < limit / 16 && has_room()
}

/// What is untaken too much, in the whole process.
fn excess() -> usize {
    let limit = LIMIT.load(Ordering::Relaxed);
    let untaken = UNTAKEN.load(Ordering::Relaxed);
    // What others keep is not theirs to give back.
    let of_all = kept().saturating_sub(limit).min(untaken);
    untaken.saturating_sub(limit / 2).max(of_all)
}

#[cold]
fn end_answers(excess: usize) -> Vec<Arc<AnswerState>> {
    let leaving = LEAVING.load(Ordering::Relaxed);
    if leaving >= excess {
        return Vec::new();
    }
    // Some more than needed, so that the next frame doesn't look through them again.
    let wanted = excess - leaving + LIMIT.load(Ordering::Relaxed) / 32;
    let mut ahead = AHEAD.lock();
    // Those that are not ahead any more are looked at once, and not for each frame that comes.
    ahead.answers.retain(|_, answer| {
        let stays = answer.gain().is_some() || answer.is_ended();
        if !stays {
            answer.number.store(0, Ordering::Relaxed);
        }
        stays
    });
    end_idlest(ahead.answers.values(), wanted)
}

/// The same for one session.
#[cold]
fn end_answers_of(answers: &SessionAnswers, excess: usize) -> Vec<Arc<AnswerState>> {
    let open = answers.open.values();
    let leaving: usize = open
        .clone()
        .filter(|answer| answer.is_ended())
        .map(|answer| answer.untaken.load(Ordering::Relaxed))
        .sum();
    if leaving >= excess {
        return Vec::new();
    }
    let _ahead = AHEAD.lock();
    end_idlest(open, excess - leaving + FULL_SESSION / 8)
}

/// Ends answers that were not read for longest, and of which least was read, until so much will be free. Call it with
/// [`AHEAD`] locked, and interrupt those that are returned when it is free again.
fn end_idlest<'a>(
    answers: impl Iterator<Item = &'a Arc<AnswerState>>,
    wanted: usize,
) -> Vec<Arc<AnswerState>> {
    let now = now();
    let idle_seconds =
        |answer: &AnswerState| now.saturating_sub(answer.read_at.load(Ordering::Relaxed)) / 1000;
    let mut idlest: Vec<_> = answers
        .filter_map(|answer| {
            let taken = answer.taken.load(Ordering::Relaxed);
            Some((
                (Reverse(idle_seconds(answer)), taken),
                answer.gain()?,
                answer,
            ))
        })
        .collect();
    idlest.sort_by_key(|(order, ..)| *order);
    let mut freed = 0;
    let mut ended = Vec::new();
    for (_, gain, answer) in idlest {
        if freed >= wanted {
            break;
        }
        freed += gain;
        answer.ended_with.store(gain, Ordering::Release);
        ended.push(answer.clone());
    }
    LEAVING.fetch_add(freed, Ordering::Relaxed);
    ended
}

/// An answer's content, counted as far as it is here and was not read, until it is dropped.
#[derive(Debug)]
pub struct UntakenAnswer {
    memory: Arc<SessionMemory>,
    stream: u32,
    state: Arc<AnswerState>,
}

impl UntakenAnswer {
    /// So much of it was read.
    pub fn consume(&self, bytes: usize) {
        let answers = self.memory.answers.lock();
        // A frame may have come before the stream was known here.
        let bytes = bytes.min(self.state.untaken.load(Ordering::Relaxed));
        self.state.untaken.fetch_sub(bytes, Ordering::Relaxed);
        self.state.taken.fetch_add(bytes, Ordering::Relaxed);
        answers.change(|charge| charge.release(bytes));
        drop(answers);
        if self.state.number.load(Ordering::Relaxed) != 0 {
            self.state.read_at.store(now(), Ordering::Relaxed);
        }
    }

    /// Whether it was ended to make room.
    pub fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

impl Drop for UntakenAnswer {
    fn drop(&mut self) {
        let mut answers = self.memory.answers.lock();
        answers.open.remove(&self.stream);
        let untaken = self.state.untaken.load(Ordering::Relaxed);
        answers.change(|charge| charge.release(untaken));
        if self.state.number.load(Ordering::Relaxed) == 0 && !self.is_ended() {
            return;
        }
        let mut ahead = AHEAD.lock();
        (ahead.answers).remove(&self.state.number.load(Ordering::Relaxed));
        LEAVING.fetch_sub(
            self.state.ended_with.load(Ordering::Relaxed),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn interrupted(interrupts: &[Arc<ConnectionInterrupt>]) -> Vec<bool> {
        let levels = interrupts.iter();
        levels
            .map(|interrupt| interrupt.level() == ShutdownLevel::Cut)
            .collect()
    }

    #[test]
    fn answers_that_were_not_read_for_longest_are_ended_and_small_ones_never() {
        let _turn = crate::proxy::memory::tests::TURN.lock();
        let memory = Arc::<SessionMemory>::default();
        let interrupts: Vec<_> = (0..5).map(|_| Arc::default()).collect();
        let open = |n: usize| memory.open_answer(2 * n as u32 + 1, &interrupts[n]);
        let answers: Vec<_> = (0..5).map(open).collect();
        // As many as a narrow window: nobody's fault, however long it is not read.
        memory.receive(1, NARROW as usize);
        for stream in [3, 5, 7] {
            memory.receive(stream, 5 * MIB);
        }
        // All in the same second; of the third, least was read.
        for (answer, taken) in answers.iter().zip([0, 300, 200, 400, 900]) {
            answer.state.taken.store(taken, Ordering::Relaxed);
            answer.state.read_at.store(0, Ordering::Relaxed);
        }
        assert_eq!(memory.window(), NARROW);
        assert!(memory.take_turn() && !memory.take_turn());
        assert_eq!(interrupted(&interrupts), [false; 5]);
        memory.receive(9, 2 * MIB);
        assert_eq!(
            interrupted(&interrupts),
            [false, false, true, false, false],
            "least of it was read"
        );
        assert!(answers[2].is_ended() && memory.take_turn());
        // What leaves makes room for as much.
        memory.receive(9, MIB);
        let ended = interrupted(&interrupts);
        assert_eq!(ended.iter().filter(|cut| **cut).count(), 1);
        // Who has stopped reading is ended before one of whom less was read.
        while now() < 1000 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for answer in [&answers[1], &answers[4]] {
            answer.state.read_at.store(now(), Ordering::Relaxed);
        }
        memory.receive(9, 5 * MIB);
        let ended = interrupted(&interrupts);
        assert_eq!(ended, [false, false, true, true, false]);
        answers[3].consume(5 * MIB);
        drop(answers);
        let left = memory.answers.lock();
        assert_eq!((left.charge.held(), left.charge.counted()), (0, 0));
        assert!(left.open.is_empty());
        drop(left);
        memory.set_window(NARROW);
        assert_eq!(memory.window(), WIDE);
    }
}
