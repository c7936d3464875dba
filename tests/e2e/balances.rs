//! Rolling restarts with each balance.

use std::net::SocketAddr;
use std::time::Duration;

use lameduck::config::BalanceConfig;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::proxy::ProxySettings;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::supervisor::Supervisor;
use crate::harness::{Bench, proving, turn, until, usual_load};
use crate::reload::{reloaded, reordered};
use crate::roll::{end, start};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(30);

/// The keys that set it: with a slow start for those that treat it in a way of their own.
fn settings_of(balance: BalanceConfig) -> String {
    let more = match balance {
        BalanceConfig::PeakEwma => "slow_start = { window = \"1s\" }",
        BalanceConfig::Hash => "hash_on = \"uri\"\nslow_start = { window = \"1s\" }",
        BalanceConfig::KetamaNginx => "hash_on = \"uri\"",
        _ => "",
    };
    format!("balance = \"{balance}\"\n{more}")
}

#[lameduck_rig::test]
async fn rolls_cost_no_request_whatever_the_balance() {
    let _turn = turn().await;
    let mut bench = Bench::start("balances", App::BuiltIn, 2).await.unwrap();
    let mut front = Front::lameduck(&bench, &ProxySettings::default()).await;
    let supervisor = Supervisor::start(&mut bench);
    let command = supervisor.restart();
    let Front::Lameduck(proxy) = &mut front else {
        unreachable!()
    };
    let names: Vec<String> = proxy
        .pool()
        .await
        .unwrap()
        .backends
        .iter()
        .map(|one| one.name.clone())
        .collect();
    let addresses: Vec<String> = proxy
        .pool()
        .await
        .unwrap()
        .backends
        .iter()
        .map(|one| one.address.clone())
        .collect();
    let backends: Vec<(String, SocketAddr)> = names
        .into_iter()
        .zip(addresses.iter().map(|address| address.parse().unwrap()))
        .collect();
    let load = Load::start(usual_load(proxy.address()));
    let rounds = if proving() { 5 } else { 1 };
    for (name, balance) in BalanceConfig::WORDS {
        let settings = ProxySettings {
            pool: settings_of(*balance),
            ..ProxySettings::default()
        };
        let text = reordered(&settings, proxy.socket(), &backends);
        std::fs::write(proxy.config(), text).unwrap();
        let before = reloaded(proxy.socket()).await;
        proxy.process().signal(libc::SIGHUP).unwrap();
        until("the reload", PATIENCE, async || {
            reloaded(proxy.socket()).await > before
        })
        .await;
        let pool = proxy.pool().await.unwrap();
        assert_eq!(pool.balance, *name);
        for _ in 0..rounds {
            until("both ready", PATIENCE, async || {
                proxy.pool().await.unwrap().eligible == 2
            })
            .await;
            let rolling = start(proxy.socket(), &["--drain-timeout", "10s"], &command);
            let (code, lines, errors) = end(rolling).await;
            assert_eq!(code, 0, "{balance}: {lines}{errors}");
            let (sent, lost) = (load.progress().sent, load.progress().lost);
            assert_eq!(lost, 0, "{balance}");
            until("requests", PATIENCE, async || {
                load.progress().sent >= sent + 40
            })
            .await;
        }
    }
    let sent = load.stop().await;
    supervisor.end(&mut bench).await;
    let account = bench.account(sent, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    record(Row {
        test: "balances",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec![format!("{} balances", BalanceConfig::WORDS.len())],
    });
}
