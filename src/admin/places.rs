//! Limits the connections of each listener, and decides which are closed if there are too many.
//!
//! A connection that has not sent a complete request yet, or is idle between two, has a place that it can lose: when
//! all are taken, the newcomer gets the place of the oldest connection of the client with the most connections. So
//! half-open sockets displace each other, and a probe, which is answered as soon as it is read, always finds a place.
//! Long requests (a drain, an event stream, a lease) are counted separately, by class, and can't be displaced; a
//! class that is full refuses further ones.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

use super::problem::{ProblemDocument, ProblemKind};

/// Maximum number of connections per listener that wait for their request, or for the end of a probe's response. More
/// than the accept loop accepts in one turn: a connection whose request has already arrived when it is accepted is
/// read before it can lose its place.
pub(super) const WAITING: usize = 256;

/// Number of requests other than probes that begin before new connections and requests are looked at, because there may
/// be probes among them.
const TURNS: usize = 8;

/// Why a request occupies its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AdminClass {
    /// A response that takes no longer than writing it.
    Read,
    /// A change, which may wait for its effect: the end of a drain, a backend that becomes ready.
    Change,
    /// An event stream, or the right to a roll.
    Stream,
    /// A launcher's lease, for as long as its app runs.
    Lease,
}

impl AdminClass {
    /// Returns the maximum number of concurrent requests per listener.
    fn bound(self) -> usize {
        match self {
            AdminClass::Read => 64,
            AdminClass::Change | AdminClass::Lease => 4096,
            AdminClass::Stream => 256,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            AdminClass::Read => "answers",
            AdminClass::Change => "changes and blocking drains",
            AdminClass::Stream => "event streams and rolls",
            AdminClass::Lease => "leases",
        }
    }

    /// Returns the class of a request; `None`: a probe, which is always answered.
    fn of(method: &Method, path: &str) -> Option<Self> {
        if is_probe(path) || path == "/metrics" {
            return None;
        }
        Some(match *method {
            Method::GET | Method::HEAD if path == "/v1/events" => AdminClass::Stream,
            Method::POST if path.ends_with("/roll") => AdminClass::Stream,
            Method::POST if path.ends_with("/lease") => AdminClass::Lease,
            Method::GET | Method::HEAD => AdminClass::Read,
            _ => AdminClass::Change,
        })
    }
}

/// Whether this is the path of a probe: an orchestrator stops the process if probes are not answered.
fn is_probe(path: &str) -> bool {
    path.starts_with("/-/")
}

/// The source of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ConnectionSource {
    /// A user of this host.
    User(u32),
    /// An address; for IPv6 its /64 network, all addresses of which one host can have.
    Address(IpAddr),
}

impl ConnectionSource {
    /// Returns the source for an address.
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 64 << 64).into()),
            four => four,
        })
    }
}

/// The places of one listener.
pub(super) struct DoorPlaces {
    table: Mutex<PlaceTable>,
    /// Whether one source may have at most half of each class. Not if all connections come from one source.
    shared: bool,
    /// Permits to begin a request, for all but probes.
    turns: Semaphore,
}

#[derive(Default)]
struct PlaceTable {
    /// Number of the next place.
    next: u64,
    /// The waiting connections, oldest first.
    waiting: BTreeMap<u64, (ConnectionSource, Arc<Notify>)>,
    /// Number of waiting connections, by source.
    crowd: HashMap<ConnectionSource, usize>,
    /// Number of busy connections, by class and source.
    busy: HashMap<(AdminClass, ConnectionSource), usize>,
    /// Number of busy connections of all sources, by class.
    total: HashMap<AdminClass, usize>,
    /// Number of open connections, including those that were displaced and have not closed yet.
    open: usize,
}

impl PlaceTable {
    fn wait(&mut self, source: ConnectionSource, pushed_out: &Arc<Notify>) -> u64 {
        while self.waiting.len() >= WAITING && self.push_one_out(source) {}
        let turn = self.next;
        self.next += 1;
        self.waiting.insert(turn, (source, pushed_out.clone()));
        *self.crowd.entry(source).or_default() += 1;
        turn
    }

    fn leave(&mut self, turn: u64) -> bool {
        let Some((source, _)) = self.waiting.remove(&turn) else {
            return false;
        };
        count_down(&mut self.crowd, source);
        true
    }

    /// Closes the oldest connection of the client that would have the most, including the newcomer.
    fn push_one_out(&mut self, newcomer: ConnectionSource) -> bool {
        let count = |source: &ConnectionSource| {
            self.crowd.get(source).copied().unwrap_or_default() + usize::from(*source == newcomer)
        };
        let most = self.crowd.keys().map(count).max().unwrap_or_default();
        let mut waiting = self.waiting.iter();
        let Some((&turn, (_, pushed_out))) = waiting.find(|(_, (source, _))| count(source) == most)
        else {
            return false;
        };
        pushed_out.notify_one();
        self.leave(turn)
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl DoorPlaces {
    /// Creates the places of a listener. `shared`: its clients may come from anywhere, and none of them may take all.
    pub(super) fn new(shared: bool) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::default(),
            shared,
            turns: Semaphore::new(TURNS),
        })
    }

    /// Registers a new connection, which waits for its request.
    pub(super) fn enter(self: &Arc<Self>, source: ConnectionSource) -> ConnectionSlot {
        let pushed_out = Arc::new(Notify::new());
        let mut table = self.table.lock();
        table.open += 1;
        let turn = table.wait(source, &pushed_out);
        drop(table);
        ConnectionSlot(Arc::new(PlacesInner {
            places: self.clone(),
            source,
            pushed_out,
            turn: Mutex::new(Some(turn)),
            was_asked: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            is_probed: AtomicBool::new(false),
        }))
    }

    /// Returns whether another connection may be accepted, or has to wait until some displaced ones have closed: in a
    /// flood, they could use up all descriptors before their tasks run.
    pub(super) fn take_more(&self) -> bool {
        let table = self.table.lock();
        let busy: usize = table.total.values().sum();
        table.open < table.waiting.len() + busy + WAITING
    }

    /// Closes a waiting connection, to free a descriptor for another client. Returns true if there was one. The last
    /// one is kept: without descriptors, accepting fails even if no connection is queued.
    pub(super) fn push_one_out(&self) -> bool {
        let mut table = self.table.lock();
        if table.waiting.len() < 2 {
            return false;
        }
        let oldest = table.waiting.first_key_value();
        let source = oldest.map(|(_, (source, _))| *source);
        source.is_some_and(|source| table.push_one_out(source))
    }

    fn begin(&self, class: AdminClass, source: ConnectionSource) -> bool {
        let mut table = self.table.lock();
        let all = table.total.get(&class).copied().unwrap_or_default();
        let own = table
            .busy
            .get(&(class, source))
            .copied()
            .unwrap_or_default();
        let is_loopback = matches!(source, ConnectionSource::Address(ip) if ip.is_loopback());
        let share = match self.shared && !is_loopback {
            true => class.bound() / 2,
            false => class.bound(),
        };
        if all >= class.bound() || own >= share {
            return false;
        }
        *table.total.entry(class).or_default() += 1;
        *table.busy.entry((class, source)).or_default() += 1;
        true
    }
}

/// A connection's place.
#[derive(Clone)]
pub(super) struct ConnectionSlot(Arc<PlacesInner>);

struct PlacesInner {
    places: Arc<DoorPlaces>,
    source: ConnectionSource,
    pushed_out: Arc<Notify>,
    /// Its number among the waiting connections; `None`: it is busy, or was displaced.
    turn: Mutex<Option<u64>>,
    /// Whether a request has arrived.
    was_asked: AtomicBool,
    /// The head of a request has arrived.
    has_begun: AtomicBool,
    /// The answer to a probe is being made.
    is_probed: AtomicBool,
}

impl Drop for PlacesInner {
    fn drop(&mut self) {
        let mut table = self.places.table.lock();
        table.open -= 1;
        if let Some(turn) = self.turn.get_mut().take() {
            table.leave(turn);
        }
    }
}

impl ConnectionSlot {
    /// Waits until another client needs the place.
    pub(super) async fn pushed_out(&self) {
        self.0.pushed_out.notified().await;
    }

    /// Whether the answer to a probe is being made.
    pub(super) fn is_probed(&self) -> bool {
        self.0.is_probed.load(Ordering::Relaxed)
    }

    /// Answers a request in its turn: probes come first, and of those that a client has pipelined, one per turn.
    pub(super) async fn answer<T>(self, path: String, answer: impl Future<Output = T>) -> T {
        let is_first = !self.0.has_begun.swap(true, Ordering::Relaxed);
        if is_probe(&path) {
            self.0.is_probed.store(true, Ordering::Relaxed);
            if !is_first {
                yield_now().await;
            }
            let answer = answer.await;
            self.0.is_probed.store(false, Ordering::Relaxed);
            return answer;
        }
        let turn = self.0.places.turns.acquire().await;
        yield_now().await;
        drop(turn);
        answer.await
    }

    /// Notes that a complete request has arrived: the connection is among the youngest again. Returns false if it was
    /// displaced and has to close; its first request is answered nevertheless.
    fn renew(&self) -> bool {
        let is_first = !self.0.was_asked.swap(true, Ordering::Relaxed);
        let mut turn = self.0.turn.lock();
        let mut table = self.0.places.table.lock();
        let is_here = turn.is_some_and(|turn| table.leave(turn));
        if is_here {
            *turn = Some(table.wait(self.0.source, &self.0.pushed_out));
        }
        is_here || is_first
    }

    /// Begins a request of this class, if there is room for it.
    fn begin(&self, class: AdminClass) -> Option<Busy> {
        if !self.0.places.begin(class, self.0.source) {
            return None;
        }
        if let Some(turn) = self.0.turn.lock().take() {
            self.0.places.table.lock().leave(turn);
        }
        Some(Busy {
            slot: self.clone(),
            class,
        })
    }
}

/// A request in progress. Dropped with the end of its response; the connection then waits again.
struct Busy {
    slot: ConnectionSlot,
    class: AdminClass,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let PlacesInner {
            places,
            source,
            pushed_out,
            turn,
            ..
        } = &*self.slot.0;
        let mut turn = turn.lock();
        let mut table = places.table.lock();
        count_down(&mut table.total, self.class);
        count_down(&mut table.busy, (self.class, *source));
        *turn = Some(table.wait(*source, pushed_out));
    }
}

/// Layer around the handlers, called when the request has been read completely.
pub(super) async fn admit(request: Request, next: Next) -> Response {
    let slot = request.extensions().get::<ConnectionSlot>().cloned();
    let class = AdminClass::of(request.method(), request.uri().path());
    match (slot, class) {
        (Some(slot), Some(class)) => match slot.begin(class) {
            Some(busy) => next
                .run(request)
                .await
                .map(|body| Body::new(Guarded { body, _busy: busy })),
            None => full(class).into_response(),
        },
        // Nobody reads the response: requests that a client has sent in advance must not make others wait.
        (Some(slot), None) if !slot.renew() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        (_, None) | (None, _) => next.run(request).await,
    }
}

fn full(class: AdminClass) -> ProblemDocument {
    let detail = format!(
        "As many {} as this listener takes at once are under way ({}, and half of them from one source). End some, or \
         ask again.",
        class.as_str(),
        class.bound()
    );
    ProblemDocument::new(ProblemKind::TooManyConnections, detail)
        .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
        // What a client has sent ahead would be refused, too.
        .header(header::CONNECTION, HeaderValue::from_static("close"))
}

/// A response body, with the place that it occupies.
struct Guarded {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
