//! What every request of the data plane shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;

use super::h1;
use crate::config;
use crate::interrupt::Interrupts;
use crate::registry::Handle;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::PlaneCounters;

/// The data plane's shared state: everything a request reads, nothing it has to lock.
pub struct Plane {
    /// Where the snapshot comes from.
    pub registry: Handle,
    /// Opens upstream connections.
    pub connector: TransportConnector,
    /// Takes one record per request.
    pub access_log: AccessLog,
    /// The open client connections, and how the shutdown reaches them.
    pub clients: Interrupts,
    /// What is counted for the whole plane.
    pub counters: Arc<PlaneCounters>,
    lame: AtomicBool,
    /// The last answer's time, for the shutdown's account.
    requests: AtomicU64,
}

impl Plane {
    /// A data plane on this registry.
    pub fn new(registry: Handle, access_log: AccessLog, counters: Arc<PlaneCounters>) -> Self {
        Self {
            registry,
            connector: TransportConnector::new(None),
            access_log,
            clients: Interrupts::default(),
            counters,
            lame: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    /// Whether each response says `Connection: close`.
    pub fn is_lame(&self) -> bool {
        self.lame.load(Ordering::Relaxed)
    }

    /// Begins or ends it.
    pub fn set_lame(&self, lame: bool) {
        self.lame.store(lame, Ordering::Relaxed);
    }

    /// A number for the next request, unique in this process.
    pub fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether one client connection more would be too many.
    pub fn is_full(&self, limits: &config::Server) -> bool {
        limits.max_connections > 0 && self.clients.open() as usize > limits.max_connections
    }
}

/// One listener's way into the plane.
pub struct Entry(pub Arc<Plane>);

#[async_trait]
impl ServerApp for Entry {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        let digest = stream.get_socket_digest();
        let peer = digest
            .as_ref()
            .and_then(|digest| digest.peer_addr()?.as_inet().copied());
        // A client that is gone before its address could be read has nothing to be served.
        if let Some(peer) = peer {
            // A task of its own: Pingora's keeps the room that a TLS handshake would need, 8 KiB, while it lives.
            let plane = self.0.clone();
            tokio::spawn(async move { h1::client::serve(&plane, stream, peer).await });
        }
        None
    }
}
