//! Restart reports over upgrades: what is over stays known, what is under way goes on, and all figures are the log's.

use std::path::Path;
use std::process::Stdio;

use lameduck::registry::restart_view::{RestartList, RestartView};
use lameduck::tools::demo::admin;
use lameduck::tools::report::document::RestartReport;
use lameduck_rig::proxy::{Rig, Setup};

use super::{EndOnDrop, PATIENCE, text, upgraded, view};
use crate::harness::{exe, until};

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn list(rig: &Rig) -> RestartList {
    let list = admin::call(&rig.socket, "GET", "/v1/restarts", None)
        .await
        .unwrap();
    serde_json::from_value(list).unwrap()
}

async fn lameduck(words: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(exe());
    command
        .args(words)
        .env_remove("LAMEDUCK_ADMIN")
        .stdin(Stdio::null());
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Since when each backend is in its state.
async fn since(rig: &Rig) -> Vec<(String, String)> {
    let backends = rig.pool().await.backends.into_iter();
    backends.map(|one| (one.state, one.since)).collect()
}

/// Whether two instants are the same, as two processes show them: each has its own difference between two clocks, and keeps
/// it until it is off by 50 ms.
fn is_near(one: &str, other: &str) -> bool {
    let read = |text: &str| humantime::parse_rfc3339(text).unwrap();
    let (one, other) = (read(one), read(other));
    let apart = one
        .duration_since(other)
        .unwrap_or_else(|error| error.duration());
    apart.as_millis() <= 50
}

/// A finished restart, one under way with a request on it in the old process, and one more upgrade.
#[lameduck_rig::test]
async fn restarts_go_along_with_upgrades_and_verify_agrees_with_the_log_of_all_processes() {
    let rig = Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await;
    let first = rig.drain(0, "10s", "resumed");
    first.await.unwrap();
    rig.resume(0).await;
    rig.until_state(0, "ready").await;
    // Both have something to finish; the one that drains is to be told of it.
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = rig.ask(SLOW).await;
        let (index, mut backend) = rig.first().await;
        backend.head().await;
        clients.push((index, client, backend));
    }
    let on_second = clients.iter().filter(|(index, ..)| *index == 1).count() as u64;
    assert!(on_second > 0);
    rig.begin_drain(1, "60s", "resumed").await;
    let (before, states) = (list(&rig).await, since(&rig).await);
    assert_eq!(before.restarts.len(), 2);
    assert!(before.predecessors.is_empty());

    let mut processes = Vec::new();
    for _ in 0..2 {
        processes.push(EndOnDrop::of(&upgraded(&rig.socket).await));
        let after = list(&rig).await;
        assert_ne!(after.proxy.id, before.proxy.id);
        let known: Vec<_> = after.predecessors.iter().map(|one| &one.id).collect();
        assert_eq!(known, [&before.proxy.id]);
        assert_eq!(after.predecessors[0], before.proxy);
        assert_eq!(after.restarts[0], before.restarts[0]);
        let (running, was) = (&after.restarts[1], &before.restarts[1]);
        assert_eq!(
            (&running.id, &running.outcome),
            (&was.id, &"open".to_owned())
        );
        assert_eq!((&running.cause, &running.began), (&was.cause, &was.began));
        for ((state, at), (old_state, old_at)) in since(&rig).await.iter().zip(&states) {
            assert_eq!(state, old_state);
            assert!(is_near(at, old_at), "{at} {old_at}");
        }
    }
    for (_, client, backend) in &mut clients {
        backend.answer_and_close("done").await;
        assert_eq!(client.response().await.text(), "done");
    }
    rig.until_state(1, "drained").await;
    until("the old processes to end", PATIENCE, async || {
        view(&rig.socket).await.predecessor.is_none()
    })
    .await;
    rig.resume(1).await;
    rig.until_state(1, "ready").await;
    let after = list(&rig).await;
    assert_eq!(after.restarts.len(), 2, "{:#?}", after.restarts);
    let over = &after.restarts[1];
    assert_eq!(over.outcome, "resumed");
    assert_eq!(
        (over.requests.served, over.requests.lines),
        (on_second, on_second)
    );
    // Two processes have served meanwhile: neither knows how long all of it took.
    assert_eq!(over.latency.during, None);

    let dir = tempfile::tempdir().unwrap();
    let (report, log) = (
        dir.path().join("report.json"),
        rig.socket.with_file_name("access"),
    );
    let made = write_report(&rig, &report).await;
    assert_eq!((made.restarts.len(), made.total.served), (2, on_second));
    let (code, said) = lameduck(&["verify", text(&report), "--log", text(&log)]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("another lameduck process"), "{said}");
    // And it would not agree with less.
    let mut lie = made;
    lie.restarts[1].requests.served -= 1;
    lie.total.served -= 1;
    std::fs::write(&report, serde_json::to_string(&lie).unwrap()).unwrap();
    let (code, said) = lameduck(&["verify", text(&report), "--log", text(&log)]).await;
    assert_eq!(code, Some(7), "{said}");
}

async fn write_report(rig: &Rig, path: &Path) -> RestartReport {
    let socket = text(&rig.socket);
    let words = [
        "report",
        "--since",
        "1h",
        "--json",
        "--admin",
        socket,
        "--output",
        text(path),
    ];
    let (code, said) = lameduck(&words).await;
    assert_eq!(code, Some(0), "{said}");
    RestartReport::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Of a backend that goes down while the old process still has a request on it, either process tells what it has seen, and a
/// loss of the old one is in the report.
#[lameduck_rig::test]
async fn loss_of_the_old_process_is_in_the_new_ones_report() {
    let rig = Rig::new(Setup {
        server: "lame_duck = \"0s\"",
        pool: "fall = 1",
        ..Setup::default()
    })
    .await;
    let mut client = rig
        .ask("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    rig.backends[0].set_health(500);
    rig.until_state(0, "down").await;
    // The old process has a prober of its own.
    until("both processes to call it down", PATIENCE, async || {
        let log = rig.log();
        let says = |line: &&str| line.contains("state changed") && line.contains("to=\"down\"");
        log.lines().filter(says).count() == 2
    })
    .await;
    backend.reset();
    assert_eq!(client.response().await.status(), 502);
    until("the old process to end", PATIENCE, async || {
        view(&rig.socket).await.predecessor.is_none()
    })
    .await;
    rig.backends[0].set_health(200);
    rig.until_state(0, "ready").await;
    let list = list(&rig).await;
    let seen: Vec<_> = list.restarts.iter().collect();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    let is_old = |one: &&&RestartView| list.predecessors[0].has_seen(one);
    let (old, new) = match seen.iter().position(|one| is_old(&one)) {
        Some(0) => (seen[0], seen[1]),
        _ => (seen[1], seen[0]),
    };
    assert_eq!(
        (&*old.outcome, old.requests.lost),
        ("unseen", 1),
        "{old:#?}"
    );
    assert_eq!(
        (&*new.outcome, new.requests.lost),
        ("resumed", 0),
        "{new:#?}"
    );

    let dir = tempfile::tempdir().unwrap();
    let (report, log) = (
        dir.path().join("report.json"),
        rig.socket.with_file_name("access"),
    );
    assert_eq!(write_report(&rig, &report).await.total.lost, 1);
    let (code, said) = lameduck(&["verify", text(&report), "--log", text(&log)]).await;
    assert_eq!(code, Some(0), "{said}");
    // What nobody has seen the end of is no backend that takes no requests.
    let socket = text(&rig.socket);
    let words = [
        "report",
        "--since",
        "1h",
        "--fail-on",
        "unfinished",
        "--admin",
        socket,
    ];
    let (code, said) = lameduck(&words).await;
    assert_eq!(code, Some(0), "{said}");
}
