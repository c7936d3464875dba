//! Launchers and apps that are killed.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use lameduck::rt::syscall::kill;
use lameduck::tools::demo::admin;

use crate::endings::{get, in_flight};
use crate::rig::{Rig, figure, proving, runs, until};

/// The lease breaks with the launcher: no probe interval is waited for.
#[lameduck_rig::test]
async fn a_killed_launcher_takes_its_app_along_and_the_proxy_drops_the_instance_at_once() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let app = launched.app();
    let slow = tokio::spawn(get(rig.proxy.address(), "/slow?ms=20000"));
    in_flight(&rig, 1).await;
    launched.process.signal(libc::SIGKILL).unwrap();
    let begun = Instant::now();
    until("the instance takes nothing more", async || {
        rig.state("api-0").await.as_deref() != Some("ready")
    })
    .await;
    let took = begun.elapsed();
    figure(&format!(
        "instance dropped {took:?} after SIGKILL to its launcher"
    ));
    assert!(!proving() || took < Duration::from_millis(10), "{took:?}");
    // By its lease, however long that took on a busy machine, and not because probes failed.
    rig.proxy_says("a launcher is gone without a drain").await;
    launched.exited().await;
    until("the app is gone", async || !runs(app)).await;
    rig.gone("api-0").await;
    // Nobody is left to answer it: what it was sent to has died. (A GET is held for another instance first.)
    slow.abort();
    until("one that died", async || {
        let metrics = admin::request(rig.proxy.socket(), "GET", "/metrics", None).await;
        let metrics = String::from_utf8_lossy(&metrics.unwrap().1).into_owned();
        let died = |line: &str| line.starts_with("lameduck_drain_total") && line.contains("died");
        let mut died = metrics.lines().filter(|line| died(line));
        died.any(|line| line.ends_with(" 1"))
    })
    .await;
}

/// Behind a shell, the server is not the launcher's child.
#[lameduck_rig::test]
async fn a_killed_launcher_takes_its_app_s_children_along() {
    let mut rig = Rig::start().await;
    let script = "\"$EXE\" demo-app --port $PORT --log \"$LOG\" & echo $! > \"$LOG.pid\"; wait";
    let mut launched = rig.script(&["--name", "api-0"], script);
    rig.ready("api-0").await;
    let server = std::fs::read_to_string(launched.journal.with_extension("journal.pid")).unwrap();
    let server: u32 = server.trim().parse().unwrap();
    assert!(runs(server));
    launched.process.signal(libc::SIGKILL).unwrap();
    launched.exited().await;
    until("the server is gone", async || !runs(server)).await;
}

/// A shell that dies of the signal leaves its server behind: the launcher ends it, in order.
#[lameduck_rig::test]
async fn what_a_wrapper_leaves_behind_is_stopped_too() {
    let mut rig = Rig::start().await;
    let script = "\"$EXE\" demo-app --port $PORT --log \"$LOG\" & wait";
    let mut launched = rig.script(&["--name", "api-0"], script);
    rig.ready("api-0").await;
    let status = launched.stop().await;
    assert_eq!(
        status.signal(),
        Some(libc::SIGTERM),
        "as the shell: {}",
        launched.said()
    );
    let journal = std::fs::read_to_string(&launched.journal).unwrap();
    assert!(journal.contains("\"exit\""), "{journal}");
}

#[lameduck_rig::test]
async fn an_app_that_crashes_leaves_with_its_launcher() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    kill(launched.app(), libc::SIGKILL).unwrap();
    assert_eq!(launched.exited().await.signal(), Some(libc::SIGKILL));
    rig.gone("api-0").await;
}

#[lameduck_rig::test]
async fn an_app_that_dies_in_mid_drain_is_told_with_its_losses() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let app = launched.app();
    let slow = tokio::spawn(get(rig.proxy.address(), "/slow?ms=20000"));
    in_flight(&rig, 1).await;
    launched.process.signal(libc::SIGTERM).unwrap();
    until("it drains", async || {
        rig.state("api-0").await.as_deref() == Some("draining")
    })
    .await;
    kill(app, libc::SIGKILL).unwrap();
    assert_eq!(launched.exited().await.signal(), Some(libc::SIGKILL));
    slow.abort();
    let said = launched.said();
    assert!(said.contains("died"), "{said}");
    assert!(said.contains("1 request lost"), "{said}");
}
