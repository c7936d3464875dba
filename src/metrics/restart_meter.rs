//! What a restart costs, counted where requests end. Nothing here is touched by a request that has to do with none.

use std::fmt;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Time;
use crate::core::restart::role::{RestartRole, RestartRoles};

/// No instant yet.
const NEVER: u64 = u64::MAX;

/// Counts what the next restart of a backend, or the one under way, costs. A line of the access log bears its id.
#[derive(Debug)]
pub struct RestartMeter {
    number: u64,
    /// Its id, where it has begun in a process before this one.
    handed_id: Option<Box<str>>,
    lines: AtomicU64,
    roles: [AtomicU64; RestartRole::ALL.len()],
    /// When it last counted something, in milliseconds.
    touched: AtomicU64,
    /// A request broke on the backend.
    broken: AtomicBool,
    /// When a restart began and ended that it is of, in milliseconds.
    began: AtomicU64,
    ended: AtomicU64,
}

impl Default for RestartMeter {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            handed_id: None,
            lines: AtomicU64::new(0),
            roles: Default::default(),
            touched: AtomicU64::new(NEVER),
            broken: AtomicBool::new(false),
            began: AtomicU64::new(NEVER),
            ended: AtomicU64::new(NEVER),
        }
    }
}

impl RestartMeter {
    /// Goes on counting a restart that has begun in a process before this one, under its id.
    pub fn of_predecessor(id: &str) -> Self {
        Self {
            handed_id: Some(id.into()),
            ..Self::default()
        }
    }

    /// The restart's number, which no other one has while the process runs.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The restart's id.
    pub fn id(&self) -> RestartId<'_> {
        match &self.handed_id {
            Some(id) => RestartId::Handed(id),
            None => RestartId::Own(self.number),
        }
    }

    /// Something broke on the backend, and will be counted when its request ends.
    pub fn touch(&self, now: Time) {
        self.broken.store(true, Ordering::Relaxed);
        self.note_use(now);
    }

    fn note_use(&self, now: Time) {
        let now = now.as_millis() as u64;
        self.touched.store(now, Ordering::Relaxed);
    }

    /// Counts one request that was all of this.
    pub fn count(&self, roles: RestartRoles, now: Time) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        for role in roles.each() {
            self.roles[role as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.note_use(now);
    }

    /// Lines of the log that have its id.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Requests that were this to it.
    pub fn of(&self, role: RestartRole) -> u64 {
        self.roles[role as usize].load(Ordering::Relaxed)
    }

    /// Whether a request broke on the backend.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether it was touched, and not since `at`.
    pub fn is_stale(&self, at: Time) -> bool {
        let touched = self.touched.load(Ordering::Relaxed);
        touched != NEVER && Time::from_millis(touched + 1) < at
    }

    /// Its restart has begun.
    pub fn begin(&self, now: Time) {
        self.began.store(now.as_millis() as u64, Ordering::Release);
    }

    /// Its restart is over.
    pub fn end(&self, now: Time) {
        self.ended.store(now.as_millis() as u64, Ordering::Release);
    }

    /// Whether its restart was under way at some time since `from`.
    pub fn spans(&self, from: Time) -> bool {
        let began = self.began.load(Ordering::Acquire);
        let ended = self.ended.load(Ordering::Acquire);
        began != NEVER && (ended == NEVER || ended >= from.as_millis() as u64)
    }
}

/// A restart's id: unique to the process, and then to the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartId<'a> {
    /// The number of a restart that has begun in this process.
    Own(u64),
    /// The id of one that has begun in a process before this one.
    Handed(&'a str),
}

impl fmt::Display for RestartId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(number) => write!(f, "{}-{number}", process_id()),
            Self::Handed(id) => f.write_str(id),
        }
    }
}

/// What tells this process from every other one: the ids of its restarts begin with it.
pub fn process_id() -> &'static str {
    &identity().0
}

/// When the process started, or first had a backend.
pub fn process_start() -> SystemTime {
    identity().1
}

fn identity() -> &'static (String, SystemTime) {
    static IDENTITY: OnceLock<(String, SystemTime)> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let now = SystemTime::now();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        (format!("{:x}.{:x}", since.as_millis(), process::id()), now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_spans_the_time_of_its_restart_and_no_other() {
        let meter = RestartMeter::default();
        let at = Time::from_millis;
        assert!(!meter.spans(at(0)));
        meter.begin(at(10));
        assert!(meter.spans(at(5)) && meter.spans(at(50)));
        meter.end(at(20));
        assert!(meter.spans(at(5)) && meter.spans(at(20)));
        assert!(!meter.spans(at(21)));
    }

    #[test]
    fn touch_before_a_sign_of_life_is_stale() {
        let meter = RestartMeter::default();
        let at = Time::from_millis;
        assert!(!meter.is_stale(at(100)) && !meter.is_broken());
        meter.touch(at(50));
        assert!(meter.is_stale(at(100)) && !meter.is_stale(at(50)));
        assert!(meter.is_broken());
    }
}
