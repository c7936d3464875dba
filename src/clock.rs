//! The one clock: time since the process began, for decisions; the wall clock, for people.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use crate::core::Time;

static ORIGIN: OnceLock<(Instant, SystemTime)> = OnceLock::new();

fn origin() -> &'static (Instant, SystemTime) {
    ORIGIN.get_or_init(|| (Instant::now(), SystemTime::now()))
}

/// Monotonic time since the first call.
pub fn now() -> Time {
    origin().0.elapsed()
}

/// A monotonic time as tokio's timers take it.
pub fn instant(at: Time) -> tokio::time::Instant {
    tokio::time::Instant::from_std(origin().0 + at)
}

/// A monotonic time as the wall clock's, for people and for files that outlive the process.
pub fn wall(at: Time) -> SystemTime {
    let (origin, wall) = origin();
    let _ = origin;
    *wall + at
}

/// The reverse of [`wall`]; times before the process began become zero.
pub fn from_wall(at: SystemTime) -> Time {
    at.duration_since(origin().1).unwrap_or_default()
}

/// RFC 3339 with milliseconds, UTC.
pub fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
