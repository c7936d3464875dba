//! What is shown at one moment: the model's figures as rows of text, for any size of screen. Pure.

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

/// How a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProxyStanding {
    /// It has not answered yet, nor failed to.
    Asked,
    /// It answers; why it is not ready, if so.
    Answers(Option<String>),
    /// It does not answer: why, and for how long; `None`: since this program began.
    Away {
        /// Why.
        why: String,
        /// Since its last answer.
        silent: Option<Duration>,
    },
}

/// A figure with its past.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FigureTile {
    /// What it is.
    pub title: &'static str,
    /// Its value; `None`: unknown.
    pub value: Option<f64>,
    /// A value above zero is bad news.
    pub bad: bool,
    /// The last values, oldest first.
    pub past: Vec<Option<f64>>,
}

/// A pool, over all proxies that answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PoolBlock {
    /// Its name.
    pub name: String,
    /// How many of its backends take requests, how many wait, and what else there is to know.
    pub summary: String,
    /// None takes requests.
    pub is_closed: bool,
    /// Its answers a second.
    pub rates: Option<AnswerRates>,
    /// In flight at all its backends.
    pub in_flight: u32,
    /// Its backends, by name; with several proxies, each as each of them sees it.
    pub backends: Vec<BackendRow>,
}

/// A backend as one proxy sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BackendRow {
    /// The pool's name and its own, as the API has them.
    pub key: PoolBackend,
    /// Which proxy, from 0…
    pub proxy: usize,
    /// …and its name.
    pub proxy_name: String,
    /// Its name, harmless to print.
    pub name: String,
    /// `ready`, `ejected`, `draining`, …
    pub state: String,
    /// For how long, where it is known.
    pub since: Option<Duration>,
    /// In flight, by kind.
    pub in_flight: InFlight,
    /// Its answers a second.
    pub rates: Option<AnswerRates>,
    /// Those of the last seconds.
    pub past: Vec<Option<f64>>,
    /// Open connections to it.
    pub connections: u32,
    /// Its share.
    pub weight: u32,
    /// Where it is.
    pub address: String,
    /// The last probe's result.
    pub probe: String,
    /// Why it is in its state, if not because all is well.
    pub why: String,
}

/// A route that several pools answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SplitRow {
    /// The route.
    pub route: String,
    /// Each pool with its share in percent.
    pub shares: Vec<(String, f64)>,
    /// What moves it, or that it was moved.
    pub note: String,
}

/// Everything.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopPicture {
    /// The time of day, UTC.
    pub clock: String,
    /// Each proxy.
    pub proxies: Vec<(String, ProxyStanding)>,
    /// What somebody should know now, the worst first.
    pub warnings: Vec<String>,
    /// Figures of all proxies together.
    pub tiles: Vec<FigureTile>,
    /// The pools.
    pub pools: Vec<PoolBlock>,
    /// Drains under way.
    pub drains: Vec<DrainRow>,
    /// The last restarts, the newest first.
    pub restarts: Vec<RestartRow>,
    /// Splits of routes.
    pub splits: Vec<SplitRow>,
    /// Certificates of listeners.
    pub certificates: Vec<CertificateRow>,
}

impl TopPicture {
    /// The picture of what is known, at `at` since the program began and `now` by the clock on the wall.
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

    /// Whether there is more than one proxy to tell apart.
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

/// How much of the past is shown at most, in seconds.
const PAST: usize = 120;

fn tiles(model: &TopModel) -> Vec<FigureTile> {
    let tile = |title, bad, history: &super::history::History| FigureTile {
        title,
        value: history.newest(),
        bad,
        past: history.last(PAST).collect(),
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

/// Pools by name; with several proxies, one pool of all that have it.
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
    // The proxies' views of one backend stand together.
    backends.sort_by(|a: &BackendRow, b| {
        natural(&a.key.1, &b.key.1).then_with(|| a.proxy.cmp(&b.proxy))
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

/// `api-2` before `api-10`.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |text: &str| {
        let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = text[stem.len()..].parse::<u64>().ok();
        (stem.to_owned(), number)
    };
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

fn summary(views: &[&PoolView], now: SystemTime) -> String {
    // Each proxy has a view of its own: the worst and the best, where they differ.
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
        // One that has answered nothing yet has no counter.
        rates: rates.map(|rates| rates.backends.get(&key).copied().unwrap_or_default()),
        past: past
            .map(|past| past.last(PAST).collect())
            .unwrap_or_default(),
        connections: backend.connections,
        weight: backend.weight,
        address,
        probe: printable(backend.last_probe.as_deref().unwrap_or("")),
        why: why(backend, now),
        key,
    }
}

/// Why it is in its state, in a few words.
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

/// Splits of routes; each proxy's where they differ.
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

/// How long ago RFC 3339's moment is, where the API says one.
fn since(then: Option<&str>, now: SystemTime) -> Option<Duration> {
    ago(then, now)
}

#[cfg(test)]
#[path = "picture_test.rs"]
mod tests;
