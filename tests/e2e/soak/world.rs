//! What happened when: written by those who did it, judged by the oracle, kept as a timeline.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use lameduck::rt::syscall::monotonic_ns;
use parking_lot::Mutex;
use serde::Serialize;

/// A span of time, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// How long both have in common.
    pub fn overlap(self, other: Self) -> u64 {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        to.saturating_sub(from)
    }

    pub fn meets(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With all that it had in flight.
    Hard,
    /// It finished what it had.
    Graceful,
}

/// The end of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Death {
    pub instance: String,
    /// Which of its processes, from 0.
    pub life: usize,
    pub end: End,
    /// From the signal to the exit.
    pub span: Span,
}

/// What the oracle is told.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub deaths: Vec<Death>,
    /// From "it is drained" to "resume it", for each coordinated drain.
    pub drained: Vec<(String, Span)>,
    /// Drains whose deadline was meant to cut.
    pub cut: Vec<(String, Span)>,
    /// While nothing was done to an instance and the proxy called it ready.
    pub well: Vec<(String, Span)>,
    /// What must not happen, whatever becomes of requests.
    pub violations: Vec<String>,
    /// How often each thing was done.
    pub done: std::collections::BTreeMap<String, u64>,
}

/// Where it is written down.
pub struct Diary {
    world: Mutex<World>,
    timeline: Mutex<File>,
    begun: u64,
}

impl Diary {
    pub fn new(timeline: &Path) -> Self {
        Self {
            world: Mutex::default(),
            timeline: Mutex::new(File::create(timeline).unwrap()),
            begun: monotonic_ns(),
        }
    }

    /// One line of the timeline.
    pub fn line(&self, who: &str, what: impl Serialize) {
        let t = monotonic_ns();
        let line = serde_json::json!({
            "t": t, "s": (t - self.begun) as f64 / 1e9, "who": who, "what": what,
        });
        writeln!(self.timeline.lock(), "{line}").unwrap();
    }

    /// Something is done.
    pub fn act(&self, who: &str, name: &str, what: impl Serialize) {
        *self.world.lock().done.entry(name.to_owned()).or_default() += 1;
        self.line(who, what);
    }

    pub fn death(&self, death: Death) {
        self.line(&death.instance, &death);
        self.world.lock().deaths.push(death);
    }

    pub fn drained(&self, instance: &str, span: Span) {
        self.world.lock().drained.push((instance.to_owned(), span));
    }

    pub fn cut(&self, instance: &str, span: Span) {
        self.world.lock().cut.push((instance.to_owned(), span));
    }

    pub fn well(&self, instance: &str, span: Span) {
        self.world.lock().well.push((instance.to_owned(), span));
    }

    pub fn violation(&self, who: &str, what: &str) {
        self.line(who, format!("VIOLATION: {what}"));
        let at = (monotonic_ns() - self.begun) as f64 / 1e9;
        let text = format!("{at:.3} s: {who}: {what}");
        self.world.lock().violations.push(text);
    }

    /// When it began.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    pub fn world(&self) -> World {
        self.world.lock().clone()
    }
}
