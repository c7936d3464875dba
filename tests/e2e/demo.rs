//! `lameduck demo`, as a newcomer runs it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lameduck::rt::syscall;
use lameduck::tools::demo::oracle::LoadAccount;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use lameduck_rig::process::{children, is_running};

use crate::harness::{exe, turn_beside_one, until};

#[lameduck_rig::test]
async fn loses_nothing_in_under_30_s_and_cleans_up() {
    let _turn = turn_beside_one().await;
    let temp = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let command = Command::new(exe())
        .args(["demo", "--json"])
        .env("TMPDIR", temp.path())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), command)
        .await
        .unwrap()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let account: LoadAccount = serde_json::from_slice(&output.stdout).unwrap();
    assert!(account.is_clean() && account.stops == 6, "{account}");
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "took {:?}",
        begun.elapsed()
    );
    assert_eq!(errors.matches("ready again in").count(), 6, "{errors}");
    assert_eq!(
        std::fs::read_dir(temp.path()).unwrap().count(),
        0,
        "files were left behind"
    );
}

#[lameduck_rig::test]
async fn an_interrupt_leaves_nothing_behind() {
    let _turn = turn_beside_one().await;
    let temp = tempfile::tempdir().unwrap();
    let mut command = Command::new(exe());
    command
        .arg("demo")
        .env("TMPDIR", temp.path())
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .process_group(0);
    let mut demo = command.spawn().unwrap();
    let pid = demo.id().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("admin") {
            break;
        }
    }
    assert!(!children(pid).is_empty());
    let children = children(pid);
    syscall::kill(pid, libc::SIGINT).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(20), demo.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(
        std::fs::read_dir(temp.path()).unwrap().count(),
        0,
        "files were left behind"
    );
    // The last of them may still be on its way out: they are killed, and nobody waits for them.
    until("the children's end", Duration::from_secs(20), async || {
        !children.iter().any(|pid| is_running(*pid))
    })
    .await;
}
