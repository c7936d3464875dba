//! A backend as the data plane sees it: gate, epoch, open and idle connections, counters. All of it is atomic.

mod census;
mod connection;
pub mod gate;
pub mod idle;
mod in_flight;
mod last_probe;
mod latency;
pub mod outcomes;
mod permit;
mod session_holders;
mod sessions;
mod suspicion;
mod transport;
pub mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

pub use census::{CarriedRequest, ConnectionCensus};
pub(super) use census::{await_census, begin_census};
pub use connection::{ConnectionTicket, IdleConnection};
pub use in_flight::{InFlightByKind, RequestKind, StreamGuard};
pub use last_probe::LastProbe;
pub use latency::LatencyAverage;
pub use outcomes::OutcomeCounters;
pub use permit::{Permit, SessionPermit};
pub use session_holders::{KnownSession, SessionHolders};
pub use sessions::{BackendSession, BackendSessions, SessionStream};
pub use suspicion::ClosingSuspicion;
pub use transport::Transport;

use super::snapshot::HoldQueue;
use crate::config::Address;
use crate::core::Time;
use crate::core::backend::DerivedState;
use crate::metrics::backend::BackendCounters;
use crate::metrics::restart_meter::RestartMeter;
use crate::registry::endpoint::gate::Gate;
use crate::registry::endpoint::idle::IdleConnections;
use crate::rt::clock;
use crate::rt::shutdown_signal::{InterruptSet, ShutdownLevel};

/// Most idle connections kept per backend.
const IDLE_SLOTS: usize = 512;

/// Minimum interval between log lines about connections to one backend that fail.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Value of `warm_since` for a backend that was warm before this process started.
const ALWAYS: u64 = u64::MAX;

/// Identity of a backend for the life of the process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey(pub u64);

/// The resolved address to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvedAddress {
    /// An IP address and port.
    Socket(std::net::SocketAddr),
    /// A unix socket.
    Unix(std::path::PathBuf),
}

/// Signals that events of a backend are pending. There is one entry until the registry reads them: however fast
/// connections break, the queue holds at most one entry per backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wakeup(pub BackendKey);

/// Events of a backend that the data plane reports to the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointEvents {
    /// Requests that were lost: their connections broke before the responses were complete.
    pub lost: u32,
    /// Whether traffic saw a 503, a refused connection or a reset.
    pub hint: bool,
    /// Whether the peer closed a pooled connection.
    pub peer_closed: bool,
    /// Whether traffic reached the limit of consecutive errors of an outlier.
    pub outlier: bool,
    /// Epoch in which the gate was closed, nothing was in flight, and no connection to the backend was open.
    pub quiet: Option<u64>,
}

/// The run-time state of one backend.
#[derive(Debug)]
pub struct Endpoint {
    /// Identity.
    pub key: BackendKey,
    /// Name of its pool.
    pub pool: Arc<str>,
    /// Name as shown (`api-0`, `api-0~2`).
    pub name: Arc<str>,
    /// Address as configured.
    pub address: Address,
    /// The address as it is written in a `Host` header field.
    pub authority: Box<str>,
    /// Gate: closed bit and in-flight count.
    pub gate: Gate,
    /// Streams and upgrades among the requests in flight.
    pub kinds: InFlightByKind,
    /// The oldest requests in flight, determined only on request.
    pub census: ConnectionCensus,
    /// All open connections to the backend, including the probe's.
    pub connections: InterruptSet,
    /// Idle connections, ready for reuse.
    pub idle: IdleConnections<IdleConnection>,
    /// HTTP/2 sessions.
    pub sessions: BackendSessions,
    /// Client sessions that are bound to this backend, if its pool is sticky.
    pub holders: SessionHolders,
    /// Counters since the start.
    pub counters: BackendCounters,
    /// Whether the backend may be about to stop.
    pub suspicion: ClosingSuspicion,
    /// How attempts on the backend ended, if its pool detects outliers.
    pub outcomes: OutcomeCounters,
    /// Average response time, if its pool balances by latency.
    pub latency: LatencyAverage,
    /// Cost of the backend's restart: the present one, or the next.
    pub restart: ArcSwap<RestartMeter>,
    /// Cost of the last finished restart: attempts that began before its end may break later.
    pub past_restart: ArcSwapOption<RestartMeter>,
    /// Result of the last probe.
    pub last_probe: LastProbe,
    /// Whether the last probe was answered in HTTP/1.0, which has no chunked transfer coding (RFC 9112, section 6.1).
    pub is_http10: AtomicBool,
    /// Number of its [`DerivedState`], for readers outside of the registry's task.
    state: AtomicU8,
    weight: AtomicU32,
    ready_since: AtomicU64,
    /// Begin of its slow start: when it became ready, or when its ejection ended.
    warm_since: AtomicU64,
    resolved: ArcSwapOption<ResolvedAddress>,
    /// Notified when a connection attempt failed: the host name may resolve to another address by now.
    pub address_doubts: Notify,
    transport: ArcSwap<Transport>,
    /// Number of changes of the transport.
    transports: AtomicU32,
    epoch: AtomicU64,
    last_resort: AtomicBool,
    /// When a failure was last logged, in milliseconds plus one; 0: never.
    complained: AtomicU64,
    /// Whether a wake-up is pending: the events noted below will be read.
    told: AtomicBool,
    lost: AtomicU32,
    hinted: AtomicBool,
    peer_closed: AtomicBool,
    /// The epoch plus one; 0: not quiet.
    quiet: AtomicU64,
    signals: UnboundedSender<Wakeup>,
    /// Queue of its pool: requests that wait there are woken when this backend has capacity again.
    queue: Arc<HoldQueue>,
}

impl Endpoint {
    /// Creates the run-time state of a backend. Its gate starts closed.
    pub fn new(
        key: BackendKey,
        pool: Arc<str>,
        name: Arc<str>,
        address: Address,
        weight: u32,
        signals: UnboundedSender<Wakeup>,
        queue: Arc<HoldQueue>,
    ) -> Self {
        let resolved = match &address {
            Address::Socket(address) => Some(Arc::new(ResolvedAddress::Socket(*address))),
            Address::Unix(path) => Some(Arc::new(ResolvedAddress::Unix(path.clone()))),
            Address::Name(..) => None,
        };
        Self {
            key,
            pool,
            name,
            authority: match &address {
                Address::Socket(address) => address.to_string().into(),
                Address::Name(host, port) => format!("{host}:{port}").into(),
                Address::Unix(_) => "localhost".into(),
            },
            address,
            state: AtomicU8::new(DerivedState::Starting as u8),
            weight: AtomicU32::new(weight),
            ready_since: AtomicU64::new(0),
            warm_since: AtomicU64::new(0),
            gate: Gate::new(false),
            kinds: InFlightByKind::default(),
            census: ConnectionCensus::default(),
            connections: InterruptSet::default(),
            idle: IdleConnections::new(IDLE_SLOTS),
            sessions: BackendSessions::default(),
            holders: SessionHolders::default(),
            counters: BackendCounters::default(),
            suspicion: ClosingSuspicion::default(),
            outcomes: OutcomeCounters::default(),
            latency: LatencyAverage::default(),
            restart: ArcSwap::default(),
            past_restart: ArcSwapOption::empty(),
            last_probe: LastProbe::default(),
            is_http10: AtomicBool::new(false),
            resolved: ArcSwapOption::from(resolved),
            address_doubts: Notify::new(),
            transport: ArcSwap::default(),
            transports: AtomicU32::new(0),
            epoch: AtomicU64::new(0),
            last_resort: AtomicBool::new(false),
            complained: AtomicU64::new(0),
            told: AtomicBool::new(false),
            lost: AtomicU32::new(0),
            hinted: AtomicBool::new(false),
            peer_closed: AtomicBool::new(false),
            quiet: AtomicU64::new(0),
            signals,
            queue,
        }
    }

    /// Returns the state that the registry's task last determined.
    pub fn state(&self) -> DerivedState {
        let number = usize::from(self.state.load(Ordering::Relaxed));
        let state = DerivedState::ALL.get(number).copied();
        state.unwrap_or(DerivedState::Starting)
    }

    pub(super) fn set_state(&self, state: DerivedState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Returns the backend's weight.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes the weight; the balancer uses it from the next snapshot on.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Notes that the backend became ready, which also begins its slow start.
    pub fn mark_ready(&self, now: Time) {
        self.latency.forget();
        self.ready_since
            .store(now.as_millis() as u64, Ordering::Relaxed);
        self.warm_up(now);
    }

    /// Begins a slow start, although the backend was ready before.
    pub fn warm_up(&self, now: Time) {
        self.warm_since
            .store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Notes that the backend was ready before this process started: no slow start.
    pub fn mark_warm(&self) {
        self.warm_since.store(ALWAYS, Ordering::Relaxed);
    }

    /// Returns the time since which the backend has been ready, in whole milliseconds.
    pub fn ready_since(&self) -> Time {
        Time::from_millis(self.ready_since.load(Ordering::Relaxed))
    }

    /// Whether the backend should skip this request because of slow start: for `window` after it became ready, its
    /// share of requests grows from nothing to the full share. `random` is a fresh random number.
    pub fn is_warming(&self, window: Duration, random: u32) -> bool {
        if window.is_zero() {
            return false;
        }
        let since = self.warm_since.load(Ordering::Relaxed);
        if since == ALWAYS {
            return false;
        }
        let since = Time::from_millis(since);
        let age = clock::now().saturating_sub(since);
        age < window
            && age.as_secs_f64() < window.as_secs_f64() * f64::from(random) / f64::from(u32::MAX)
    }

    /// Returns the address to connect to; `None` while the host name has not been resolved.
    pub fn resolved(&self) -> Option<Arc<ResolvedAddress>> {
        self.resolved.load_full()
    }

    /// Sets the address that the host name resolves to.
    pub fn set_resolved(&self, resolved: ResolvedAddress) {
        self.resolved.store(Some(Arc::new(resolved)));
    }

    /// Returns the transport and its number. Connections opened under another number are never reused.
    pub fn transport(&self) -> (Arc<Transport>, u32) {
        // The number is read first: if it is outdated, that only costs the connection.
        let number = self.transports();
        (self.transport.load_full(), number)
    }

    /// Returns the number of the present transport.
    pub fn transports(&self) -> u32 {
        self.transports.load(Ordering::Acquire)
    }

    /// Sets the transport. If it differs from the present one, closes idle connections and returns `true`.
    pub fn set_transport(&self, transport: &Transport) -> bool {
        if **self.transport.load() == *transport {
            return false;
        }
        self.transport.store(Arc::new(transport.for_one()));
        self.transports.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.close_outdated_idle(|_| true);
        self.sessions.close_all_but(u64::MAX);
        true
    }

    /// Returns the epoch. Connections opened in an earlier epoch are never reused.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins a new epoch: idle connections are closed now, the others when their request ends.
    pub fn begin_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
        fence(Ordering::SeqCst);
        self.close_outdated_idle(|_| true);
        self.sessions.close_all_but(epoch);
    }

    /// Closes idle connections of earlier epochs and transports, and those that `keep` refuses.
    ///
    /// While a connection is being checked, it is not in its slot, and the eviction of a new epoch can't see it. So
    /// the epoch is checked again after the connection was put back: if the two overlap, one of them sees the other.
    pub fn close_outdated_idle(&self, mut keep: impl FnMut(&mut IdleConnection) -> bool) {
        loop {
            let now = (self.epoch(), self.transports());
            self.idle.retain(|connection| {
                (connection.epoch, connection.transport) == now && keep(connection)
            });
            fence(Ordering::SeqCst);
            if (self.epoch(), self.transports()) == now {
                return;
            }
        }
    }

    /// Shuts the backend down after it has left: no connection to it may stay open.
    pub(super) fn retire(&self) {
        self.set_last_resort(false);
        self.gate.close();
        self.begin_epoch(u64::MAX);
        self.connections.raise(ShutdownLevel::Cut);
    }

    /// Counts a new connection to the backend. The ticket must be dropped after the descriptor is closed.
    pub fn connection_opened(self: &Arc<Self>) -> ConnectionTicket {
        ConnectionTicket {
            interrupt: self.connections.join(),
            endpoint: self.clone(),
        }
    }

    /// Sets whether fail-open may use the backend. Once this is false, a request that still enters is in the gate's
    /// count.
    pub(super) fn set_last_resort(&self, may: bool) {
        self.last_resort.store(may, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Puts a connection back for reuse, unless its epoch is over or no connection may stay open.
    pub fn release(&self, connection: Box<IdleConnection>) {
        let is_current =
            |(epoch, transport)| epoch == self.epoch() && transport == self.transports();
        let of = (connection.epoch, connection.transport);
        // The gate is closed in the same epoch, so fail-open has used this connection. If it stayed open while idle,
        // it would keep the app from stopping.
        if !is_current(of) || self.gate.is_closed() || self.idle.put(connection).is_err() {
            return;
        }
        // An eviction may have run between the check and the put: check again, and evict what it missed.
        fence(Ordering::SeqCst);
        if self.gate.is_closed() {
            self.idle.retain(|_| false);
        } else if !is_current(of) {
            self.close_outdated_idle(|_| true);
        }
    }

    /// Whether a failure may be logged now. This limits the rate of log lines.
    pub fn may_complain(&self) -> bool {
        let now = clock::now().as_millis() as u64 + 1;
        let last = self.complained.load(Ordering::Relaxed);
        (last == 0 || now.saturating_sub(last) > COMPLAINTS.as_millis() as u64)
            && self
                .complained
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Asks for a probe, because traffic saw an error. Many hints cause one probe.
    pub fn hint(&self) {
        self.hinted.store(true, Ordering::Release);
        self.wake_registry();
    }

    /// Notes that a request on the backend was lost. Call this before its permit is released: otherwise a drain could
    /// end as "drained" first.
    pub fn request_lost(&self) {
        self.suspicion.raise();
        self.lost.fetch_add(1, Ordering::AcqRel);
        self.wake_registry();
    }

    /// Notes that the peer had closed a pooled connection.
    pub fn peer_closed(&self) {
        self.suspicion.raise();
        self.peer_closed.store(true, Ordering::Release);
        self.wake_registry();
    }

    /// Whether the gate is closed to everybody, nothing is in flight and no connection to the backend is open.
    pub fn is_quiet(&self) -> bool {
        fence(Ordering::SeqCst);
        self.gate.is_closed_to_all() && self.gate.in_flight() == 0 && self.connections.open() == 0
    }

    /// Tells the registry if the backend is quiet. The epoch is read first: if a new epoch begins in between, the
    /// code that begins it reports this, and quiet in the old epoch doesn't count.
    pub(super) fn tell_if_quiet(&self) {
        fence(Ordering::SeqCst);
        let epoch = self.epoch();
        if self.is_quiet() {
            self.quiet
                .fetch_max(epoch.saturating_add(1), Ordering::AcqRel);
            self.wake_registry();
        }
    }

    fn wake_registry(&self) {
        // Events are noted before the mark is set; the registry clears the mark before it reads them.
        if !self.told.swap(true, Ordering::AcqRel) {
            let _ = self.signals.send(Wakeup(self.key));
        }
    }

    /// Takes the noted events. "Quiet" is read before "lost": a lost request is reported before its permit is
    /// released, so the registry never sees "quiet" without the losses that came before.
    pub(super) fn take_news(&self) -> EndpointEvents {
        self.told.swap(false, Ordering::AcqRel);
        let quiet = self.quiet.swap(0, Ordering::AcqRel).checked_sub(1);
        EndpointEvents {
            quiet,
            lost: self.lost.swap(0, Ordering::AcqRel),
            hint: self.hinted.swap(false, Ordering::AcqRel),
            peer_closed: self.peer_closed.swap(false, Ordering::AcqRel),
            outlier: self.outcomes.take_crossing(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
