//! What one choice of a backend costs, by algorithm and number of backends: nanoseconds, and allocations, which there
//! must be none of. `benches/run pick` counts instructions as well.
//!
//! `cargo bench --bench pick` prints a line of JSON for each; with `-- --algorithm NAME --backends N --picks M` it does
//! just so many picks and says nothing, for callgrind.

#[path = "shared/numbers.rs"]
mod numbers;

use numbers::Numbers;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use lameduck::config::BalanceConfig;
use lameduck::core::balance::hash_ring::{RingMember, RingPoints};
use lameduck::core::balance::ketama::{KetamaPoints, KetamaServer};
use lameduck::core::balance::{BalanceAlgorithm, BalanceCandidate, Balancer, PickInput};

const BACKENDS: [usize; 3] = [3, 100, 10_000];

/// The loop around the picks alone.
const NOTHING: &str = "nothing";

/// As `hash_load = 1.25`.
const HASH_LOAD: u32 = 125;

/// Picks between two looks at the clock, and how often.
const BATCH: u64 = 20_000;
const BATCHES: usize = 31;

/// The system's allocator, and how often it was asked.
struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that it wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// A backend as far as the balancer knows; as far from the next one in memory as real ones are.
#[repr(align(128))]
struct Loaded {
    in_flight: AtomicU32,
    latency: AtomicU64,
}

impl BalanceCandidate for Loaded {
    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
    fn weight(&self) -> u32 {
        1
    }
    fn latency(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.latency.load(Ordering::Relaxed)))
    }
}

/// `None`: no balancer at all.
fn balancer(algorithm: &str, backends: usize) -> Option<Balancer> {
    let mut words = BalanceConfig::WORDS.iter();
    let (_, balance) = words.find(|(word, _)| *word == algorithm)?;
    let weights = vec![1; backends];
    let places = (0..backends as u32).map(Some);
    Some(match balance {
        BalanceConfig::LeastRequests => Balancer::new(BalanceAlgorithm::LeastRequests, &weights),
        BalanceConfig::RoundRobin => Balancer::new(BalanceAlgorithm::RoundRobin, &weights),
        BalanceConfig::Random => Balancer::new(BalanceAlgorithm::Random, &weights),
        BalanceConfig::PeakEwma => Balancer::new(BalanceAlgorithm::PeakEwma, &weights),
        BalanceConfig::Hash => {
            let mut names = Numbers(0x1234_5678_9abc_def1);
            let member = |place| RingMember {
                name: names.next(),
                weight: 1,
                place,
            };
            let members: Vec<_> = places.map(member).collect();
            Balancer::Hash(RingPoints::default().prepare(&members, HASH_LOAD))
        }
        BalanceConfig::KetamaNginx => {
            let server = |n: usize| KetamaServer {
                address: format!("10.0.{}.{}:3000", n / 250, n % 250 + 1).into(),
                weight: 1,
            };
            let servers: Vec<_> = (0..backends).map(server).collect();
            let places: Vec<_> = places.collect();
            Balancer::KetamaNginx(KetamaPoints::default().prepare(&servers, &places))
        }
    })
}

/// A pool, and what picks from it go by.
struct Pool {
    candidates: Vec<Loaded>,
    balancer: Option<Balancer>,
    numbers: Numbers,
    cursor: u64,
}

impl Pool {
    fn new(algorithm: &str, backends: usize) -> Self {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let candidates = (0..backends).map(|_| Loaded {
            in_flight: AtomicU32::new((numbers.next() % 8) as u32),
            latency: AtomicU64::new(1_000_000 + numbers.next() % 4_000_000),
        });
        Self {
            candidates: candidates.collect(),
            balancer: balancer(algorithm, backends),
            numbers,
            cursor: 0,
        }
    }

    fn pick(&mut self, picks: u64) {
        for _ in 0..picks {
            self.cursor += 1;
            let random = self.numbers.next();
            let input = black_box(PickInput {
                cursor: self.cursor,
                random,
                key: random.rotate_left(23),
            });
            let picked = match &self.balancer {
                Some(balancer) => balancer.pick(black_box(&self.candidates), input, &[]),
                None => Some(0),
            };
            assert!(black_box(picked).is_some());
        }
    }
}

/// CPU time of this thread: others that want the core are not in it.
#[allow(unsafe_code, reason = "std has no such clock")]
fn spent() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid, writable timespec for the whole call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn measure(algorithm: &str, backends: usize) {
    let mut pool = Pool::new(algorithm, backends);
    pool.pick(BATCH);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut times = [Duration::ZERO; BATCHES];
    for time in &mut times {
        let began = spent();
        pool.pick(BATCH);
        *time = spent() - began;
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    times.sort_unstable();
    let nanos = times[BATCHES / 2].as_nanos() as f64 / BATCH as f64;
    println!(
        "{{\"algorithm\": \"{algorithm}\", \"backends\": {backends}, \"ns\": {nanos:.2}, \"allocations\": {allocations}}}"
    );
    assert_eq!(allocations, 0, "a pick allocates");
}

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn main() {
    let number = |name| option(name)?.parse().ok();
    if let (Some(algorithm), Some(backends), Some(picks)) = (
        option("--algorithm"),
        number("--backends"),
        number("--picks"),
    ) {
        return Pool::new(&algorithm, backends as usize).pick(picks);
    }
    let words = BalanceConfig::WORDS.iter().map(|(word, _)| *word);
    for algorithm in std::iter::once(NOTHING).chain(words) {
        for backends in BACKENDS {
            measure(algorithm, backends);
        }
    }
}
