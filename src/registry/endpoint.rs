//! A backend as the data plane sees it: gate, epoch, open and idle connections, counters. All atomics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::protocols::Stream;
use tokio::sync::mpsc::UnboundedSender;

use super::counters::Counters;
use crate::clock;
use crate::config::Address;
use crate::core::Time;
use crate::gate::{Gate, Left};
use crate::idle::Idle;
use crate::interrupt::{Interrupt, Interrupts};

/// Idle connections kept per backend.
const IDLE_SLOTS: usize = 512;

/// Identity of a backend for the life of the process: never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// Where to connect to, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// An IP address and port.
    Socket(std::net::SocketAddr),
    /// A unix socket.
    Unix(std::path::PathBuf),
}

/// What the data plane tells the registry about a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// The gate is closed, nothing is in flight and no connection of ours is open.
    Quiesced {
        /// Which backend.
        key: Key,
        /// In which epoch.
        epoch: u64,
    },
    /// Traffic saw 503, refused or reset.
    Hint(Key),
    /// A request broke: its connection died before the response was complete.
    Lost(Key),
    /// A pooled connection was closed by its peer.
    PeerClosed(Key),
}

/// The run-time side of one backend.
#[derive(Debug)]
pub struct Endpoint {
    /// Its identity.
    pub key: Key,
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
    /// Every connection of ours to it, the probe's included.
    pub connections: Interrupts,
    /// Idle ones among them, ready for reuse.
    pub idle: Idle<Connection>,
    /// What it did so far.
    pub counters: Counters,
    weight: AtomicU32,
    ready_since: AtomicU64,
    resolved: ArcSwapOption<Resolved>,
    epoch: AtomicU64,
    hinted: AtomicBool,
    signals: UnboundedSender<Signal>,
}

impl Endpoint {
    /// A backend's run-time side; the gate starts closed.
    pub fn new(
        key: Key,
        pool: Arc<str>,
        name: Arc<str>,
        address: Address,
        weight: u32,
        signals: UnboundedSender<Signal>,
    ) -> Self {
        let resolved = match &address {
            Address::Socket(address) => Some(Arc::new(Resolved::Socket(*address))),
            Address::Unix(path) => Some(Arc::new(Resolved::Unix(path.clone()))),
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
            weight: AtomicU32::new(weight),
            ready_since: AtomicU64::new(0),
            gate: Gate::new(false),
            connections: Interrupts::default(),
            idle: Idle::new(IDLE_SLOTS),
            counters: Counters::default(),
            resolved: ArcSwapOption::from(resolved),
            epoch: AtomicU64::new(0),
            hinted: AtomicBool::new(false),
            signals,
        }
    }

    /// Its share.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Changes its share; the balancer takes it from the next snapshot on.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Notes that it became ready: slow start counts from here.
    pub fn mark_ready(&self, now: Time) {
        self.ready_since
            .store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether it should pass up this request: for `window` after it became ready, its share of requests grows
    /// from nothing to the full one. `random` is a fresh random number.
    pub fn is_warming(&self, window: Duration, random: u32) -> bool {
        if window.is_zero() {
            return false;
        }
        let since = Time::from_millis(self.ready_since.load(Ordering::Relaxed));
        let age = clock::now().saturating_sub(since);
        age < window
            && age.as_secs_f64() < window.as_secs_f64() * f64::from(random) / f64::from(u32::MAX)
    }

    /// Where to connect to; `None` while its name has not been resolved.
    pub fn resolved(&self) -> Option<Arc<Resolved>> {
        self.resolved.load_full()
    }

    /// Notes what its name resolves to.
    pub fn set_resolved(&self, resolved: Resolved) {
        self.resolved.store(Some(Arc::new(resolved)));
    }

    /// The epoch: connections opened in an earlier one are never used again.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins a new epoch: idle connections are closed now, the others when their request ends.
    pub fn begin_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
        fence(Ordering::SeqCst);
        self.idle.retain(|connection| connection.epoch == epoch);
    }

    /// Counts a new connection of ours in. The ticket must be dropped after the descriptor is closed.
    pub fn connection_opened(self: &Arc<Self>) -> Ticket {
        Ticket {
            interrupt: self.connections.join(),
            endpoint: self.clone(),
        }
    }

    /// Enters the gate: one request in flight until the permit is dropped.
    pub fn permit(self: &Arc<Self>, max_in_flight: u32) -> Option<Permit> {
        // Read first: a drain that begins after it is noticed by its new epoch.
        let epoch = self.epoch();
        self.gate.try_enter_below(max_in_flight).then(|| Permit {
            endpoint: self.clone(),
            epoch,
        })
    }

    /// Counts a request in although the gate is closed: for `fail_open`, and for nobody else.
    pub fn permit_anyway(self: &Arc<Self>) -> Permit {
        self.gate.enter_anyway();
        Permit {
            endpoint: self.clone(),
            epoch: self.epoch(),
        }
    }

    /// Puts a connection back for reuse, unless its epoch is over or the gate is closed: what fail-open sends to a
    /// drained backend must leave no connection behind.
    pub fn release(&self, connection: Box<Connection>) {
        let epoch = connection.epoch;
        if epoch != self.epoch() || self.gate.is_closed() || self.idle.put(connection).is_err() {
            return;
        }
        self.evict_missed(epoch);
    }

    /// Drops each idle connection that `keep` refuses.
    pub fn sweep(&self, mut keep: impl FnMut(&mut Connection) -> bool) {
        let epoch = self.epoch();
        self.idle
            .retain(|connection| connection.epoch == epoch && keep(connection));
        self.evict_missed(epoch);
    }

    /// An eviction may have passed while we had a connection of `epoch` in hand: evicts what it missed.
    fn evict_missed(&self, epoch: u64) {
        fence(Ordering::SeqCst);
        let now = self.epoch();
        if self.gate.is_closed() {
            self.idle.retain(|_| false);
        } else if now != epoch {
            self.idle.retain(|connection| connection.epoch == now);
        }
    }

    /// Traffic saw something odd: asks for a probe. Many hints make one.
    pub fn hint(&self) {
        if !self.hinted.swap(true, Ordering::AcqRel) {
            let _ = self.signals.send(Signal::Hint(self.key));
        }
    }

    /// A request broke on it. To be said before its permit is given back: a drain that waits must not be told
    /// "drained" first.
    pub fn request_lost(&self) {
        let _ = self.signals.send(Signal::Lost(self.key));
    }

    /// The registry has seen the hint; the next one counts again.
    pub fn hint_seen(&self) {
        self.hinted.store(false, Ordering::Release);
    }

    /// A pooled connection was found closed by its peer.
    pub fn peer_closed(&self) {
        let _ = self.signals.send(Signal::PeerClosed(self.key));
    }

    /// Whether the gate is closed, nothing is in flight and no connection of ours is open.
    pub fn is_quiet(&self) -> bool {
        fence(Ordering::SeqCst);
        self.gate.is_closed() && self.gate.in_flight() == 0 && self.connections.open() == 0
    }

    fn signal_if_quiet(&self) {
        if self.is_quiet() {
            let _ = self.signals.send(Signal::Quiesced {
                key: self.key,
                epoch: self.epoch(),
            });
        }
    }
}

/// One request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
    epoch: u64,
}

impl Permit {
    /// Whose.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The epoch in which the gate was entered. Once the endpoint has another, this request goes elsewhere.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.endpoint.gate.leave() == Left::LastOut {
            self.endpoint.signal_if_quiet();
        }
    }
}

/// One open connection of ours; counted out on drop.
#[derive(Debug)]
pub struct Ticket {
    interrupt: Arc<Interrupt>,
    endpoint: Arc<Endpoint>,
}

impl Ticket {
    /// How the outside reaches the one who uses the connection.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.endpoint.connections.leave(&self.interrupt);
        if self.endpoint.gate.is_closed() {
            self.endpoint.signal_if_quiet();
        }
    }
}

/// An upstream connection with what is needed to judge its reuse.
#[derive(Debug)]
pub struct Connection {
    /// The stream. Declared before the ticket: the descriptor closes first.
    pub stream: Stream,
    /// The epoch it was opened in.
    pub epoch: u64,
    /// Idle after this it must not be reused.
    pub expires: Time,
    /// Requests it has carried.
    pub requests: u32,
    /// Counts it among the backend's open connections.
    pub ticket: Ticket,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let (signals, _) = tokio::sync::mpsc::unbounded_channel();
        let address = Address::Socket(([127, 0, 0, 1], 9).into());
        Endpoint::new(Key(0), "pool".into(), "one".into(), address, 1, signals)
    }

    #[test]
    fn a_backend_that_has_just_become_ready_passes_up_nearly_everything() {
        let endpoint = endpoint();
        endpoint.mark_ready(clock::now());
        assert!(endpoint.is_warming(Duration::from_secs(3600), u32::MAX / 2));
        assert!(!endpoint.is_warming(Duration::from_secs(3600), 0));
    }

    #[test]
    fn without_a_window_and_after_it_nothing_is_passed_up() {
        let endpoint = endpoint();
        endpoint.mark_ready(clock::now());
        assert!(!endpoint.is_warming(Duration::ZERO, u32::MAX));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!endpoint.is_warming(Duration::from_millis(2), u32::MAX));
    }
}
