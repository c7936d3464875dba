//! Panics of the running proxy: each is counted, logged at most once a minute for each place in the code, and ends no
//! more than the request or task in which it happened.
//!
//! A panic is a bug in lameduck. It must cost one request, not a thread: [`catch`] wraps each request, and [`restart`]
//! wraps the tasks that have to live as long as the process.
//!
//! The panic hook never writes, because the reader of standard error may be slow or gone. It sends a short report to a
//! thread that logs it; if that thread is behind, the report is dropped, but still counted.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::core::Time;
use crate::rt::clock;

/// Cause in the access log of a request that a panic has ended.
pub const CAUSE: &str = "a mistake in lameduck (a panic: its log names the place)";

/// Roles of the proxy's threads, the values of a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadRole {
    /// Carries traffic.
    Data,
    /// Accepts connections.
    Accept,
    /// Runs registry, probes and admin API, or waits for disks on their behalf.
    Control,
    /// Any other.
    Other,
}

/// All roles, in the order of their counters.
const ROLES: [ThreadRole; 4] = [
    ThreadRole::Data,
    ThreadRole::Accept,
    ThreadRole::Control,
    ThreadRole::Other,
];

static COUNTS: [AtomicU64; ROLES.len()] = [const { AtomicU64::new(0) }; ROLES.len()];

impl ThreadRole {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Accept => "accept",
            Self::Control => "control",
            Self::Other => "other",
        }
    }

    /// The role of a thread of this name.
    fn of(name: Option<&str>) -> Self {
        match name {
            Some("proxy") => Self::Data,
            Some("accept") => Self::Accept,
            Some("control") => Self::Control,
            _ => Self::Other,
        }
    }
}

/// Number of panics so far on threads of each role, including those that were caught.
pub fn counts() -> impl Iterator<Item = (ThreadRole, u64)> {
    let counts = COUNTS.iter().map(|count| count.load(Ordering::Relaxed));
    ROLES.into_iter().zip(counts)
}

/// A panic, for the log.
#[derive(Debug)]
struct PanicReport {
    role: ThreadRole,
    place: String,
    message: String,
}

impl PanicReport {
    fn new(info: &PanicHookInfo<'_>, role: ThreadRole) -> Self {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        Self {
            role,
            place: info
                .location()
                .map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
            message: message.chars().take(MAX_MESSAGE).collect(),
        }
    }
}

/// Longest message that is logged, in characters: it may hold what a client has sent.
const MAX_MESSAGE: usize = 200;

/// Most reports that wait for the log.
const MAX_WAITING: usize = 64;

/// Time for which further panics at a logged place are not logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Most places that are distinguished. Panics in further ones are only counted.
const MAX_PLACES: usize = 100;

/// Counts every panic from now on, and logs it from a thread of its own. Panics of the main thread end the process, and
/// are written by the previous hook. Further calls have no effect.
///
/// # Errors
/// The system can't start another thread.
pub fn install_hook() -> std::io::Result<()> {
    static REPORTS: OnceLock<SyncSender<PanicReport>> = OnceLock::new();
    let (sender, receiver) = sync_channel(MAX_WAITING);
    if REPORTS.set(sender).is_err() {
        return Ok(());
    }
    std::thread::Builder::new()
        .name("panics".to_owned())
        .spawn(move || log_reports(&receiver))?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let role = ThreadRole::of(thread.name());
        if let Some(count) = COUNTS.get(role as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if thread.name() == Some("main") {
            before(info);
        } else if let Some(reports) = REPORTS.get() {
            let _ = reports.try_send(PanicReport::new(info, role));
        }
    }));
    Ok(())
}

fn log_reports(reports: &Receiver<PanicReport>) {
    let mut ledger = PanicLedger::default();
    while let Ok(report) = reports.recv() {
        let Some(unsaid) = ledger.note(&report.place, clock::now()) else {
            continue;
        };
        tracing::error!(
            thread = report.role.as_str(),
            place = report.place,
            unsaid,
            "a mistake in lameduck: a panic ended what it happened in ({}); please report it",
            report.message
        );
    }
}

/// Places that were logged, and when.
#[derive(Debug, Default)]
struct PanicLedger(HashMap<String, LedgerEntry>);

#[derive(Debug)]
struct LedgerEntry {
    logged: Time,
    unsaid: u64,
}

impl PanicLedger {
    /// Notes a panic at this place. If it should be logged, returns how many were left out since the last log line.
    fn note(&mut self, place: &str, now: Time) -> Option<u64> {
        if let Some(entry) = self.0.get_mut(place) {
            if now.saturating_sub(entry.logged) < LOG_INTERVAL {
                entry.unsaid += 1;
                return None;
            }
            entry.logged = now;
            return Some(std::mem::take(&mut entry.unsaid));
        }
        if self.0.len() >= MAX_PLACES {
            return None;
        }
        let entry = LedgerEntry {
            logged: now,
            unsaid: 0,
        };
        self.0.insert(place.to_owned(), entry);
        Some(0)
    }
}

/// The error of a future that has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanicError;

/// Result of a future, or an error if it has panicked. Its owner drops the future as usual.
///
/// It takes the future pinned, so that a large one isn't moved.
///
/// # Errors
/// The future has panicked. State that it shared with others may be half-changed.
pub fn catch<F: Future>(
    mut future: Pin<&mut F>,
) -> impl Future<Output = Result<F::Output, PanicError>> {
    // There is no state around the future, because every request passes here.
    std::future::poll_fn(move |cx| {
        // Unwind safety is the caller's concern: it goes on only with state that stays valid (counters, a connection to
        // close).
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            // The payload is the panic message, which the hook has logged already.
            Err(_payload) => std::task::Poll::Ready(Err(PanicError)),
        }
    })
}

/// Time between the panic of a task and its next start.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Runs a task that has to live as long as its owner: it is started again after a panic. Must be polled on a runtime
/// that has timers.
pub async fn restart<F: Future>(task: &'static str, mut start: impl FnMut() -> F) -> F::Output {
    loop {
        let running = std::pin::pin!(start());
        match catch(running).await {
            Ok(output) => return output,
            Err(PanicError) => {
                tracing::warn!(task, "it is started again after a panic");
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[tokio::test]
    async fn caught_panic_of_a_later_poll_drops_what_the_future_held() {
        let held = Arc::new(());
        let copy = held.clone();
        let mut future = Box::pin(async move {
            let _held = copy;
            tokio::task::yield_now().await;
            assert_eq!(1 + 1, 3, "for the test");
        });
        assert_eq!(catch(future.as_mut()).await, Err(PanicError));
        drop(future);
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(catch(pin!(async { 7 })).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn panicking_task_is_restarted_until_it_ends_by_itself() {
        let starts = AtomicU32::new(0);
        let ended = restart("test", || async {
            let start = starts.fetch_add(1, Ordering::Relaxed);
            assert!(start > 1, "for the test");
            start
        });
        assert_eq!(ended.await, 2);
    }

    #[test]
    fn panics_of_one_place_are_logged_once_a_minute_with_the_number_left_out() {
        let mut ledger = PanicLedger::default();
        let at = Time::from_secs;
        assert_eq!(ledger.note("a.rs:1:1", at(5)), Some(0));
        assert_eq!(ledger.note("b.rs:1:1", at(6)), Some(0));
        for second in 6..10 {
            assert_eq!(ledger.note("a.rs:1:1", at(second)), None);
        }
        assert_eq!(ledger.note("a.rs:1:1", at(65)), Some(4));
        assert_eq!(ledger.note("a.rs:1:1", at(66)), None);
    }

    #[test]
    fn places_beyond_the_bound_are_not_kept() {
        let mut ledger = PanicLedger::default();
        let logged = (0..1000).filter(|line| {
            let place = format!("a.rs:{line}:1");
            ledger.note(&place, Time::ZERO).is_some()
        });
        assert_eq!(logged.count(), MAX_PLACES);
    }

    #[test]
    fn role_of_a_thread_follows_from_its_name() {
        for (place, role) in ROLES.into_iter().enumerate() {
            assert_eq!(role as usize, place);
        }
        assert_eq!(ThreadRole::of(Some("proxy")), ThreadRole::Data);
        assert_eq!(ThreadRole::of(None), ThreadRole::Other);
    }
}
