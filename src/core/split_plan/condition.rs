//! Conditions under which a plan restores the old weights, such as `5xx>1%`, `p99>500ms` and `p99>2x`: their syntax,
//! and whether they hold.

use std::fmt;

use super::figures::{LatencyBounds, PoolFigures};
use crate::core::Time;

/// Fewest events that are a reason, whatever their share is: one error of three is no 33 %.
pub const LEAST_EVENTS: u64 = 3;

/// Longest text that is parsed as a condition.
const LONGEST: usize = 64;

/// The whole, in millionths.
const MILLION: u64 = 1_000_000;

/// Largest limit of a latency: longer ones aren't told apart.
const LONGEST_LATENCY: Time = Time::from_secs(120);

/// The metric of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanMetric {
    /// Share of responses with 500 to 599, out of all requests.
    ServerErrors,
    /// Share of responses with 400 to 499, out of all requests.
    ClientErrors,
    /// Share of attempts without a complete response, out of all attempts, including repeated ones.
    FailedAttempts,
    /// Latency that this number of a thousand requests don't exceed.
    Latency(u16),
}

/// All metrics with their names.
const METRICS: [(&str, PlanMetric); 7] = [
    ("5xx", PlanMetric::ServerErrors),
    ("4xx", PlanMetric::ClientErrors),
    ("failed", PlanMetric::FailedAttempts),
    ("p50", PlanMetric::Latency(500)),
    ("p90", PlanMetric::Latency(900)),
    ("p95", PlanMetric::Latency(950)),
    ("p99", PlanMetric::Latency(990)),
];

impl PlanMetric {
    /// Returns the name in a condition.
    pub fn as_str(self) -> &'static str {
        let found = METRICS.iter().find(|(_, metric)| *metric == self);
        found.map_or("", |(name, _)| name)
    }

    /// Returns what is counted, as text.
    const fn noun(self) -> &'static str {
        match self {
            Self::ServerErrors => "requests were answered with 5xx",
            Self::ClientErrors => "requests were answered with 4xx",
            Self::FailedAttempts => "attempts failed",
            Self::Latency(_) => "requests took longer",
        }
    }
}

/// The limit of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionLimit {
    /// More than this number of a million.
    Share(u32),
    /// Longer than this.
    Latency(Time),
    /// More than this number of thousandths of the other pools' value.
    Factor(u32),
}

/// A condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortCondition {
    /// Metric.
    pub metric: PlanMetric,
    /// Limit.
    pub limit: ConditionLimit,
}

/// Why a text is not a valid condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError {
    text: String,
    /// Position, in characters.
    at: usize,
    /// What is wrong there, and what is permitted.
    why: String,
}

impl std::error::Error for ConditionError {}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.at + 1;
        write!(f, "{}\n    {}\n    {:>width$}", self.why, self.text, '^')
    }
}

/// A condition's text, and the position up to which it has been parsed.
struct ConditionReader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> ConditionReader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(' ').len();
    }

    /// Takes the characters from here for which `holds` returns `true`.
    fn take(&mut self, holds: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|found| !holds(found)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn wrong<T>(&self, at: usize, why: impl Into<String>) -> Result<T, ConditionError> {
        let shown: String = self.text.chars().take(LONGEST).collect();
        let shown = shown.replace(char::is_control, "?");
        Err(ConditionError {
            at: self.text.get(..at).map_or(0, |read| read.chars().count()),
            text: shown,
            why: why.into(),
        })
    }
}

impl AbortCondition {
    /// Parses a condition.
    ///
    /// # Errors
    /// The text is not a valid condition: where, why, and what is permitted there.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let mut reader = ConditionReader { text, at: 0 };
        if text.len() > LONGEST {
            return reader.wrong(0, "this is too long for a condition; write it like 5xx>1%");
        }
        reader.skip_spaces();
        let start = reader.at;
        let name = reader.take(|found| found.is_ascii_alphanumeric());
        let found = METRICS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let Some((_, metric)) = found else {
            return reader.wrong(
                start,
                "what is watched has to stand here: 5xx, 4xx, failed, p50, p90, p95 or p99",
            );
        };
        reader.skip_spaces();
        let sign = reader.at;
        if !reader.rest().starts_with('>') {
            return reader.wrong(
                sign,
                "a > has to stand here: a plan goes back when it is more",
            );
        }
        reader.at += 1;
        if reader.rest().starts_with('=') {
            return reader.wrong(reader.at, "> only: write it without the =");
        }
        reader.skip_spaces();
        let number_at = reader.at;
        let digits = reader.take(|found| found.is_ascii_digit() || found == '.');
        let Some(thousandths) = thousandths(digits) else {
            return reader.wrong(
                number_at,
                "a number has to stand here, with up to three decimals, such as 1, 0.5 or 500",
            );
        };
        reader.skip_spaces();
        let unit_at = reader.at;
        let unit = reader.take(|found| found == '%' || found.is_alphabetic());
        reader.skip_spaces();
        let is_latency = matches!(metric, PlanMetric::Latency(_));
        let limit = match (unit, is_latency) {
            ("x", _) if thousandths < 1000 => {
                return reader.wrong(number_at, "the factor has to be 1 or more");
            }
            ("x", _) if thousandths > 1_000_000 => {
                return reader.wrong(number_at, "the factor has to be 1000 or less");
            }
            ("x", _) => ConditionLimit::Factor(thousandths as u32),
            ("%", false) if thousandths == 0 || thousandths >= 100_000 => {
                return reader.wrong(
                    number_at,
                    "the share has to be more than 0 % and less than 100 %",
                );
            }
            ("%", false) => ConditionLimit::Share((thousandths * 10) as u32),
            ("ms" | "s", true) => {
                let micros = if unit == "s" {
                    thousandths.saturating_mul(1000)
                } else {
                    thousandths
                };
                let limit = Time::from_micros(micros);
                if limit.is_zero() || limit > LONGEST_LATENCY {
                    return reader
                        .wrong(number_at, "the time has to be more than 0 and at most 120s");
                }
                ConditionLimit::Latency(limit)
            }
            (_, true) => {
                return reader.wrong(
                    unit_at,
                    "a time ends with ms or s, and a comparison with the other pools with x, such as 500ms or 2x",
                );
            }
            (_, false) => {
                return reader.wrong(
                    unit_at,
                    "a share ends with %, and a comparison with the other pools with x, such as 1% or 2x",
                );
            }
        };
        if !reader.rest().is_empty() {
            return reader.wrong(
                reader.at,
                "nothing may follow here: write a second condition as one of its own",
            );
        }
        Ok(Self {
            metric: *metric,
            limit,
        })
    }

    /// Returns the latency limit, if it is a time.
    pub fn latency(&self) -> Option<Time> {
        match self.limit {
            ConditionLimit::Latency(limit) => Some(limit),
            ConditionLimit::Share(_) | ConditionLimit::Factor(_) => None,
        }
    }
}

/// Parses a decimal number with up to three decimals, in thousandths.
fn thousandths(digits: &str) -> Option<u64> {
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_dot = digits.len() > whole.len();
    if whole.is_empty() || whole.len() > 9 || decimals.len() > 3 || (has_dot && decimals.is_empty())
    {
        return None;
    }
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + decimals)
}

/// Formats thousandths as a decimal number.
fn decimal(thousandths: u64) -> String {
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for AbortCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric.as_str();
        match self.limit {
            ConditionLimit::Share(share) => write!(f, "{name}>{}%", decimal(u64::from(share) / 10)),
            ConditionLimit::Latency(limit) => {
                write!(f, "{name}>{}ms", decimal(limit.as_micros() as u64))
            }
            ConditionLimit::Factor(factor) => write!(f, "{name}>{}x", decimal(factor.into())),
        }
    }
}

/// The pools on one side of a plan, in the window.
#[derive(Debug, Clone)]
pub struct SideFigures {
    /// Counts in the window.
    pub figures: PoolFigures,
    /// Requests that wait for their response now: minimum age, and number.
    pub open: Vec<(Time, u64)>,
    /// Length of the window.
    pub over: Time,
}

impl SideFigures {
    /// Creates empty figures.
    pub fn new(bounds: &LatencyBounds) -> Self {
        Self {
            figures: PoolFigures::new(bounds),
            open: Vec::new(),
            over: Time::ZERO,
        }
    }

    /// Returns how many requests exceed a limit, and out of how many. Requests that have waited longer already count
    /// as such; others that wait are not known yet.
    fn slower_than(&self, limit: Time, bounds: &LatencyBounds) -> (u64, u64) {
        let open = self.open.iter().filter(|(age, _)| *age > limit);
        let open: u64 = open.map(|(_, count)| count).sum();
        let over = self.figures.slower_than(limit, bounds) + open;
        (over, self.figures.timed() + open)
    }

    fn counted(&self, metric: PlanMetric) -> (u64, u64) {
        let figures = &self.figures;
        match metric {
            PlanMetric::ServerErrors => (figures.server_errors, figures.requests),
            PlanMetric::ClientErrors => (figures.client_errors, figures.requests),
            PlanMetric::FailedAttempts => (figures.failed, figures.attempts),
            PlanMetric::Latency(_) => (0, figures.timed()),
        }
    }
}

/// Whether `count` of `all` is more than `share` of a million.
fn exceeds(count: u64, all: u64, share: u64) -> bool {
    u128::from(count) * u128::from(MILLION) > u128::from(all) * u128::from(share)
}

fn percent(count: u64, all: u64) -> String {
    let thousandths = count as f64 * 100_000.0 / all.max(1) as f64;
    format!("{} %", decimal(thousandths.round() as u64))
}

fn seconds(time: Time) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Time) -> String {
    format!("{} ms", decimal(time.as_micros() as u64))
}

impl AbortCondition {
    /// Returns the reason, as text, if the condition holds; `None`: it doesn't, or there are too few requests to
    /// judge.
    pub fn holds(
        &self,
        watched: &SideFigures,
        others: &SideFigures,
        bounds: &LatencyBounds,
        min_requests: u64,
    ) -> Option<String> {
        // No share can be computed out of zero requests.
        let min_requests = min_requests.max(1);
        let is_enough = |count: u64, all: u64, share: u64| {
            all >= min_requests && count >= LEAST_EVENTS && exceeds(count, all, share)
        };
        let (count, all, compared) = match (self.limit, self.metric) {
            (ConditionLimit::Share(share), metric) => {
                let (count, all) = watched.counted(metric);
                is_enough(count, all, share.into()).then_some((count, all, String::new()))
            }
            (ConditionLimit::Latency(limit), PlanMetric::Latency(permille)) => {
                let (count, all) = watched.slower_than(limit, bounds);
                let rest = (1000 - u64::from(permille)) * 1000;
                is_enough(count, all, rest).then_some((count, all, String::new()))
            }
            (ConditionLimit::Factor(factor), PlanMetric::Latency(permille)) => {
                if others.figures.timed() < min_requests {
                    return None;
                }
                let theirs = others.figures.quantile(permille.into(), bounds)?;
                let limit = theirs * factor / 1000;
                let (count, all) = watched.slower_than(limit, bounds);
                let rest = (1000 - u64::from(permille)) * 1000;
                let compared = format!(
                    " than {} (the others' {} is {})",
                    millis(limit),
                    self.metric.as_str(),
                    millis(theirs)
                );
                is_enough(count, all, rest).then_some((count, all, compared))
            }
            (ConditionLimit::Factor(factor), metric) => {
                let (their_count, their_all) = others.counted(metric);
                if their_all < min_requests {
                    return None;
                }
                let (count, all) = watched.counted(metric);
                let share = u128::from(their_count) * u128::from(MILLION) * u128::from(factor)
                    / (u128::from(their_all) * 1000);
                let share = u64::try_from(share).unwrap_or(u64::MAX);
                let compared = format!(
                    ", of the others' {their_count} of {their_all} ({})",
                    percent(their_count, their_all)
                );
                is_enough(count, all, share).then_some((count, all, compared))
            }
            // Such a condition can't be written.
            (ConditionLimit::Latency(_), _) => None,
        }?;
        let (noun, over) = (self.metric.noun(), seconds(watched.over));
        let (before, after) = match self.metric {
            PlanMetric::Latency(_) => (compared.as_str(), ""),
            _ => ("", compared.as_str()),
        };
        Some(format!(
            "{self}: {count} of {all} {noun}{before} ({}) in the last {over}{after}",
            percent(count, all)
        ))
    }
}
