//! The figures of a soak, and what in them is a failure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use lameduck::tools::demo::oracle::{DemoRequestKind, Life, LoadAccount, Sent};

use super::hostile;
use super::judge::{self, Log};
use super::strangers;
use super::world::World;
use crate::harness::streams::{End, How};
use crate::harness::watch::{self, Sample, early_and_late};

/// An answer that took longer is counted as late.
const LATE: u64 = 1_000_000_000;
/// Memory may differ by so much, KiB, and still be called flat…
const FLAT_KIB: u64 = 8 * 1024;
/// …or by this share of what it was early on.
const FLAT_SHARE: f64 = 0.1;

/// All that is known in the end.
#[derive(Debug, Default)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub account: LoadAccount,
    pub world: World,
    pub begun: u64,
    pub hostile: u64,
    pub strangers: strangers::Tally,
    /// Requests that were never sent whole, and reached an app all the same.
    pub reached_unfinished: Vec<u64>,
    /// Requests of strangers that reached an app although they were taken back at once.
    pub reached_reset: u64,
    /// Memory (KiB) and descriptors before the load…
    pub base: (u64, u64),
    /// …and after it.
    pub left: (u64, u64),
    pub samples: Vec<Sample>,
    pub explained: BTreeMap<&'static str, u64>,
    pub unexplained: Vec<String>,
    /// POSTs sent; the other requests are idempotent.
    pub posts: u64,
    /// Each explained loss with its evidence.
    pub lost: Vec<String>,
    pub twice_posts: Vec<u64>,
    pub twice_others: u64,
    pub reached_drained: Vec<u64>,
    pub late: u64,
    pub p999_ms: f64,
    pub streams: (usize, usize),
    pub grumbles: BTreeMap<String, u64>,
}

impl Report {
    /// Puts the evidence together. `dir` holds the proxies' logs.
    pub fn judge(&mut self, sent: &[Sent], lives: &[Vec<Life>], ends: &[End], dir: &Path) {
        let arrivals = judge::arrivals(lives);
        let lost: HashSet<u64> = sent
            .iter()
            .filter(|s| s.outcome.is_err())
            .map(|s| s.id)
            .collect();
        let logs = logs_of(dir, &lost);
        for request in sent.iter().filter(|s| s.outcome.is_err()) {
            let log = logs.get(&request.id);
            let arrived = arrivals.get(&request.id).map_or(&[][..], Vec::as_slice);
            match judge::explain(request, log, arrived, &self.world) {
                Some(rule) => {
                    *self.explained.entry(rule).or_default() += 1;
                    self.lost.push(format!(
                        "{rule}: {request:?}; {log:?}; arrived: {arrived:?}"
                    ));
                }
                None => {
                    let at = (request.at.saturating_sub(self.begun)) as f64 / 1e9;
                    self.unexplained.push(format!(
                        "{at:.3} s: {request:?}; {log:?}; arrived: {arrived:?}"
                    ));
                }
            }
        }
        let posts: HashSet<u64> = sent
            .iter()
            .filter(|s| s.kind == DemoRequestKind::Post)
            .map(|s| s.id)
            .collect();
        self.posts = posts.len() as u64;
        let of_strangers = hostile::FIRST_POST..hostile::FIRST_GET;
        let is_post = |id| of_strangers.contains(&id) || posts.contains(&id);
        (self.twice_posts, self.twice_others) = judge::duplicated(&arrivals, is_post);
        let unfinished = hostile::FIRST_UNFINISHED..hostile::FIRST_GET;
        let reached = arrivals.keys().copied();
        self.reached_unfinished = reached.filter(|id| unfinished.contains(id)).collect();
        let reached = arrivals.keys();
        self.reached_reset = reached.filter(|id| **id >= hostile::FIRST_GET).count() as u64;
        self.reached_drained = judge::reached_drained(&arrivals, &self.world);
        let mut quick: Vec<u64> = sent
            .iter()
            .filter(|s| s.outcome.is_ok() && s.kind != DemoRequestKind::Slow)
            .map(|s| s.latency)
            .collect();
        quick.sort_unstable();
        self.late = quick.iter().filter(|&&latency| latency > LATE).count() as u64;
        let p999 = quick.get((quick.len() * 999 / 1_000).min(quick.len().saturating_sub(1)));
        self.p999_ms = p999.copied().unwrap_or(0) as f64 / 1e6;
        let broken = ends.iter().filter(|end| matches!(end.how, How::Broken(_)));
        self.streams.0 = ends.len();
        for end in broken {
            self.streams.1 += 1;
            if !judge::explains_broken_stream(end.at, &self.world) {
                let at = end.at.saturating_sub(self.begun) as f64 / 1e9;
                self.unexplained
                    .push(format!("{at:.3} s: a stream: {:?}", end.how));
            }
        }
        self.listen_to_the_proxies(dir);
    }

    /// What the proxies had to say: a panic is a failure, an error too.
    fn listen_to_the_proxies(&mut self, dir: &Path) {
        for path in files(dir, "log") {
            for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
                if line.contains("panicked") || line.contains("ERROR") {
                    // A broken reload is ours.
                    if !line.contains("many") && !line.contains("eload") {
                        self.world
                            .violations
                            .push(format!("{}: {line}", path.display()));
                    }
                }
                if line.contains("WARN") {
                    let text: String = line
                        .split("WARN")
                        .nth(1)
                        .unwrap_or("")
                        .trim()
                        .chars()
                        .take(60)
                        .collect();
                    *self.grumbles.entry(text).or_default() += 1;
                }
            }
        }
    }

    /// What must not be.
    pub fn failures(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut check = |good: bool, what: String| {
            if !good {
                all.push(what);
            }
        };
        let account = &self.account;
        check(
            account.answered > 100,
            format!("only {} requests were answered", account.answered),
        );
        check(
            self.unexplained.is_empty(),
            format!("{} unexplained", self.unexplained.len()),
        );
        check(
            account.app_errors == 0,
            format!("{} errors of apps that make none", account.app_errors),
        );
        check(
            account.unexplained == 0,
            format!("{} answers that no app gave", account.unexplained),
        );
        check(
            self.twice_posts.is_empty(),
            format!("POSTs delivered twice: {:?}", self.twice_posts),
        );
        check(
            self.reached_drained.is_empty(),
            format!("reached a drained instance: {:?}", self.reached_drained),
        );
        check(
            self.reached_unfinished.is_empty(),
            format!(
                "never sent whole, and reached an app: {:?}",
                self.reached_unfinished
            ),
        );
        for without in self.strangers.without_effect() {
            check(false, format!("strangers did nothing with: {without}"));
        }
        check(
            self.world.violations.is_empty(),
            format!("violations: {:#?}", self.world.violations),
        );
        if let Some((early, late)) = early_and_late(&self.samples) {
            let most = early + FLAT_KIB.max((early as f64 * FLAT_SHARE) as u64);
            check(
                late <= most,
                format!("memory grew from {early} to {late} KiB"),
            );
        }
        all
    }
}

/// What the access logs say of these requests.
fn logs_of(dir: &Path, ids: &HashSet<u64>) -> HashMap<u64, Log> {
    let mut logs = HashMap::new();
    for path in files(dir, "access") {
        for line in BufReader::new(std::fs::File::open(path).unwrap()).lines() {
            let Ok(log) = serde_json::from_str::<Log>(&line.unwrap()) else {
                continue;
            };
            if let Some(id) = log.request_id.parse().ok().filter(|id| ids.contains(id)) {
                logs.insert(id, log);
            }
        }
    }
    logs
}

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &self.account;
        writeln!(f, "# Soak: {} s, SOAK_SEED={}\n", self.seconds, self.seed)?;
        let done: Vec<String> = self
            .world
            .done
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        writeln!(
            f,
            "Done: {}; {} hostile connections.\n",
            done.join(", "),
            self.hostile
        )?;
        writeln!(f, "| | |\n|-|-|")?;
        let mut row = |label: &str, value: String| writeln!(f, "|{label}|{value}|");
        row("sent", account.sent.to_string())?;
        row("– of them POSTs", self.posts.to_string())?;
        row("answered", account.answered.to_string())?;
        row("lost, unexplained", self.unexplained.len().to_string())?;
        row(
            "lost, explained",
            self.explained.values().sum::<u64>().to_string(),
        )?;
        for (rule, &count) in &self.explained {
            let (of, what) = match rule.starts_with("POST") {
                true => (self.posts, "POSTs"),
                false => (account.sent, "requests"),
            };
            let share = count as f64 * 10_000.0 / of.max(1) as f64;
            let value = format!("{count}: {share:.1} in 10,000 {what}");
            row(&format!("– {rule}"), value)?;
        }
        row("POSTs delivered twice", self.twice_posts.len().to_string())?;
        row("others delivered twice", self.twice_others.to_string())?;
        row(
            "reached a drained instance",
            self.reached_drained.len().to_string(),
        )?;
        row(
            "reached a stopping one (nobody told the proxy)",
            account.reached_stopping.to_string(),
        )?;
        for (what, count) in self.strangers.rows() {
            row(&format!("strangers: {what}"), count)?;
        }
        row(
            "– requests that were reset at once and reached an app",
            self.reached_reset.to_string(),
        )?;
        row("late (more than 1 s)", self.late.to_string())?;
        row(
            "quick requests, ms: median, 99 %, 99.9 %, slowest",
            format!(
                "{:.1}, {:.1}, {:.1}, {:.1}",
                account.p50_ms, account.p99_ms, self.p999_ms, account.slowest_ms
            ),
        )?;
        row(
            "streams that ended, without a farewell",
            format!("{}, {}", self.streams.0, self.streams.1),
        )?;
        row(
            "memory before and after, KiB",
            format!("{}, {}", self.base.0, self.left.0),
        )?;
        if let Some((early, late)) = watch::early_and_late(&self.samples) {
            row(
                "memory in the second and the last minute, KiB",
                format!("{early}, {late}"),
            )?;
        }
        let most = self
            .samples
            .iter()
            .map(|s| s.descriptors)
            .max()
            .unwrap_or(0);
        row(
            "descriptors before, at most, after",
            format!("{}, {most}, {}", self.base.1, self.left.1),
        )?;
        for (text, count) in &self.grumbles {
            row(
                &format!("warned: {}", text.replace('|', "/")),
                count.to_string(),
            )?;
        }
        for line in &self.unexplained {
            writeln!(f, "\nunexplained: {line}")?;
        }
        Ok(())
    }
}
