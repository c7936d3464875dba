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

/// Counters of requests before their pool is known, and of the whole process.
#[derive(Debug, Default)]
pub struct PlaneCounters {
    /// Responses to requests without a pool.
    pub(crate) local: LocalAnswers,
    pub(crate) refused: ReasonCounters,
    pub(crate) limited: LimitCounters,
    pub(crate) handshakes: HandshakeCounters,
    pub(crate) routes: RouteRefusals,
    pub(crate) route_requests: RouteRequestTable,
    pub(crate) forgotten_keys: AtomicU64,
    /// Counters of compression.
    pub compression: CompressionCounters,
}

impl PlaneCounters {
    /// Counts a response with this status to a request without a pool.
    pub fn answered(&self, status: u16) {
        self.local.add(status);
    }

    /// Counts a connection or request that was refused before it was routed.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// Counts a TLS handshake.
    pub fn handshake(&self, handshake: HandshakeOutcome) {
        self.handshakes.add(handshake);
    }

    /// Counts a limit that a client has reached.
    pub fn limited(&self, limit: ServerLimit) {
        self.limited.add(limit);
    }

    /// Counts a key of a route's `rate` that was forgotten because there was no room.
    pub fn key_forgotten(&self) {
        self.forgotten_keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Counters of the route with this name.
    pub fn route_requests(&self, name: &str) -> Arc<RouteRequests> {
        self.route_requests.of_route(name)
    }

    /// Counts a request that a route has refused. `route` is its name, or empty if it has none.
    pub fn route_refused(&self, route: &str, reason: RouteRefusal) {
        self.routes.add(route, reason);
    }
}
