//! What routes change on the way, under restarts and reloads.

use std::net::SocketAddr;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, scale, turn, turn_alone, until};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(20);

/// Routes for what the load asks: each rewritten, and with rules for its fields.
fn routes(round: usize) -> String {
    let (other, mark) = (round % 2, format!("round-{round}"));
    let route = |matcher: &str, name: &str| {
        format!(
            "\n[[route]]\nname = \"{name}-{mark}\"\n{matcher}\npool = \"app\"\nrewrite = \"{{path}}?{{query}}&mark={mark}\"\n\
             [route.request_headers]\nset = {{ X-Mark = \"{mark}\", X-Real-IP = \"{{client}}\" }}\nadd = {{ X-Way = \"{{method}} {{host}}\" }}\n\
             [route.response_headers]\nset = {{ X-Mark = \"{mark}\" }}\nremove = [\"X-Powered-By\"]\n"
        )
    };
    let echo = match other {
        0 => "path = \"/echo\"",
        _ => "path_regex = \"^/ech\"",
    };
    let rest = match other {
        0 => "path_prefix = \"/\"",
        _ => "methods = [\"GET\", \"POST\"]",
    };
    [
        route(echo, "echo"),
        route("path_prefix = \"/slow\"", "slow"),
        route(rest, "rest"),
        format!("\n[[route]]\nhost = \"gone.test\"\nredirect = {{ host = \"{mark}.test\" }}\n"),
    ]
    .concat()
}

#[tokio::test]
async fn rolling_restart_under_header_rules_and_rewrites_loses_nothing() {
    let _turn = turn_alone().await;
    let mut bench = Bench::start("front-door", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        pool: routes(0),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let Front::Lameduck(proxy) = &front else {
        unreachable!()
    };
    let load = Load::start(LoadPlan::new(front.address(), scale().rate));
    for instance in &mut bench.instances {
        let sent = load.progress().sent;
        until("requests", PATIENCE, async || {
            load.progress().sent >= sent + 60
        })
        .await;
        roll::restart(instance, proxy, scale().deadline, &|_, _| {})
            .await
            .unwrap();
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    record(Row {
        test: "front-door",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec!["header rules and rewrites on every route".into()],
    });
}

/// A hundred times, every route is another one: its name, its rules, and what it matches by.
#[tokio::test]
async fn reloads_that_change_every_route_lose_nothing() {
    let _turn = turn().await;
    let bench = Bench::start("front-door-reload", App::BuiltIn, 2)
        .await
        .unwrap();
    let settings = |round| ProxySettings {
        pool: routes(round),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings(0)).await;
    let Front::Lameduck(proxy) = &front else {
        unreachable!()
    };
    let backends: Vec<(String, SocketAddr)> = bench
        .instances
        .iter()
        .map(|instance| (instance.name().to_owned(), instance.address()))
        .collect();
    let plan = LoadPlan {
        slow: Duration::from_millis(300),
        ..LoadPlan::new(front.address(), scale().rate)
    };
    let load = Load::start(plan);
    for round in 1..=100 {
        let text = settings(round).toml(proxy.socket(), &backends);
        std::fs::write(proxy.config(), text).unwrap();
        let answer = admin::call(proxy.socket(), "POST", "/v1/config/reload", None)
            .await
            .unwrap();
        let said = answer["changes"].to_string();
        assert!(said.contains(&format!("round-{round}")), "{said}");
        // Requests by this table, before the next one.
        let progress = load.progress();
        assert_eq!(progress.lost, 0, "after {round} reloads");
        until("requests", PATIENCE, async || {
            load.progress().sent >= progress.sent + 8
        })
        .await;
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    record(Row {
        test: "front-door-reload",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec!["100 reloads, each of which changes every route".into()],
    });
}
