//! The commands, as processes, against the server: output and exit codes.

use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::process::Command;

use crate::server::{PATIENCE, Server};

fn command(server: &Server, line: &str) -> Command {
    let mut command = Command::new(lameduck_rig::place::exe());
    command
        .args(line.split_whitespace())
        .env_clear()
        .env("LAMEDUCK_ADMIN", &server.socket)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub async fn run(server: &Server, line: &str) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, command(server, line).output()).await;
    told(output.expect("it ends").unwrap())
}

fn told(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[lameduck_rig::test]
async fn status_shows_the_pool() {
    let server = Server::start().await;
    let (code, out, err) = run(&server, "status").await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("app (least_requests): 2 of 2 backends eligible"),
        "{out}"
    );
    assert!(out.contains("app-1  ready"), "{out}");
    assert!(!out.contains('\x1b'), "{out:?}");
    let (code, out, _) = run(&server, "status app --json").await;
    let pools: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &pools[0]["eligible"]), (0, &2.into()));
    let (code, out, err) = run(&server, "status nope").await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("known pools: app"), "{err}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn drain_set_health_and_resume_each_change_what_status_shows() {
    let server = Server::start().await;
    assert_eq!(
        run(&server, "health app/app-1").await.1,
        "app/app-1: ready\n"
    );
    let (code, out, err) = run(&server, "drain app/app-1 --reason x").await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("app/app-1: drained in "), "{out}");
    let (code, out, _) = run(&server, "health app/app-1 --json").await;
    let health: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &health["healthy"]), (0, &true.into()));
    assert_eq!(run(&server, "health app").await.0, 0);
    assert_eq!(run(&server, "health app/nope").await.0, 1);
    let (code, out, _) = run(&server, "resume app/app-1 --wait 5s").await;
    assert_eq!(
        (code, out.as_str()),
        (0, "app/app-1: ready at 127.0.0.1:3001\n")
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn drain_and_resume_of_a_pool_mean_all_of_its_backends() {
    let server = Server::start().await;
    let (code, out, err) = run(&server, "drain app").await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("app/app-1: drained in "), "{out}");
    assert!(out.contains("app/app-2: drained in "), "{out}");
    assert!(err.contains("no other backend of app is ready"), "{err}");
    let (code, out, err) = run(&server, "resume app --wait 5s").await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.matches(": ready at ").count(), 2, "{out}");
    let (code, _, err) = run(&server, "drain nope").await;
    assert_eq!(code, 1);
    assert!(err.contains("known pools: app"), "{err}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn drain_of_the_last_ready_backend_says_so_before_it_waits() {
    let server = Server::start().await;
    let (_, _, err) = run(&server, "drain app/app-1").await;
    assert_eq!(err, "", "another one is ready");
    let (code, _, err) = run(&server, "drain app/app-2").await;
    assert_eq!(code, 0);
    assert!(err.contains("no other backend of app is ready"), "{err}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_drain_that_runs_out_is_3() {
    let server = Server::start().await;
    let _permit = server.endpoint("app-1").permit(0).unwrap();
    let (code, _, err) = run(&server, "drain app/app-1 --timeout 50ms").await;
    assert_eq!(code, 3);
    assert!(err.contains("1 request cut"), "{err}");
    let (code, out, _) = run(&server, "drain app/app-1 --no-wait --json").await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["outcome"]), (0, &"asked".into()));
    server.stop().await;
}

#[lameduck_rig::test]
async fn an_interrupted_drain_is_130_and_stays() {
    let server = Server::start().await;
    let _permit = server.endpoint("app-1").permit(0).unwrap();
    let mut command = command(&server, "drain app/app-1");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server
        .until(|pool| pool["backends"][0]["state"] == "draining")
        .await;
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .unwrap();
    assert!(sent.success());
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let (code, _, err) = told(output.expect("it ends").unwrap());
    assert_eq!(code, 130);
    assert!(
        err.contains("`lameduck resume app/app-1` lifts it"),
        "{err}"
    );
    let pool = server.world().await;
    assert_eq!(pool[0]["backends"][0]["state"], "draining");
    server.stop().await;
}

#[lameduck_rig::test]
async fn register_and_deregister() {
    let server = Server::start().await;
    let (code, out, err) = run(&server, "register app/new 127.0.0.1:3003 --wait 5s").await;
    assert_eq!(
        (code, out.as_str()),
        (0, "app/new: ready at 127.0.0.1:3003\n"),
        "{err}"
    );
    let (code, out, _) = run(&server, "deregister app/new --timeout 1s").await;
    assert_eq!(code, 0);
    assert!(out.starts_with("app/new: drained and removed in "), "{out}");
    let (code, _, err) = run(&server, "deregister app/app-1").await;
    assert_eq!(code, 1);
    assert!(err.contains("configuration file"), "{err}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn resume_waits_for_a_name_that_may_come_and_says_that_none_came() {
    let server = Server::start().await;
    let (code, _, err) = run(&server, "resume app/new --wait 1h").await;
    assert_eq!(code, 1, "the file names all of its backends");
    assert!(err.contains("known backends: app-1, app-2"), "{err}");
    run(&server, "register app/other 127.0.0.1:3003").await;
    let resume = command(&server, "resume app/new --wait 1h")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    run(&server, "register app/new 127.0.0.1:3004").await;
    let ended = tokio::time::timeout(PATIENCE, resume.wait_with_output()).await;
    let (code, out, err) = told(ended.expect("it has come").unwrap());
    assert_eq!(
        (code, out.as_str()),
        (0, "app/new: ready at 127.0.0.1:3004\n"),
        "{err}"
    );
    let (code, _, err) = run(&server, "resume app/newer --wait 20ms").await;
    assert_eq!(code, 3);
    assert!(
        err.contains("no backend `newer` has come to pool `app` within 20ms"),
        "{err}"
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn reload_prints_changes_or_diagnostics() {
    let server = Server::start().await;
    let (code, out, _) = run(&server, "reload").await;
    assert_eq!((code, out.as_str()), (0, "pool app: balance random\n"));
    server.process.bad_config.store(true, Ordering::SeqCst);
    let (code, out, err) = run(&server, "reload --json").await;
    assert_eq!((code, out.as_str()), (1, ""));
    // Two lines stay two lines.
    assert!(
        err.contains("unknown key `pol`\n --> lameduck.toml:3:1"),
        "{err}"
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn without_a_proxy_it_is_5_and_both_sockets_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(lameduck_rig::place::exe())
        .arg("status")
        .env_clear()
        .env("XDG_RUNTIME_DIR", dir.path())
        .output();
    let (code, _, err) = told(output.await.unwrap());
    assert_eq!(code, 5);
    assert!(err.contains("/run/lameduck/lameduck.sock"), "{err}");
    assert!(
        err.contains(&dir.path().join("lameduck.sock").display().to_string()),
        "{err}"
    );
    assert!(err.contains("LAMEDUCK_ADMIN"), "{err}");
}

#[lameduck_rig::test]
async fn watching_prints_each_change_and_survives_a_closed_pipe() {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let server = Server::start().await;
    let mut command = command(&server, "status app --watch --json");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&first).unwrap()[0]["eligible"],
        2
    );
    server
        .ask("POST", "/v1/pools/app/backends/app-1/drain", None)
        .await;
    let changed = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if serde_json::from_str::<Value>(&line).unwrap()[0]["eligible"] == 1 {
                return;
            }
        }
        panic!("it ended");
    };
    tokio::time::timeout(PATIENCE, changed).await.unwrap();
    drop(lines);
    // The next change finds nobody who reads: it ends, without a backtrace.
    server
        .ask("POST", "/v1/pools/app/backends/app-1/resume", None)
        .await;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let (code, _, err) = told(output.expect("it ends").unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
    server.stop().await;
}

#[lameduck_rig::test]
async fn pause_holds_or_answers_until_resume_and_leaves_drains_alone() {
    let server = Server::start().await;
    let (code, out, err) = run(&server, "pause app --for 2m --reason migration").await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("app: paused, requests wait (0 now), until 2"),
        "{out}"
    );
    let (_, out, _) = run(&server, "status app").await;
    assert!(out.contains("\n paused: requests wait (ends in "), "{out}");
    assert!(out.contains("): migration"), "{out}");
    let page = tempfile::NamedTempFile::with_suffix(".txt").unwrap();
    std::fs::write(page.path(), "soon\n").unwrap();
    let line = format!("pause app --page {} --status 500", page.path().display());
    let (code, out, _) = run(&server, &line).await;
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "app: still paused, requests get the page, with status 500, until `lameduck resume app`\n"
    );
    let kept = server.registry.snapshot().pools[0].pause.clone().unwrap();
    let page = kept.page.as_ref().unwrap();
    assert_eq!(
        (page.media_type.as_str(), page.body.as_str()),
        ("text/plain; charset=utf-8", "soon\n")
    );
    let (_, out, _) = run(&server, "drain app/app-1").await;
    assert!(out.contains("drained in"), "{out}");
    let (code, out, err) = run(&server, "resume app").await;
    assert_eq!(
        (code, out.as_str()),
        (0, "app: no longer paused; 0 requests waited\n")
    );
    assert!(err.contains("once more lifts those of operators"), "{err}");
    let (_, out, _) = run(&server, "status app --json").await;
    let pools: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pools[0].get("pause"), None);
    assert_eq!(pools[0]["backends"][0]["drains"][0]["actor"], "operator");
    // With --all, both at once.
    run(&server, "pause app").await;
    let (code, out, _) = run(&server, "resume app --all --wait 5s").await;
    assert_eq!(code, 0);
    assert!(out.starts_with("app: no longer paused"), "{out}");
    assert!(out.contains("app/app-1: ready"), "{out}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn pause_that_can_not_be_says_what_to_do() {
    let server = Server::start().await;
    let large = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(large.path(), "x".repeat(40_000)).unwrap();
    let binary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(binary.path(), [0xff, 0xfe]).unwrap();
    for (line, expected, says) in [
        ("pause ap".to_owned(), 1, "(did you mean `app`?)"),
        ("pause app --for 2h".to_owned(), 1, "1h at most"),
        (
            "pause app --page /nowhere/x.html".to_owned(),
            1,
            "can't use the page /nowhere/x.html",
        ),
        (
            format!("pause app --page {}", large.path().display()),
            1,
            "larger than 30KiB",
        ),
        (
            format!("pause app --page {}", binary.path().display()),
            1,
            "not text",
        ),
        ("pause app --status 503".to_owned(), 2, "--page"),
        ("pause app/app-1".to_owned(), 2, "write POOL"),
    ] {
        let (code, out, err) = run(&server, &line).await;
        assert_eq!((code, out.as_str()), (expected, ""), "{line}: {err}");
        assert!(err.contains(says), "{line}: {err}");
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn split_shows_and_moves_weights() {
    let server = Server::start().await;
    server.split().await;
    let (code, out, err) = run(&server, "split shop").await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "shop: app=95 (95 %) next=5 (5 %)\n");
    let (code, out, _) = run(&server, "split shop app=50 next=50").await;
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "shop: app=50 (50 %) next=50 (50 %); moved (the configuration has app=95 next=5)\n"
    );
    let (_, out, _) = run(&server, "status").await;
    assert!(
        out.contains("\n split of route shop: 50 of 100 (configured: 95)"),
        "{out}"
    );
    let (code, out, _) = run(&server, "split shop --reset --json").await;
    let split: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &split["weights"]["app"]), (0, &95.into()));
    for (line, expected, says) in [
        ("split shp", 1, "(did you mean `shop`?)"),
        ("split shop app=1", 1, "`next` is missing"),
        ("split shop app=1 app=2", 2, "two weights"),
    ] {
        let (code, _, err) = run(&server, line).await;
        assert_eq!(code, expected, "{line}: {err}");
        assert!(err.contains(says), "{line}: {err}");
    }
    server.stop().await;
}
