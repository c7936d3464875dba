//! Who waits for the first process's id: a supervisor that can be told of another one, and all others.

use std::os::unix::net::UnixDatagram;

use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::ProxySettings;

use super::{EndOnDrop, PATIENCE, begin, metric, refused, script, text, upgrade, upgraded, view};
use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, skip, turn, until};
use lameduck_rig::process::{children, is_running};

#[lameduck_rig::test]
async fn usr2_upgrades_and_a_killed_stand_in_stops_the_proxy() {
    let _turn = turn().await;
    let (_bench, mut proxy) = begin("upgrade-usr2").await;
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    proxy.process().signal(libc::SIGUSR2).unwrap();
    until("another process", PATIENCE, async || {
        let answer = admin::call(&socket, "GET", "/v1/upgrade", None).await;
        answer.is_ok_and(|view| view["pid"] != first && view["predecessor"].is_null())
    })
    .await;
    let serving = view(&socket).await.pid;
    assert!(matches!(get(proxy.address(), "/").await, Ok((200, _))));
    // HUP reaches the one that serves.
    let before = metric(&socket, "lameduck_config_reload_total").await;
    until("the stand-in", PATIENCE, async || {
        let line = std::fs::read(format!("/proc/{first}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("stand-in")
    })
    .await;
    proxy.process().signal(libc::SIGHUP).unwrap();
    until("a reload", PATIENCE, async || {
        metric(&socket, "lameduck_config_reload_total").await > before
    })
    .await;
    proxy.process().signal(libc::SIGKILL).unwrap();
    until("the proxy to stop", PATIENCE, async || !is_running(serving)).await;
}

/// systemd's side: it is told of another main process before that says that it is ready.
#[lameduck_rig::test]
async fn systemd_follows_the_process_that_has_taken_over() {
    let _turn = turn().await;
    let bench = Bench::start("upgrade-systemd", App::BuiltIn, 1)
        .await
        .unwrap();
    let dir = bench.scratch.path();
    let notify = dir.join("notify");
    let supervisor = UnixDatagram::bind(&notify).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, config) = (dir.join("p.sock"), dir.join("p.toml"));
    let settings = ProxySettings {
        server: "lame_duck = \"0s\"\ndeadline = \"5s\"".into(),
        ..ProxySettings::default()
    };
    let backends = [("app-1".to_owned(), bench.instances[0].address())];
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    let mut command = std::process::Command::new(exe());
    command
        .args(["run", "-c", text(&config)])
        .env_remove("LAMEDUCK_ADMIN")
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "400000");
    let mut old = ChildProcess::start("proxy", command, &dir.join("p.log")).unwrap();
    old.ignore_output();
    let said = |what: &str| {
        let mut all: Vec<String> = Vec::new();
        while !all.iter().any(|text| text.contains(what)) {
            let mut buffer = [0; 4096];
            let length = supervisor.recv(&mut buffer).unwrap();
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    };
    said("READY=1");
    let report = upgraded(&socket).await;
    assert_eq!(report["parent"], "systemd");
    let new = EndOnDrop::of(&report);
    let until_ready = said("READY=1");
    let main = format!("MAINPID={}", new.0);
    assert!(until_ready.contains(&main), "{until_ready:?}");
    assert!(
        !until_ready.iter().any(|text| text.contains("STOPPING")),
        "{until_ready:?}"
    );
    // The old one ends, and stays nowhere.
    let (status, _) = old.wait(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    said("WATCHDOG=1");
    assert_eq!(view(&socket).await.pid, new.0);
    syscall::kill(new.0, libc::SIGTERM).unwrap();
    said("STOPPING=1");
    until("its end", PATIENCE, async || !is_running(new.0)).await;
}

/// What `systemctl reload` does where the program is the same: a reload as any other, of which systemd is told, and rotated
/// logs are opened anew.
#[lameduck_rig::test]
async fn upgrade_that_needs_a_reload_only_is_a_reload_in_order() {
    let bench = Bench::start("upgrade-reload", App::BuiltIn, 1)
        .await
        .unwrap();
    let dir = bench.scratch.path();
    let notify = dir.join("notify");
    let supervisor = UnixDatagram::bind(&notify).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, config, log) = (
        dir.join("p.sock"),
        dir.join("p.toml"),
        dir.join("access.log"),
    );
    let settings = ProxySettings {
        admin: "http = \"\"".to_owned(),
        access_log: text(&log).to_owned(),
        ..ProxySettings::default()
    };
    let backends = [("app-1".to_owned(), bench.instances[0].address())];
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    let mut command = std::process::Command::new(exe());
    command
        .args(["run", "-c", text(&config)])
        .env_remove("LAMEDUCK_ADMIN")
        .env("NOTIFY_SOCKET", &notify);
    let mut proxy = ChildProcess::start("proxy", command, &dir.join("p.log")).unwrap();
    proxy.ignore_output();
    let said = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = supervisor.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains(what) {
                return;
            }
        }
    };
    said("READY=1");
    std::fs::rename(&log, dir.join("rotated")).unwrap();
    let output = upgrade(&socket, &["--if-changed", "--json"]).await;
    assert!(output.status.success());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "reloaded", "{report}");
    said("RELOADING=1");
    said("READY=1");
    until("the log to be there again", PATIENCE, async || log.exists()).await;
    assert_eq!(view(&socket).await.pid, proxy.pid());
}

/// Process 1 of a container reaps whatever comes to it, and still knows how the process of an upgrade has ended: one that fails,
/// and one that serves.
#[lameduck_rig::test]
async fn process_1_reaps_orphans_and_keeps_the_exit_status_of_an_upgrades_process() {
    let _turn = turn().await;
    let can = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !can {
        return skip("upgrade-process-1", "a pid namespace (run as root)");
    }
    let bench = Bench::start("upgrade-process-1", App::BuiltIn, 1)
        .await
        .unwrap();
    let dir = bench.scratch.path();
    let (socket, config) = (dir.join("p.sock"), dir.join("p.toml"));
    let settings = ProxySettings {
        server: "lame_duck = \"0s\"\ndeadline = \"5s\"".into(),
        admin: "http = \"\"".to_owned(),
        ..ProxySettings::default()
    };
    let backends = [("app-1".to_owned(), bench.instances[0].address())];
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(exe())
        .args(["run", "-c", text(&config)])
        .env_remove("LAMEDUCK_ADMIN");
    let mut outer = ChildProcess::start("proxy", command, &dir.join("p.log")).unwrap();
    outer.ignore_output();
    until("the proxy", PATIENCE, async || {
        let answer = admin::request(&socket, "GET", "/-/ready", None).await;
        matches!(answer, Ok((200, _)))
    })
    .await;
    assert_eq!(view(&socket).await.pid, 1);
    let first = children(outer.pid())[0];
    // Each leaves an orphan behind, which ends about when it does.
    let ends = script(dir, "ends", "(sleep 0.01; sleep 0.01) & sleep 0.01; exit 7");
    for round in 0..15 {
        let message = refused(&socket, &["--binary", text(&ends)]).await;
        assert!(
            message.contains("exit status: 7"),
            "round {round}: {message}"
        );
    }
    until("no zombie to be left", PATIENCE, async || {
        children(first).is_empty()
    })
    .await;
    upgraded(&socket).await;
    until("the stand-in", PATIENCE, async || {
        view(&socket).await.predecessor.is_none()
    })
    .await;
    // The stand-in ends as the process that serves does.
    syscall::kill(first, libc::SIGTERM).unwrap();
    let (status, _) = outer.wait(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
}
