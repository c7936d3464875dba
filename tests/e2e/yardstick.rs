//! The yardstick: restarts that nobody coordinates, behind lameduck and behind its tuned peers, run by run in turn.
//! The peers' figures are only recorded; lameduck's have to keep what it promises.
//!
//! LAMEDUCK_PROVE_RUNS says how many runs `make prove` makes with each app (default 3; the full figure is 20),
//! LAMEDUCK_PROVE_PEER_RUNS how many of those also have the peers (default 1). LAMEDUCK_PROVE_RATE is for machines that
//! are too slow for 300 requests a second.

use std::time::Duration;

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::Evidence;
use lameduck::tools::demo::proxy::ProxySettings;

use crate::harness::apps::App;
use crate::harness::front::{Front, Kind};
use crate::harness::stops::Runs;
use crate::harness::{Bench, failures, proving, scale, skip, turn_alone};
use lameduck_rig::results::{Row, record};

/// Between two restarts: peers don't say when they have noticed that an instance is back.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long a stop or a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an instance is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Sigterm,
    Sigkill,
}

impl End {
    fn title(self) -> &'static str {
        match self {
            Self::Sigterm => "SIGTERM only",
            Self::Sigkill => "SIGKILL",
        }
    }

    /// Whether what is in flight on the app is finished.
    fn is_orderly(self, app: App) -> bool {
        self == Self::Sigterm && app != App::BuiltInAbrupt && app != App::NodeAbrupt
    }
}

fn count(variable: &str, default: u64) -> u64 {
    let number = std::env::var(variable).ok().map(|text| text.parse());
    number.map_or(default, |number| number.expect("a number"))
}

/// 300 requests a second and nine stops; a short run has fewer of both.
async fn run(proxy: Option<Kind>, app: App, end: End) -> Option<(Evidence, String)> {
    let mut bench = Bench::start("yardstick", app, 3).await?;
    let access_log = bench.scratch.path().join("access.log");
    let settings = ProxySettings {
        access_log: access_log.display().to_string(),
        ..ProxySettings::default()
    };
    let front = match proxy {
        None => Front::lameduck(&bench, &settings).await,
        Some(kind) => match Front::peer(&bench, kind).await {
            Some(front) => front,
            None => {
                skip("yardstick", kind.name());
                return None;
            }
        },
    };
    let rate = match proving() {
        true => count("LAMEDUCK_PROVE_RATE", 300),
        false => scale().rate.into(),
    };
    let load = Load::start(LoadPlan::new(front.address(), rate as u32));
    tokio::time::sleep(SETTLE).await;
    let signal = match end {
        End::Sigterm => libc::SIGTERM,
        End::Sigkill => libc::SIGKILL,
    };
    for _ in 0..if proving() { 3 } else { 1 } {
        for instance in &mut bench.instances {
            instance.signal_end(signal).unwrap();
            instance.exited(PATIENCE).await.unwrap();
            instance.start_again().await.unwrap();
            tokio::time::sleep(SETTLE).await;
        }
    }
    let evidence = bench.evidence(load.stop().await, &front).await;
    // Dropped first, so that the log is complete.
    drop(front);
    Some((evidence, failures(&access_log)))
}

async fn yardstick(app: App, end: End) {
    let _turn = turn_alone().await;
    let (runs, with_peers) = match proving() {
        true => (
            count("LAMEDUCK_PROVE_RUNS", 3),
            count("LAMEDUCK_PROVE_PEER_RUNS", 1),
        ),
        // Peers once, with the app that loses most: what they lose is explained, too.
        false => (1, u64::from(app == App::BuiltInAbrupt)),
    };
    let proxies = [None, Some(Kind::Nginx), Some(Kind::HaProxy)];
    let mut all = proxies.map(|_| Runs::default());
    let mut reasons = String::new();
    for n in 0..runs {
        for (runs, proxy) in all.iter_mut().zip(proxies) {
            if proxy.is_some() && n >= with_peers {
                continue;
            }
            if let Some((evidence, failures)) = run(proxy, app, end).await {
                runs.add(evidence);
                reasons.push_str(&failures);
            }
        }
    }
    for (runs, proxy) in all.iter().zip(proxies) {
        if runs.count() == 0 {
            continue;
        }
        let name = proxy.map_or("lameduck".to_owned(), Kind::title);
        let (account, stops) = (runs.account(), runs.stops());
        let what = format!("{name}, {}, {}", app.name(), end.title());
        let mut notes = vec![format!("{} runs", runs.count())];
        notes.extend(stops.notes());
        // First: a figure that misses its mark is a figure, too.
        record(Row {
            test: end.title(),
            proxy: name,
            app: app.name().to_owned(),
            account: account.clone(),
            notes,
        });
        assert!(
            account.answered > 0 && account.unexplained == 0,
            "{what}:\n{account}"
        );
        if proxy.is_none() {
            judge(&what, runs, app, end, &reasons);
        }
    }
}

/// What lameduck promises when it isn't told.
fn judge(what: &str, runs: &Runs, app: App, end: End, reasons: &str) {
    let (account, stops) = (runs.account(), runs.stops());
    let said = format!("{what}:\n{account}{stops:?}\n{reasons}");
    assert_eq!((stops.lost_gets, stops.posts_twice), (0, 0), "{said}");
    if !end.is_orderly(app) {
        return;
    }
    assert_eq!(stops.lost_posts, 0, "{said}");
    // What a dying listener's queue takes along: fewer than 1 in 10,000, and one by chance in a short run.
    assert!(stops.unseen_posts <= account.sent / 10_000 + 1, "{said}");
    if !proving() {
        return;
    }
    let last = stops.median_last_arrival();
    let most = if app.lingers() { 1_000.0 } else { 5.0 };
    assert!(last < most, "{said}");
    let exit = stops.idle_exits.last().copied().unwrap_or(0.0);
    assert!(
        exit <= if app.lingers() { 3_200.0 } else { 100.0 },
        "{said}"
    );
}

#[lameduck_rig::test]
async fn sigterm_without_a_drain_loses_no_request_of_a_graceful_app() {
    yardstick(App::BuiltIn, End::Sigterm).await;
}

#[lameduck_rig::test]
async fn sigterm_without_a_drain_loses_no_get_of_an_app_without_handler() {
    yardstick(App::BuiltInAbrupt, End::Sigterm).await;
}

#[lameduck_rig::test]
async fn sigkill_loses_no_get() {
    yardstick(App::BuiltIn, End::Sigkill).await;
}

/// In `make prove` alone.
async fn long_form(app: App) {
    if proving() {
        yardstick(app, End::Sigterm).await;
    }
}

#[lameduck_rig::test]
async fn an_app_that_stays_open() {
    long_form(App::BuiltInLinger).await;
}

#[lameduck_rig::test]
async fn node_http() {
    long_form(App::Node).await;
}

#[lameduck_rig::test]
async fn express() {
    long_form(App::Express).await;
}

#[lameduck_rig::test]
async fn fastify() {
    long_form(App::Fastify).await;
}
