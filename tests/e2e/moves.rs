//! Pauses, backups, splits and mirrors while instances are restarted under load: nothing is lost.

use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::LoadAccount;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;
use serde_json::{Value, json};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, proving, turn, until, usual_load};
use lameduck_rig::oracle;
use lameduck_rig::results::{Row, record};

const DEADLINE: Duration = Duration::from_secs(5);

/// How long each of these is under load.
fn length() -> Duration {
    match proving() {
        true => Duration::from_secs(60),
        false => Duration::from_secs(4),
    }
}

/// A pool of these instances, as TOML.
fn pool(name: &str, instances: &[DemoInstance]) -> String {
    let backends = instances.iter().map(|instance| {
        format!(
            "[[pool.backend]]\nname = \"{}\"\naddress = \"{}\"\n",
            instance.name(),
            instance.address()
        )
    });
    format!(
        "[[pool]]\nname = \"{name}\"\n{}",
        backends.collect::<String>()
    )
}

async fn call(proxy: &DemoProxy, method: &str, path: &str, body: Value) -> Value {
    let body = (!body.is_null()).then_some(body);
    admin::call(proxy.socket(), method, path, body.as_ref())
        .await
        .unwrap()
}

/// Nothing lost, nothing sent twice, no error of the app's.
fn clean(account: &LoadAccount) {
    assert!(account.is_clean(), "{account}");
    let twice = (account.delivered_twice, account.app_errors);
    assert_eq!(twice, (0, 0), "{account}");
}

fn note(app: &str, account: LoadAccount) {
    println!("{app}: {account}");
    record(Row {
        test: "moves",
        proxy: "lameduck".to_owned(),
        app: app.to_owned(),
        account,
        notes: Vec::new(),
    });
}

/// Paused in the middle of a restart, for longer than that takes, and resumed.
#[lameduck_rig::test]
async fn pause_in_the_middle_of_a_restart_loses_nothing() {
    let _turn = turn().await;
    let mut bench = Bench::start("pause", App::BuiltIn, 2).await.unwrap();
    let settings = ProxySettings {
        pool: "[pool.hold]\ntimeout = \"1s\"".into(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    let began = Instant::now();
    while began.elapsed() < length() {
        for instance in &mut bench.instances {
            let restart = roll::restart(instance, proxy, DEADLINE, &|_, _| {});
            let pause = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                call(proxy, "POST", "/v1/pools/app/pause", json!({"for": "1m"})).await;
            };
            let (restarted, ()) = tokio::join!(restart, pause);
            restarted.unwrap();
            until("requests to be held", DEADLINE * 4, async || {
                proxy.pool().await.unwrap().held > 0
            })
            .await;
            call(proxy, "DELETE", "/v1/pools/app/pause", Value::Null).await;
        }
    }
    let account = bench.account(load.stop().await, &front).await;
    clean(&account);
    note("pause", account);
}

/// One instance and its backup: while the one is restarted, the other has its requests, and none waits.
#[lameduck_rig::test]
async fn backup_takes_over_while_the_only_other_instance_is_restarted() {
    let _turn = turn().await;
    let mut bench = Bench::start("backup", App::BuiltIn, 2).await.unwrap();
    let backup = bench.instances[1].address();
    let settings = ProxySettings {
        pool: format!(
            "[[pool.backend]]\nname = \"app-2\"\naddress = \"{backup}\"\nbackup = true\n\
             [pool.hold]\non_empty = \"fail\""
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &bench.instances[..1], &settings).await;
    let proxy = front.proxy();
    until("both", Duration::from_secs(20), async || {
        proxy.pool().await.unwrap().eligible == 2
    })
    .await;
    let load = Load::start(usual_load(front.address()));
    let began = Instant::now();
    while began.elapsed() < length() {
        roll::restart(&mut bench.instances[0], proxy, DEADLINE, &|_, _| {})
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let account = bench.account(load.stop().await, &front).await;
    clean(&account);
    let lives = oracle::lives_of(&bench.instances[1..]);
    let taken: usize = lives.iter().map(|life| life.arrivals.len()).sum();
    assert!(taken > 0, "the backup got nothing");
    let (answered, taken) = (account.answered, taken as u64);
    assert!(
        taken < answered,
        "the backup got all: {taken} of {answered}"
    );
    note("backup", account);
}

/// The weights of two pools are moved to and fro while both are restarted.
#[lameduck_rig::test]
async fn split_moved_during_a_roll_loses_nothing() {
    let _turn = turn().await;
    let mut bench = Bench::start("split", App::BuiltIn, 4).await.unwrap();
    let settings = ProxySettings {
        pool: format!(
            "{}[[route]]\nname = \"shop\"\nsplit = {{ app = 95, next = 5 }}\n",
            pool("next", &bench.instances[2..])
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &bench.instances[..2], &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    let began = Instant::now();
    while began.elapsed() < length() {
        for (index, weights) in [(0, (1, 1)), (1, (0, 1)), (0, (1, 3)), (1, (95, 5))] {
            let body = json!({"weights": {"app": weights.0, "next": weights.1}});
            let instance = &mut bench.instances[index];
            let restart = roll::restart(instance, proxy, DEADLINE, &|_, _| {});
            let moved = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                call(proxy, "PUT", "/v1/routes/shop/split", body).await;
            };
            let (restarted, ()) = tokio::join!(restart, moved);
            restarted.unwrap();
        }
    }
    let account = bench.account(load.stop().await, &front).await;
    clean(&account);
    for instance in &bench.instances {
        let lives = oracle::lives_of(std::slice::from_ref(instance));
        let taken: usize = lives.iter().map(|life| life.arrivals.len()).sum();
        assert!(taken > 0, "{} got nothing", instance.name());
    }
    note("split", account);
}

/// A plan moves all to the pool whose instances are restarted meanwhile: that is no reason to go back.
#[lameduck_rig::test]
async fn plan_goes_on_while_the_pool_that_it_moves_to_is_restarted() {
    let _turn = turn().await;
    let mut bench = Bench::start("canary", App::BuiltIn, 4).await.unwrap();
    let settings = ProxySettings {
        pool: format!(
            "{}[[route]]\nname = \"shop\"\nsplit = {{ app = 5, next = 95 }}\n",
            pool("next", &bench.instances[2..])
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &bench.instances[..2], &settings).await;
    let proxy = front.proxy();
    let path = "/v1/routes/shop/split/plan";
    let plan = json!({
        "pool": "app", "to": 100, "in": format!("{}s", length().as_secs()), "steps": 4,
        // A tenth of the requests takes 2 s.
        "abort_on": ["5xx>1%", "failed>1%", "p99>10s"],
    });
    call(proxy, "POST", path, plan).await;
    let load = Load::start(usual_load(front.address()));
    let mut plan = Value::Null;
    let mut restarts = 0;
    while plan["state"] != "reached" || restarts < 2 {
        let instance = &mut bench.instances[restarts % 2];
        roll::restart(instance, proxy, DEADLINE, &|_, _| {})
            .await
            .unwrap();
        restarts += 1;
        plan = call(proxy, "GET", path, Value::Null).await;
        assert!(
            plan["state"] == "running" || plan["state"] == "reached",
            "{plan:#}"
        );
    }
    let account = bench.account(load.stop().await, &front).await;
    clean(&account);
    let pools = plan["records"].as_array().unwrap().iter();
    let counted: u64 = pools
        .flat_map(|record| record["pools"].as_array().unwrap())
        .map(|pool| pool["requests"].as_u64().unwrap())
        .sum();
    assert!(counted > 0 && counted <= account.answered, "{plan:#}");
    note("canary", account);
}

/// The shadow is drained, restarted and killed under the copies of all requests; the app's clients notice nothing.
#[lameduck_rig::test]
async fn restarts_and_deaths_of_a_shadow_have_no_effect_on_the_app_s_requests() {
    let _turn = turn().await;
    let mut bench = Bench::start("mirror", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        pool: format!(
            "{}[[route]]\nname = \"shop\"\npool = \"app\"\nmirror = {{ pool = \"shadow\" }}\n",
            pool("shadow", &bench.instances[2..])
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck_before(&bench, &bench.instances[..2], &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < length() {
        // One of the app's, in good order, and the shadow at any moment.
        let (app, shadow) = bench.instances.split_at_mut(2);
        roll::restart(&mut app[kills % 2], proxy, DEADLINE, &|_, _| {})
            .await
            .unwrap();
        shadow[0].signal_end(libc::SIGKILL).unwrap();
        shadow[0].exited(DEADLINE).await.unwrap();
        kills += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        shadow[0].start_again().await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    let (_, metrics) = admin::request(proxy.socket(), "GET", "/metrics", None)
        .await
        .unwrap();
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let sent = load.stop().await;
    // The shadow's arrivals are copies: for the oracle, it is no instance of the app.
    let mut evidence = bench.evidence(sent, &front).await;
    evidence.lives = oracle::lives_of(&bench.instances[..2]);
    let account = LoadAccount::of(&evidence);
    clean(&account);
    let count = |name| admin::metric(&metrics, name).unwrap_or(0);
    assert!(count("lameduck_mirrored_total") > 0, "{metrics}");
    assert!(count("lameduck_mirror_dropped_total") > 0, "{metrics}");
    note("mirror", account);
}
