//! What the lines of access logs say about the restarts of a report, added up. Pure: lines in, sums out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use super::document::RestartReport;
use super::log_file::LineEnd;
use super::log_line::{LineFault, LogLine};
use crate::core::restart::role::RestartRole;
use crate::metrics::Histogram;
use crate::registry::restart_view::{LatencyWindow, RestartCounts};

/// Places that are kept of each figure, and of each kind of fault; what is over is counted.
const MOST_PLACES: usize = 100;

/// Other processes that are named; lines of further ones are counted together.
const MOST_STRANGERS: usize = 20;

/// So much of another process's name is kept, in characters: a log may say anything.
const LONGEST_PROCESS: usize = 64;

/// A request may be counted this long before or after its line says that it ended: threads are stopped in between.
const SLACK: Duration = Duration::from_millis(100);

/// A request that a restart is blamed for may have begun or ended this long before or after it.
const MARGIN: Duration = Duration::from_secs(10);

/// Lines of several threads may be out of order by less than this.
const DISORDER: Duration = Duration::from_secs(2);

/// A line: which file, and which line of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePlace {
    /// The file's place among those that were read.
    pub file: usize,
    /// From 1.
    pub line: u64,
}

/// Some places, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinePlaces {
    /// The first ones.
    pub first: Vec<LinePlace>,
    /// All of them.
    pub count: u64,
}

impl LinePlaces {
    fn add(&mut self, place: LinePlace) {
        self.count += 1;
        if self.first.len() < MOST_PLACES {
            self.first.push(place);
        }
    }
}

/// What the lines say of one restart.
#[derive(Debug, Clone, Default)]
pub struct RestartLines {
    /// Its figures.
    pub counts: RestartCounts,
    /// Where each comes from, by its name.
    pub places: BTreeMap<&'static str, LinePlaces>,
    span: Option<(SystemTime, Option<SystemTime>)>,
}

/// The requests of a span, by their bucket of the histogram: those that surely are in it, and those at its edges.
#[derive(Debug, Clone)]
pub struct WindowLines {
    pool: String,
    from: SystemTime,
    to: SystemTime,
    sure: [u64; Histogram::BUCKETS],
    edge: [u64; Histogram::BUCKETS],
}

/// Why a line does not hold what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineDoubt {
    /// The line.
    pub place: LinePlace,
    /// What is wrong, for people.
    pub why: String,
}

/// The sums.
#[derive(Debug, Default)]
pub struct LogLedger {
    /// By restart.
    pub restarts: HashMap<String, RestartLines>,
    /// By restart's place in the report and the span's name.
    pub windows: BTreeMap<(usize, &'static str), WindowLines>,
    /// Lines that contradict themselves or the report.
    pub doubts: Vec<LineDoubt>,
    /// Lines that are lost in the time of a restart of their pool, and blame none.
    pub unblamed: LinePlaces,
    /// Lines of no form that lameduck writes.
    pub foreign: LinePlaces,
    /// Lines that their file ends in.
    pub torn: LinePlaces,
    /// Lines that end well before one that stands above them.
    pub disordered: LinePlaces,
    /// Lines that name restarts of other processes, by process…
    pub strangers: BTreeMap<String, LinePlaces>,
    /// …and those of further ones.
    pub more_strangers: LinePlaces,
    /// Lines that were read as lameduck's.
    pub lines: u64,
    /// When the first and the last of them ended.
    pub ended: Option<(SystemTime, SystemTime)>,
    processes: BTreeSet<String>,
    latest: Option<(usize, SystemTime)>,
    pools: Vec<(String, SystemTime, SystemTime)>,
}

impl LogLedger {
    /// Sums for the restarts of this report.
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

    /// Takes one line in.
    pub fn add_line(&mut self, place: LinePlace, text: &[u8], end: LineEnd) {
        let line = match (LogLine::read(text), end) {
            (Ok(line), LineEnd::Whole) => line,
            // Without its end, the rest of the line is unknown.
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
                ended + MARGIN < from || to.is_some_and(|to| line.began > to + MARGIN)
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
        let is_one_more = self.strangers.len() >= MOST_STRANGERS;
        if is_one_more && !self.strangers.contains_key(process) {
            return self.more_strangers.add(place);
        }
        let process = process.chars().take(LONGEST_PROCESS).collect();
        self.strangers.entry(process).or_default().add(place);
    }

    fn add_doubt(&mut self, place: LinePlace, why: String) {
        if self.doubts.len() < MOST_PLACES {
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
                if ended + DISORDER < latest {
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
        let slack = SLACK + line.resolution;
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

    /// The fewest and the most requests that there may have been.
    pub fn requests(&self) -> (u64, u64) {
        let sure: u64 = self.sure.iter().sum();
        (sure, sure + self.edge.iter().sum::<u64>())
    }

    /// Whether this bound may be the percentile of so many requests. `None` stands for no requests, or for what is over
    /// the last bound.
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
