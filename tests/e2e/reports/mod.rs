//! Restart reports: their figures are the oracle's, `lameduck verify` finds the same in the access log, and finds out what
//! was changed.

mod changes;
mod commands;
mod served;
mod ways;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck::registry::restart_view::RestartView;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::report::document::RestartReport;
use lameduck_rig::oracle;
use serde_json::Value;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, proving, turn, until};
use changes::find_changes;
use commands::{commands, report, verify};
use ways::{LaunchedApp, SlowReader, WAYS, Way, ready, restart};

const PATIENCE: Duration = Duration::from_secs(30);

/// Loses on purpose what it can, and counts by itself.
#[lameduck_rig::test]
async fn report_has_the_oracles_figures_and_verify_agrees_and_names_each_change() {
    let _turn = turn().await;
    let mut bench = Bench::start("report", App::BuiltIn, 3).await.unwrap();
    let log: PathBuf = bench.scratch.path().join("access.log");
    let settings = ProxySettings {
        access_log: log.display().to_string(),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path().to_owned();
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    ready(&proxy, 3).await;
    let rounds = if proving() { 48 } else { 16 };
    let cycles = rounds / WAYS.len();
    let mut launched = LaunchedApp::new(&bench, &proxy);
    let load = Load::start(LoadPlan {
        slow: Duration::from_millis(700),
        post_percent: 30,
        slow_percent: 40,
        ..LoadPlan::new(proxy.address(), 60)
    });
    let mut lost = 0;
    let mut restarts = 0;
    for round in 0..rounds {
        let way = WAYS[round % WAYS.len()];
        let readers = match way {
            Way::Cut | Way::Killed => 1 + round / WAYS.len() % 3,
            _ => 0,
        };
        let mut slow = Vec::new();
        for _ in 0..readers {
            slow.push(SlowReader::open(&proxy).await);
        }
        let victim = slow
            .first()
            .map_or_else(|| format!("app-{}", round % 3 + 1), |one| one.app.clone());
        restart(way, &victim, &mut bench, &mut launched, &proxy, readers).await;
        restarts += way.restarts();
        for reader in slow {
            lost += u64::from(reader.finish().await);
        }
    }
    // The last one has left, and comes back.
    launched.start(&proxy).await;
    let sent = load.stop().await;
    let lives = oracle::lives_of(&bench.instances);
    let account = oracle::account(sent, lives.into_iter().chain(launched.lives()).collect());
    lost += account.lost;
    let path = dir.join("report.json");
    until("the log", PATIENCE, async || {
        let report = report(&proxy, &path).await;
        verify(&report, &log).agrees
    })
    .await;
    let made = report(&proxy, &path).await;
    let found = verify(&made, &log);
    assert!(found.agrees, "{:#?}", found.differences);
    assert_eq!(
        found
            .notes
            .iter()
            .find(|note| note.contains("no restart is blamed")),
        None
    );
    assert!(
        made.restarts.len() >= restarts,
        "{:#?}",
        causes(&made.restarts)
    );
    assert_eq!(
        made.total.lost,
        lost,
        "{account}\n{:#?}",
        causes(&made.restarts)
    );
    assert!(
        lost as usize >= 2 * cycles,
        "{lost} lost of {rounds} restarts"
    );
    assert!(
        made.restarts.iter().all(|one| one.ready.is_some()),
        "{:#?}",
        causes(&made.restarts)
    );
    compare_with_the_log(&made, &log);
    let seen = |cause: &str| {
        made.restarts
            .iter()
            .filter(|one| one.cause == cause)
            .count()
    };
    assert_eq!(seen("supervisor"), cycles);
    assert_eq!(
        seen("launcher"),
        2 * cycles,
        "{:#?}",
        causes(&made.restarts)
    );
    let rolled: Vec<_> = made.rolls.iter().map(|roll| roll.restarts).collect();
    assert_eq!(rolled, vec![3; cycles], "{:#?}", made.rolls);
    // A process that is there again before its end was noticed has been replaced.
    let killed = seen("killed") + seen("replaced");
    assert!(
        seen("unavailable") + seen("stopped") + killed >= 2 * cycles,
        "{:?}",
        causes(&made.restarts)
    );
    assert!(killed >= 1, "{:?}", causes(&made.restarts));
    assert!(
        made.total.held > 0 && made.total.cut > 0 && made.total.retried > 0,
        "{:?}",
        made.total
    );
    println!(
        "{restarts} restarts, {:?}, {} figures, {} lines",
        made.total, found.figures, found.lines
    );
    let changes = if proving() { 100 } else { 20 };
    find_changes(&made, &log, changes);
    println!(
        "{changes} changed figures named with their lines, {} other changes named",
        changes / 2
    );
    commands(&proxy, &made, &path, &log).await;
}

fn causes(restarts: &[RestartView]) -> Vec<String> {
    let shown = |one: &RestartView| {
        format!(
            "{} {} {} {:?} {:?}",
            one.id, one.backend, one.cause, one.drain, one.requests
        )
    };
    restarts.iter().map(shown).collect()
}

/// What the log says without its field `restarts`.
fn compare_with_the_log(made: &RestartReport, log: &Path) {
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let held = lines
        .iter()
        .filter(|line| line["held_ms"].as_f64() > Some(0.0))
        .count() as u64;
    assert_eq!(made.total.held, held);
    let again = lines
        .iter()
        .filter_map(|line| line["attempts"].as_u64())
        .filter(|n| *n > 1);
    let (requests, attempts) = (
        again.clone().count() as u64,
        again.map(|n| n - 1).sum::<u64>(),
    );
    assert!(
        (requests..=attempts).contains(&made.total.retried),
        "{requests} {attempts} {:?}",
        made.total
    );
    let cut = lines.iter().filter(|line| line["end"] == "cut").count() as u64;
    assert_eq!(made.total.cut, cut);
}
