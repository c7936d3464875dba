//! A backend as the data plane sees it: gate, epoch, open and idle connections, counters. All atomics.

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

/// Idle connections kept per backend.
const IDLE_SLOTS: usize = 512;

/// A backend's failed handshakes are logged no more often than this.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// The backend was warm before this process started.
const ALWAYS: u64 = u64::MAX;

/// Identity of a backend for the life of the process: never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey(pub u64);

/// Where to connect to, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvedAddress {
    /// An IP address and port.
    Socket(std::net::SocketAddr),
    /// A unix socket.
    Unix(std::path::PathBuf),
}

/// Events of a backend are waiting. One entry stands for all until the registry looks: however fast connections
/// break, the queue holds one entry per backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wakeup(pub BackendKey);

/// What the data plane has to tell the registry about a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointEvents {
    /// Requests that broke: their connections died before the responses were complete.
    pub lost: u32,
    /// Traffic saw 503, refused or reset.
    pub hint: bool,
    /// A pooled connection was closed by its peer.
    pub peer_closed: bool,
    /// Traffic had the errors in a row that make a case against it.
    pub outlier: bool,
    /// In this epoch the gate was closed, nothing in flight, and no connection of ours open.
    pub quiet: Option<u64>,
}

/// The run-time side of one backend.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity.
    pub key: BackendKey,
    /// Its pool's name.
    pub pool: Arc<str>,
    /// Its name as shown (`api-0`, `api-0~2`).
    pub name: Arc<str>,
    /// Its address as configured.
    pub address: Address,
    /// The address as a `Host` field has it.
    pub authority: Box<str>,
    /// Closed bit and in-flight count.
    pub gate: Gate,
    /// What those in flight have become.
    pub kinds: InFlightByKind,
    /// What is in flight for longest, determined only on request.
    pub census: ConnectionCensus,
    /// Every connection of ours to it, the probe's included.
    pub connections: InterruptSet,
    /// Idle ones among them, ready for reuse.
    pub idle: IdleConnections<IdleConnection>,
    /// Those that speak HTTP/2.
    pub sessions: BackendSessions,
    /// Sessions of clients that stay with it, where its pool is sticky.
    pub holders: SessionHolders,
    /// What it did so far.
    pub counters: BackendCounters,
    /// It may be on its way out.
    pub suspicion: ClosingSuspicion,
    /// How attempts on it ended, where its pool judges it by that.
    pub outcomes: OutcomeCounters,
    /// How long its answers take, where its pool balances by that.
    pub latency: LatencyAverage,
    /// What its restart costs, the one under way or the next.
    pub restart: ArcSwap<RestartMeter>,
    /// The same of the last one that is over: attempts from before it may break later.
    pub past_restart: ArcSwapOption<RestartMeter>,
    /// What was seen last of it.
    pub last_probe: LastProbe,
    /// It answered the last probe in HTTP/1.0, which knows no chunks (RFC 9112, section 6.1).
    pub is_http10: AtomicBool,
    /// The number of its [`DerivedState`], for readers outside of the registry's task.
    state: AtomicU8,
    weight: AtomicU32,
    ready_since: AtomicU64,
    /// Slow start counts from here: since it became ready, or came back from ejection.
    warm_since: AtomicU64,
    resolved: ArcSwapOption<ResolvedAddress>,
    /// A connect failed: its name may lead elsewhere by now.
    pub address_doubts: Notify,
    transport: ArcSwap<Transport>,
    /// How often the transport has changed.
    transports: AtomicU32,
    epoch: AtomicU64,
    last_resort: AtomicBool,
    /// When a failure was last logged, in milliseconds plus one; 0: never.
    complained: AtomicU64,
    /// A wake-up is on its way: what is noted below will be seen.
    told: AtomicBool,
    lost: AtomicU32,
    hinted: AtomicBool,
    peer_closed: AtomicBool,
    /// One more than the epoch; 0: not quiet.
    quiet: AtomicU64,
    /// Connections that move to another process count here, too.
    counts_moved: AtomicBool,
    signals: UnboundedSender<Wakeup>,
    /// Its pool's queue: requests that wait there are woken when there is room here.
    queue: Arc<HoldQueue>,
}

impl Endpoint {
    /// A backend's run-time side; the gate starts closed.
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
            counts_moved: AtomicBool::new(false),
            signals,
            queue,
        }
    }

    /// Its state, as the registry's task has last determined it.
    pub fn state(&self) -> DerivedState {
        let number = usize::from(self.state.load(Ordering::Relaxed));
        let state = DerivedState::ALL.get(number).copied();
        state.unwrap_or(DerivedState::Starting)
    }

    pub(super) fn set_state(&self, state: DerivedState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Its share.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes its share; the balancer takes it from the next snapshot on.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Notes that it became ready: slow start counts from here, too.
    pub fn mark_ready(&self, now: Time) {
        self.latency.forget();
        self.ready_since
            .store(now.as_millis() as u64, Ordering::Relaxed);
        self.warm_up(now);
    }

    /// Slow start counts from here, though it was ready before.
    pub fn warm_up(&self, now: Time) {
        self.warm_since
            .store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Notes that it was ready before this process was there: no slow start.
    pub fn mark_warm(&self) {
        self.warm_since.store(ALWAYS, Ordering::Relaxed);
    }

    /// Since when it has been ready, in whole milliseconds.
    pub fn ready_since(&self) -> Time {
        Time::from_millis(self.ready_since.load(Ordering::Relaxed))
    }

    /// Whether it should pass up this request: for `window` after it became ready, its share of requests grows
    /// from nothing to the full one. `random` is a fresh random number.
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

    /// Where to connect to; `None` while its name has not been resolved.
    pub fn resolved(&self) -> Option<Arc<ResolvedAddress>> {
        self.resolved.load_full()
    }

    /// Notes what its name resolves to.
    pub fn set_resolved(&self, resolved: ResolvedAddress) {
        self.resolved.store(Some(Arc::new(resolved)));
    }

    /// How it is spoken to below HTTP, and the number of that: connections opened under another are never used again.
    pub fn transport(&self) -> (Arc<Transport>, u32) {
        // The number first: one that is too old only costs the connection.
        let number = self.transports();
        (self.transport.load_full(), number)
    }

    /// The number of the transport in force.
    pub fn transports(&self) -> u32 {
        self.transports.load(Ordering::Acquire)
    }

    /// From now on it is spoken to like this. Idle connections are closed if that is a change; says whether it is.
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

    /// The epoch: connections opened in an earlier one are never used again.
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
    /// While a connection is looked at, it is out of its slot, and the eviction of a new epoch can't see it. So the
    /// epoch is checked again after it was put back: if the two overlap, one of them sees the other.
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

    /// It has left: nothing of ours may stay open.
    pub(super) fn retire(&self) {
        self.set_last_resort(false);
        self.gate.close();
        self.begin_epoch(u64::MAX);
        self.connections.raise(ShutdownLevel::Cut);
    }

    /// Counts a new connection of ours in. The ticket must be dropped after the descriptor is closed.
    pub fn connection_opened(self: &Arc<Self>) -> ConnectionTicket {
        ConnectionTicket {
            interrupt: self.connections.join(),
            endpoint: self.clone(),
        }
    }

    /// From now on, what moves to another process counts here, too: somebody hears from this process that the backend is
    /// quiet.
    pub(super) fn count_what_moves(&self) {
        self.counts_moved.store(true, Ordering::Release);
    }

    /// Whether what moves to another process counts here, too.
    pub fn counts_what_moves(&self) -> bool {
        self.counts_moved.load(Ordering::Acquire)
    }

    /// Whether fail-open may use it. Once this is false, a request that still enters is in the gate's count.
    pub(super) fn set_last_resort(&self, may: bool) {
        self.last_resort.store(may, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Puts a connection back for reuse, unless its epoch is over or nothing may be kept open.
    pub fn release(&self, connection: Box<IdleConnection>) {
        let is_current =
            |(epoch, transport)| epoch == self.epoch() && transport == self.transports();
        let of = (connection.epoch, connection.transport);
        // Closed in the same epoch: fail-open has used it. Idle, it would keep the app from stopping.
        if !is_current(of) || self.gate.is_closed() || self.idle.put(connection).is_err() {
            return;
        }
        // An eviction may have passed between the check and the put: look again, and evict what it missed.
        fence(Ordering::SeqCst);
        if self.gate.is_closed() {
            self.idle.retain(|_| false);
        } else if !is_current(of) {
            self.close_outdated_idle(|_| true);
        }
    }

    /// Whether a failure may be logged now: not each one in a row of many.
    pub fn may_complain(&self) -> bool {
        let now = clock::now().as_millis() as u64 + 1;
        let last = self.complained.load(Ordering::Relaxed);
        (last == 0 || now.saturating_sub(last) > COMPLAINTS.as_millis() as u64)
            && self
                .complained
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Traffic saw something odd: asks for a probe. Many hints make one.
    pub fn hint(&self) {
        self.hinted.store(true, Ordering::Release);
        self.wake_registry();
    }

    /// A request broke on it. Call this before its permit is given back: a drain that waits must not end as "drained"
    /// first.
    pub fn request_lost(&self) {
        self.suspicion.raise();
        self.lost.fetch_add(1, Ordering::AcqRel);
        self.wake_registry();
    }

    /// A pooled connection was found closed by its peer.
    pub fn peer_closed(&self) {
        self.suspicion.raise();
        self.peer_closed.store(true, Ordering::Release);
        self.wake_registry();
    }

    /// Whether the gate is closed to all, nothing is in flight and no connection of ours is open.
    pub fn is_quiet(&self) -> bool {
        fence(Ordering::SeqCst);
        self.gate.is_closed_to_all() && self.gate.in_flight() == 0 && self.connections.open() == 0
    }

    /// Tells the registry if it is quiet. The epoch is read first: an epoch that begins in between is reported by the
    /// code that begins it, where quiet in the old one doesn't count.
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
        // Events are noted before the mark is set; the registry takes the mark away before it reads them.
        if !self.told.swap(true, Ordering::AcqRel) {
            let _ = self.signals.send(Wakeup(self.key));
        }
    }

    /// Takes the events that were noted. "Quiet" is read before "lost": a request that broke reports that before it
    /// gives its permit back, so quiet never comes without the losses before it.
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
