//! Kills at random instants, while drains, leases, reloads and upgrades run.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lameduck::registry::view::PoolView;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use parking_lot::Mutex;
use serde_json::json;

use super::callers::{Callers, client};
use super::fake_systemd::FakeSystemd;
use super::{Acknowledged, BACK, Files, INSTANCES, PATIENCE, Stage, Watcher, files, run};
use crate::harness::apps::App;
use crate::harness::{Bench, exe, proving, turn_beside_one, until};
use lameduck_rig::process::{descriptors, status_kib};
use lameduck_rig::setting::say;

/// Drains, resumes, registers, deregisters and reloads, one after the other, until it is aborted.
async fn change(files: Files, known: Arc<Mutex<Acknowledged>>, seed: u64, address: String) {
    let mut random = fastrand::Rng::with_seed(seed);
    let call = async |method: &str, path: String, body: serde_json::Value| {
        let answer = admin::call(&files.admin, method, &path, Some(&body))
            .await
            .ok()?;
        // "In force, but not saved" is an answer, too.
        answer["warning"].is_null().then_some(())
    };
    loop {
        match random.u8(..10) {
            drain @ 0..6 => {
                let name = format!("app-{}", random.usize(2..=INSTANCES));
                let drain = drain < 3;
                known.lock().drained.insert(name.clone(), None);
                let (verb, body) = match drain {
                    true => ("drain", json!({ "wait": false, "timeout": "5s" })),
                    false => ("resume", json!({ "all": true })),
                };
                let path = format!("/v1/pools/app/backends/{name}/{verb}");
                if call("POST", path, body).await.is_some() {
                    known.lock().drained.insert(name, Some(drain));
                }
            }
            registers @ 6..9 => {
                let name = format!("reg-{}", random.u8(1..=3));
                let path = format!("/v1/pools/app/backends/{name}");
                let here = registers < 8;
                known.lock().registered.insert(name.clone(), None);
                let done = match here {
                    true => call("PUT", path, json!({ "address": address })).await,
                    false => {
                        let there = known.lock().registered.contains_key(&name);
                        match there {
                            true => call("DELETE", path, json!({ "timeout": "1s" })).await,
                            false => None,
                        }
                    }
                };
                if done.is_some() {
                    known.lock().registered.insert(name, Some(here));
                }
            }
            _ => {
                let with_extra = !known.lock().with_extra;
                known.lock().with_extra = with_extra;
                files.write(with_extra);
                let _ = call("POST", "/v1/config/reload".to_owned(), json!({})).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..5))).await;
    }
}

/// What differs from what was acknowledged, if anything does.
fn difference(pool: &PoolView, known: &Acknowledged) -> Option<String> {
    let find = |name: &str| pool.backends.iter().find(|one| one.name == name);
    for (name, drained) in &known.drained {
        // These are in the configuration.
        let is = find(name)
            .unwrap()
            .drains
            .iter()
            .any(|drain| drain.actor == "operator");
        if drained.is_some_and(|drained| drained != is) {
            return Some(format!("{name} should be drained: {drained:?}, is: {is}"));
        }
    }
    for (name, registered) in &known.registered {
        let is = find(name).is_some();
        if registered.is_some_and(|registered| registered != is) {
            return Some(format!(
                "{name} should be registered: {registered:?}, is: {is}"
            ));
        }
    }
    None
}

/// Has another process take over in a moment, if it comes to that.
async fn upgrade(files: Files, wait: u64) {
    tokio::time::sleep(Duration::from_millis(wait)).await;
    let _ = admin::call(&files.admin, "POST", "/v1/upgrade", Some(&json!({}))).await;
}

fn seed() -> u64 {
    let given = std::env::var("SURVIVE_SEED").ok();
    given
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 32))
}

async fn survives_kills(with_keeper: bool) {
    let _turn = turn_beside_one().await;
    let rounds = if proving() { 200 } else { 10 };
    let seed = seed();
    say(&format!(
        "SURVIVE_SEED={seed}, keeper: {with_keeper}, {rounds} kills"
    ));
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::start("survive", App::BuiltIn, INSTANCES)
        .await
        .unwrap();
    let files = files(&bench);
    let watcher = match with_keeper {
        true => Watcher::Keeper,
        false => Watcher::Systemd(FakeSystemd::start(bench.scratch.path())),
    };
    let mut stage = Stage::start(&bench, watcher, files.clone()).await;
    let mut launcher = Command::new(exe());
    launcher.args([
        "exec",
        "--pool",
        "app",
        "--name",
        "leased",
        "--drain-timeout",
        "2s",
        "--",
    ]);
    launcher
        .arg(exe())
        .arg("demo-app")
        .arg("--journals")
        .arg(bench.scratch.path());
    launcher.env("LAMEDUCK_ADMIN", &files.admin);
    let log = bench.scratch.path().join("launcher.log");
    let mut launcher = ChildProcess::start("launcher", launcher, &log).unwrap();
    launcher.ignore_output();
    let is_back = |pool: &PoolView| {
        let ready = |name: &str| {
            pool.backends.iter().any(|one| {
                one.state == "ready"
                    && (one.name == name || one.name.starts_with(&format!("{name}~")))
            })
        };
        ready("leased") && ready("app-1")
    };
    until("the lease", PATIENCE, async || is_back(&stage.pool().await)).await;

    let known = Arc::new(Mutex::new(Acknowledged::default()));
    let callers = Callers::start(files.targets().into());
    let address = bench.instances[0].address().to_string();
    let (mut took, mut upgraded) = (Vec::new(), 0);
    for round in 0..rounds {
        let changes = change(
            files.clone(),
            known.clone(),
            random.u64(..),
            address.clone(),
        );
        let changes = tokio::spawn(changes);
        // In every other round, another process is about to take over, or has just done so.
        let upgrade = upgrade(files.clone(), random.u64(..200));
        let upgrade = random.bool().then(|| tokio::spawn(upgrade));
        tokio::time::sleep(Duration::from_millis(random.u64(..400))).await;
        upgraded += u32::from(stage.kill_any(&mut random).await > 1);
        changes.abort();
        let _ = changes.await;
        if let Some(upgrade) = upgrade {
            upgrade.abort();
        }
        // Whatever was under way, the file is whole.
        if let Ok(text) = std::fs::read(&files.state) {
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            assert!(
                read.is_ok(),
                "round {round}: {}",
                String::from_utf8_lossy(&text)
            );
        }
        // Nobody is there, and they come all the same.
        let waiting: Vec<_> = (0..4).map(|n| client(&files.targets()[n % 2])).collect();
        tokio::time::sleep(Duration::from_millis(random.u64(..50))).await;
        stage.start_again(&bench).await;
        for client in waiting {
            client
                .await
                .unwrap()
                .unwrap_or_else(|why| panic!("round {round}: {why}"));
        }
        let serves = Instant::now();
        let first = stage.pool().await;
        let lost = difference(&first, &known.lock());
        assert_eq!(lost, None, "round {round}: {first:#?}");
        while !is_back(&stage.pool().await) {
            assert!(
                serves.elapsed() < PATIENCE,
                "round {round}: {:#?}\n{}\n{}",
                stage.pool().await,
                launcher.last_words(),
                stage.process.last_words()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.push(serves.elapsed());
        stage.check();
    }
    let (made, refused) = callers.stop();
    took.sort_unstable();
    let slowest = took[took.len() - 1];
    say(&format!(
        "keeper: {with_keeper}: {rounds} kills, {upgraded} within an upgrade, {made} connects, {} refused, all back after {slowest:?} at most",
        refused.len()
    ));
    assert!(refused.is_empty(), "{refused:?}");
    assert!(made > rounds * 10, "{made}");
    // Every one where this is measured; elsewhere the machine may stand still for as long.
    let judged = if proving() {
        slowest
    } else {
        took[took.len() / 2]
    };
    assert!(judged <= BACK, "{took:?}");
    let known = known.lock().clone();
    finish(stage, &bench, &known, launcher).await;
}

/// An end in order: systemd goes on keeping the sockets for the next process, a keeper doesn't.
async fn finish(mut stage: Stage, bench: &Bench, known: &Acknowledged, mut launcher: ChildProcess) {
    let files = stage.files.clone();
    launcher.signal(libc::SIGTERM).unwrap();
    launcher.wait(PATIENCE).await.unwrap();
    // What was last asked for is in force.
    files.write(known.with_extra);
    admin::call(&files.admin, "POST", "/v1/config/reload", None)
        .await
        .unwrap();
    if let Watcher::Systemd(systemd) = &mut stage.watcher {
        systemd.settle();
        let expected = 3 + usize::from(known.with_extra);
        let names = systemd.names();
        assert_eq!(names.len(), expected, "{names:?}");
        // Only ASCII that systemd takes.
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 255 && !name.contains(':')),
            "{names:?}"
        );
    } else {
        let keeper = stage.process.pid();
        let memory = status_kib(keeper, "VmRSS");
        let open = descriptors(keeper);
        say(&format!(
            "the keeper has {memory:?} KiB and {open:?} descriptors"
        ));
        assert!(open.unwrap() <= 24, "{open:?}");
    }
    stage.end().await;
    match stage.watcher {
        Watcher::Keeper => {
            let refused = TcpStream::connect(files.address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            assert!(!files.admin.exists() && !files.web.exists());
        }
        Watcher::Systemd(_) => {
            // As `systemctl restart` has it.
            let waiting = client(&files.targets()[0]);
            let by_path = client(&files.targets()[1]);
            stage.start_again(bench).await;
            waiting.await.unwrap().unwrap();
            by_path.await.unwrap().unwrap();
        }
    }
}

#[lameduck_rig::test(threads = 2)]
async fn killed_proxy_refuses_nobody_where_systemd_keeps_its_sockets() {
    survives_kills(false).await;
}

#[lameduck_rig::test(threads = 2)]
async fn killed_proxy_refuses_nobody_where_its_keeper_keeps_its_sockets() {
    survives_kills(true).await;
}

/// Without a store and a keeper, the same clients are refused: the tests above can fail.
#[lameduck_rig::test(threads = 2)]
async fn killed_proxy_that_nobody_keeps_refuses_its_clients() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    let mut process = ChildProcess::start("proxy", run(&[], &files.config), &log).unwrap();
    process.ignore_output();
    until("it to serve", PATIENCE, async || {
        client(&files.targets()[0]).await.unwrap().is_ok()
    })
    .await;
    process.signal(libc::SIGKILL).unwrap();
    process.wait(PATIENCE).await.unwrap();
    for target in files.targets() {
        let why = client(&target).await.unwrap().unwrap_err();
        assert!(why.contains("refused"), "{why}");
    }
}
