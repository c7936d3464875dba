//! Requests in flight, by kind: streams and upgrades are counted for as long as they last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Endpoint;
use crate::registry::view::InFlight;

/// What a request has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A stream of events.
    Stream,
    /// Another protocol, after a 101.
    Upgrade,
}

/// Number of streams and upgrades in flight. Ordinary requests cost nothing here.
#[derive(Debug, Default)]
pub struct InFlightByKind {
    streams: AtomicU32,
    upgrades: AtomicU32,
}

impl InFlightByKind {
    fn of(&self, kind: RequestKind) -> &AtomicU32 {
        match kind {
            RequestKind::Stream => &self.streams,
            RequestKind::Upgrade => &self.upgrades,
        }
    }

    /// Splits `total` requests in flight by kind. The counts are read one after the other, so they may differ by a
    /// moment.
    pub fn split(&self, total: u32) -> InFlight {
        let stream = self.streams.load(Ordering::Relaxed);
        let upgrade = self.upgrades.load(Ordering::Relaxed);
        InFlight {
            request: total.saturating_sub(stream).saturating_sub(upgrade),
            stream,
            upgrade,
        }
    }
}

/// A counted stream or upgrade; counted until dropped. Must be dropped before its permit.
#[derive(Debug)]
pub struct StreamGuard {
    endpoint: Arc<Endpoint>,
    kind: RequestKind,
}

impl StreamGuard {
    pub(super) fn new(endpoint: Arc<Endpoint>, kind: RequestKind) -> Self {
        endpoint.kinds.of(kind).fetch_add(1, Ordering::Relaxed);
        Self { endpoint, kind }
    }

    /// Returns what the request has become.
    pub fn kind(&self) -> RequestKind {
        self.kind
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let kinds = &self.endpoint.kinds;
        kinds.of(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
