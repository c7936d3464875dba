//! Task of one prober: waits, probes and reports; in between it watches for the end of the sentinel.

use std::future::pending;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::grpc::GrpcProbe;
use super::http::HttpProbe;
use super::jitter::{in_turn, next_start, sometime};
use super::resolve::AddressResolver;
use super::sentinel::SentinelConnection;
use super::verdict::ProbeAnswer;
use super::{ProbeCadence, ProbeReport, ProbeTarget, tcp};
use crate::core::Time;
use crate::core::backend::{BackendEvent, ProbeResult};
use crate::net::connect_fault::ConnectFault;
use crate::rt::clock;
use crate::rt::syscall::open_files;

/// Limits how many probes open a connection at the same time: to an eighth of the descriptors that this process may
/// have, as each probe takes up to two. When tens of thousands of backends appear at once, as from the last run's
/// state, the listeners, clients and requests need the rest.
static CONNECT_PERMITS: LazyLock<Semaphore> = LazyLock::new(|| {
    let share = open_files().and_then(|most| usize::try_from(most / 8).ok());
    let share = share.unwrap_or(usize::MAX);
    Semaphore::new(share.clamp(MIN_PERMITS, Semaphore::MAX_PERMITS))
});

/// Least number of probes at a time, however few descriptors there are.
const MIN_PERMITS: usize = 128;

/// Least time between the starts of two probes, whatever asks for them.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// A sentinel that the peer closes within this time is of no use…
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// …and after this many of them in a row…
const SHORT_LIVES: u32 = 3;
/// …none is kept for this long: an app that closes every connection would otherwise be probed in an endless loop.
const SENTINEL_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct ProbeTask {
    target: ProbeTarget,
    cadence: watch::Receiver<ProbeCadence>,
    reporter: Arc<dyn ProbeReport>,
    wake: Arc<Notify>,
    http: Option<HttpProbe>,
    /// `None` in both: the TCP check.
    grpc: Option<GrpcProbe>,
    /// Whether the app has no health URL, so that a TCP check is made instead.
    fallen_back: bool,
    told_fallback: bool,
    told_shortage: bool,
    sentinel: Option<SentinelConnection>,
    short_lives: u32,
    without_until: Option<Instant>,
    /// Start of the last probe.
    last: Option<Time>,
    /// The listening socket that the last probe reached, if it is known.
    listener: Option<u64>,
}

enum NextProbe {
    Probe,
    Stop,
}

impl ProbeTask {
    pub(super) fn new(
        target: ProbeTarget,
        cadence: watch::Receiver<ProbeCadence>,
        reporter: Arc<dyn ProbeReport>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            http: HttpProbe::new(&target),
            grpc: GrpcProbe::new(&target),
            target,
            cadence,
            reporter,
            wake,
            fallen_back: false,
            told_fallback: false,
            told_shortage: false,
            sentinel: None,
            short_lives: 0,
            without_until: None,
            last: None,
            listener: None,
        }
    }

    pub(super) async fn run_probes(mut self) {
        let resolver = AddressResolver::start(&self.target.endpoint, &self.target.own);
        let mut next = self.first_turn();
        while let NextProbe::Probe = self.wait(next).await {
            let began = clock::now();
            self.last = Some(began);
            if let Some(answer) = self.probe(&resolver).await {
                self.conclude(answer, began);
            }
            next = self.next_turn();
        }
    }

    /// Start of the first probe. A new backend is probed at once. A backend that takes requests already only has a new
    /// prober, as has its whole pool; so these start at random moments within the first interval.
    fn first_turn(&self) -> Time {
        match self.target.endpoint.gate.is_closed() {
            true => clock::now(),
            false => clock::now() + sometime(self.cadence.borrow().interval),
        }
    }

    /// Waits for the next probe's time, or for an event that makes it start earlier.
    async fn wait(&mut self, mut next: Time) -> NextProbe {
        loop {
            tokio::select! {
                biased;
                changed = self.cadence.changed() => {
                    if changed.is_err() {
                        return NextProbe::Stop;
                    }
                    let cadence = *self.cadence.borrow_and_update();
                    if !cadence.keep {
                        self.sentinel = None;
                    }
                    next = in_turn(self.next_turn(), &cadence, clock::now());
                }
                idle = sentinel_closed(&mut self.sentinel) => {
                    self.sentinel_closed(idle);
                    next = self.soonest_start();
                }
                () = self.wake.notified() => next = next.min(self.soonest_start()),
                () = sleep_until(clock::instant(next)) => return NextProbe::Probe,
            }
        }
    }

    /// Makes one probe. `None`: it was abandoned because a drain began, about which it could say nothing.
    async fn probe(&mut self, resolver: &AddressResolver) -> Option<ProbeAnswer> {
        let may_keep = self.cadence.borrow_and_update().keep;
        let keep = may_keep
            && self
                .without_until
                .is_none_or(|until| until < Instant::now());
        let sentinel = self.sentinel.take();
        let (target, http, grpc) = (&self.target, &self.http, &self.grpc);
        let fallen_back = self.fallen_back;
        let probe = async {
            // A probe on a kept connection opens none, and needs no permit.
            let _turn = match sentinel {
                Some(_) => None,
                None => CONNECT_PERMITS.acquire().await.ok(),
            };
            match (http, grpc) {
                (Some(http), _) if !fallen_back => {
                    http.probe(target, resolver, sentinel, keep).await
                }
                (_, Some(grpc)) => grpc.probe(target, resolver, sentinel, keep).await,
                _ => tcp::probe(target, resolver).await,
            }
        };
        tokio::select! {
            answer = probe => Some(answer),
            // Dropping the probe closes its connection: lameduck may have none open to a draining backend.
            () = keeping_ends(&mut self.cadence), if may_keep => None,
        }
    }

    fn conclude(&mut self, mut answer: ProbeAnswer, began: Time) {
        if answer.sentinel_died {
            self.report_closed();
        }
        self.sentinel = answer.kept.take();
        let is_another = |known| answer.listener.is_some_and(|now| now != known);
        if self.listener.is_some_and(is_another) {
            // Another process listens now, which may have the health URL.
            self.fallen_back = false;
        }
        self.listener = answer.listener.or(self.listener);
        let Some(probe) = answer.probe else {
            if !std::mem::replace(&mut self.told_shortage, true) {
                tracing::warn!(
                    pool = %self.target.endpoint.pool, backend = %self.target.endpoint.name,
                    "{}; its health is not known: {}",
                    answer.detail, answer.fault.map_or("", ConnectFault::remedy)
                );
            }
            // This line is only for users: it says nothing about the backend.
            let detail = format!("{}; its health is not known", answer.detail);
            let key = self.target.endpoint.key;
            self.reporter.report(key, BackendEvent::Tick, detail);
            return;
        };
        self.told_shortage = false;
        let (probe, detail) = self.fall_back_to_connect(probe, answer.detail);
        let took = clock::now().saturating_sub(began);
        self.target.endpoint.counters.probes.ended(probe, took);
        match probe {
            ProbeResult::Pass => self.target.endpoint.suspicion.clear(began),
            // The backend may have moved to another address.
            ProbeResult::Timeout | ProbeResult::Reset | ProbeResult::Refused => {
                self.target.endpoint.address_doubts.notify_one()
            }
            _ => {}
        }
        self.reporter.report(
            self.target.endpoint.key,
            BackendEvent::Probed {
                probe,
                began,
                listener: answer.listener,
            },
            detail,
        );
    }

    /// Without a `[pool.health]` section, an app that has no `/health` is checked by a connect.
    fn fall_back_to_connect(
        &mut self,
        probe: ProbeResult,
        detail: String,
    ) -> (ProbeResult, String) {
        match (probe, &self.http) {
            // The process has stopped. The next one may have the health URL.
            (ProbeResult::Refused, _) => self.fallen_back = false,
            (ProbeResult::Status(404 | 405 | 501), Some(http)) if !self.target.health.explicit => {
                self.fallen_back = true;
                let path = http.path().to_owned();
                // The kept connection was for HTTP; the TCP check opens its own.
                self.sentinel = None;
                if !std::mem::replace(&mut self.told_fallback, true) {
                    tracing::warn!(
                        pool = %self.target.endpoint.pool, backend = %self.target.endpoint.name,
                        "the app answers {detail:?} to {path}: from now on it counts as healthy while it accepts \
                         connections, and can't say that it is about to stop. Give it a health URL, or set \
                         `path` in [pool.health] (`type = \"tcp\"` if that is what you want)"
                    );
                }
                return (
                    ProbeResult::Pass,
                    format!("{detail}; it accepts connections"),
                );
            }
            _ => {}
        }
        (probe, detail)
    }

    fn sentinel_closed(&mut self, idle: Duration) {
        self.sentinel = None;
        self.short_lives = if idle < SHORT_LIFE {
            self.short_lives + 1
        } else {
            0
        };
        if self.short_lives >= SHORT_LIVES {
            self.short_lives = 0;
            self.without_until = Some(Instant::now() + SENTINEL_PAUSE);
        }
        self.report_closed();
    }

    fn report_closed(&mut self) {
        // Reported first, because notifying the registry takes longer.
        self.target.endpoint.suspicion.raise();
        // The process may be stopping, and the next one may have the health URL.
        self.fallen_back = false;
        self.reporter.report(
            self.target.endpoint.key,
            BackendEvent::PeerClosed,
            "the app closed the probe's idle connection".to_owned(),
        );
    }

    fn next_turn(&self) -> Time {
        let interval = self.cadence.borrow().interval.max(MIN_INTERVAL);
        self.last
            .map_or_else(clock::now, |last| next_start(last, interval))
    }

    fn soonest_start(&self) -> Time {
        let now = clock::now();
        self.last.map_or(now, |last| now.max(last + MIN_INTERVAL))
    }
}

/// Waits until the peer closes the sentinel; returns how long it was idle. Without a sentinel it waits for ever.
async fn sentinel_closed(sentinel: &mut Option<SentinelConnection>) -> Duration {
    match sentinel {
        Some(sentinel) => {
            sentinel.closed().await;
            sentinel.idle_since.elapsed()
        }
        None => pending().await,
    }
}

/// Waits until no connection may be kept any more.
async fn keeping_ends(cadence: &mut watch::Receiver<ProbeCadence>) {
    if cadence.wait_for(|cadence| !cadence.keep).await.is_err() {
        // The sender was dropped; the wait between probes notices that, and stops.
        pending::<()>().await;
    }
}
