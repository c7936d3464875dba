//! Accounts for the memory that the streams of one HTTP/2 connection use: a task each, response content that was
//! handed to the `h2` crate and that the client has not received, and request content that the crate has and that
//! nobody has read. Of a session with a backend, it is request content that the backend has not received.
//!
//! A connection may have hundreds of streams, and a client decides how long their memory is used: it opens no window,
//! doesn't read, or sends what the backend doesn't accept yet. The first 64 KiB of a connection are not counted, as
//! with an HTTP/1 connection. Everything beyond counts towards `max_memory`, in steps, so that small responses touch
//! no counter that other threads have in their caches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::has_room;
use super::stepped::{SteppedCharge, UNCOUNTED};

/// Memory of an open stream in bytes: its task, its translated head, and the small buffers of its request and its
/// response.
const STREAM: usize = 16 << 10;

// Four streams of each connection are not counted; they are served however full the budget is.
const _: () = assert!(UNCOUNTED == 4 * STREAM);

/// Memory that the crate uses for a part of the content besides its bytes.
const PIECE: usize = 128;

#[derive(Debug, Default)]
struct StreamUsage {
    /// Memory in use now, and the part of it that is counted.
    charge: SteppedCharge,
    /// The part of it that is content which the peer has not received.
    unsent: usize,
    /// The streams that wait until some of that has been sent, by their turn.
    waiting: BTreeMap<u64, Waker>,
    last_turn: u64,
}

impl StreamUsage {
    /// Returns whether content has to wait: the peer has yet to receive earlier content, beyond the uncounted amount.
    fn is_behind(&self) -> bool {
        self.unsent > 0 && self.charge.held() > UNCOUNTED
    }
}

/// The memory of one connection.
#[derive(Debug, Default)]
pub struct StreamMemory {
    usage: Mutex<StreamUsage>,
    /// Open request bodies by stream: the number of bytes that have arrived and were not read.
    bodies: Mutex<BTreeMap<u32, usize>>,
    /// The part of it that is unread content, the sum of `bodies`.
    unread: AtomicUsize,
    /// The connection's task, which stops reading until some of the unread content is read.
    reader: AtomicWaker,
}

impl StreamMemory {
    /// Takes a place for another stream. `None`: no memory is left, and this connection has its four streams.
    pub fn open_stream(self: &Arc<Self>) -> Option<StreamPlace> {
        let charge = &mut self.usage.lock().charge;
        if charge.held() + STREAM > UNCOUNTED && !has_room() {
            return None;
        }
        charge.hold(STREAM);
        Some(StreamPlace(self.clone()))
    }

    /// Counts content that is handed to the `h2` crate.
    pub fn hand_over(self: &Arc<Self>, bytes: Bytes) -> UnsentContent {
        let held = bytes.len() + PIECE;
        let mut usage = self.usage.lock();
        usage.unsent += held;
        usage.charge.hold(held);
        drop(usage);
        UnsentContent {
            bytes,
            held,
            memory: self.clone(),
        }
    }

    /// Returns whether content has to wait: no memory is left, and the peer has yet to receive earlier content. If so,
    /// the task is woken when it is its turn: one for each piece that has been sent, and all when there is none left.
    /// `turn` is the stream's own; 0: it has not waited yet.
    pub fn must_wait(&self, cx: &Context<'_>, turn: &mut u64) -> bool {
        if has_room() {
            return false;
        }
        let mut usage = self.usage.lock();
        if !usage.is_behind() {
            return false;
        }
        if let Some(waker) = usage.waiting.get_mut(turn) {
            waker.clone_from(cx.waker());
            return true;
        }
        usage.last_turn += 1;
        *turn = usage.last_turn;
        usage.waiting.insert(*turn, cx.waker().clone());
        true
    }

    /// The same, without waiting.
    pub fn is_short(&self) -> bool {
        !has_room() && self.usage.lock().is_behind()
    }

    /// Registers the body of this stream's request, of which `here` bytes have arrived.
    pub fn open_body(self: &Arc<Self>, stream: u32, here: usize) -> UnreadBody {
        self.bodies.lock().insert(stream, 0);
        self.receive(stream, here);
        UnreadBody {
            memory: self.clone(),
            stream,
        }
    }

    /// Counts content that has arrived on this stream.
    pub fn receive(&self, stream: u32, bytes: usize) {
        // Content for a stream that has ended is discarded.
        if let Some(unread) = self.bodies.lock().get_mut(&stream) {
            *unread += bytes;
        } else {
            return;
        }
        self.unread.fetch_add(bytes, Ordering::Relaxed);
        self.usage.lock().charge.hold(bytes);
    }

    /// Returns whether the connection may be read from: not if no memory is left and more is unread than the
    /// uncounted amount. If not, the task is woken when some of that was read.
    pub fn may_receive(&self, cx: &Context<'_>) -> bool {
        let may = || self.unread.load(Ordering::Relaxed) <= UNCOUNTED || has_room();
        if may() {
            return true;
        }
        self.reader.register(cx.waker());
        may()
    }

    fn forget_unread(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
        self.usage.lock().charge.release(bytes);
        self.reader.wake();
    }
}

/// An open stream's part of the memory, given back on drop.
#[derive(Debug)]
pub struct StreamPlace(Arc<StreamMemory>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.usage.lock().charge.release(STREAM);
    }
}

/// A request body, whose unread bytes are counted until it is dropped.
#[derive(Debug)]
pub struct UnreadBody {
    memory: Arc<StreamMemory>,
    stream: u32,
}

impl UnreadBody {
    /// Notes that this many bytes were read.
    pub fn consume(&self, bytes: usize) {
        let mut bodies = self.memory.bodies.lock();
        let Some(unread) = bodies.get_mut(&self.stream) else {
            return;
        };
        let bytes = bytes.min(*unread);
        *unread -= bytes;
        drop(bodies);
        self.memory.forget_unread(bytes);
    }
}

impl Drop for UnreadBody {
    fn drop(&mut self) {
        let unread = self.memory.bodies.lock().remove(&self.stream);
        self.memory.forget_unread(unread.unwrap_or(0));
    }
}

/// Content on its way to a client or a backend. The `h2` crate drops it when it was written, or when its stream was
/// reset: so the count is the memory in use.
#[derive(Debug)]
pub struct UnsentContent {
    bytes: Bytes,
    held: usize,
    memory: Arc<StreamMemory>,
}

impl Buf for UnsentContent {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for UnsentContent {
    fn drop(&mut self) {
        let mut usage = self.memory.usage.lock();
        usage.unsent -= self.held;
        usage.charge.release(self.held);
        if usage.waiting.is_empty() {
            return;
        }
        // A stream that waits may have ended meanwhile, and lets its turn pass.
        let woken = match usage.unsent {
            0 => std::mem::take(&mut usage.waiting),
            _ => usage.waiting.pop_first().into_iter().collect(),
        };
        drop(usage);
        for waker in woken.into_values() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::memory::stepped::{SLACK, STEP};
    use crate::proxy::memory::{MemoryCharge, set_limit};
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;

    fn counted(memory: &StreamMemory) -> usize {
        memory.usage.lock().charge.counted()
    }

    #[test]
    fn streams_and_unsent_content_are_counted_until_they_end() {
        let _turn = crate::proxy::memory::tests::TURN.lock();
        let memory = Arc::new(StreamMemory::default());
        let mut places: Vec<_> = (0..4).map(|_| memory.open_stream().unwrap()).collect();
        assert_eq!(counted(&memory), 0, "four streams are the connection's own");
        places.extend((0..100).map(|_| memory.open_stream().unwrap()));
        assert!((100 * STREAM..=100 * STREAM + STEP).contains(&counted(&memory)));
        let content: Vec<_> = (0..10)
            .map(|_| memory.hand_over(Bytes::from(vec![0; 64 << 10])))
            .collect();
        let all = 100 * STREAM + 10 * (64 << 10);
        assert!((all..all + 2 * STEP).contains(&counted(&memory)));
        drop(places);
        let all = 10 * (64 << 10) - UNCOUNTED;
        assert!((all..all + SLACK + STEP).contains(&counted(&memory)));
        drop(content);
        assert_eq!(
            (counted(&memory), memory.usage.lock().charge.held()),
            (0, 0)
        );
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn waiting_streams_are_woken_in_turn_and_all_when_nothing_is_unsent() {
        const LIMIT: usize = 1 << 40;
        let _turn = crate::proxy::memory::tests::TURN.lock();
        let memory = Arc::new(StreamMemory::default());
        let mut content: Vec<_> = (0..3)
            .map(|_| memory.hand_over(Bytes::from(vec![0; UNCOUNTED])))
            .collect();
        let tasks: Vec<Arc<Woken>> = (0..3).map(|_| Arc::default()).collect();
        let mut turns = [0; 3];
        let mut must_wait = |stream: usize| {
            let waker = Waker::from(tasks[stream].clone());
            memory.must_wait(&Context::from_waker(&waker), &mut turns[stream])
        };
        assert!(!must_wait(0), "there is room");
        let mut all = MemoryCharge::default();
        set_limit(LIMIT as u64);
        all.set(LIMIT);
        assert!((0..3).all(&mut must_wait));
        assert!(must_wait(0), "asking again doesn't lose its turn");
        let woken = || {
            tasks
                .iter()
                .map(|task| task.0.swap(false, Ordering::Relaxed))
        };
        content.pop();
        assert!(woken().eq([true, false, false]));
        assert!(must_wait(0), "it is the last now");
        content.pop();
        assert!(woken().eq([false, true, false]));
        content.pop();
        assert!(woken().eq([true, false, true]));
        assert!(!must_wait(1), "a connection's own amount needs no room");
        drop(all);
        set_limit(0);
    }
}
