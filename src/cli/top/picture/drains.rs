//! Drains in progress.

use std::time::{Duration, SystemTime};

use super::super::model::TopModel;
use super::super::words::{moment, span, until};
use super::since;
use crate::registry::view::{BackendView, DrainView, InFlight, OldestView};
use crate::rt::output::printable;

/// A backend that is draining, as one proxy sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DrainRow {
    /// Names of the pool and of the backend.
    pub name: String,
    /// Name of the proxy that drains it.
    pub proxy: String,
    /// Number that is still in flight, by kind.
    pub left: InFlight,
    /// Time since the drain began.
    pub since: Option<Duration>,
    /// Time until the rest is cut; `None`: there is no deadline, or it has passed.
    pub cuts_in: Option<Duration>,
    /// Part of the time to the deadline that has passed, from 0 to 1.
    pub passed: Option<f64>,
    /// The oldest request in flight, if the proxy reports it.
    pub oldest: Option<String>,
    /// Who asked for the drain, and why.
    pub why: String,
}

/// Drains with something in flight, the nearest deadline first.
pub(super) fn drains(model: &TopModel, now: SystemTime) -> Vec<DrainRow> {
    let mut rows = Vec::new();
    for proxy in &model.proxies {
        let heard = proxy.answers.iter().filter(|_| proxy.failure.is_none());
        for pool in heard.flat_map(|answers| &answers.pools) {
            let draining = |backend: &&BackendView| backend.state == "draining";
            for backend in pool.backends.iter().filter(draining) {
                let name = format!("{}/{}", printable(&pool.name), printable(&backend.name));
                rows.push(row(name, printable(&proxy.name), backend, now));
            }
        }
    }
    rows.sort_by_key(|row| row.cuts_in.unwrap_or(Duration::MAX));
    rows
}

/// Age of the oldest request, and what it is.
fn oldest_in_words(oldest: &OldestView) -> String {
    let age = span(Duration::from_millis(oldest.age_ms));
    let (method, path) = (printable(&oldest.method), printable(&oldest.path));
    format!("{age} {method} {path}")
}

fn row(name: String, proxy: String, backend: &BackendView, now: SystemTime) -> DrainRow {
    // The earliest deadline is the one that cuts.
    let deadline = |drain: &&DrainView| drain.deadline.as_deref().and_then(moment);
    let drain = backend
        .drains
        .iter()
        .filter(|drain| deadline(drain).is_some());
    let drain = drain.min_by_key(deadline).or(backend.drains.first());
    let began = drain.and_then(|drain| moment(&drain.since));
    let ends = drain.as_ref().and_then(deadline);
    let passed = began.zip(ends).and_then(|(began, ends)| {
        let all = ends.duration_since(began).ok()?.as_secs_f64();
        let gone = now.duration_since(began).unwrap_or_default().as_secs_f64();
        (all > 0.0).then(|| (gone / all).clamp(0.0, 1.0))
    });
    let why = drain.map_or_else(String::new, |drain| {
        let reason = match drain.reason.as_str() {
            "" => "no reason given".to_owned(),
            reason => printable(reason),
        };
        format!("{}: {reason}", printable(&drain.actor))
    });
    DrainRow {
        name,
        proxy,
        left: super::in_flight_of(backend),
        since: drain.and_then(|drain| since(Some(&drain.since), now)),
        cuts_in: drain.and_then(|drain| until(drain.deadline.as_deref(), now)),
        passed,
        oldest: backend.oldest.as_ref().map(oldest_in_words),
        why,
    }
}
