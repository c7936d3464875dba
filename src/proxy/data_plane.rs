//! The state that all requests of the data plane share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use pingora::connectors::{ConnectorOptions, TransportConnector};

use super::arrivals::RequestArrivals;
use super::guard_state::{CountingSecret, GuardState};
use super::moving::MoveOut;
use super::per_client::PerClient;
use crate::config;
use crate::metrics::{MirrorLoad, PlaneCounters};
use crate::registry::RegistryHandle;
use crate::rt::empty_file::EmptyFile;
use crate::rt::shutdown_signal::InterruptSet;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::spans::Tracer;
use crate::tls::server::CertificateInventory;

/// The data plane's shared state: everything that a request reads without taking a lock.
pub struct DataPlane {
    /// Publishes the snapshots.
    pub registry: RegistryHandle,
    /// Opens upstream connections.
    pub connector: TransportConnector,
    /// Gets one record per request.
    pub access_log: AccessLog,
    /// Gets the recorded traces of requests.
    pub tracer: Tracer,
    /// The open client connections, through which a shutdown interrupts them.
    pub clients: InterruptSet,
    /// Counts the connections of each client address, if they are limited.
    pub per_client: PerClient,
    /// State of the routes' guards, kept across reloads.
    pub guards: GuardState,
    /// Moves open connections to another process.
    pub moving: MoveOut,
    /// The counters of the whole plane.
    pub counters: Arc<PlaneCounters>,
    /// The mirrored requests in progress.
    pub mirrors: MirrorLoad,
    /// The certificates of its listeners.
    pub certificates: Arc<CertificateInventory>,
    /// Counts new requests for a lame-duck phase that lasts until no more arrive.
    pub arrivals: RequestArrivals,
    /// Number of open client connections that are served.
    served: AtomicU32,
    /// Limit for `served` if `max_connections` isn't configured; 0: no limit.
    default_connections: usize,
    /// Number of open client connections that are only being refused.
    turned_away: AtomicU32,
    lame: AtomicBool,
    /// Number of requests so far.
    requests: AtomicU64,
}

/// Returns a connector for backends without TLS. Pingora reads a file of certificate authorities even for those, and
/// panics if it can't; the default is the system's file, which is missing in a container image built from scratch.
fn plain_connector() -> io::Result<TransportConnector> {
    let empty = EmptyFile::open()?;
    let mut options = ConnectorOptions::new(0);
    options.ca_file = Some(empty.path()?.to_string_lossy().into_owned());
    Ok(TransportConnector::new(Some(options)))
}

impl DataPlane {
    /// Creates a data plane for this registry.
    ///
    /// # Errors
    /// If there is no empty file: neither `/dev/null` nor `/proc` is available.
    pub fn new(
        registry: RegistryHandle,
        access_log: AccessLog,
        counters: Arc<PlaneCounters>,
    ) -> io::Result<Self> {
        Ok(Self {
            registry,
            connector: plain_connector()?,
            access_log,
            tracer: Tracer::default(),
            clients: InterruptSet::default(),
            per_client: PerClient::default(),
            guards: GuardState::default(),
            moving: MoveOut::default(),
            counters,
            mirrors: MirrorLoad::default(),
            certificates: Arc::default(),
            arrivals: RequestArrivals::default(),
            served: AtomicU32::new(0),
            default_connections: 0,
            turned_away: AtomicU32::new(0),
            lame: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        })
    }

    /// Sets the inventory of certificates.
    pub fn with_certificates(mut self, certificates: Arc<CertificateInventory>) -> Self {
        self.certificates = certificates;
        self
    }

    /// Sets a limit on connections for configurations without `max_connections`.
    pub fn serving_at_most(mut self, default_connections: usize) -> Self {
        self.default_connections = default_connections;
        self
    }

    /// Takes over the secret for hashing clients from the process that this one replaces.
    pub fn counting_by(mut self, secret: Option<CountingSecret>) -> Self {
        if let Some(secret) = secret {
            self.guards = GuardState::counting_by(secret);
        }
        self
    }

    /// Sets the tracer.
    pub fn traced_by(mut self, tracer: Tracer) -> Self {
        if tracer.is_on() {
            self.arrivals.trace();
        }
        self.tracer = tracer;
        self
    }

    /// Returns whether each response says `Connection: close`.
    pub fn is_lame(&self) -> bool {
        self.lame.load(Ordering::Relaxed)
    }

    /// Begins or ends the lame-duck phase.
    pub fn set_lame(&self, lame: bool) {
        self.lame.store(lame, Ordering::Relaxed);
    }

    /// Returns a number for the next request, unique in this process.
    pub fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a client connection that is to be served; `None`: the limit is reached. Connections that are being
    /// refused don't count, so that a client over its limit takes no room from others.
    pub fn admit(&self, limits: &config::ServerConfig) -> Option<ServedConnection<'_>> {
        let others = self.served.fetch_add(1, Ordering::Relaxed) as usize;
        let served = ServedConnection(self);
        let most = limits.max_connections.unwrap_or(self.default_connections);
        (most == 0 || others < most).then_some(served)
    }

    /// Like [`Self::admit`], for a connection that another process has served before: no limit applies.
    pub fn admit_moved(&self) -> ServedConnection<'_> {
        self.served.fetch_add(1, Ordering::Relaxed);
        ServedConnection(self)
    }

    /// Counts a connection that is being refused, until the refusal is complete.
    pub fn turn_away(&self) -> TurnedAway<'_> {
        let others = self.turned_away.fetch_add(1, Ordering::Relaxed);
        TurnedAway {
            plane: self,
            many: others >= PATIENT,
        }
    }
}

/// Maximum number of refused connections that linger at the same time; further ones are closed at once, so that a
/// flood of them occupies no descriptors.
const PATIENT: u32 = 256;

/// A connection that is served; uncounted on drop.
pub struct ServedConnection<'a>(&'a DataPlane);

impl Drop for ServedConnection<'_> {
    fn drop(&mut self) {
        self.0.served.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is being refused.
pub struct TurnedAway<'a> {
    plane: &'a DataPlane,
    /// Whether too many are being refused at the moment.
    pub many: bool,
}

impl Drop for TurnedAway<'_> {
    fn drop(&mut self) {
        self.plane.turned_away.fetch_sub(1, Ordering::Relaxed);
    }
}
