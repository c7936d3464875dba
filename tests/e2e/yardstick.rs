//! The yardstick: the same restarts with nothing but SIGTERM, behind lameduck and behind its tuned peers.
//! Only recorded: what others lose is no failure of ours.

use std::time::Duration;

use lameduck::demo::load::{Load, Plan};
use lameduck::demo::proxy::Settings;
use lameduck::demo::roll;

use crate::harness::apps::App;
use crate::harness::front::{Front, Kind};
use crate::harness::results::{Row, record};
use crate::harness::{Bench, proving, scale, skip, turn};

/// Between two restarts: peers don't say when they have noticed that an instance is back.
const SETTLE: Duration = Duration::from_millis(1500);

async fn signal_only(proxy: Option<Kind>, app: App) {
    let _turn = turn().await;
    let name = proxy.map_or("lameduck".to_owned(), Kind::title);
    let Some(mut bench) = Bench::start("yardstick", app, 3).await else {
        return;
    };
    let front = match proxy {
        None => Some(Front::lameduck(&bench, &Settings::default()).await),
        Some(kind) => Front::peer(&bench, kind).await,
    };
    let Some(front) = front else {
        return skip("yardstick", &name);
    };
    let load = Load::start(Plan::new(front.address(), scale().rate));
    tokio::time::sleep(SETTLE).await;
    for _ in 0..if proving() { 3 } else { 1 } {
        for instance in &mut bench.instances {
            roll::stop_and_start(instance, &|_, _| ()).await.unwrap();
            tokio::time::sleep(SETTLE).await;
        }
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.answered > 0 && account.unexplained == 0,
        "{name}, {}:\n{account}",
        app.name()
    );
    let latest = account
        .reached_stopping_latest_ms
        .map(|ms| format!("last arrival {ms:.0} ms after the signal"));
    let (proxy, app) = (name, app.name().to_owned());
    record(Row {
        test: "SIGTERM only",
        proxy,
        app,
        account,
        notes: latest.into_iter().collect(),
    });
}

#[tokio::test]
async fn nginx_and_a_graceful_app() {
    signal_only(Some(Kind::Nginx), App::BuiltIn).await;
}

#[tokio::test]
async fn nginx_and_an_app_without_handler() {
    signal_only(Some(Kind::Nginx), App::BuiltInAbrupt).await;
}

#[tokio::test]
async fn haproxy_and_a_graceful_app() {
    signal_only(Some(Kind::HaProxy), App::BuiltIn).await;
}

#[tokio::test]
async fn haproxy_and_an_app_without_handler() {
    signal_only(Some(Kind::HaProxy), App::BuiltInAbrupt).await;
}

#[tokio::test]
async fn lameduck_and_a_graceful_app() {
    signal_only(None, App::BuiltIn).await;
}

#[tokio::test]
async fn lameduck_and_an_app_without_handler() {
    signal_only(None, App::BuiltInAbrupt).await;
}
