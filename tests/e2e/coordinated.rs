//! The main job: `drain` → SIGTERM → start → `resume --wait`, under load, for each kind of app.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::Life;
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll::{self, DemoStep};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::streams::{End, How, Streams};
use crate::harness::{Bench, Scale, proving, scale, turn_beside_one, until, usual_load};
use lameduck_rig::oracle;
use lameduck_rig::results::{Row, record};

/// Streams are ended over this long before a drain's deadline.
const SPREAD: Duration = Duration::from_secs(1);
/// How far a busy machine may be off the plan.
const SLACK: Duration = Duration::from_millis(500);

async fn rolling_restart(app: App) {
    let _turn = turn_beside_one().await;
    let Some(mut bench) = Bench::start("coordinated", app, 3).await else {
        return;
    };
    let Scale {
        run,
        streams,
        deadline,
        ..
    } = scale();
    let settings = ProxySettings {
        pool: "[pool.drain]\nclose_spread = \"1s\"".into(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    let streams = Streams::open(front.address(), streams).await;
    let drains = RefCell::new(Vec::new());
    let begun = Instant::now();
    // At least one whole round; then until the time is over.
    while begun.elapsed() < run {
        for instance in &mut bench.instances {
            let tell = |_: &str, step| {
                if step == DemoStep::Draining {
                    drains.borrow_mut().push(monotonic_ns());
                }
            };
            roll::restart(instance, proxy, deadline, &tell)
                .await
                .unwrap();
        }
    }
    let ends = streams.close();
    let account = bench.account(load.stop().await, &front).await;
    let name = app.name();
    assert!(account.is_clean(), "{name}:\n{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{name}:\n{account}"
    );
    let slowest = account.slowest_stop_ms.unwrap();
    // The promise is 100 ms. Another test runs beside the short run, and may keep both cores from us, one of the times for
    // seconds.
    let (stop, late) = match proving() {
        true => (slowest, 100.0),
        false => (usual_stop_ms(&bench), 500.0),
    };
    let most = if app.lingers() { 3_100.0 + late } else { late };
    assert!(
        stop < most && slowest < most + 10_000.0,
        "{name}: a stop took {stop} ms, the slowest {slowest} ms"
    );
    let ended = judge_ends(&ends, &drains.borrow());
    let (proxy, app) = ("lameduck".to_owned(), name.to_owned());
    record(Row {
        test: "coordinated",
        proxy,
        app,
        account,
        notes: ended,
    });
}

/// What half of the stops took no longer than.
fn usual_stop_ms(bench: &Bench) -> f64 {
    let lives = oracle::lives_of(&bench.instances);
    let stop = |life: &Life| Some(life.exited? - life.signalled?);
    let mut all: Vec<u64> = lives.iter().filter_map(stop).collect();
    all.sort_unstable();
    all[all.len() / 2] as f64 / 1e6
}

/// Streams end in order, and only within the spread before a drain's deadline.
fn judge_ends(ends: &[End], drains: &[u64]) -> Vec<String> {
    let deadline = scale().deadline;
    let planned = |at: u64| {
        let since = drains
            .iter()
            .filter(|&&drain| drain <= at)
            .max()
            .map(|&drain| Duration::from_nanos(at - drain));
        // Whom the deadline finds is cut, and that is no end in order: later than it, this is only told.
        let late = SLACK * if proving() { 1 } else { 10 };
        since.is_some_and(|since| (deadline - SPREAD - SLACK..=deadline + late).contains(&since))
    };
    let (mut sockets, mut events, mut unanswered_total) = (0, 0, 0);
    for End { at, how } in ends {
        match how {
            How::Closed {
                code, unanswered, ..
            } => {
                assert!(
                    matches!(code, 1001 | 1012),
                    "a WebSocket was closed with {code}: {ends:#?}"
                );
                sockets += 1;
                unanswered_total += unanswered;
            }
            How::Finished => events += 1,
            How::Broken(why) => panic!("{why}"),
        }
        assert!(
            planned(*at),
            "a stream ended outside of the drains' last second: {how:?}"
        );
    }
    assert!(
        sockets > 0 && events > 0,
        "no drain ended a stream: {ends:?}"
    );
    vec![format!(
        "{} restarts; {sockets} WebSockets closed in order, {unanswered_total} messages unanswered; {events} event streams ended in order",
        drains.len()
    )]
}

#[lameduck_rig::test]
async fn built_in() {
    rolling_restart(App::BuiltIn).await;
}

#[lameduck_rig::test]
async fn built_in_without_handler() {
    rolling_restart(App::BuiltInAbrupt).await;
}

#[lameduck_rig::test]
async fn built_in_that_accepts_3_s_more() {
    rolling_restart(App::BuiltInLinger).await;
}

#[lameduck_rig::test]
async fn node_http() {
    rolling_restart(App::Node).await;
}

#[lameduck_rig::test]
async fn node_http_without_handler() {
    rolling_restart(App::NodeAbrupt).await;
}

#[lameduck_rig::test]
async fn node_http_that_accepts_3_s_more() {
    rolling_restart(App::NodeLinger).await;
}

#[lameduck_rig::test]
async fn express_with_http_terminator() {
    rolling_restart(App::Express).await;
}

#[lameduck_rig::test]
async fn fastify_with_close_with_grace() {
    rolling_restart(App::Fastify).await;
}

/// What a stopping app leaves behind is not held against its successor: with and without a drain before, nobody is lost,
/// nobody waits, and nobody is ejected for long.
#[lameduck_rig::test]
async fn restarts_with_outlier_detection_lose_nothing_and_eject_no_successor() {
    let _turn = turn_beside_one().await;
    let mut bench = Bench::start("outliers", App::BuiltIn, 3).await.unwrap();
    let deadline = scale().deadline;
    let settings = ProxySettings {
        pool: "[pool.drain]\nclose_spread = \"1s\"\n[pool.outlier]\nconsecutive_errors = 1\nmin_requests = 5\n\
               window = \"1s\"\nerror_rate = 0.01\nlatency_factor = 0"
            .into(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    for drained_first in [true, false] {
        for index in 0..3 {
            let instance = &mut bench.instances[index];
            match drained_first {
                true => roll::restart(instance, proxy, deadline, &|_, _| ()).await,
                false => roll::stop_and_start(instance, &|_, _| ()).await,
            }
            .unwrap();
            until("three ready and none ejected", deadline * 4, async || {
                let pool = proxy.pool().await.unwrap();
                assert!(pool.backends.iter().all(|one| one.ejected.is_none()));
                pool.eligible == 3
            })
            .await;
        }
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(account.is_clean(), "{account}");
    assert_eq!((account.delivered_twice, account.app_errors), (0, 0));
}
