//! The oracle: compares when each process was signalled, where each request arrived, and what its client saw. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// The connection was not accepted.
    Refused,
    /// The connection was reset before the first byte of the response.
    Reset,
    /// The connection was closed in order, but before the first byte of the response.
    Empty,
    /// The response ended early.
    Truncated,
    /// No complete response in time.
    TimedOut,
    /// The response was malformed, or an echo differs from what was sent.
    Corrupted,
    /// The proxy answered with an error (4xx or 5xx without `x-demo-app`).
    ProxyError(u16),
    /// The load ended before there was an answer.
    Unfinished,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset"),
            Self::Empty => f.write_str("closed without an answer"),
            Self::Truncated => f.write_str("answer truncated"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Corrupted => f.write_str("answer corrupted"),
            Self::ProxyError(status) => write!(f, "{status} from the proxy"),
            Self::Unfinished => f.write_str("never finished"),
        }
    }
}

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DemoRequestKind {
    /// `GET /`.
    Get,
    /// `POST /echo`, its body compared with what comes back.
    Post,
    /// `GET /slow`.
    Slow,
}

/// One request as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its `x-demo-id`, unique.
    pub id: u64,
    /// What it is.
    pub kind: DemoRequestKind,
    /// Time at which it was due, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Duration from then to the last byte of the answer, in nanoseconds.
    pub latency: u64,
    /// Status of the app's answer, or how the request was lost.
    pub outcome: Result<u16, Loss>,
    /// Whether the answer said `Connection: close`.
    pub closing: bool,
    /// The answer's `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

/// One process of an app; each restart makes another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The instance's name.
    pub name: String,
    /// Time before the stop signal was sent.
    pub signalled: Option<u64>,
    /// Time at which its exit was noticed.
    pub exited: Option<u64>,
    /// Id and time of every request that reached it.
    pub arrivals: Vec<(u64, u64)>,
}

/// Everything that is known about a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Requests, as clients saw them.
    pub sent: Vec<Sent>,
    /// Processes, with the requests that reached them.
    pub lives: Vec<Life>,
    /// Number of requests that the proxy reports as held, if it can be asked.
    pub held: Option<u64>,
    /// Number of attempts that the proxy reports as repeated, if it can be asked.
    pub retried: Option<u64>,
}

/// Result of a run. Durations are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadAccount {
    /// Requests sent.
    pub sent: u64,
    /// Requests that the app answered completely.
    pub answered: u64,
    /// Of those, with an error of the app's own (not lost).
    pub app_errors: u64,
    /// Requests lost.
    pub lost: u64,
    /// Number of lost requests, by how they were lost.
    pub lost_by: BTreeMap<String, u64>,
    /// Requests that waited in the proxy because no instance was ready; absent if it can't be asked.
    pub held: Option<u64>,
    /// Attempts that the proxy repeated; absent if it can't be asked.
    pub retried: Option<u64>,
    /// Requests that reached apps more than once.
    pub delivered_twice: u64,
    /// Requests that reached an instance after it was told to stop.
    pub reached_stopping: u64,
    /// Time from the signal to the last of those requests.
    pub reached_stopping_latest_ms: Option<f64>,
    /// Number of answers without an arrival: the data is incomplete.
    pub unexplained: u64,
    /// Processes that were told to stop.
    pub stops: u64,
    /// Longest time from signal to exit; absent if no process was stopped, or one never exited.
    pub slowest_stop_ms: Option<f64>,
    /// Median of the quick requests (all but the deliberately slow).
    pub p50_ms: f64,
    /// 99th percentile of the quick requests.
    pub p99_ms: f64,
    /// The slowest quick request.
    pub slowest_ms: f64,
    /// Duration of the slowest request that is slow on purpose.
    pub slowest_slow_ms: f64,
}

impl LoadAccount {
    /// Computes the result from both sides.
    pub fn of(evidence: &Evidence) -> Self {
        let mut account = Self {
            held: evidence.held,
            retried: evidence.retried,
            ..Self::default()
        };
        let arrivals = account.judge_lives(&evidence.lives);
        account.judge_requests(&evidence.sent, &arrivals);
        account
    }

    /// Whether lameduck has kept its promise: nothing was lost, nothing was sent to a stopping instance, and the data
    /// is complete.
    pub fn is_clean(&self) -> bool {
        self.sent > 0 && self.lost == 0 && self.reached_stopping == 0 && self.unexplained == 0
    }

    /// Checks the processes, and returns how often each request arrived.
    fn judge_lives(&mut self, lives: &[Life]) -> HashMap<u64, u64> {
        let mut arrivals = HashMap::new();
        let mut slowest = Some(0);
        for life in lives {
            for &(id, at) in &life.arrivals {
                *arrivals.entry(id).or_insert(0) += 1;
                if let Some(late) = life
                    .signalled
                    .and_then(|signalled| at.checked_sub(signalled))
                {
                    self.reached_stopping += 1;
                    let late = Some(milliseconds(late));
                    if late > self.reached_stopping_latest_ms {
                        self.reached_stopping_latest_ms = late;
                    }
                }
            }
            if let Some(signalled) = life.signalled {
                self.stops += 1;
                let took = life.exited.map(|exited| exited.saturating_sub(signalled));
                slowest = slowest.zip(took).map(|(a, b)| a.max(b));
            }
        }
        self.delivered_twice = arrivals.values().filter(|&&n| n > 1).count() as u64;
        self.slowest_stop_ms = slowest.filter(|_| self.stops > 0).map(milliseconds);
        arrivals
    }

    fn judge_requests(&mut self, sent: &[Sent], arrivals: &HashMap<u64, u64>) {
        let mut quick = Vec::new();
        let mut slow = 0;
        for request in sent {
            self.sent += 1;
            match request.outcome {
                Err(loss) => {
                    self.lost += 1;
                    *self.lost_by.entry(loss.to_string()).or_default() += 1;
                    continue;
                }
                Ok(status) => {
                    self.answered += 1;
                    self.app_errors += u64::from(status >= 400);
                    self.unexplained += u64::from(!arrivals.contains_key(&request.id));
                }
            }
            match request.kind {
                DemoRequestKind::Slow => slow = slow.max(request.latency),
                DemoRequestKind::Get | DemoRequestKind::Post => quick.push(request.latency),
            }
        }
        quick.sort_unstable();
        self.p50_ms = milliseconds(percentile(&quick, 50));
        self.p99_ms = milliseconds(percentile(&quick, 99));
        self.slowest_ms = milliseconds(percentile(&quick, 100));
        self.slowest_slow_ms = milliseconds(slow);
    }
}

/// Percentile of sorted values (nearest rank); 0 if there are none.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Rounded to a microsecond, so that JSON stays readable.
fn milliseconds(nanoseconds: u64) -> f64 {
    (nanoseconds / 1_000) as f64 / 1_000.0
}

impl fmt::Display for LoadAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |label: &str, value: String| writeln!(f, "  {label:<31}{value:>9}");
        row("sent", self.sent.to_string())?;
        row("answered", self.answered.to_string())?;
        if self.app_errors > 0 {
            row("  with an error of the app's", self.app_errors.to_string())?;
        }
        if let Some(held) = self.held {
            row("held", held.to_string())?;
        }
        if let Some(retried) = self.retried {
            row("retried", retried.to_string())?;
        }
        if self.delivered_twice > 0 {
            row("delivered twice", self.delivered_twice.to_string())?;
        }
        row("lost", self.lost.to_string())?;
        for (how, count) in &self.lost_by {
            row(&format!("  {how}"), count.to_string())?;
        }
        row(
            "reached a stopping instance",
            self.reached_stopping.to_string(),
        )?;
        if self.unexplained > 0 {
            row(
                "answered, never seen by an app",
                self.unexplained.to_string(),
            )?;
        }
        if let Some(stop) = self.slowest_stop_ms {
            row("slowest stop of an instance", format!("{stop:.0} ms"))?;
        }
        row("quick requests: median", format!("{:.1} ms", self.p50_ms))?;
        row("  99 %", format!("{:.1} ms", self.p99_ms))?;
        row("  slowest", format!("{:.1} ms", self.slowest_ms))?;
        row(
            "slowest of the slow requests",
            format!("{:.0} ms", self.slowest_slow_ms),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: u64, outcome: Result<u16, Loss>) -> Sent {
        Sent {
            id,
            kind: DemoRequestKind::Get,
            at: 1_000,
            latency: 1_000_000 * (id + 1),
            outcome,
            closing: false,
            retry_after: None,
        }
    }

    fn life(arrivals: &[(u64, u64)]) -> Life {
        Life {
            name: "a".into(),
            arrivals: arrivals.to_vec(),
            ..Life::default()
        }
    }

    /// Two requests, two arrivals at an app that is later stopped in order.
    fn clean() -> Evidence {
        let life = Life {
            signalled: Some(5_000),
            exited: Some(12_005_000),
            ..life(&[(0, 2_000), (1, 4_999)])
        };
        Evidence {
            sent: vec![sent(0, Ok(200)), sent(1, Ok(200))],
            lives: vec![life],
            ..Evidence::default()
        }
    }

    #[test]
    fn a_clean_run_is_clean() {
        let account = LoadAccount::of(&clean());
        assert!(account.is_clean(), "{account}");
        assert_eq!((account.sent, account.answered, account.stops), (2, 2, 1));
        assert_eq!(account.slowest_stop_ms, Some(12.0));
        assert_eq!((account.p50_ms, account.slowest_ms), (1.0, 2.0));
    }

    #[test]
    fn run_without_requests_is_not_clean() {
        assert!(!LoadAccount::of(&Evidence::default()).is_clean());
    }

    #[test]
    fn each_way_of_losing_is_found() {
        for loss in [
            Loss::Refused,
            Loss::Reset,
            Loss::Empty,
            Loss::Truncated,
            Loss::TimedOut,
            Loss::Corrupted,
            Loss::ProxyError(502),
            Loss::Unfinished,
        ] {
            let mut evidence = clean();
            evidence.sent[1].outcome = Err(loss);
            let account = LoadAccount::of(&evidence);
            assert!(!account.is_clean());
            assert_eq!(account.lost_by, BTreeMap::from([(loss.to_string(), 1)]));
        }
    }

    #[test]
    fn the_apps_own_errors_are_not_lost() {
        let mut evidence = clean();
        evidence.sent[1].outcome = Ok(503);
        let account = LoadAccount::of(&evidence);
        assert!(account.is_clean());
        assert_eq!(account.app_errors, 1);
    }

    #[test]
    fn a_request_after_the_signal_is_found_even_if_answered() {
        let mut evidence = clean();
        evidence.lives[0].arrivals[1].1 = 3_005_000;
        let account = LoadAccount::of(&evidence);
        assert!(!account.is_clean());
        assert_eq!(
            (account.reached_stopping, account.reached_stopping_latest_ms),
            (1, Some(3.0))
        );
    }

    #[test]
    fn a_request_to_another_process_after_the_signal_is_fine() {
        let mut evidence = clean();
        evidence.sent.push(sent(2, Ok(200)));
        evidence.lives.push(life(&[(2, 6_000)]));
        assert!(LoadAccount::of(&evidence).is_clean());
    }

    #[test]
    fn a_second_delivery_is_found() {
        let mut evidence = clean();
        evidence.lives.push(life(&[(1, 4_000)]));
        assert_eq!(LoadAccount::of(&evidence).delivered_twice, 1);
    }

    #[test]
    fn an_answer_without_arrival_is_a_hole_in_the_evidence() {
        let mut evidence = clean();
        evidence.lives[0].arrivals.pop();
        let account = LoadAccount::of(&evidence);
        assert!(!account.is_clean());
        assert_eq!(account.unexplained, 1);
    }

    #[test]
    fn a_process_that_never_exited_has_no_stop_time() {
        let mut evidence = clean();
        evidence.lives[0].exited = None;
        assert_eq!(LoadAccount::of(&evidence).slowest_stop_ms, None);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 99, 100].map(|p| percentile(&values, p)), [50, 99, 100]);
        assert_eq!([50, 100].map(|p| percentile(&[7], p)), [7, 7]);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn table_lists_lost_requests() {
        let mut evidence = clean();
        evidence.held = Some(3);
        evidence.sent[0].outcome = Err(Loss::ProxyError(502));
        let table = LoadAccount::of(&evidence).to_string();
        assert!(
            table.contains("502 from the proxy") && table.contains("held"),
            "{table}"
        );
        let widths: std::collections::BTreeSet<_> =
            table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "columns don't line up:\n{table}");
    }
}
