//! `lameduck run --keeper`: how it ends, what it passes on, and what it makes of upgrades.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use lameduck::rt::syscall::kill;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use serde_json::{Value, json};

use super::callers::Callers;
use super::fake_systemd::FakeSystemd;
use super::{PATIENCE, Stage, Watcher, files, run};
use crate::harness::apps::App;
use crate::harness::{Bench, until};
use lameduck_rig::process::{children, has_read_all, is_running};

/// A bad configuration is no reason to try for ever, nor is a taken address; their exit codes are the keeper's.
#[lameduck_rig::test]
async fn keeper_of_a_proxy_that_can_not_start_ends_as_it_does() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let taken = std::net::TcpListener::bind(files.address).unwrap();
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    for bad in [false, true] {
        if bad {
            std::fs::write(&files.config, "nonsense = 1").unwrap();
        }
        let alone = run(&[], &files.config).output().unwrap();
        let mut kept =
            ChildProcess::start("proxy", run(&["--keeper"], &files.config), &log).unwrap();
        let (status, _) = kept.wait(PATIENCE).await.unwrap();
        assert_eq!(status.code(), alone.status.code());
        assert_eq!(status.code(), Some(1));
        let said = std::fs::read_to_string(&log).unwrap();
        let what = if bad { "nonsense" } else { "can't listen on" };
        assert!(said.contains(what), "{said}");
    }
    drop(taken);
}

/// A supervisor that kills the keeper must find the address free when it starts the next one.
#[lameduck_rig::test]
async fn killed_keeper_takes_its_proxy_with_it() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let mut stage = Stage::start(&bench, Watcher::Keeper, files.clone()).await;
    let proxy = stage.pid().await;
    stage.process.signal(libc::SIGKILL).unwrap();
    stage.process.wait(PATIENCE).await.unwrap();
    until("the proxy to end", PATIENCE, async || !is_running(proxy)).await;
    let refused = TcpStream::connect(files.address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// HUP and USR1 reach the proxy, and what it says reaches the supervisor above the keeper.
#[lameduck_rig::test]
async fn keeper_passes_on_signals_and_what_the_proxy_says() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let mut above = FakeSystemd::start(bench.scratch.path());
    let mut command = run(&["--keeper"], &files.config);
    command.env("NOTIFY_SOCKET", above.path());
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    let mut process = ChildProcess::start("proxy", command, &log).unwrap();
    process.ignore_output();
    until("READY=1", PATIENCE, async || above.has_heard("READY=1")).await;
    files.write(true);
    process.signal(libc::SIGHUP).unwrap();
    until("the reload", PATIENCE, async || {
        TcpStream::connect(files.extra).is_ok()
    })
    .await;
    until("RELOADING=1", PATIENCE, async || {
        above.has_heard("RELOADING=1")
    })
    .await;
    assert!(above.names().is_empty(), "{:?}", above.names());
    process.signal(libc::SIGINT).unwrap();
    assert!(process.wait(PATIENCE).await.unwrap().0.success());
    above.settle();
    assert!(above.has_heard("STOPPING=1"));
}

/// A drain that ends with the end of a process is watched by the next proxy, too, whether that process ends before it
/// starts or after.
#[lameduck_rig::test]
async fn drain_until_exit_is_watched_again_after_a_kill() {
    for ends_meanwhile in [true, false] {
        let mut bench = Bench::start("survive", App::BuiltIn, 2).await.unwrap();
        let files = files(&bench);
        let mut stage = Stage::start(&bench, Watcher::Keeper, files.clone()).await;
        let body = json!({
            "actor": "supervisor", "until": "restarted", "restarted_when": "exit", "wait": false, "timeout": "60s"
        });
        let path = "/v1/pools/app/backends/app-1/drain";
        admin::call(&files.admin, "POST", path, Some(&body))
            .await
            .unwrap();
        let keeper = stage.process.pid();
        let before = stage.pid().await;
        if ends_meanwhile {
            // The keeper can start nobody until it goes on.
            kill(keeper, libc::SIGSTOP).unwrap();
        }
        kill(before, libc::SIGKILL).unwrap();
        let restart = async |bench: &mut Bench| {
            let app = &mut bench.instances[0];
            app.terminate().unwrap();
            app.exited(PATIENCE).await.unwrap();
            app.start_again().await.unwrap();
        };
        if ends_meanwhile {
            restart(&mut bench).await;
            kill(keeper, libc::SIGCONT).unwrap();
        }
        until("the next proxy", PATIENCE, async || {
            children(keeper).first().is_some_and(|pid| *pid != before)
        })
        .await;
        stage.ready().await;
        if !ends_meanwhile {
            // The same process passes its probes, and that is no restart.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let pool = stage.pool().await;
            assert_eq!(pool.backends[0].state, "drained", "{pool:#?}");
            restart(&mut bench).await;
        }
        until("the drain to end", PATIENCE, async || {
            let pool = stage.pool().await;
            pool.backends[0].state == "ready" && pool.backends[0].drains.is_empty()
        })
        .await;
    }
}

/// What answers `POST /v1/upgrade`.
async fn upgraded(stage: &Stage) -> Value {
    let report = admin::call(&stage.files.admin, "POST", "/v1/upgrade", Some(&json!({}))).await;
    report.unwrap()
}

async fn serving(stage: &Stage) -> Option<u64> {
    let call = admin::call(&stage.files.admin, "GET", "/v1/upgrade", None);
    let answer = tokio::time::timeout(Duration::from_secs(1), call).await;
    answer.ok()?.ok()?["pid"].as_u64()
}

/// The keeper follows whoever has taken over: when that is killed, another one serves soon, also while the process before it
/// still finishes and is its parent; and when the keeper is killed, all of them go.
#[lameduck_rig::test]
async fn keeper_follows_upgrades_and_brings_back_whoever_was_killed() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let mut stage = Stage::start(&bench, Watcher::Keeper, files.clone()).await;
    let callers = Callers::start(files.targets().into());
    let keeper = stage.process.pid();
    let mut kept = Vec::new();
    for finishing in [true, false] {
        // An idle connection that has sent half of a request keeps the old process.
        let mut client = TcpStream::connect(files.address).unwrap();
        if finishing {
            use std::io::Write as _;
            client
                .write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
                .unwrap();
            let from = client.local_addr().unwrap();
            until("the half of a request to be read", PATIENCE, async || {
                has_read_all(files.address, from)
            })
            .await;
        }
        let report = upgraded(&stage).await;
        assert_eq!(report["parent"], "systemd", "{report}");
        let (old, new) = (
            report["old_pid"].as_u64().unwrap(),
            report["pid"].as_u64().unwrap(),
        );
        if finishing {
            kept.push(client);
            assert!(is_running(old as u32));
        } else {
            until("the old one to end", PATIENCE, async || {
                !is_running(old as u32)
            })
            .await;
        }
        let lifted = json!({ "wait": false, "timeout": "5s" });
        let path = "/v1/pools/app/backends/app-1";
        admin::call(
            &files.admin,
            "POST",
            &format!("{path}/drain"),
            Some(&lifted),
        )
        .await
        .unwrap();
        let killed = std::time::Instant::now();
        kill(new as u32, libc::SIGKILL).unwrap();
        until("the next one", PATIENCE, async || {
            serving(&stage)
                .await
                .is_some_and(|pid| pid != new && pid != old)
        })
        .await;
        lameduck_rig::setting::say(&format!("back after {:?}", killed.elapsed()));
        assert_eq!(stage.pool().await.backends[0].state, "drained");
        let all = json!({ "all": true });
        admin::call(&files.admin, "POST", &format!("{path}/resume"), Some(&all))
            .await
            .unwrap();
        stage.ready().await;
        if finishing {
            assert!(is_running(old as u32), "it finishes what it has");
            drop(kept.pop());
            until("the old one to end", PATIENCE, async || {
                !is_running(old as u32)
            })
            .await;
        }
    }
    let (made, refused) = callers.stop();
    assert!(made > 20 && refused.is_empty(), "{made}: {refused:?}");
    let report = upgraded(&stage).await;
    let new = report["pid"].as_u64().unwrap() as u32;
    kill(keeper, libc::SIGKILL).unwrap();
    stage.process.wait(PATIENCE).await.unwrap();
    until("the proxy to end", PATIENCE, async || !is_running(new)).await;
    let refused = TcpStream::connect(files.address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}
