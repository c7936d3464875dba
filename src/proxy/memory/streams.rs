//! Accounts for the memory that the streams of one HTTP/2 connection use: a task each, response content that was
//! handed to the `h2` crate and that the client has not received, and request content that the crate has and that
//! nobody has read.
//!
//! A connection may have hundreds of streams, and a client decides how long their memory is used: it opens no window,
//! doesn't read, or sends what the backend doesn't accept yet. The first 64 KiB of a connection are not counted, as
//! with an HTTP/1 connection. Everything beyond counts towards `max_memory`, in steps, so that small responses touch
//! no counter that other threads have in their caches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// The memory of one connection.
#[derive(Debug, Default)]
pub struct StreamMemory {
    /// Memory in use now, and the part of it that is counted.
    charge: Mutex<SteppedCharge>,
    /// The part of it that is content which the client has not received.
    unsent: AtomicUsize,
    /// Whether streams wait until content of this connection has been sent.
    is_awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
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
        let mut charge = self.charge.lock();
        if charge.held() + STREAM > UNCOUNTED && !has_room() {
            return None;
        }
        charge.hold(STREAM);
        Some(StreamPlace(self.clone()))
    }

    /// Counts content that is handed to the `h2` crate.
    pub fn hand_over(self: &Arc<Self>, bytes: Bytes) -> UnsentContent {
        let held = bytes.len() + PIECE;
        self.unsent.fetch_add(held, Ordering::Relaxed);
        self.charge.lock().hold(held);
        UnsentContent {
            bytes,
            held,
            memory: self.clone(),
        }
    }

    /// Returns whether content has to wait: no memory is left, and the client has yet to receive earlier content. If
    /// so, the task is woken when some of that has been sent.
    pub fn must_wait(&self, cx: &Context<'_>) -> bool {
        if !self.is_short() {
            return false;
        }
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        self.is_awaited.store(true, Ordering::Release);
        drop(waiting);
        // The last of it may have been sent in between.
        self.is_short()
    }

    /// The same, without waiting.
    pub fn is_short(&self) -> bool {
        self.unsent.load(Ordering::Relaxed) > 0
            && self.charge.lock().held() > UNCOUNTED
            && !has_room()
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
        self.charge.lock().hold(bytes);
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
        self.charge.lock().release(bytes);
        self.reader.wake();
    }

    fn wake_waiting(&self) {
        self.is_awaited.store(false, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
    }
}

/// An open stream's part of the memory, given back on drop.
#[derive(Debug)]
pub struct StreamPlace(Arc<StreamMemory>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.charge.lock().release(STREAM);
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

/// Content on its way to a client. The `h2` crate drops it when it was written, or when its stream was reset: so the
/// count is the memory in use.
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
        self.memory.unsent.fetch_sub(self.held, Ordering::Relaxed);
        self.memory.charge.lock().release(self.held);
        if self.memory.is_awaited.load(Ordering::Acquire) {
            self.memory.wake_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::memory::stepped::{SLACK, STEP};

    fn counted(memory: &StreamMemory) -> usize {
        memory.charge.lock().counted()
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
        assert_eq!((counted(&memory), memory.charge.lock().held()), (0, 0));
    }
}
