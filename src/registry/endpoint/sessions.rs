//! The HTTP/2 sessions of one backend: connections that carry many requests at a time.
//!
//! Looking up a session takes no lock. A session's own gate checks that it is open and counts the stream in one step,
//! so that no stream enters a session that is about to close.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Waker;

use arc_swap::ArcSwap;
use futures_util::task::AtomicWaker;

use crate::registry::endpoint::gate::{Gate, GateLeave};

/// Number of streams on a session from which on another session is opened: each session's frames are handled by one
/// task.
const FULL: u32 = 64;

/// Most sessions that are opened for that reason. Further ones are opened only if the backend allows no more streams.
const ENOUGH: usize = 4;

/// An HTTP/2 connection.
pub struct BackendSession {
    /// Epoch in which the session was opened.
    pub epoch: u64,
    gate: Gate,
    /// Most concurrent streams that the backend allows.
    limit: AtomicU32,
    /// Number of streams so far.
    uses: AtomicU64,
    waker: AtomicWaker,
    link: Arc<dyn Any + Send + Sync>,
}

impl BackendSession {
    /// Creates a session that allows no streams yet. `link` is what the proxy opens streams with, returned by
    /// [`BackendSession::link`].
    pub fn new(epoch: u64, link: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            epoch,
            gate: Gate::new(true),
            limit: AtomicU32::new(0),
            uses: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            link,
        }
    }

    /// Returns what the proxy opens streams with, if it has this type.
    pub fn link<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.link.downcast_ref()
    }

    /// Sets the number of concurrent streams that the backend allows now.
    pub fn allow(&self, streams: usize) {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX);
        self.limit.store(streams, Ordering::Relaxed);
    }

    /// Closes the session to new streams: the connection is closed when the last stream ends.
    pub fn close(&self) {
        self.gate.close();
        self.waker.wake();
    }

    /// Whether the session is closed to new streams.
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Returns the number of streams in progress.
    pub fn streams(&self) -> u32 {
        self.gate.in_flight()
    }

    /// Returns the number of streams so far.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Registers the task to wake when the session is to be closed.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Counts a stream in, unless the session is closed or the backend allows no more streams.
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

/// A stream on a session; counted until dropped.
#[derive(Debug)]
pub struct SessionStream(Arc<BackendSession>);

impl SessionStream {
    /// Returns the session that the stream is on.
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

/// The HTTP/2 sessions of one backend.
#[derive(Debug, Default)]
pub struct BackendSessions {
    open: ArcSwap<Vec<Arc<BackendSession>>>,
    /// Lock for opening a session: one task at a time opens one, and the others wait for it.
    pub opening: tokio::sync::Mutex<()>,
    /// Number of failed attempts to open a session: a request that has waited for such an attempt need not try again.
    pub failed: AtomicU64,
    broken: AtomicU64,
}

impl BackendSessions {
    /// Reserves a stream on the session of this epoch that has the fewest. `None`: it is better to open another
    /// session.
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
            // Sessions may have different limits: another one may have room.
            .or_else(|| {
                open.iter()
                    .filter(usable)
                    .find_map(|session| session.enter())
            })
    }

    /// As [`BackendSessions::enter`], but accepts a busy session.
    pub fn enter_any(&self, epoch: u64) -> Option<SessionStream> {
        let open = self.open.load();
        let mut usable = open.iter().filter(|session| session.epoch == epoch);
        usable.find_map(|session| session.enter())
    }

    /// Counts a session that was closed because the backend ended too many of its streams early, or sent too many
    /// frames without content.
    pub fn note_broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of sessions that were closed for that.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Returns the number of streams in progress on all sessions.
    pub fn streams(&self) -> u32 {
        let open = self.open.load();
        open.iter().map(|session| session.streams()).sum()
    }

    /// Adds a new session.
    pub fn add(&self, session: &Arc<BackendSession>) {
        self.open.rcu(|open| {
            let mut open = Vec::clone(open);
            open.push(session.clone());
            open
        });
    }

    /// Removes a session that takes no new streams.
    pub fn remove(&self, session: &Arc<BackendSession>) {
        self.open.rcu(|open| {
            let mut open = Vec::clone(open);
            open.retain(|other| !Arc::ptr_eq(other, session));
            open
        });
    }

    /// Closes sessions of other epochs to new streams: each connection is closed when its last stream ends.
    pub fn close_all_but(&self, epoch: u64) {
        for session in self.open.load().iter() {
            if session.epoch != epoch {
                session.close();
            }
        }
    }

    /// Closes sessions without a stream now.
    pub fn close_idle(&self) {
        for session in self.open.load().iter() {
            if session.streams() == 0 {
                session.close();
            }
        }
    }
}
