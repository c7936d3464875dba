//! Counters of the whole data plane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::compression::CompressionCounters;
use super::handshake::{HandshakeCounters, HandshakeOutcome};
use super::limit::{LimitCounters, ServerLimit};
use super::local_answers::LocalAnswers;
use super::reasons::ReasonCounters;
use super::route_refusals::{RouteRefusal, RouteRefusals};
use super::route_requests::{RouteRequestTable, RouteRequests};

/// What the data plane counts before a pool is known.
#[derive(Debug, Default)]
pub struct PlaneCounters {
    /// To what is for no pool.
    pub(crate) local: LocalAnswers,
    pub(crate) refused: ReasonCounters,
    pub(crate) limited: LimitCounters,
    pub(crate) handshakes: HandshakeCounters,
    pub(crate) routes: RouteRefusals,
    pub(crate) route_requests: RouteRequestTable,
    pub(crate) forgotten_keys: AtomicU64,
    /// What was compressed.
    pub compression: CompressionCounters,
}

impl PlaneCounters {
    /// Something that is for no pool was answered with this status.
    pub fn answered(&self, status: u16) {
        self.local.add(status);
    }

    /// A connection or request was turned away before it was routed.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, handshake: HandshakeOutcome) {
        self.handshakes.add(handshake);
    }

    /// A client ran into a limit.
    pub fn limited(&self, limit: ServerLimit) {
        self.limited.add(limit);
    }

    /// A key of a route's rate was forgotten, for want of room.
    pub fn key_forgotten(&self) {
        self.forgotten_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of the route with this name.
    pub fn route_requests(&self, name: &str) -> Arc<RouteRequests> {
        self.route_requests.of_route(name)
    }

    /// A route has refused a request. `route`: its name, empty where it has none.
    pub fn route_refused(&self, route: &str, reason: RouteRefusal) {
        self.routes.add(route, reason);
    }
}
