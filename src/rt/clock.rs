//! The only clock of lameduck: monotonic time for decisions, wall-clock time for what people see, and timers that work
//! on every thread.
//!
//! Decisions never use the wall clock: it can be set, and then a drain of an hour would end at once or never. A time
//! that is shown, or that outlives the process, is converted when it is shown or written, by what the wall clock says
//! then. While the machine is suspended, this clock (`CLOCK_MONOTONIC`) stands still: a drain of an hour lasts an hour
//! of running time, and its end on the wall clock moves accordingly. A suspended proxy answers no requests, so nothing
//! that it waits for could have happened.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::core::Time;
use crate::rt::syscall::monotonic_ns;

/// Start of this clock's time, on the machine's monotonic clock and as an `Instant`.
struct ClockOrigin {
    ns: u64,
    instant: Instant,
}

static ORIGIN: OnceLock<ClockOrigin> = OnceLock::new();

/// Difference between the wall clock and this clock, in nanoseconds, that all readings use.
static WALL_OFFSET: AtomicI64 = AtomicI64::new(0);

/// Largest deviation that does not count as a clock that was set: it is being adjusted slowly, or this thread was
/// delayed between its two readings.
const STEP_TOLERANCE: Duration = Duration::from_millis(50);

static TIMERS: OnceLock<Handle> = OnceLock::new();

fn origin() -> &'static ClockOrigin {
    ORIGIN.get_or_init(|| ClockOrigin {
        ns: monotonic_ns(),
        instant: Instant::now(),
    })
}

/// Monotonic time since the first call.
pub fn now() -> Time {
    // Read several times per request: numbers are cheaper to subtract than `Instant`s.
    let began = origin().ns;
    Time::from_nanos(monotonic_ns().saturating_sub(began))
}

/// Converts a time of this clock to nanoseconds of the machine's monotonic clock, which all processes of the machine
/// share.
pub fn to_machine(at: Time) -> u64 {
    let since = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
    origin().ns.saturating_add(since)
}

/// The reverse of [`to_machine`]; times before this clock's origin become zero.
pub fn from_machine(ns: u64) -> Time {
    Time::from_nanos(ns.saturating_sub(origin().ns))
}

/// Starts this clock where that of another process of this machine did (its [`to_machine`] of zero). A process that
/// takes over needs this, so that events before its own start have a time, too. `false`: too late, this clock was read
/// already.
pub fn begin_as(ns: u64) -> bool {
    let now = monotonic_ns();
    let Some(instant) = Instant::now().checked_sub(Duration::from_nanos(now.saturating_sub(ns)))
    else {
        return false;
    };
    let ns = ns.min(now);
    ORIGIN.set(ClockOrigin { ns, instant }).is_ok()
}

/// Latest time that timers get; they and date formats reach only some thousand years.
const FARTHEST: Time = Time::from_secs(100 * 365 * 86_400);

/// Converts a monotonic time for tokio's timers; a time more than a century away becomes a century.
pub fn instant(at: Time) -> tokio::time::Instant {
    tokio::time::Instant::from_std(origin().instant + at.min(FARTHEST))
}

/// How often a difference is read again that says that the wall clock was set.
const CONFIRMATIONS: usize = 3;

/// Difference between the wall clock and this clock now, in nanoseconds. If the thread is delayed in between, the delay
/// is added to it.
fn read_offset() -> i64 {
    let (now, wall) = (now(), SystemTime::now());
    let whole = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    whole(since_1970(wall)).saturating_sub(whole(now))
}

/// Difference that is used from now on: the agreed one, until the wall clock was set. A delayed reading looks like a
/// clock that was set ahead, so the smallest of some readings decides.
fn judge_offset(agreed: i64, mut read: impl FnMut() -> i64) -> i64 {
    let is_step = |offset: i64| agreed.abs_diff(offset) > STEP_TOLERANCE.as_nanos() as u64;
    let mut offset = read();
    for _ in 0..CONFIRMATIONS {
        if !is_step(offset) {
            return agreed;
        }
        offset = offset.min(read());
    }
    match is_step(offset) {
        true => offset,
        false => agreed,
    }
}

/// Both clocks, read at one moment; converts between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// This clock.
    pub now: Time,
    /// The wall clock.
    pub wall: SystemTime,
}

impl ClockReading {
    /// Reads both clocks. While nobody sets the wall clock, all readings use the same difference, so that one moment is
    /// shown the same each time.
    pub fn take() -> Self {
        let agreed = WALL_OFFSET.load(Ordering::Relaxed);
        let offset = judge_offset(agreed, read_offset);
        if offset != agreed {
            WALL_OFFSET.store(offset, Ordering::Relaxed);
        }
        let (now, distance) = (now(), Duration::from_nanos(offset.unsigned_abs()));
        let since_1970 = match offset.is_negative() {
            true => now.saturating_sub(distance),
            false => now.saturating_add(distance),
        };
        Self {
            now,
            wall: SystemTime::UNIX_EPOCH + since_1970,
        }
    }

    /// Converts a time of this clock to the wall clock. A time that no wall clock can show becomes the moment of the
    /// reading.
    pub fn to_wall(&self, at: Time) -> SystemTime {
        let wall = match at.checked_sub(self.now) {
            Some(ahead) => self.wall.checked_add(ahead),
            None => self.wall.checked_sub(self.now - at),
        };
        wall.unwrap_or(self.wall)
    }

    /// The reverse of [`ClockReading::to_wall`]; times before the process started become zero.
    pub fn from_wall(&self, at: SystemTime) -> Time {
        match at.duration_since(self.wall) {
            Ok(ahead) => self.now.saturating_add(ahead),
            Err(behind) => self.now.saturating_sub(behind.duration()),
        }
    }

    /// The same for a time that lay ahead at `since`. No more time is left than at `since`, even if the wall clock was
    /// set back while no process could notice.
    pub fn due_from_wall(&self, at: SystemTime, since: SystemTime) -> Time {
        let due = self.from_wall(at);
        match at.duration_since(since) {
            Ok(whole) => due.min(self.now.saturating_add(whole)),
            Err(_) => due,
        }
    }

    /// How far the wall clock was set, or how long the machine was suspended, since an earlier reading.
    pub fn step_since(&self, earlier: &Self) -> Duration {
        let expected = earlier.to_wall(self.now);
        match self.wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        }
    }
}

/// Converts a monotonic time to the wall clock, as it is set now.
pub fn wall(at: Time) -> SystemTime {
    ClockReading::take().to_wall(at)
}

/// The reverse of [`wall`]; times before the process started become zero.
pub fn from_wall(at: SystemTime) -> Time {
    ClockReading::take().from_wall(at)
}

/// Time since 1970; zero for earlier times.
pub fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Time since 1970 in whole seconds, as certificates and header fields have it.
pub fn unix_seconds(at: SystemTime) -> i64 {
    i64::try_from(since_1970(at).as_secs()).unwrap_or(i64::MAX)
}

/// Last millisecond that RFC 3339 can express, at the end of the year 9999; since 1970.
const LAST_DATE: Duration = Duration::from_millis(253_402_300_799_999);

/// Formats as RFC 3339 with milliseconds, in UTC. Times outside the years 1970 to 9999 are shown as the start or end of
/// that range.
pub fn rfc3339(at: SystemTime) -> String {
    let shown = SystemTime::UNIX_EPOCH + since_1970(at).min(LAST_DATE);
    humantime::format_rfc3339_millis(shown).to_string()
}

/// Sets the runtime whose timers [`sleep_until`], [`sleep`] and [`timeout`] use. The data threads have no timers of
/// their own: checking them in each turn of the event loop would cost more than parsing a request.
pub fn set_timers(runtime: Handle) {
    let _ = TIMERS.set(runtime);
}

/// Waits until a moment, on any thread.
pub fn sleep_until(at: Time) -> Sleep {
    let _runtime = TIMERS.get().map(Handle::enter);
    tokio::time::sleep_until(instant(at))
}

/// Waits for some time, on any thread.
pub fn sleep(time: Duration) -> Sleep {
    sleep_until(now().saturating_add(time))
}

/// A future did not finish in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutError;

/// Result of a future, if it finishes within `patience`; works on any thread.
///
/// # Errors
/// The time ended first.
pub async fn timeout<F: Future>(patience: Duration, future: F) -> Result<F::Output, TimeoutError> {
    let mut future = pin!(future);
    let mut end: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // A future that is ready at once needs no timer.
        let end = end.get_or_insert_with(|| Box::pin(sleep(patience)));
        end.as_mut().poll(cx).map(|()| Err(TimeoutError))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readings_of_a_moment_agree() {
        let (before, five) = (Instant::now(), Duration::from_secs(5));
        let at = now() + five;
        let after = Instant::now();
        // To the microsecond, in which times are kept.
        let moment = instant(at).into_std() + Duration::from_micros(1);
        let latest = after + five + Duration::from_micros(2);
        assert!(moment >= before + five && moment <= latest, "{moment:?}");
        let reading = ClockReading::take();
        assert_eq!(reading.from_wall(reading.to_wall(at)), at);
    }

    #[test]
    fn moment_is_called_the_same_each_time() {
        let at = now();
        let first = wall(at);
        for _ in 0..10_000 {
            assert_eq!(wall(at), first);
        }
        let off = SystemTime::now().duration_since(wall(now()));
        assert!(off.unwrap_or_default() < 2 * STEP_TOLERANCE);
    }

    #[test]
    fn delay_between_two_readings_is_no_clock_that_was_set() {
        let second = 1_000_000_000;
        let judge = |agreed, readings: &[i64]| {
            let mut readings = readings.iter().copied();
            judge_offset(agreed, || readings.next().unwrap())
        };
        // As agreed, or adjusted slowly: one reading is enough.
        assert_eq!(judge(5 * second, &[5 * second]), 5 * second);
        assert_eq!(judge(5 * second, &[5 * second + 40_000_000]), 5 * second);
        // Delayed once, and three times.
        assert_eq!(judge(5 * second, &[7 * second, 5 * second]), 5 * second);
        let delayed = [7 * second, 8 * second, 6 * second, 5 * second + 1];
        assert_eq!(judge(5 * second, &delayed), 5 * second);
        // Set ahead, with a delay; set back, before this clock's origin too.
        let ahead = [9 * second, 8 * second, 8 * second, 8 * second];
        assert_eq!(judge(5 * second, &ahead), 8 * second);
        assert_eq!(judge(5 * second, &[-second; 4]), -second);
    }

    #[test]
    fn a_wall_clock_that_was_set_is_followed_from_then_on() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = Duration::from_secs;
        let before = ClockReading {
            now: seconds(10),
            wall: start,
        };
        let expires = seconds(70);
        assert_eq!(before.to_wall(expires), start + seconds(60));
        for (later, step) in [
            // Twenty seconds pass, and the wall clock was set an hour ahead, or the machine slept for an hour.
            (start + seconds(20 + 3600), seconds(3600)),
            (start + seconds(20) - seconds(7200), seconds(7200)),
            (start + seconds(20), Duration::ZERO),
        ] {
            let after = ClockReading {
                now: seconds(30),
                wall: later,
            };
            assert_eq!(after.to_wall(expires), later + seconds(40));
            assert_eq!(after.to_wall(seconds(5)), later - seconds(25));
            assert_eq!(after.from_wall(later + seconds(40)), expires);
            assert_eq!(after.from_wall(later - seconds(31)), Time::ZERO);
            assert_eq!(after.step_since(&before), step);
        }
        // A time that can't be shown becomes one that can.
        assert_eq!(before.to_wall(Time::MAX), start);
        assert_eq!(before.from_wall(start + seconds(1)), seconds(11));
    }

    #[test]
    fn the_farthest_time_is_a_moment_that_timers_and_dates_can_have() {
        for at in [Time::MAX, Time::from_secs(u64::MAX / 2)] {
            assert!(instant(at) > instant(now()));
            assert!(rfc3339(wall(at)).starts_with('2'));
        }
    }

    #[test]
    fn dates_that_rfc_3339_lacks_are_shown_as_the_nearest() {
        let at = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        for far in [253_402_300_800, i64::MAX as u64] {
            assert_eq!(rfc3339(at(far).unwrap()), "9999-12-31T23:59:59.999Z");
        }
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(early), "1970-01-01T00:00:00.000Z");
    }

    /// As on the data plane's threads: a runtime without timers, and another that has them.
    #[test]
    fn a_thread_without_timers_waits_by_those_of_another() {
        let timers = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        set_timers(timers.handle().clone());
        let without = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        without.block_on(async {
            let short = Duration::from_millis(5);
            let began = now();
            sleep(short).await;
            assert!(now() - began >= short);
            assert_eq!(
                timeout(short, std::future::pending::<()>()).await,
                Err(TimeoutError)
            );
            assert_eq!(timeout(short, async { 1 }).await, Ok(1));
        });
        // Other tests of this process may use these timers, too.
        std::mem::forget(timers);
    }
}
