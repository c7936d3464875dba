//! Counters of what a restart costs, updated when requests end. Requests that no restart concerns do not touch them.

use std::fmt;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Time;
use crate::core::restart::role::{RestartRole, RestartRoles};

/// Stands for "not yet" in a time.
const NEVER: u64 = u64::MAX;

/// Counts requests that the next or current restart of a backend concerns. Their lines in the access log have its id.
#[derive(Debug)]
pub struct RestartMeter {
    number: u64,
    /// Id of the restart, if it began in a process before this one.
    handed_id: Option<Box<str>>,
    lines: AtomicU64,
    roles: [AtomicU64; RestartRole::ALL.len()],
    /// Time of the last count, in milliseconds.
    touched: AtomicU64,
    /// Whether a request has broken on the backend.
    broken: AtomicBool,
    /// Start and end of the restart that this belongs to, in milliseconds.
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
    /// Continues the counts of a restart that began in a process before this one, with its id.
    pub fn of_predecessor(id: &str) -> Self {
        Self {
            handed_id: Some(id.into()),
            ..Self::default()
        }
    }

    /// Number of the restart, unique within this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Id of the restart.
    pub fn id(&self) -> RestartId<'_> {
        match &self.handed_id {
            Some(id) => RestartId::Handed(id),
            None => RestartId::Own(self.number),
        }
    }

    /// Notes that a request has broken on the backend; it is counted when it ends.
    pub fn touch(&self, now: Time) {
        self.broken.store(true, Ordering::Relaxed);
        self.note_use(now);
    }

    fn note_use(&self, now: Time) {
        let now = now.as_millis() as u64;
        self.touched.store(now, Ordering::Relaxed);
    }

    /// Counts one request with all of these roles.
    pub fn count(&self, roles: RestartRoles, now: Time) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        for role in roles.each() {
            self.roles[role as usize].fetch_add(1, Ordering::Relaxed);
        }
        self.note_use(now);
    }

    /// Number of lines in the access log that have this id.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Number of requests with this role.
    pub fn of(&self, role: RestartRole) -> u64 {
        self.roles[role as usize].load(Ordering::Relaxed)
    }

    /// Whether a request has broken on the backend.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether it was used, but not since `at`.
    pub fn is_stale(&self, at: Time) -> bool {
        let touched = self.touched.load(Ordering::Relaxed);
        touched != NEVER && Time::from_millis(touched + 1) < at
    }

    /// Notes the start of the restart.
    pub fn begin(&self, now: Time) {
        self.began.store(now.as_millis() as u64, Ordering::Release);
    }

    /// Notes the end of the restart.
    pub fn end(&self, now: Time) {
        self.ended.store(now.as_millis() as u64, Ordering::Release);
    }

    /// Whether the restart was in progress at any time since `from`.
    pub fn spans(&self, from: Time) -> bool {
        let began = self.began.load(Ordering::Acquire);
        let ended = self.ended.load(Ordering::Acquire);
        began != NEVER && (ended == NEVER || ended >= from.as_millis() as u64)
    }
}

/// Id of a restart: identity of the process, and number of the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartId<'a> {
    /// Number of a restart that began in this process.
    Own(u64),
    /// Id of a restart that began in a process before this one.
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

/// Identity of this process; the ids of its restarts begin with it.
pub fn process_id() -> &'static str {
    &identity().0
}

/// Time at which the process started, or first had a backend.
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
