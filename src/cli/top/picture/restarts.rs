//! The last restarts.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::super::model::TopModel;
use super::super::words::moment;
use crate::rt::output::printable;

/// Phase of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPhase {
    /// The backend finished what was in flight.
    Draining,
    /// The backend was drained, or no process was there.
    Away,
    /// The new process was there, but not ready yet.
    Starting,
}

/// A restart of one backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RestartRow {
    /// Names of the pool and of the backend.
    pub name: String,
    /// Time since it began.
    pub ago: Option<Duration>,
    /// Its phases in order, with the duration of each so far.
    pub phases: Vec<(RestartPhase, Duration)>,
    /// Whether it has ended, and the backend is ready again.
    pub is_over: bool,
    /// What happened to requests.
    pub account: String,
    /// Whether requests were cut or lost.
    pub is_bad: bool,
}

impl RestartRow {
    /// Total duration so far.
    pub(crate) fn whole(&self) -> Duration {
        self.phases.iter().map(|(_, time)| *time).sum()
    }
}

/// The restarts, the newest first.
pub(super) fn restarts(model: &TopModel, now: SystemTime) -> Vec<RestartRow> {
    let mut rows = Vec::new();
    for proxy in &model.proxies {
        let lists = proxy
            .answers
            .iter()
            .map(|answers| &answers.restarts["restarts"]);
        for restart in lists.filter_map(Value::as_array).flatten() {
            // A record without a beginning is skipped.
            let Some(began) = instant(&restart["began"]) else {
                continue;
            };
            rows.push((began, row(restart, began, now)));
        }
    }
    rows.sort_by_key(|(began, _)| std::cmp::Reverse(*began));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn instant(value: &Value) -> Option<SystemTime> {
    moment(value.as_str()?)
}

fn row(restart: &Value, began: SystemTime, now: SystemTime) -> RestartRow {
    let said = |value: &Value| printable(value.as_str().unwrap_or("?"));
    let number = |name: &str| restart["requests"][name].as_u64().unwrap_or(0);
    let at = |name: &str| instant(&restart[name]);
    let is_over = restart["outcome"] != "open";
    let ends = [
        (RestartPhase::Draining, at("drained").or(at("stopped"))),
        (RestartPhase::Away, at("started")),
        (RestartPhase::Starting, at("ready")),
    ];
    let mut phases = Vec::new();
    let mut from = began;
    for (n, (phase, end)) in ends.iter().enumerate() {
        let later = ends[n + 1..].iter().find_map(|(_, end)| *end);
        // A phase whose end was not observed lasts until the next observation, or until now.
        let to = end.or(later).unwrap_or(if is_over { from } else { now });
        if let Ok(time) = to.duration_since(from)
            && !time.is_zero()
        {
            phases.push((*phase, time));
            from = to;
        }
        if end.is_none() && later.is_none() {
            break;
        }
    }
    let counts = ["held", "retried", "moved", "cut", "lost"];
    let counts = counts.into_iter().filter(|name| number(name) > 0);
    let mut account: Vec<_> = counts
        .map(|name| format!("{} {name}", number(name)))
        .collect();
    let is_bad = number("cut") + number("lost") > 0;
    if !is_bad {
        account.insert(0, "nothing lost".to_owned());
    }
    match restart["outcome"].as_str() {
        Some("restarted") => {}
        Some("open") => account.insert(0, "under way".to_owned()),
        other => account.insert(0, printable(other.unwrap_or("?"))),
    }
    let reason = said(&restart["reason"]);
    if !reason.is_empty() {
        account.push(reason);
    }
    RestartRow {
        name: format!("{}/{}", said(&restart["pool"]), said(&restart["backend"])),
        ago: now.duration_since(began).ok(),
        phases,
        is_over,
        account: account.join(", "),
        is_bad,
    }
}
