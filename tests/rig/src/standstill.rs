//! Tests on a machine that may stand still: a host that serves others, too, takes its processors away for seconds at a
//! time. Whoever judges time then judges the host. A thread watches how late it is woken; a test that failed while the
//! machine stood still says nothing, and is run again.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the watching thread is to be woken.
const LOOK: Duration = Duration::from_millis(10);
/// Woken this much late, the machine stood still: programs that wait are served first, even by processors that are busy.
const STANDSTILL: Duration = Duration::from_millis(300);
/// How often a test is run, if it fails and the machine stands still each time.
const RUNS: usize = 3;

/// A time in which the machine stood still.
struct Standstill {
    end: Instant,
    length: Duration,
}

static SEEN: OnceLock<Mutex<Vec<Standstill>>> = OnceLock::new();

/// Begins to watch, the first time it is called in a process.
fn seen() -> &'static Mutex<Vec<Standstill>> {
    SEEN.get_or_init(|| {
        std::thread::Builder::new()
            .name("standstill".into())
            .spawn(watch)
            .unwrap();
        Mutex::default()
    })
}

fn watch() {
    loop {
        let begun = Instant::now();
        std::thread::sleep(LOOK);
        let (end, length) = (Instant::now(), begun.elapsed().saturating_sub(LOOK));
        if length >= STANDSTILL {
            seen().lock().push(Standstill { end, length });
        }
    }
}

/// The longest time for which the machine has stood still since then.
pub fn longest_since(begun: Instant) -> Option<Duration> {
    // A standstill at the very end: the watching thread is woken when this one is.
    std::thread::sleep(2 * LOOK);
    let seen = seen().lock();
    let since = seen.iter().filter(|one| one.end >= begun);
    since.map(|one| one.length).max()
}

/// Runs an asynchronous test on a runtime of its own, as [`run_blocking`] does.
pub fn run_test<F: Future<Output = ()>>(threads: usize, test: impl Fn() -> F) {
    run_blocking(|| runtime(threads).block_on(test()));
}

/// Runs a test. It fails if it panics and the machine did not stand still meanwhile, or if it panics each of three times.
pub fn run_blocking(test: impl Fn()) {
    let _ = seen();
    run_judged(test, longest_since, |length| {
        let thread = std::thread::current();
        // Past the test runner, which shows what a test prints only if it fails.
        let _ = writeln!(
            std::io::stderr(),
            "run again: {} failed while the machine stood still for {} ms",
            thread.name().unwrap_or("a test"),
            length.as_millis(),
        );
    });
}

/// The same; `stood_still` says for how long the machine stood still since the run began, and `tell` is told before the
/// test is run again.
pub fn run_judged(
    test: impl Fn(),
    stood_still: impl Fn(Instant) -> Option<Duration>,
    tell: impl Fn(Duration),
) {
    for run in 1.. {
        let begun = Instant::now();
        let panic = match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(panic) => panic,
        };
        let Some(length) = stood_still(begun).filter(|_| run < RUNS) else {
            resume_unwind(panic);
        };
        tell(length);
    }
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().unwrap()
}
