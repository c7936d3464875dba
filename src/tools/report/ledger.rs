//! Sums of what the lines of access logs say about the restarts of a report. Pure: lines in, sums out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::document::RestartReport;
use super::log_file::LineEnd;
use super::log_line::{LineFault, LogLine};
use crate::core::restart::role::RestartRole;
use crate::metrics::Histogram;
use crate::registry::restart_view::{LatencyWindow, RestartCounts};

/// Most lines that are remembered for each figure and each kind of problem; further ones are counted.
const MAX_PLACES: usize = 100;

/// Most other processes that are named; lines of further ones are counted together.
const MAX_OTHER_PROCESSES: usize = 20;

/// Longest part of another process's name that is kept, in characters, because a log may contain anything.
const MAX_PROCESS_LENGTH: usize = 64;

/// Longest time between the count of a request and the end in its line, because a thread may be stopped in between.
const COUNT_TOLERANCE: Duration = Duration::from_millis(100);

/// Longest time before or after a restart at which a request may have begun or ended that names it.
const RESTART_TOLERANCE: Duration = Duration::from_secs(10);

/// Lines of several threads may be out of order by less than this.
const ORDER_TOLERANCE: Duration = Duration::from_secs(2);

/// A line in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePlace {
    /// Index of the file among those that were read.
    pub file: usize,
    /// Line number from 1.
    pub line: u64,
}

/// Some lines, and their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinePlaces {
    /// The first ones.
    pub first: Vec<LinePlace>,
    /// Number of all lines.
    pub count: u64,
}

impl LinePlaces {
    fn add(&mut self, place: LinePlace) {
        self.count += 1;
        if self.first.len() < MAX_PLACES {
            self.first.push(place);
        }
    }
}

/// What the lines say about one restart.
#[derive(Debug, Clone, Default)]
pub struct RestartLines {
    /// Its figures.
    pub counts: RestartCounts,
    /// Lines for each figure, by its name.
    pub places: BTreeMap<&'static str, LinePlaces>,
    span: Option<(SystemTime, Option<SystemTime>)>,
}

/// Requests of a period by bucket of the histogram: those that are certainly in it, and those at its edges.
#[derive(Debug, Clone)]
pub struct WindowLines {
    pool: String,
    from: SystemTime,
    to: SystemTime,
    sure: [u64; Histogram::BUCKETS],
    edge: [u64; Histogram::BUCKETS],
}

/// A contradiction in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineDoubt {
    /// The line.
    pub place: LinePlace,
    /// What is wrong, for users.
    pub why: String,
}

/// All sums.
#[derive(Debug, Default)]
pub struct LogLedger {
    /// Sums by id of the restart.
    pub restarts: HashMap<String, RestartLines>,
    /// Periods, by index of the restart in the report and name of the period.
    pub windows: BTreeMap<(usize, &'static str), WindowLines>,
    /// Lines that contradict themselves or the report.
    pub doubts: Vec<LineDoubt>,
    /// Lines of lost requests during a restart of their pool that name no restart.
    pub unblamed: LinePlaces,
    /// Lines in a form that lameduck does not write.
    pub foreign: LinePlaces,
    /// Incomplete lines at the end of files.
    pub torn: LinePlaces,
    /// Lines whose end is well before that of an earlier line.
    pub disordered: LinePlaces,
    /// Lines that name restarts of other processes, by process…
    pub strangers: BTreeMap<String, LinePlaces>,
    /// …and those of further processes.
    pub more_strangers: LinePlaces,
    /// Number of lines that lameduck wrote.
    pub lines: u64,
    /// Earliest and latest end of a request.
    pub ended: Option<(SystemTime, SystemTime)>,
    processes: BTreeSet<String>,
    latest: Option<(usize, SystemTime)>,
    pools: Vec<(String, SystemTime, SystemTime)>,
}

impl LogLedger {
    /// Empty sums for the restarts of this report.
    pub fn new(report: &RestartReport) -> Self {
        let mut ledger = Self {
            processes: report.processes().map(|one| one.id.clone()).collect(),
            ..Self::default()
        };
        for (place, one) in report.restarts.iter().enumerate() {
            let read = |text: &str| humantime::parse_rfc3339(text).ok();
            let end = one.ready.as_deref().and_then(read);
            let span = read(&one.began).map(|from| (from, end));
            if let Some((from, Some(to))) = span {
                ledger.pools.push((one.pool.clone(), from, to));
            }
            let lines = RestartLines {
                span,
                ..RestartLines::default()
            };
            ledger.restarts.insert(one.id.clone(), lines);
            for (name, window) in one.latency.windows() {
                let lines = window.and_then(|window| WindowLines::new(&one.pool, window));
                if let Some(lines) = lines {
                    ledger.windows.insert((place, name), lines);
                }
            }
        }
        ledger
    }

    /// Adds a line.
    pub fn add_line(&mut self, place: LinePlace, text: &[u8], end: LineEnd) {
        let line = match (LogLine::read(text), end) {
            (Ok(line), LineEnd::Whole) => line,
            // The rest of an incomplete line is unknown.
            (_, LineEnd::Torn) => return self.torn.add(place),
            (Err(LineFault::BadRestarts), _) => {
                return self.add_doubt(
                    place,
                    "its field `restarts` is not what lameduck writes".to_owned(),
                );
            }
            _ => return self.foreign.add(place),
        };
        self.lines += 1;
        let ended = line.ended();
        self.note_order(place, ended);
        for lines in self.windows.values_mut() {
            lines.take(&line);
        }
        let mut is_blamed = false;
        for (id, roles) in &line.restarts {
            is_blamed = true;
            let Some(own) = self.restarts.get_mut(id) else {
                let process = id.rsplit_once('-').map_or(&**id, |(process, _)| process);
                if !self.processes.contains(process) {
                    self.note_stranger(process, place);
                }
                continue;
            };
            own.counts.lines += 1;
            own.places.entry("lines").or_default().add(place);
            for role in roles.each() {
                if let Some(figure) = own.counts.figure_mut(role.as_str()) {
                    *figure += 1;
                }
                own.places.entry(role.as_str()).or_default().add(place);
            }
            let strays = own.span.is_some_and(|(from, to)| {
                ended + RESTART_TOLERANCE < from
                    || to.is_some_and(|to| line.began > to + RESTART_TOLERANCE)
            });
            let doubts = roles
                .each()
                .filter_map(|role| Some((role, line.doubt(role)?)));
            let doubts: Vec<_> = doubts.collect();
            for (role, why) in doubts {
                self.add_doubt(
                    place,
                    format!("it says `{}` of {id}, but {why}", role.as_str()),
                );
            }
            if strays {
                self.add_doubt(
                    place,
                    format!("it names {id}, which the report has at another time"),
                );
            }
            if roles.has(RestartRole::Cut) && !roles.has(RestartRole::Lost) {
                self.add_doubt(place, format!("it says `cut` of {id}, and not `lost`"));
            }
        }
        let near = |(pool, from, to): &(String, SystemTime, SystemTime)| {
            *pool == line.pool && ended >= *from && line.began <= *to
        };
        if !is_blamed && line.is_lost() && self.pools.iter().any(near) {
            self.unblamed.add(place);
        }
    }

    fn note_stranger(&mut self, process: &str, place: LinePlace) {
        let is_one_more = self.strangers.len() >= MAX_OTHER_PROCESSES;
        if is_one_more && !self.strangers.contains_key(process) {
            return self.more_strangers.add(place);
        }
        let process = process.chars().take(MAX_PROCESS_LENGTH).collect();
        self.strangers.entry(process).or_default().add(place);
    }

    fn add_doubt(&mut self, place: LinePlace, why: String) {
        if self.doubts.len() < MAX_PLACES {
            self.doubts.push(LineDoubt { place, why });
        }
    }

    fn note_order(&mut self, place: LinePlace, ended: SystemTime) {
        self.ended = Some(match self.ended {
            None => (ended, ended),
            Some((first, last)) => (first.min(ended), last.max(ended)),
        });
        match self.latest {
            Some((file, latest)) if file == place.file => {
                if ended + ORDER_TOLERANCE < latest {
                    self.disordered.add(place);
                }
                self.latest = Some((file, latest.max(ended)));
            }
            _ => self.latest = Some((place.file, ended)),
        }
    }
}

impl WindowLines {
    fn new(pool: &str, window: &LatencyWindow) -> Option<Self> {
        Some(Self {
            pool: pool.to_owned(),
            from: humantime::parse_rfc3339(&window.from).ok()?,
            to: humantime::parse_rfc3339(&window.to).ok()?,
            sure: [0; Histogram::BUCKETS],
            edge: [0; Histogram::BUCKETS],
        })
    }

    fn take(&mut self, line: &LogLine) {
        let ended = line.ended();
        let slack = COUNT_TOLERANCE + line.resolution;
        if line.pool != self.pool || ended + slack < self.from || ended > self.to + slack {
            return;
        }
        let bucket = Histogram::bucket(line.took);
        let is_sure = ended > self.from + slack && ended + slack < self.to;
        match is_sure {
            true => self.sure[bucket] += 1,
            false => self.edge[bucket] += 1,
        }
    }

    /// Smallest and largest possible number of requests.
    pub fn requests(&self) -> (u64, u64) {
        let sure: u64 = self.sure.iter().sum();
        (sure, sure + self.edge.iter().sum::<u64>())
    }

    /// Whether this bound may be the percentile of this many requests. `None` stands for no requests, or for a value
    /// above the last bound.
    pub fn may_be(&self, percent: u64, bound_ms: Option<f64>, requests: u64) -> bool {
        if requests == 0 {
            return bound_ms.is_none();
        }
        let Some(bucket) = Histogram::bucket_of_bound(bound_ms) else {
            return false;
        };
        let upto = |counts: &[u64], end: usize| counts.iter().take(end).sum::<u64>();
        let sure: u64 = self.sure.iter().sum();
        let Some(at_edge) = requests.checked_sub(sure) else {
            return false;
        };
        let rank = Histogram::rank(percent, requests);
        let most = upto(&self.sure, bucket + 1) + at_edge.min(upto(&self.edge, bucket + 1));
        let above: u64 = self.edge.iter().skip(bucket).sum();
        let least = upto(&self.sure, bucket) + at_edge.saturating_sub(above);
        most >= rank && least < rank
    }
}
