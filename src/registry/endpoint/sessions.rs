//! The HTTP/2 sessions of one backend: connections that carry many requests at a time.
//!
//! Looking one up takes no lock. A session's own gate makes "still open?" and "one more stream" a single step, so
//! that no stream enters a session that is about to close.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::client::SendRequest;
use parking_lot::Mutex;

use crate::registry::endpoint::gate::{Gate, GateLeave};

/// So many streams on one session, then another one is opened: each session's frames are handled by one task.
const FULL: u32 = 64;

/// So many sessions are opened for that reason. Further ones only where the backend allows no more streams.
const ENOUGH: usize = 4;

/// One connection that speaks HTTP/2.
pub struct BackendSession {
    /// The epoch it was opened in.
    pub epoch: u64,
    gate: Gate,
    /// Streams that the backend allows at a time.
    limit: AtomicU32,
    /// Streams so far.
    uses: AtomicU64,
    sender: Mutex<Option<SendRequest<Bytes>>>,
    waker: AtomicWaker,
    account: Arc<dyn Any + Send + Sync>,
}

impl BackendSession {
    /// A session that allows no streams yet. `account`: what the proxy counts of it, for [`BackendSession::account`].
    pub fn new(
        epoch: u64,
        sender: SendRequest<Bytes>,
        account: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            epoch,
            gate: Gate::new(true),
            limit: AtomicU32::new(0),
            uses: AtomicU64::new(0),
            sender: Mutex::new(Some(sender)),
            waker: AtomicWaker::new(),
            account,
        }
    }

    /// What the proxy counts of it, if that is of this type.
    pub fn account<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::downcast(self.account.clone()).ok()
    }

    /// Takes note of what the backend allows now.
    pub fn allow(&self, streams: usize) {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX);
        self.limit.store(streams, Ordering::Relaxed);
    }

    /// No new streams: it closes when the last one ends.
    pub fn close(&self) {
        self.gate.close();
        self.waker.wake();
    }

    /// Whether there are no new streams.
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Streams under way.
    pub fn streams(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Streams so far.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// The task to wake when it is to close.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// What opens streams; `None` once it is closed.
    pub fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.sender.lock().clone()
    }

    /// Gives up what opens streams: without it, the connection ends by itself.
    pub fn end(&self) {
        self.sender.lock().take();
    }

    /// Enters it, unless it is closed or the backend allows no more.
    fn enter(self: &Arc<Self>) -> Option<SessionStream> {
        let limit = self.limit.load(Ordering::Relaxed);
        (limit > 0 && self.gate.try_enter_below(limit)).then(|| {
            self.uses.fetch_add(1, Ordering::Relaxed);
            SessionStream(self.clone())
        })
    }
}

impl fmt::Debug for BackendSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("epoch", &self.epoch)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

/// A stream on a session; counted out on drop.
#[derive(Debug)]
pub struct SessionStream(Arc<BackendSession>);

impl SessionStream {
    /// The session that the stream is on.
    pub fn session(&self) -> &Arc<BackendSession> {
        &self.0
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        if self.0.gate.leave() == GateLeave::LastOut {
            self.0.waker.wake();
        }
    }
}

/// Those of one backend.
#[derive(Debug, Default)]
pub struct BackendSessions {
    open: ArcSwap<Vec<Arc<BackendSession>>>,
    /// One at a time opens another; the others wait for it.
    pub opening: tokio::sync::Mutex<()>,
    /// Attempts to open one that have failed: a request that has waited for one of them need not try again.
    pub failed: AtomicU64,
    broken: AtomicU64,
}

impl BackendSessions {
    /// A place for a stream on a session of this epoch: on the one with the fewest. `None`: another session is better.
    pub fn enter(&self, epoch: u64) -> Option<SessionStream> {
        let open = self.open.load();
        let usable =
            |session: &&Arc<BackendSession>| session.epoch == epoch && !session.is_closed();
        let least = open
            .iter()
            .filter(usable)
            .min_by_key(|session| session.streams())?;
        if least.streams() >= FULL && open.len() < ENOUGH {
            return None;
        }
        least
            .enter()
            // They are not all alike: another may have room.
            .or_else(|| {
                open.iter()
                    .filter(usable)
                    .find_map(|session| session.enter())
            })
    }

    /// As [`BackendSessions::enter`], but on a busy one rather than on none.
    pub fn enter_any(&self, epoch: u64) -> Option<SessionStream> {
        let open = self.open.load();
        let mut usable = open.iter().filter(|session| session.epoch == epoch);
        usable.find_map(|session| session.enter())
    }

    /// One is closed because the backend ended too many of its streams early, or sent too much that carries nothing.
    pub fn note_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were closed for that.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Streams under way on all of them.
    pub fn streams(&self) -> u32 {
        let open = self.open.load();
        open.iter().map(|session| session.streams()).sum()
    }

    /// A new one is open.
    pub fn add(&self, session: &Arc<BackendSession>) {
        self.open.rcu(|open| {
            let mut open = Vec::clone(open);
            open.push(session.clone());
            open
        });
    }

    /// It takes no new streams.
    pub fn remove(&self, session: &Arc<BackendSession>) {
        self.open.rcu(|open| {
            let mut open = Vec::clone(open);
            open.retain(|other| !Arc::ptr_eq(other, session));
            open
        });
    }

    /// Those of other epochs take no new streams, and close when their last one ends.
    pub fn close_all_but(&self, epoch: u64) {
        for session in self.open.load().iter() {
            if session.epoch != epoch {
                session.close();
            }
        }
    }

    /// Those without a stream close now.
    pub fn close_idle(&self) {
        for session in self.open.load().iter() {
            if session.streams() == 0 {
                session.close();
            }
        }
    }
}
