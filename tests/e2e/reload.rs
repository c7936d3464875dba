//! Reloads under load: 50 in `make prove`, 10 otherwise.

use std::net::SocketAddr;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, exe, get, proving, turn, until, usual_load};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(20);

#[lameduck_rig::test]
async fn no_reload_loses_a_request() {
    let _turn = turn().await;
    let bench = Bench::start("reload", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings::default();
    let mut front = Front::lameduck(&bench, &settings).await;
    let load = Load::start(usual_load(front.address()));
    let Front::Lameduck(proxy) = &mut front else {
        unreachable!()
    };
    let all: Vec<(String, SocketAddr)> = bench
        .instances
        .iter()
        .map(|i| (i.name().to_owned(), i.address()))
        .collect();
    let reloads = if proving() { 50 } else { 10 };
    for n in 0..reloads {
        // In turn: an instance leaves, comes back, the balance changes, and changes back.
        let changed = ProxySettings {
            pool: if n % 4 < 2 {
                ""
            } else {
                "balance = \"round_robin\""
            }
            .into(),
            ..settings.clone()
        };
        let backends = if n % 2 == 0 { &all[..2] } else { &all[..] };
        std::fs::write(
            proxy.config(),
            reordered(&changed, proxy.socket(), backends),
        )
        .unwrap();
        let before = reloaded(proxy.socket()).await;
        proxy.process().signal(libc::SIGHUP).unwrap();
        until("the reload", PATIENCE, async || {
            reloaded(proxy.socket()).await > before
        })
        .await;
        // Requests of every kind over the new state, before the next one.
        let (sent, lost) = (load.progress().sent, load.progress().lost);
        assert_eq!(lost, 0, "after {n} reloads");
        until("requests", PATIENCE, async || {
            load.progress().sent >= sent + 60
        })
        .await;
        until("the backends", PATIENCE, async || {
            proxy.pool().await.unwrap().eligible == backends.len()
        })
        .await;
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    let notes = vec![format!("{reloads} reloads")];
    record(Row {
        test: "reload",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
}

/// The pool's own keys come before its sub-tables in TOML.
pub(super) fn reordered(
    settings: &ProxySettings,
    socket: &std::path::Path,
    backends: &[(String, SocketAddr)],
) -> String {
    let plain = ProxySettings {
        pool: String::new(),
        ..settings.clone()
    }
    .toml(socket, backends);
    plain.replacen(
        "name = \"app\"",
        &format!("name = \"app\"\n{}", settings.pool),
        1,
    )
}

pub(super) async fn reloaded(socket: &std::path::Path) -> u64 {
    let (_, text) = admin::request(socket, "GET", "/metrics", None)
        .await
        .unwrap();
    admin::metric(
        &String::from_utf8_lossy(&text),
        "lameduck_config_reload_total",
    )
    .unwrap_or(0)
}

/// What only a restart can change is named, and does not keep the rest of the file from being taken.
#[lameduck_rig::test]
async fn another_reuse_port_waits_for_a_restart() {
    let bench = Bench::start("reload-restart", App::BuiltIn, 1)
        .await
        .unwrap();
    let settings = ProxySettings::default();
    let proxy = DemoProxy::start(
        exe(),
        "proxy",
        bench.scratch.path(),
        &settings,
        &bench.instances,
    )
    .await
    .unwrap();
    let text = std::fs::read_to_string(proxy.config()).unwrap();
    let listener = format!("address = \"{}\"", settings.listen);
    let changed = text.replace(&listener, &format!("{listener}\nreuse_port = true"));
    assert_ne!(text, changed);
    std::fs::write(proxy.config(), changed).unwrap();
    let answer = admin::call(proxy.socket(), "POST", "/v1/config/reload", None)
        .await
        .unwrap();
    assert!(
        answer["changes"].to_string().contains("needs a restart"),
        "{answer}"
    );
    until("an answer", PATIENCE, async || {
        matches!(get(proxy.address(), "/").await, Ok((200, _)))
    })
    .await;
}
