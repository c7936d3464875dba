//! Content of the screen at one moment: the model's data as rows of text, for any screen size. Pure.

mod certificates;
mod drains;
mod restarts;
mod warnings;

use std::time::{Duration, SystemTime};

use super::counts::{AnswerRates, PoolBackend};
use super::model::{ProxyRecord, TopModel, in_flight_of, state_of};
use super::words::{ago, clock, until};
use crate::registry::view::{BackendView, InFlight, PauseView, PoolView};
use crate::rt::output::printable;

pub(super) use certificates::CertificateRow;
pub(super) use drains::DrainRow;
pub(super) use restarts::{RestartPhase, RestartRow};

/// State of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProxyStanding {
    /// It has neither answered nor failed yet.
    Asked,
    /// It answers; with the reason if it is not ready.
    Answers(Option<String>),
    /// It does not answer.
    Away {
        /// Reason why it does not answer.
        why: String,
        /// Time since its last answer; `None`: it has never answered.
        silent: Option<Duration>,
    },
}

/// A figure with its history.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FigureTile {
    /// Name of the figure.
    pub title: &'static str,
    /// Current value; `None`: unknown.
    pub value: Option<f64>,
    /// Whether a value above zero is bad.
    pub bad: bool,
    /// Last values, the oldest first.
    pub past: Vec<Option<f64>>,
}

/// A pool, as all proxies that answer see it together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PoolBlock {
    /// Name of the pool.
    pub name: String,
    /// Number of backends that take requests, number of held requests, and other remarks.
    pub summary: String,
    /// Whether no backend takes requests.
    pub is_closed: bool,
    /// Answers per second.
    pub rates: Option<AnswerRates>,
    /// Number in flight on all its backends.
    pub in_flight: u32,
    /// Its backends, by name; with several proxies, one row for each proxy.
    pub backends: Vec<BackendRow>,
}

/// A backend as one proxy sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BackendRow {
    /// Names of the pool and of the backend in the API.
    pub key: PoolBackend,
    /// Index of the proxy…
    pub proxy: usize,
    /// …and its name.
    pub proxy_name: String,
    /// Name of the backend, escaped for the terminal.
    pub name: String,
    /// State: `ready`, `ejected`, `draining`, …
    pub state: String,
    /// Time in this state, if it is known.
    pub since: Option<Duration>,
    /// Number in flight, by kind.
    pub in_flight: InFlight,
    /// Answers per second.
    pub rates: Option<AnswerRates>,
    /// Answers per second in the last seconds.
    pub past: Vec<Option<f64>>,
    /// Number of open connections to it.
    pub connections: u32,
    /// Weight.
    pub weight: u32,
    /// Address.
    pub address: String,
    /// Result of the last probe.
    pub probe: String,
    /// Reason for its state; empty if all is well.
    pub why: String,
}

/// A route with several pools.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SplitRow {
    /// Name of the route.
    pub route: String,
    /// Pools with their shares in percent.
    pub shares: Vec<(String, f64)>,
    /// The plan that changes the shares, or a remark that they were changed.
    pub note: String,
}

/// Everything that can be shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopPicture {
    /// Time of day in UTC.
    pub clock: String,
    /// Names and states of the proxies.
    pub proxies: Vec<(String, ProxyStanding)>,
    /// Warnings, the worst first.
    pub warnings: Vec<String>,
    /// Figures of all proxies together.
    pub tiles: Vec<FigureTile>,
    /// Pools.
    pub pools: Vec<PoolBlock>,
    /// Drains in progress.
    pub drains: Vec<DrainRow>,
    /// Last restarts, the newest first.
    pub restarts: Vec<RestartRow>,
    /// Routes with several pools.
    pub splits: Vec<SplitRow>,
    /// Certificates of listeners.
    pub certificates: Vec<CertificateRow>,
}

impl TopPicture {
    /// Makes the picture of a model; `at` is the time since the program started, `now` that of the wall clock.
    pub(super) fn of(model: &TopModel, at: Duration, now: SystemTime) -> Self {
        let heard: Vec<_> = model.proxies.iter().enumerate().collect();
        Self {
            clock: clock(now),
            proxies: model
                .proxies
                .iter()
                .map(|proxy| (printable(&proxy.name), standing(proxy, at)))
                .collect(),
            warnings: warnings::warnings(model, now),
            tiles: tiles(model),
            pools: pools(model, &heard, now),
            drains: drains::drains(model, now),
            restarts: restarts::restarts(model, now),
            splits: splits(model, now),
            certificates: certificates::certificates(model),
        }
    }

    /// Whether there is more than one proxy.
    pub(super) fn has_several_proxies(&self) -> bool {
        self.proxies.len() > 1
    }
}

fn standing(proxy: &ProxyRecord, at: Duration) -> ProxyStanding {
    match (&proxy.failure, &proxy.answers) {
        (Some(why), _) => ProxyStanding::Away {
            why: printable(why),
            silent: proxy.answered.map(|then| at.saturating_sub(then)),
        },
        (None, Some(answers)) => ProxyStanding::Answers(answers.unready.as_deref().map(printable)),
        (None, None) => ProxyStanding::Asked,
    }
}

/// Longest history that is shown, in seconds.
const MAX_HISTORY: usize = 120;

fn tiles(model: &TopModel) -> Vec<FigureTile> {
    let tile = |title, bad, history: &super::history::History| FigureTile {
        title,
        value: history.newest(),
        bad,
        past: history.last(MAX_HISTORY).collect(),
    };
    let [requests, streams, upgrades] = &model.in_flight;
    vec![
        tile("requests/s", false, &model.answers),
        tile("errors/s", true, &model.errors),
        tile("in flight", false, requests),
        tile("streams", false, streams),
        tile("upgrades", false, upgrades),
        tile("held", true, &model.held),
        tile("retries/s", true, &model.retries),
    ]
}

/// Pools by name; with several proxies, a pool of the same name is shown once.
fn pools(model: &TopModel, proxies: &[(usize, &ProxyRecord)], now: SystemTime) -> Vec<PoolBlock> {
    let mut names: Vec<&str> = Vec::new();
    let of = |proxy: &'_ ProxyRecord| proxy.answers.is_some();
    for (_, proxy) in proxies.iter().filter(|(_, proxy)| of(proxy)) {
        for pool in proxy.answers.iter().flat_map(|answers| &answers.pools) {
            if !names.contains(&&*pool.name) {
                names.push(&pool.name);
            }
        }
    }
    names
        .iter()
        .map(|name| pool(model, proxies, name, now))
        .collect()
}

fn pool(
    model: &TopModel,
    proxies: &[(usize, &ProxyRecord)],
    name: &str,
    now: SystemTime,
) -> PoolBlock {
    let mut views: Vec<(usize, &ProxyRecord, &PoolView)> = Vec::new();
    for (n, proxy) in proxies {
        let pools = proxy.answers.iter().flat_map(|answers| &answers.pools);
        views.extend(
            pools
                .filter(|pool| pool.name == name)
                .map(|pool| (*n, *proxy, pool)),
        );
    }
    let mut backends = Vec::new();
    let mut rates: Option<AnswerRates> = None;
    for (n, proxy, view) in &views {
        if let Some(of) = proxy.rates.as_ref() {
            let own = of.pools.get(name).copied().unwrap_or_default();
            *rates.get_or_insert_default() += own;
        }
        for backend in &view.backends {
            backends.push(backend_row(model, *n, proxy, view, backend, now));
        }
    }
    // Rows of the same backend from different proxies are next to each other.
    backends.sort_by(|a: &BackendRow, b| {
        compare_names(&a.key.1, &b.key.1).then_with(|| a.proxy.cmp(&b.proxy))
    });
    let each = || views.iter().map(|(_, _, view)| *view);
    let in_flight = each()
        .flat_map(|view| &view.backends)
        .map(|one| one.in_flight);
    PoolBlock {
        name: printable(name),
        summary: summary(&each().collect::<Vec<_>>(), now),
        is_closed: each().any(|view| view.eligible == 0 && !view.backends.is_empty()),
        rates,
        in_flight: in_flight.sum(),
        backends,
    }
}

/// Compares names so that `api-2` comes before `api-10`.
fn compare_names(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| {
        let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = text[stem.len()..].parse::<u64>().ok();
        (stem.to_owned(), number)
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

fn summary(views: &[&PoolView], now: SystemTime) -> String {
    // The proxies may differ: then the smallest and the largest value are shown.
    let range = |of: &dyn Fn(&PoolView) -> usize| {
        let (low, high) = (
            views.iter().map(|view| of(view)).min().unwrap_or(0),
            views.iter().map(|view| of(view)).max().unwrap_or(0),
        );
        match low == high {
            true => low.to_string(),
            false => format!("{low}–{high}"),
        }
    };
    let eligible = range(&|view| view.eligible);
    let all = range(&|view| view.backends.len());
    let mut text = format!("{eligible} of {all} eligible");
    let held: usize = views.iter().map(|view| view.held).sum();
    if held > 0 {
        text.push_str(&format!(", {held} held"));
    }
    if let Some(pause) = views.iter().find_map(|view| view.pause.as_ref()) {
        text.push_str(&format!(", {}", paused(pause, now)));
    }
    text
}

fn paused(pause: &PauseView, now: SystemTime) -> String {
    let what = match pause.status {
        Some(status) => format!("paused, answers {status}"),
        None => "paused, requests wait".to_owned(),
    };
    let ends = match until(pause.until.as_deref(), now) {
        Some(left) => format!(" for another {}", super::words::span(left)),
        None => String::new(),
    };
    let reason = match pause.reason.as_str() {
        "" => String::new(),
        reason => format!(": {}", printable(reason)),
    };
    format!("{what}{ends}{reason}")
}

fn backend_row(
    model: &TopModel,
    n: usize,
    proxy: &ProxyRecord,
    pool: &PoolView,
    backend: &BackendView,
    now: SystemTime,
) -> BackendRow {
    let key = (pool.name.clone(), backend.name.clone());
    let seen = proxy.since.get(&key).and_then(|since| since.began);
    let rates = proxy.rates.as_ref();
    let past = model.backends.get(&key);
    let mut address = printable(&backend.address);
    if let Some(zone) = &backend.zone {
        address.push_str(&format!(" ({})", printable(zone)));
    }
    if backend.backup {
        address.push_str(" (backup)");
    }
    BackendRow {
        proxy: n,
        proxy_name: printable(&proxy.name),
        name: printable(&backend.name),
        state: printable(state_of(backend)),
        since: seen.and_then(|began| now.duration_since(began).ok()),
        in_flight: in_flight_of(backend),
        // A backend without any answer has no counter yet.
        rates: rates.map(|rates| rates.backends.get(&key).copied().unwrap_or_default()),
        past: past
            .map(|past| past.last(MAX_HISTORY).collect())
            .unwrap_or_default(),
        connections: backend.connections,
        weight: backend.weight,
        address,
        probe: printable(backend.last_probe.as_deref().unwrap_or("")),
        why: why(backend, now),
        key,
    }
}

/// Reason for the backend's state in a few words.
fn why(backend: &BackendView, now: SystemTime) -> String {
    if let Some(ejection) = &backend.ejected {
        let back = until(Some(&ejection.until), now);
        let back = back.map_or_else(String::new, |left| {
            format!(", back in {}", super::words::span(left))
        });
        return format!("{}{back}", printable(&ejection.reason));
    }
    if let Some(drain) = backend.drains.first() {
        let more = match backend.drains.len() {
            1 => String::new(),
            several => format!(" (+{})", several - 1),
        };
        let reason = match drain.reason.as_str() {
            "" => "no reason given".to_owned(),
            reason => printable(reason),
        };
        return format!("{}: {reason}{more}", printable(&drain.actor));
    }
    match (&*backend.state, &backend.last_probe) {
        ("starting" | "down", Some(probe)) => printable(probe),
        _ => String::new(),
    }
}

/// Routes with several pools; once for each proxy if they differ.
fn splits(model: &TopModel, now: SystemTime) -> Vec<SplitRow> {
    let mut rows: Vec<SplitRow> = Vec::new();
    for proxy in &model.proxies {
        let mut own: Vec<SplitRow> = Vec::new();
        for pool in proxy.answers.iter().flat_map(|answers| &answers.pools) {
            for share in &pool.splits {
                let percent = match share.of {
                    0 => 0.0,
                    of => 100.0 * f64::from(share.weight) / of as f64,
                };
                let route = printable(&share.route);
                let at = own.iter().position(|row| row.route == route);
                let at = at.unwrap_or_else(|| {
                    own.push(SplitRow {
                        route,
                        shares: Vec::new(),
                        note: String::new(),
                    });
                    own.len() - 1
                });
                let row = &mut own[at];
                row.shares.push((printable(&pool.name), percent));
                if let Some(plan) = &share.plan {
                    let ends = until(Some(&plan.ends), now).map(super::words::span);
                    let ends = ends.map_or_else(String::new, |left| format!(", ends in {left}"));
                    row.note = format!(
                        "{} to {} %, step {} of {}{ends}",
                        printable(&pool.name),
                        plan.to,
                        plan.step,
                        plan.steps
                    );
                } else if share.weight != share.configured && row.note.is_empty() {
                    row.note = "moved".to_owned();
                }
            }
        }
        for row in own {
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows
}

/// Time since a moment in RFC 3339, if the API reports one.
fn since(then: Option<&str>, now: SystemTime) -> Option<Duration> {
    ago(then, now)
}

#[cfg(test)]
#[path = "picture_test.rs"]
mod tests;
