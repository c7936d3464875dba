//! The only instance is restarted, with a drain and without one: requests wait until it is back, and none is lost.

use std::time::Duration;

use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{DemoRequestKind, Evidence, Sent};
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::stops::Runs;
use crate::harness::{Bench, proving, turn, turn_alone, until};
use lameduck_rig::results::{Row, record};

/// Requests from this long after it is ready again are as quick as before.
const SETTLED: u64 = 1_000_000_000;
/// For a drain, and for becoming ready.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum How {
    Drained,
    SigtermOnly,
}

async fn restarted(how: How, rate: u32) {
    let _turn = match how {
        How::Drained => turn().await,
        How::SigtermOnly => turn_alone().await,
    };
    let mut bench = Bench::start("alone", App::BuiltIn, 1).await.unwrap();
    let access_log = bench.scratch.path().join("access.log");
    let settings = ProxySettings {
        access_log: access_log.display().to_string(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let (restarts, pause, slow) = match proving() {
        true => (5, Duration::from_secs(5), Duration::from_secs(2)),
        false => (1, Duration::from_millis(2_500), Duration::from_millis(300)),
    };
    let load = Load::start(LoadPlan {
        slow,
        // A client that finds no connection waits outside, where nobody counts it as held.
        connections: 8_000,
        ..LoadPlan::new(front.address(), rate)
    });
    // When it was as always: from…, until….
    let mut calm = vec![(monotonic_ns() + SETTLED, 0)];
    tokio::time::sleep(pause).await;
    for _ in 0..restarts {
        calm.last_mut().unwrap().1 = monotonic_ns();
        let instance = &mut bench.instances[0];
        match how {
            How::Drained => roll::restart(instance, proxy, PATIENCE, &|_, _| ())
                .await
                .unwrap(),
            How::SigtermOnly => {
                roll::stop_and_start(instance, &|_, _| ()).await.unwrap();
                until("it to be ready", PATIENCE, async || {
                    proxy.pool().await.unwrap().eligible == 1
                })
                .await;
            }
        }
        calm.push((monotonic_ns() + SETTLED, 0));
        tokio::time::sleep(pause).await;
    }
    calm.last_mut().unwrap().1 = monotonic_ns();
    let evidence = bench.evidence(load.stop().await, &front).await;
    let usual = p99(&evidence, &calm[..1]);
    let after = p99(&evidence, &calm[1..]);
    let mut runs = Runs::default();
    runs.add(evidence);
    let (account, stops) = (runs.account(), runs.stops());
    let said = format!(
        "{how:?} at {rate}/s: p99 {usual:.1} ms, then {after:.1} ms\n{account}{stops:?}\n{}",
        crate::harness::failures(&access_log)
    );
    assert_eq!((account.lost, stops.posts_twice), (0, 0), "{said}");
    assert!(account.answered > 0 && account.unexplained == 0, "{said}");
    if proving() {
        assert!(after <= 2.0 * usual, "{said}");
    }
    let mut notes = vec![format!(
        "{rate} requests/s, {restarts} restarts; quick p99 {usual:.2} ms before, {after:.2} ms from 1 s after it was ready"
    )];
    notes.extend(stops.notes());
    record(Row {
        test: match how {
            How::Drained => "the only instance, drained",
            How::SigtermOnly => "the only instance, SIGTERM only",
        },
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
}

/// The 99th percentile of the quick requests that came in calm times, in milliseconds.
fn p99(evidence: &Evidence, calm: &[(u64, u64)]) -> f64 {
    let is_calm = |sent: &&Sent| {
        sent.kind != DemoRequestKind::Slow
            && calm
                .iter()
                .any(|&(from, to)| sent.at >= from && sent.at < to)
    };
    let mut latencies: Vec<u64> = evidence
        .sent
        .iter()
        .filter(is_calm)
        .map(|sent| sent.latency)
        .collect();
    latencies.sort_unstable();
    let rank = (latencies.len() * 99).div_ceil(100).max(1);
    // None where the machine has stood still for all of the calm.
    latencies
        .get(rank - 1)
        .map_or(f64::NAN, |ns| *ns as f64 / 1e6)
}

#[lameduck_rig::test]
async fn drained_restart_of_the_only_instance_loses_nothing_at_a_slow_rate() {
    restarted(How::Drained, 50).await;
}

#[lameduck_rig::test]
async fn drained_restart_of_the_only_instance_loses_nothing_at_a_high_rate() {
    restarted(How::Drained, if proving() { 1_000 } else { 300 }).await;
}

#[lameduck_rig::test]
async fn unannounced_restart_of_the_only_instance_loses_nothing_at_a_slow_rate() {
    restarted(How::SigtermOnly, 50).await;
}

#[lameduck_rig::test]
async fn unannounced_restart_of_the_only_instance_loses_nothing_at_a_high_rate() {
    restarted(How::SigtermOnly, if proving() { 1_000 } else { 300 }).await;
}
