//! What the small steps of a request cost, and how that grows with the number of backends and routes.
//!
//! `cargo bench --bench micro` prints divan's tables; `benches/run micro` makes curves of them. Filters are divan's:
//! `cargo bench --bench micro -- pick`.

#[path = "shared/numbers.rs"]
mod numbers;

use numbers::Numbers;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use divan::Bencher;
use lameduck::config;
use lameduck::core::Time;
use lameduck::core::backend::{BackendEvent, BackendPolicy, ProbeResult};
use lameduck::core::balance::hash_ring::{RingMember, RingPoints};
use lameduck::core::balance::ketama::{KetamaPoints, KetamaServer};
use lameduck::core::balance::{BalanceAlgorithm, BalanceCandidate, Balancer, PickInput};
use lameduck::core::pool::BackendSet;
use lameduck::core::split;
use lameduck::proxy::h1::request::{HeadLimits, RequestHead};
use lameduck::registry::endpoint::gate::Gate;
use lameduck::registry::routes::{RouteTable, RouteTarget};
use lameduck::telemetry::access_log::{AccessLog, AccessRecord};

const BACKENDS: [usize; 3] = [3, 100, 10_000];
const ROUTES: [usize; 3] = [10, 1_000, 100_000];

fn main() {
    // Long samples: one call alone is mostly the cache misses of whoever ran before.
    divan::Divan::from_args()
        .sample_size(2000)
        .sample_count(200)
        .main();
}

/// A backend as far as the balancer knows; as far from the next one in memory as real ones are.
#[repr(align(128))]
struct Loaded(AtomicU32);

impl BalanceCandidate for Loaded {
    fn in_flight(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    fn weight(&self) -> u32 {
        1
    }
    fn latency(&self) -> Option<Duration> {
        Some(Duration::from_micros(500))
    }
}

fn loaded(backends: usize) -> Vec<Loaded> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let load = |_| Loaded(AtomicU32::new((numbers.next() % 8) as u32));
    (0..backends).map(load).collect()
}

fn pick(bencher: Bencher<'_, '_>, algorithm: BalanceAlgorithm, backends: usize) {
    let candidates = loaded(backends);
    pick_by(
        bencher,
        &Balancer::new(algorithm, &vec![1; backends]),
        &candidates,
    );
}

fn pick_by(bencher: Bencher<'_, '_>, balancer: &Balancer, candidates: &[Loaded]) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut cursor = 0;
    bencher.bench_local(|| {
        cursor += 1;
        let (random, key) = (numbers.next(), numbers.next());
        let input = PickInput {
            cursor,
            random,
            key,
        };
        balancer.pick(black_box(candidates), input, &[])
    });
}

#[divan::bench(args = BACKENDS)]
fn pick_least_requests(bencher: Bencher<'_, '_>, backends: usize) {
    pick(bencher, BalanceAlgorithm::LeastRequests, backends);
}

#[divan::bench(args = BACKENDS)]
fn pick_round_robin(bencher: Bencher<'_, '_>, backends: usize) {
    pick(bencher, BalanceAlgorithm::RoundRobin, backends);
}

#[divan::bench(args = BACKENDS)]
fn pick_random(bencher: Bencher<'_, '_>, backends: usize) {
    pick(bencher, BalanceAlgorithm::Random, backends);
}

#[divan::bench(args = BACKENDS)]
fn pick_peak_ewma(bencher: Bencher<'_, '_>, backends: usize) {
    pick(bencher, BalanceAlgorithm::PeakEwma, backends);
}

/// With the bound that it has by default: where a backend is busy, the load of others is looked at, too.
#[divan::bench(args = BACKENDS)]
fn pick_hash(bencher: Bencher<'_, '_>, backends: usize) {
    let members: Vec<_> = (0..backends as u32)
        .map(|n| RingMember {
            name: split::hash(format!("app-{n}").as_bytes()),
            weight: 1,
            place: Some(n),
        })
        .collect();
    let ring = RingPoints::default().prepare(&members, 125);
    pick_by(bencher, &Balancer::Hash(ring), &loaded(backends));
}

#[divan::bench(args = BACKENDS)]
fn pick_ketama_nginx(bencher: Bencher<'_, '_>, backends: usize) {
    let servers: Vec<_> = (0..backends)
        .map(|n| KetamaServer {
            address: format!("10.0.{}.{}:80", n / 250, n % 250).into(),
            weight: 1,
        })
        .collect();
    let places: Vec<_> = (0..backends as u32).map(Some).collect();
    let ring = KetamaPoints::default().prepare(&servers, &places);
    pick_by(bencher, &Balancer::KetamaNginx(ring), &loaded(backends));
}

/// In through the gate and out again.
#[divan::bench]
fn permit(bencher: Bencher<'_, '_>) {
    let gate = Gate::new(true);
    bencher.bench_local(|| {
        let entered = black_box(&gate).try_enter();
        (entered, gate.leave())
    });
}

/// A route by host and path; each lookup another one.
#[divan::bench(args = ROUTES)]
fn route(bencher: Bencher<'_, '_>, routes: usize) {
    let all: Vec<_> = (0..routes)
        .map(|n| config::Route {
            hosts: vec![format!("shop-{}.example.org", n / 10)],
            path_prefix: format!("/part-{}/of-it", n % 10),
            ..config::Route::to_pool("app")
        })
        .collect();
    let table = RouteTable::new(&all, &["app"]);
    let mut numbers = Numbers(7);
    let asked: Vec<_> = (0..4096)
        .map(|_| {
            let n = numbers.next() as usize % routes;
            let host = format!("shop-{}.example.org", n / 10);
            (host, format!("/part-{}/of-it/and/more", n % 10))
        })
        .collect();
    let mut next = 0;
    bencher.bench_local(|| {
        next = (next + 1) % asked.len();
        let (host, path) = &asked[next];
        let found = table.lookup(black_box(host.as_bytes()), path.as_bytes());
        assert!(matches!(found, Some(RouteTarget::Pool(0))));
    });
}

/// What a request reads the world with.
#[divan::bench]
fn snapshot_read(bencher: Bencher<'_, '_>) {
    let snapshot = ArcSwap::from_pointee([0_u64; 8]);
    bencher.bench_local(|| black_box(&snapshot).load()[0]);
}

/// What the registry replaces it with.
#[divan::bench]
fn snapshot_swap(bencher: Bencher<'_, '_>) {
    let snapshot = ArcSwap::from_pointee([0_u64; 8]);
    let world = Arc::new([1_u64; 8]);
    bencher.bench_local(|| black_box(&snapshot).store(world.clone()));
}

/// Probes' results in the core, of one backend after the other.
fn step(bencher: Bencher<'_, '_>, backends: usize, probe: ProbeResult) {
    let mut pool = BackendSet::new(BackendPolicy::default());
    for key in 0..backends {
        pool.insert(key, Time::ZERO);
    }
    let mut count = 0;
    let mut step = |probe| {
        count += 1;
        let now = Time::from_micros(count);
        let event = BackendEvent::Probed {
            probe,
            began: now,
            listener: None,
        };
        pool.step(&(count as usize * 7919 % backends), event, 0, now)
    };
    for _ in 0..3 * backends {
        step(ProbeResult::Pass);
    }
    bencher.bench_local(|| step(probe));
}

#[divan::bench(args = BACKENDS)]
fn event_step(bencher: Bencher<'_, '_>, backends: usize) {
    step(bencher, backends, ProbeResult::Pass);
}

/// Nobody answers in time.
#[divan::bench(args = BACKENDS)]
fn event_step_timeout(bencher: Bencher<'_, '_>, backends: usize) {
    step(bencher, backends, ProbeResult::Timeout);
}

/// One line of JSON into the log's buffer; a thread writes them to nowhere.
#[divan::bench]
fn access_log_line(bencher: Bencher<'_, '_>) {
    let log = AccessLog::open(&config::AccessLogConfig {
        sink: config::LogSink::File("/dev/null".into()),
        format: config::LogFormat::Json,
        ..config::AccessLogConfig::default()
    })
    .expect("there is a /dev/null");
    let record = AccessRecord {
        time: Time::from_secs(1),
        client: "192.0.2.1",
        method: b"GET",
        target: b"/index.html?page=2",
        host: b"shop.example.org",
        version: "HTTP/1.1",
        status: 200,
        bytes_out: 4242,
        duration: Duration::from_micros(1234),
        upstream: Duration::from_micros(1100),
        pool: "app",
        backend: "app-1",
        attempts: 1,
        request_id: b"0123456789abcdef01234567",
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        ..AccessRecord::default()
    };
    bencher.bench_local(|| log.record(black_box(&record)));
}

const SMALL: &[u8] =
    b"GET /hello HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n";
const BROWSER: &[u8] = b"GET /index.html?page=2 HTTP/1.1\r\nHost: shop.example.org\r\nConnection: keep-alive\r\n\
    Cache-Control: max-age=0\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Sec-Fetch-Mode: navigate\r\nCookie: a=b; c=d\r\n\r\n";

fn parse(bencher: Bencher<'_, '_>, request: &[u8]) {
    let limits = HeadLimits {
        max_header: 65536,
        max_uri: 8192,
    };
    let mut head = RequestHead::new();
    bencher.bench_local(|| head.parse(black_box(request), &limits).is_ok());
}

#[divan::bench]
fn parse_small(bencher: Bencher<'_, '_>) {
    parse(bencher, SMALL);
}

#[divan::bench]
fn parse_browser(bencher: Bencher<'_, '_>) {
    parse(bencher, BROWSER);
}
