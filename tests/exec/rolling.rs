//! Restarts by signal to the launcher, under load: nothing is lost, and nothing reaches an app that was signalled.

use std::time::{Duration, Instant};

use lameduck::tools::demo::load::{Load, LoadPlan};

use crate::rig::{Rig, figure, proving, turn};

fn load(rig: &Rig) -> Load {
    let rate = if proving() { 300 } else { 100 };
    Load::start(LoadPlan::new(rig.proxy.address(), rate))
}

/// How often each instance is restarted.
fn rounds() -> usize {
    if proving() { 3 } else { 1 }
}

#[lameduck_rig::test]
async fn a_rolling_restart_by_signal_loses_nothing() {
    let _turn = turn().await;
    roll_by_signal(Rig::start().await).await;
}

#[lameduck_rig::test]
async fn rolling_restart_over_the_socket_for_apps_loses_nothing() {
    let _turn = turn().await;
    let mut rig = Rig::start().await;
    rig.through = rig.scratch.path().join("apps.sock");
    roll_by_signal(rig).await;
}

async fn roll_by_signal(mut rig: Rig) {
    let names = ["api-0", "api-1", "api-2"];
    let mut running = Vec::new();
    for name in names {
        running.push(rig.launch(name, &[]));
    }
    for name in names {
        rig.ready(name).await;
    }
    let load = load(&rig);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..rounds() {
        for (name, old) in names.into_iter().zip(&mut running) {
            assert!(old.stop().await.success(), "{}", old.said());
            rig.gone(name).await;
            *old = rig.launch(name, &[]);
            rig.ready(name).await;
        }
    }
    let account = rig.account(load.stop().await);
    assert!(account.is_clean(), "{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    assert_eq!(account.stops, 3 * rounds() as u64);
    figure(&format!("rolling restart by signal: {account}"));
    let counts: Vec<_> = rig.backends().await.iter().map(|b| b.incarnation).collect();
    assert_eq!(counts, [1 + rounds() as u64; 3]);
}

/// What Oxmgr's reload does: start the new one, wait until it is ready, stop the old one.
#[lameduck_rig::test]
async fn a_reload_with_overlap_loses_nothing() {
    let _turn = turn().await;
    let mut rig = Rig::start().await;
    let mut old = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let load = load(&rig);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for round in 0..rounds() {
        // The first one's name is free again in the second round.
        let (older, newer) = [("api-0", "api-0~2"), ("api-0~2", "api-0")][round % 2];
        let new = rig.launch("api-0", &[]);
        rig.ready(newer).await;
        assert_eq!(rig.state(older).await.as_deref(), Some("ready"));
        old.process.signal(libc::SIGTERM).unwrap();
        let begun = Instant::now();
        let status = old.exited().await;
        assert!(status.success(), "{}", old.said());
        assert!(
            begun.elapsed() < Duration::from_secs(9),
            "it had slow requests only"
        );
        assert_eq!(rig.state(newer).await.as_deref(), Some("ready"));
        rig.gone(older).await;
        old = new;
    }
    let account = rig.account(load.stop().await);
    assert!(account.is_clean(), "{account}");
    assert_eq!(account.delivered_twice, 0, "{account}");
    figure(&format!("reload with overlap: {account}"));
}

/// Everything is stopped at once, as honcho and `docker stop` do: what was accepted is finished.
#[lameduck_rig::test]
async fn stopping_everything_at_once_finishes_what_was_accepted() {
    let _turn = turn().await;
    let mut rig = Rig::start().await;
    let mut all = vec![rig.launch("api-0", &[]), rig.launch("api-1", &[])];
    rig.ready("api-0").await;
    rig.ready("api-1").await;
    let slow = tokio::spawn(crate::endings::get(rig.proxy.address(), "/slow?ms=1500"));
    crate::endings::in_flight(&rig, 1).await;
    for launched in &mut all {
        launched.process.signal(libc::SIGTERM).unwrap();
    }
    for launched in &mut all {
        assert!(launched.exited().await.success(), "{}", launched.said());
    }
    assert_eq!(slow.await.unwrap().unwrap(), 200);
}
