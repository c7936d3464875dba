//! Content of answers that HTTP/2 backends have sent and that was not read yet, because a client doesn't take it.
//!
//! A session with a backend carries the answers of many clients, so it is always read, and content for a client that
//! reads nothing waits in the `h2` crate: as much as the answer's window lets the backend send. All of it is counted in
//! `max_memory`, and kept small in three steps:
//!
//! 1. Windows are [`WIDE`] as long as little is unread.
//! 2. If more is unread, they are [`NARROW`]: no more arrives than an answer over HTTP/1 would keep. No client loses
//!    anything.
//! 3. If it is half of `max_memory`, or `max_memory` is used up, or a session's own window is nearly used up: of the
//!    answers with more unread content than a narrow window, those that were not read for the longest time are ended
//!    first; among those last read within the same second, the ones of which least was read. So clients that read nothing
//!    lose what was on its way when the windows became narrow, and a client that reads is the last to lose its answer,
//!    however slow it is.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::stepped::SteppedCharge;
use super::{LIMIT, StreamMemory, has_room, kept};
use crate::core::Time;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// Flow-control window of one answer, in bytes: as much as two buffers of the HTTP/1 plane.
const WIDE: u32 = 128 << 10;

/// Flow-control window of one answer if much is unread, in bytes.
pub const NARROW: u32 = 16 << 10;

/// Flow-control window of all answers of one session, in bytes: clients that don't read theirs must not block the
/// others.
pub const SESSION_WINDOW: u32 = 32 << 20;

/// Unread bytes of a session from which on its windows are narrow.
const BUSY_SESSION: usize = SESSION_WINDOW as usize / 4;

/// Unread bytes of a session below which its windows are wide again.
const CALM_SESSION: usize = SESSION_WINDOW as usize / 16;

/// Unread bytes of a session from which on answers are ended.
const FULL_SESSION: usize = SESSION_WINDOW as usize / 2;

/// Unread bytes of all sessions, as far as they are counted.
static UNREAD: AtomicUsize = AtomicUsize::new(0);

/// Unread bytes of answers that were ended and are not dropped yet.
static LEAVING: AtomicUsize = AtomicUsize::new(0);

/// Answers that had more unread than a narrow window at some time since the last search through them, by number.
static AHEAD: Mutex<AheadAnswers> = Mutex::new(AheadAnswers {
    next: 0,
    answers: BTreeMap::new(),
});

#[derive(Debug)]
struct AheadAnswers {
    next: u64,
    answers: BTreeMap<u64, Arc<AnswerState>>,
}

/// Counts the unread content of one session with a backend, and the requests' content that the backend has not
/// received.
#[derive(Debug, Default)]
pub struct SessionMemory {
    uploads: Arc<StreamMemory>,
    answers: Mutex<SessionAnswers>,
    /// Whether its windows are narrow.
    is_narrow: AtomicBool,
    /// Whether its task has to check the windows, and give ended answers a turn to be dropped, before it reads on.
    wants_turn: AtomicBool,
}

#[derive(Debug, Default)]
struct SessionAnswers {
    open: BTreeMap<u32, Arc<AnswerState>>,
    charge: SteppedCharge,
}

#[derive(Debug)]
struct AnswerState {
    unread: AtomicUsize,
    /// Number of bytes that were read.
    read: AtomicUsize,
    /// When it was last read, in milliseconds; kept only while it is among [`AHEAD`].
    read_at: AtomicU64,
    /// Number among [`AHEAD`]; 0: it is not there.
    number: AtomicU64,
    /// Unread bytes when it was ended; 0: it was not ended.
    ended_with: AtomicUsize,
    /// Interrupts the task that reads the answer.
    interrupt: Arc<ConnectionInterrupt>,
}

impl AnswerState {
    fn is_ended(&self) -> bool {
        self.ended_with.load(Ordering::Acquire) > 0
    }

    /// Returns the bytes that are freed if it is ended; `None`: it has no more unread than any answer may have.
    fn gain(&self) -> Option<usize> {
        let unread = self.unread.load(Ordering::Relaxed);
        (unread > NARROW as usize && !self.is_ended()).then_some(unread)
    }
}

/// Adds unread bytes to a session's.
fn hold(charge: &mut SteppedCharge, bytes: usize) {
    let counted = charge.hold(bytes);
    if counted > 0 {
        UNREAD.fetch_add(counted, Ordering::Relaxed);
    }
}

/// Removes bytes of a session that were read or dropped.
fn release(charge: &mut SteppedCharge, bytes: usize) {
    let given_back = charge.release(bytes);
    if given_back > 0 {
        UNREAD.fetch_sub(given_back, Ordering::Relaxed);
    }
}

impl SessionMemory {
    /// Returns what counts the requests' content.
    pub fn uploads(&self) -> &Arc<StreamMemory> {
        &self.uploads
    }

    /// Adds the answer on a stream that was just opened. `interrupt` ends it.
    pub fn open_answer(
        self: &Arc<Self>,
        stream: u32,
        interrupt: &Arc<ConnectionInterrupt>,
    ) -> UnreadAnswer {
        let state = Arc::new(AnswerState {
            unread: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            read_at: AtomicU64::new(0),
            number: AtomicU64::new(0),
            ended_with: AtomicUsize::new(0),
            interrupt: interrupt.clone(),
        });
        self.answers.lock().open.insert(stream, state.clone());
        UnreadAnswer {
            memory: self.clone(),
            stream,
            state,
        }
    }

    /// Counts content that has arrived on a stream.
    pub fn receive(&self, stream: u32, bytes: usize) {
        let mut locked = self.answers.lock();
        let answers = &mut *locked;
        // Content of a stream that has ended is dropped.
        let Some(answer) = answers.open.get(&stream) else {
            return;
        };
        let unread = answer.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        hold(&mut answers.charge, bytes);
        if unread > NARROW as usize && answer.number.load(Ordering::Relaxed) == 0 {
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
            excess => end_answers_of(answers, excess),
        };
        drop(locked);
        let ends_any = !ended.is_empty() || excess > 0;
        for answer in ended {
            answer.interrupt.raise(ShutdownLevel::Cut, Time::ZERO);
        }
        let is_narrow = self.is_narrow.load(Ordering::Relaxed);
        if ends_any || (!is_narrow && is_busy(held)) {
            self.wants_turn.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the session's task needs a turn before more is read; asking resets it.
    pub fn take_turn(&self) -> bool {
        self.wants_turn.swap(false, Ordering::Relaxed)
    }

    /// Returns the window that answers should have: `NARROW` or `WIDE`.
    pub fn window(&self) -> u32 {
        let held = self.answers.lock().charge.held();
        let is_narrow = match self.is_narrow.load(Ordering::Relaxed) {
            true => !is_calm(held),
            false => is_busy(held),
        };
        if is_narrow { NARROW } else { WIDE }
    }

    /// Notes the window that answers have from now on.
    pub fn set_window(&self, window: u32) {
        self.is_narrow.store(window == NARROW, Ordering::Relaxed);
    }
}

fn now() -> u64 {
    clock::now().as_millis() as u64
}

/// Whether wide windows should become narrow.
fn is_busy(held: usize) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    held > BUSY_SESSION || UNREAD.load(Ordering::Relaxed) > limit / 8 || !has_room()
}

/// Whether narrow windows should become wide again.
fn is_calm(held: usize) -> bool {
    let limit = LIMIT.load(Ordering::Relaxed);
    held < CALM_SESSION && UNREAD.load(Ordering::Relaxed) < limit / 16 && has_room()
}

/// Returns the unread bytes above the limit of the whole process.
fn excess() -> usize {
    let limit = LIMIT.load(Ordering::Relaxed);
    let unread = UNREAD.load(Ordering::Relaxed);
    // Memory that is used otherwise is not freed by ending answers.
    let of_all = kept().saturating_sub(limit).min(unread);
    unread.saturating_sub(limit / 2).max(of_all)
}

#[cold]
fn end_answers(excess: usize) -> Vec<Arc<AnswerState>> {
    let leaving = LEAVING.load(Ordering::Relaxed);
    if leaving >= excess {
        return Vec::new();
    }
    // More than needed, so that the next frame doesn't cause another search.
    let wanted = excess - leaving + LIMIT.load(Ordering::Relaxed) / 32;
    let mut ahead = AHEAD.lock();
    // Answers that are no longer ahead are removed, so that each is looked at once and not for each frame.
    ahead.answers.retain(|_, answer| {
        let stays = answer.gain().is_some() || answer.is_ended();
        if !stays {
            answer.number.store(0, Ordering::Relaxed);
        }
        stays
    });
    end_idlest(ahead.answers.values(), wanted)
}

/// As [`end_answers`], for the answers of one session.
#[cold]
fn end_answers_of(answers: &SessionAnswers, excess: usize) -> Vec<Arc<AnswerState>> {
    let open = answers.open.values();
    let leaving: usize = open
        .clone()
        .filter(|answer| answer.is_ended())
        .map(|answer| answer.unread.load(Ordering::Relaxed))
        .sum();
    if leaving >= excess {
        return Vec::new();
    }
    let _ahead = AHEAD.lock();
    end_idlest(open, excess - leaving + FULL_SESSION / 8)
}

/// Ends the answers that were not read for the longest time, and of which least was read, until `wanted` bytes will be
/// free. The caller holds the lock of [`AHEAD`], and interrupts the returned answers after it has released it.
fn end_idlest<'a>(
    answers: impl Iterator<Item = &'a Arc<AnswerState>>,
    wanted: usize,
) -> Vec<Arc<AnswerState>> {
    let now = now();
    let idle_seconds =
        |answer: &AnswerState| now.saturating_sub(answer.read_at.load(Ordering::Relaxed)) / 1000;
    let mut idlest: Vec<_> = answers
        .filter_map(|answer| {
            let read = answer.read.load(Ordering::Relaxed);
            Some((
                (Reverse(idle_seconds(answer)), read),
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

/// Counts the unread content of one answer, until it is dropped.
#[derive(Debug)]
pub struct UnreadAnswer {
    memory: Arc<SessionMemory>,
    stream: u32,
    state: Arc<AnswerState>,
}

impl UnreadAnswer {
    /// Notes that bytes were read.
    pub fn consume(&self, bytes: usize) {
        let mut answers = self.memory.answers.lock();
        // A frame may have arrived before the answer was added.
        let bytes = bytes.min(self.state.unread.load(Ordering::Relaxed));
        self.state.unread.fetch_sub(bytes, Ordering::Relaxed);
        self.state.read.fetch_add(bytes, Ordering::Relaxed);
        release(&mut answers.charge, bytes);
        drop(answers);
        if self.state.number.load(Ordering::Relaxed) != 0 {
            self.state.read_at.store(now(), Ordering::Relaxed);
        }
    }

    /// Whether the answer was ended to free memory.
    pub fn is_ended(&self) -> bool {
        self.state.is_ended()
    }
}

impl Drop for UnreadAnswer {
    fn drop(&mut self) {
        let mut answers = self.memory.answers.lock();
        answers.open.remove(&self.stream);
        let unread = self.state.unread.load(Ordering::Relaxed);
        release(&mut answers.charge, unread);
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
        for (answer, read) in answers.iter().zip([0, 300, 200, 400, 900]) {
            answer.state.read.store(read, Ordering::Relaxed);
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
