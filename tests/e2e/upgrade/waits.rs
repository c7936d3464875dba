//! Commands that wait for something are answered by the process that has taken over.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{EndOnDrop, PATIENCE, upgraded};
use crate::harness::exe;

/// Two backends, and an old process that finishes what it has for a minute.
async fn rig() -> Rig {
    Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"\ndeadline = \"60s\"",
        ..Setup::default()
    })
    .await
}

/// A command of lameduck's, in the background.
fn command(socket: &Path, words: &[&str]) -> JoinHandle<Output> {
    let ended = tokio::process::Command::new(exe())
        .args(words)
        .env("LAMEDUCK_ADMIN", socket)
        .kill_on_drop(true)
        .output();
    tokio::spawn(async move { ended.await.unwrap() })
}

async fn ended(command: JoinHandle<Output>) -> Value {
    let output = tokio::time::timeout(PATIENCE, command).await;
    let output = output.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A request that keeps the old process: where it is in flight, and both ends.
async fn lasting(rig: &Rig) -> (usize, Wire, Wire) {
    let client = rig.ask(GET).await;
    let (index, mut backend) = rig.first().await;
    backend.request().await;
    (index, client, backend)
}

/// Whoever runs `drain` waits for the drain, whichever process of the proxy's answers.
#[lameduck_rig::test]
async fn drain_that_is_waited_for_outlives_an_upgrade() {
    let rig = rig().await;
    let (index, mut client, mut backend) = lasting(&rig).await;
    let name = format!("app/{}", rig.backends[index].name);
    let words = ["drain", &name, "--timeout", "50s", "--json"];
    let drain = command(&rig.socket, &words);
    rig.until_state(index, "draining").await;
    let draining = Instant::now();
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!drain.is_finished());
    let lasted = draining.elapsed();
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    let answer = ended(drain).await;
    assert_eq!(answer["outcome"], "drained", "{answer}");
    let waited = answer["waited_ms"].as_u64().unwrap();
    assert!(
        u128::from(waited) >= lasted.as_millis(),
        "{waited} ms of {lasted:?}"
    );
}

/// It is the new process that has the tunnel, while the old one lasts for the sake of something else.
#[lameduck_rig::test]
async fn drain_of_a_tunnel_that_moves_ends_with_the_tunnel() {
    let rig = rig().await;
    let (busy, _client, _backend) = lasting(&rig).await;
    let index = 1 - busy;
    let mut tunnel = rig
        .ask("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    let mut far_end = rig.backends[index].accept().await;
    far_end.head().await;
    far_end
        .send("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    tunnel.head().await;
    let name = format!("app/{}", rig.backends[index].name);
    let words = ["drain", &name, "--timeout", "50s", "--json"];
    let drain = command(&rig.socket, &words);
    rig.until_state(index, "draining").await;
    let report = upgraded(&rig.socket).await;
    let _ended = EndOnDrop::of(&report);
    assert_eq!((&report["moved"], &report["left"]), (&1.into(), &1.into()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!drain.is_finished(), "the tunnel is open");
    far_end.send("still there").await;
    tunnel.expect("still there").await;
    drop((tunnel, far_end));
    let answer = ended(drain).await;
    assert_eq!(
        (&answer["outcome"], &answer["cut"]),
        (&"drained".into(), &0.into()),
        "{answer}"
    );
}

#[lameduck_rig::test]
async fn resume_and_register_that_wait_outlive_upgrades() {
    let rig = rig().await;
    let (busy, _client, _backend) = lasting(&rig).await;
    let waiting = &rig.backends[1 - busy];
    waiting.set_health(503);
    rig.until_state(1 - busy, "drained").await;
    let (name, address) = (format!("app/{}", waiting.name), waiting.address.to_string());
    let resume = command(&rig.socket, &["resume", &name, "--wait", "50s", "--json"]);
    let words = [
        "register",
        "app/another",
        &address,
        "--wait",
        "50s",
        "--json",
    ];
    let register = command(&rig.socket, &words);
    let mut last = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        last.push(EndOnDrop::of(&upgraded(&rig.socket).await));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!resume.is_finished() && !register.is_finished());
    waiting.set_health(200);
    for command in [resume, register] {
        let answer = ended(command).await;
        assert_eq!(answer["state"], "ready", "{answer}");
    }
}
