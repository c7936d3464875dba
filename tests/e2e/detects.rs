//! The harness finds losses where there are some: a test that can't fail proves nothing.

use std::time::Duration;

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::roll;

use crate::harness::apps::App;
use crate::harness::front::{Front, Kind};
use crate::harness::{Bench, skip, turn, until};

async fn sent(load: &Load, more: u64) {
    let enough = load.progress().sent + more;
    until("requests to be sent", Duration::from_secs(20), async || {
        load.progress().sent >= enough
    })
    .await;
}

#[lameduck_rig::test]
async fn an_abrupt_restart_without_a_proxy_loses_requests() {
    let _turn = turn().await;
    let mut bench = Bench::start("detects", App::BuiltInAbrupt, 1)
        .await
        .unwrap();
    let front = Front::Direct(bench.instances[0].address());
    let load = Load::start(LoadPlan::new(front.address(), 200));
    sent(&load, 200).await;
    roll::stop_and_start(&mut bench.instances[0], &|_, _| ())
        .await
        .unwrap();
    sent(&load, 100).await;
    let account = bench.account(load.stop().await, &front).await;
    // 1 s of requests, one in ten of which takes 2 s: they are all in flight when the process dies.
    assert!(account.lost >= 10, "{account}");
    assert_eq!(account.sent, account.answered + account.lost);
    assert_eq!((account.unexplained, account.stops), (0, 1), "{account}");
}

#[lameduck_rig::test]
async fn an_undisturbed_run_loses_nothing() {
    let _turn = turn().await;
    let bench = Bench::start("detects", App::BuiltIn, 1).await.unwrap();
    let front = Front::Direct(bench.instances[0].address());
    let load = Load::start(LoadPlan::new(front.address(), 200));
    sent(&load, 300).await;
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
}

#[lameduck_rig::test]
async fn a_peer_without_coordination_reaches_the_stopping_instance() {
    let _turn = turn().await;
    let mut bench = Bench::start("detects", App::BuiltInLinger, 3)
        .await
        .unwrap();
    let Some(front) = Front::peer(&bench, Kind::Nginx).await else {
        return skip("detects", "nginx");
    };
    let load = Load::start(LoadPlan::new(front.address(), 150));
    sent(&load, 150).await;
    roll::stop_and_start(&mut bench.instances[0], &|_, _| ())
        .await
        .unwrap();
    sent(&load, 50).await;
    let account = bench.account(load.stop().await, &front).await;
    // nginx has no active checks: it sends on for as long as the instance accepts.
    assert!(account.reached_stopping > 10, "{account}");
    assert_eq!(account.unexplained, 0, "{account}");
}
