//! Census of the oldest requests in flight on a backend that drains. No list of requests is kept: on demand, all
//! connections are asked, and those that carry a request answer. So requests cost nothing extra until an operator
//! asks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Endpoint, RequestKind};
use crate::core::Time;
use crate::core::path_outline::outline_path;
use crate::registry::view::OldestView;
use crate::rt::clock;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// Minimum interval between two inquiries: there may be ten thousand connections, and each answer is a wake-up.
const SPACING: Duration = Duration::from_secs(1);

/// Longest wait for answers. Later answers are kept for the next call.
const PATIENCE: Duration = Duration::from_millis(25);

/// Interval at which the number of answers is checked.
const LOOKS: Duration = Duration::from_millis(1);

/// Most answers that are kept: when the oldest request ends, the next oldest is known.
const KEPT: usize = 8;

/// The request that a connection carries.
#[derive(Debug, Clone, Copy)]
pub struct CarriedRequest<'a> {
    /// What the request has become; `None`: an ordinary request.
    pub kind: Option<RequestKind>,
    /// When it began.
    pub since: Time,
    /// Request method.
    pub method: &'a str,
    /// Name of the route, if it has one.
    pub route: Option<&'a str>,
    /// Path, without the query.
    pub path: &'a [u8],
}

/// The answers of connections.
#[derive(Debug, Default)]
pub struct ConnectionCensus(Mutex<CensusBoard>);

#[derive(Debug, Default)]
struct CensusBoard {
    /// When the connections were last asked.
    asked: Option<Time>,
    /// Number of answers since then.
    answers: u32,
    /// Requests in flight: ordinary requests first, then streams and upgrades, each from the oldest on.
    oldest: Vec<CensusEntry>,
}

#[derive(Debug)]
struct CensusEntry {
    /// Interrupt of the connection; dropped together with the request.
    carrier: Weak<ConnectionInterrupt>,
    kind: Option<RequestKind>,
    since: Time,
    method: String,
    route: Option<String>,
    path: String,
}

impl CensusEntry {
    /// Sort key by age. Streams and upgrades come last: they are ended before the drain's deadline, and say nothing
    /// about how long the drain will take.
    fn rank(&self) -> (bool, Time) {
        (self.kind.is_some(), self.since)
    }
}

impl ConnectionCensus {
    /// Starts an inquiry, unless one was started a moment ago. Returns whether it has.
    fn begin(&self, endpoint: &Endpoint) -> bool {
        let now = clock::now();
        {
            let mut board = self.0.lock();
            let is_fresh = |asked: Time| now.saturating_sub(asked) < SPACING;
            if board.asked.is_some_and(is_fresh) {
                return false;
            }
            (board.asked, board.answers) = (Some(now), 0);
        }
        endpoint.connections.ask_all_connections();
        true
    }

    fn answers(&self) -> u32 {
        self.0.lock().answers
    }

    fn note(&self, carrier: &Arc<ConnectionInterrupt>, carried: CarriedRequest<'_>) {
        let mut board = self.0.lock();
        board.answers = board.answers.saturating_add(1);
        board.oldest.retain(|entry| {
            (entry.carrier.upgrade()).is_some_and(|other| !Arc::ptr_eq(&other, carrier))
        });
        let rank = (carried.kind.is_some(), carried.since);
        let at = board.oldest.partition_point(|entry| entry.rank() <= rank);
        if at == KEPT {
            return;
        }
        let entry = CensusEntry {
            carrier: Arc::downgrade(carrier),
            kind: carried.kind,
            since: carried.since,
            method: carried.method.chars().take(20).collect(),
            route: carried.route.map(str::to_owned),
            path: outline_path(carried.path),
        };
        board.oldest.insert(at, entry);
        board.oldest.truncate(KEPT);
    }

    /// Returns the oldest request that is still in flight.
    fn oldest(&self, now: Time) -> Option<OldestView> {
        let mut board = self.0.lock();
        board
            .oldest
            .retain(|entry| entry.carrier.strong_count() > 0);
        let entry = board.oldest.first()?;
        Some(OldestView {
            kind: match entry.kind {
                None => "request",
                Some(RequestKind::Stream) => "stream",
                Some(RequestKind::Upgrade) => "upgrade",
            }
            .to_owned(),
            method: entry.method.clone(),
            route: entry.route.clone(),
            path: entry.path.clone(),
            since: clock::rfc3339(clock::wall(entry.since)),
            age_ms: now.saturating_sub(entry.since).as_millis() as u64,
        })
    }
}

impl Endpoint {
    /// Whether the backend takes no new requests and still has requests in flight.
    fn winds_down(&self) -> bool {
        self.gate.is_closed() && self.gate.in_flight() > 0
    }

    /// Records a connection's answer to an inquiry.
    #[cold]
    pub fn answer_inquiry(&self, carrier: &Arc<ConnectionInterrupt>, carried: CarriedRequest<'_>) {
        carrier.end_inquiry();
        self.census.note(carrier, carried);
    }

    /// Returns the oldest request in flight, while the backend takes no new ones.
    pub(in crate::registry) fn oldest(&self) -> Option<OldestView> {
        match self.winds_down() {
            true => self.census.oldest(clock::now()),
            false => None,
        }
    }
}

/// Starts an inquiry on those of the backends that take no new requests, and returns these backends.
pub(in crate::registry) fn begin_census<'a>(
    endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
) -> Vec<Arc<Endpoint>> {
    endpoints
        .filter(|endpoint| endpoint.winds_down() && endpoint.census.begin(endpoint))
        .cloned()
        .collect()
}

/// Waits until all connections that carry a request to these backends have answered, at most [`PATIENCE`].
pub(in crate::registry) async fn await_census(asked: Vec<Arc<Endpoint>>) {
    let until = clock::now().saturating_add(PATIENCE);
    for endpoint in asked {
        while endpoint.census.answers() < endpoint.gate.in_flight() && clock::now() < until {
            clock::sleep(LOOKS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::shutdown_signal::InterruptSet;

    fn carried(since: u64, kind: Option<RequestKind>) -> CarriedRequest<'static> {
        CarriedRequest {
            kind,
            since: Time::from_secs(since),
            method: "GET",
            route: None,
            path: b"/slow/4711",
        }
    }

    #[test]
    fn oldest_request_comes_before_older_streams_and_its_successor_is_known() {
        let (census, set) = (ConnectionCensus::default(), InterruptSet::default());
        let mut carriers: Vec<_> = (0..20).map(|_| set.join()).collect();
        census.note(&carriers[0], carried(1, Some(RequestKind::Upgrade)));
        for (index, carrier) in carriers.iter().enumerate().skip(1) {
            census.note(carrier, carried(100 - index as u64, None));
        }
        let oldest = || census.oldest(Time::from_secs(200)).unwrap();
        assert_eq!((oldest().age_ms, &*oldest().path), (119_000, "/slow/*"));
        for carrier in carriers.drain(18..) {
            set.leave(&carrier);
        }
        assert_eq!(oldest().age_ms, 117_000);
    }

    #[test]
    fn connection_that_answers_twice_is_kept_once_with_its_last_word() {
        let (census, set) = (ConnectionCensus::default(), InterruptSet::default());
        let one = set.join();
        census.note(&one, carried(5, None));
        census.note(&one, carried(7, Some(RequestKind::Stream)));
        let oldest = census.oldest(Time::from_secs(10)).unwrap();
        assert_eq!((oldest.kind.as_str(), oldest.age_ms), ("stream", 3000));
        set.leave(&one);
        drop(one);
        assert_eq!(census.oldest(Time::from_secs(10)), None);
    }
}
