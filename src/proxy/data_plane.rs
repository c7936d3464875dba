//! What every request of the data plane shares.

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

/// The data plane's shared state: everything a request reads, nothing it has to lock.
pub struct DataPlane {
    /// Where the snapshot comes from.
    pub registry: RegistryHandle,
    /// Opens upstream connections.
    pub connector: TransportConnector,
    /// Takes one record per request.
    pub access_log: AccessLog,
    /// Takes what is recorded of requests.
    pub tracer: Tracer,
    /// The open client connections, through which a shutdown interrupts them.
    pub clients: InterruptSet,
    /// How many connections each client address has, where that is limited.
    pub per_client: PerClient,
    /// What routes ask of their clients, across reloads.
    pub guards: GuardState,
    /// Through which open connections move to another process.
    pub moving: MoveOut,
    /// What is counted for the whole plane.
    pub counters: Arc<PlaneCounters>,
    /// Copies of requests that are under way.
    pub mirrors: MirrorLoad,
    /// The certificates of its listeners.
    pub certificates: Arc<CertificateInventory>,
    /// Counts new requests for a lame duck that lasts until no more come.
    pub arrivals: RequestArrivals,
    /// Of the open client connections, those that are served…
    served: AtomicU32,
    /// (at most so many where `max_connections` isn't configured; 0: no limit)…
    default_connections: usize,
    /// …and those that are only being turned away.
    turned_away: AtomicU32,
    lame: AtomicBool,
    /// When the last answer ended, for the shutdown's summary.
    requests: AtomicU64,
}

/// A connector for backends without TLS. Pingora reads a file of authorities even so, and panics if it can't: by
/// default the system's certificates, which a container image made from scratch lacks.
fn plain_connector() -> io::Result<TransportConnector> {
    let empty = EmptyFile::open()?;
    let mut options = ConnectorOptions::new(0);
    options.ca_file = Some(empty.path()?.to_string_lossy().into_owned());
    Ok(TransportConnector::new(Some(options)))
}

impl DataPlane {
    /// A data plane on this registry.
    ///
    /// # Errors
    /// When there is no empty file: neither `/dev/null` nor `/proc`.
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

    /// The same data plane, with this inventory of certificates.
    pub fn with_certificates(mut self, certificates: Arc<CertificateInventory>) -> Self {
        self.certificates = certificates;
        self
    }

    /// The same data plane, with a limit on its connections for configurations without `max_connections`.
    pub fn serving_at_most(mut self, default_connections: usize) -> Self {
        self.default_connections = default_connections;
        self
    }

    /// The same data plane, hashing clients with the secret of the process that it takes over from.
    pub fn counting_by(mut self, secret: Option<CountingSecret>) -> Self {
        if let Some(secret) = secret {
            self.guards = GuardState::counting_by(secret);
        }
        self
    }

    /// The same data plane, with this tracer.
    pub fn traced_by(mut self, tracer: Tracer) -> Self {
        if tracer.is_on() {
            self.arrivals.trace();
        }
        self.tracer = tracer;
        self
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

    /// Counts a client connection in that is to be served; `None`: the limit is reached. Connections that are being
    /// turned away don't count, so that a client over its limit takes no room from others.
    pub fn admit(&self, limits: &config::ServerConfig) -> Option<ServedConnection<'_>> {
        let others = self.served.fetch_add(1, Ordering::Relaxed) as usize;
        let served = ServedConnection(self);
        let most = limits.max_connections.unwrap_or(self.default_connections);
        (most == 0 || others < most).then_some(served)
    }

    /// As [`Self::admit`], for a connection that another process has served before: no limit refuses it.
    pub fn admit_moved(&self) -> ServedConnection<'_> {
        self.served.fetch_add(1, Ordering::Relaxed);
        ServedConnection(self)
    }

    /// Counts a connection that is being turned away, until that is done.
    pub fn turn_away(&self) -> TurnedAway<'_> {
        let others = self.turned_away.fetch_add(1, Ordering::Relaxed);
        TurnedAway {
            plane: self,
            many: others >= PATIENT,
        }
    }
}

/// How many connections may linger at once while they are turned away; further ones are closed at once, so that a
/// flood of them holds no descriptors.
const PATIENT: u32 = 256;

/// A connection that is served; counted out on drop.
pub struct ServedConnection<'a>(&'a DataPlane);

impl Drop for ServedConnection<'_> {
    fn drop(&mut self) {
        self.0.served.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is being turned away.
pub struct TurnedAway<'a> {
    plane: &'a DataPlane,
    /// There are many of them now.
    pub many: bool,
}

impl Drop for TurnedAway<'_> {
    fn drop(&mut self) {
        self.plane.turned_away.fetch_sub(1, Ordering::Relaxed);
    }
}
