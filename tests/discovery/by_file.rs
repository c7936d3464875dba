//! `type = "file"`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck_rig::place::exe;

use crate::crowd::{Crowd, CrowdLoad};
use crate::rig::{
    all_ready, changes, grows_and_shrinks, pool, pool_becomes, proxy_with, replace, state,
};

/// So many backends of the crowd, as JSON.
fn json(crowd: &Crowd, count: u16) -> String {
    let one = |number| {
        let address = crowd.address(number);
        format!("{{\"name\": \"b{number}\", \"address\": \"{address}\"}}")
    };
    let all: Vec<_> = (0..count).map(one).collect();
    format!("[{}]", all.join(",\n"))
}

fn toml(crowd: &Crowd, count: u16) -> String {
    let mut text = String::new();
    for number in 0..count {
        let address = crowd.address(number);
        let _ = writeln!(
            text,
            "[[backend]]\nname = \"b{number}\"\naddress = \"{address}\""
        );
    }
    text
}

fn source(path: &Path, more: &str) -> String {
    format!("type = \"file\"\npath = {path:?}\n{more}")
}

#[lameduck_rig::test(threads = 2)]
async fn a_file_that_grows_to_a_thousand_and_back_costs_no_request() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("backends.json");
    std::fs::write(&path, json(&crowd, 3)).unwrap();
    let rig = proxy_with(dir, &source(&path, "confirm_after = \"500ms\"")).await;
    grows_and_shrinks(&rig, &crowd, 1000, async |count| {
        replace(&path, &json(&crowd, count));
    })
    .await;
}

#[lameduck_rig::test(threads = 2)]
async fn broken_wiped_and_missing_files_change_nothing() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("backends.toml");
    std::fs::write(&path, toml(&crowd, 4)).unwrap();
    let rig = proxy_with(dir, &source(&path, "confirm_after = \"100ms\"")).await;
    all_ready(&rig, 4).await;
    let load = CrowdLoad::start(rig.address, 2);
    let whole = toml(&crowd, 4);
    let half = &whole[..whole.len() / 2 - 3];
    let broken: [(&str, &dyn Fn(), &str); 5] = [
        ("half", &|| std::fs::write(&path, half).unwrap(), "failing"),
        ("empty", &|| std::fs::write(&path, "").unwrap(), "failing"),
        ("no list", &|| replace(&path, "backend = 3\n"), "failing"),
        (
            "a list of none",
            &|| replace(&path, "backend = []\n"),
            "doubted",
        ),
        ("gone", &|| std::fs::remove_file(&path).unwrap(), "failing"),
    ];
    for (what, act, becomes) in broken {
        act();
        let seen = pool_becomes(&rig, what, |pool| state(pool) == becomes).await;
        assert_eq!((seen.eligible, seen.backends.len()), (4, 4), "{what}");
        let told = seen.discovery[0]
            .failure
            .clone()
            .or(seen.discovery[0].doubt.clone());
        assert!(told.is_some_and(|why| !why.is_empty()), "{what}");
        // Longer than it takes to confirm an answer.
        load.answers(50).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let seen = pool(&rig).await;
        assert_eq!((seen.eligible, seen.backends.len()), (4, 4), "{what}");
        replace(&path, &whole);
        pool_becomes(&rig, "whole again", |pool| state(pool) == "ok").await;
    }
    let (_, lost) = load.finish().await;
    assert!(lost.is_empty(), "{lost:?}");
    // The line is told, too.
    rig.logs("backends.toml:").await;
    rig.logs("an answer is doubted").await;
}

#[lameduck_rig::test]
async fn words_of_the_file_are_taken_at_once_and_told() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("backends.json");
    std::fs::write(&path, json(&crowd, 3)).unwrap();
    let rig = proxy_with(dir, &source(&path, "")).await;
    all_ready(&rig, 3).await;
    // Two of three say that they stop: nothing of that is doubted.
    let ending = json(&crowd, 3).replacen("}", ", \"state\": \"terminating\"}", 2);
    replace(&path, &ending);
    let seen = pool_becomes(&rig, "one left", |pool| pool.eligible == 1).await;
    assert_eq!(state(&seen), "ok");
    let drained: Vec<_> = seen
        .backends
        .iter()
        .filter(|one| !one.drains.is_empty())
        .collect();
    assert_eq!(drained.len(), 2);
    assert!(
        drained
            .iter()
            .all(|one| one.drains[0].actor == "supervisor")
    );
    let one = json(&crowd, 3).lines().last().unwrap().to_owned();
    replace(&path, &format!("[{one}"));
    pool_becomes(&rig, "two gone", |pool| pool.backends.len() == 1).await;
    let told = changes(&rig).await;
    let told: Vec<_> = told.iter().map(|one| (&*one.by, one.summary())).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|(by, _)| *by == "discovery"), "{told:?}");
    assert!(told[0].1.starts_with("3 added (app/b0 at "), "{told:?}");
    assert!(
        told[1].1.contains("app/b0: state: serving → terminating"),
        "{told:?}"
    );
    assert!(told[2].1.starts_with("2 removed (app/b0 at "), "{told:?}");
    // The same on the command line.
    let shown = std::process::Command::new(exe())
        .args(["changes", "--last", "1", "--admin"])
        .arg(&rig.socket)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("discovery (file ") && shown.contains("- app/b1 at "),
        "{shown}"
    );
    let status = std::process::Command::new(exe())
        .args(["status", "--admin"])
        .arg(&rig.socket)
        .output()
        .unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains("discovery file ") && status.contains("1 backend, last answer "),
        "{status}"
    );
    let (_, metrics) = admin::request(&rig.socket, "GET", "/metrics", None)
        .await
        .unwrap();
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    assert!(
        metrics.contains("lameduck_discovery_backends{pool=\"app\",source=\"file "),
        "{metrics}"
    );
}

#[lameduck_rig::test]
async fn reloads_keep_start_and_end_sources() {
    let (crowd, dir) = (Crowd::start().await, tempfile::tempdir().unwrap());
    let (path, other) = (
        dir.path().join("backends.json"),
        dir.path().join("other.json"),
    );
    std::fs::write(&path, json(&crowd, 3)).unwrap();
    std::fs::write(&other, json(&crowd, 2)).unwrap();
    let rig = proxy_with(dir, &source(&path, "")).await;
    all_ready(&rig, 3).await;
    let load = CrowdLoad::start(rig.address, 2);
    let ids = |pool: &lameduck::registry::view::PoolView| -> Vec<u64> {
        pool.backends.iter().map(|one| one.id).collect()
    };
    let before = ids(&pool(&rig).await);
    // Another setting of the same source: what is known of it stays, and so does its doubt.
    std::fs::write(&path, "[]").unwrap();
    let (status, body) = rig
        .reload(
            "type = \"file\"\n",
            "type = \"file\"\nconfirm_after = \"50ms\"\n",
        )
        .await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("confirm_after"), "{body}");
    pool_becomes(&rig, "doubted", |pool| state(pool) == "doubted").await;
    load.answers(20).await;
    assert_eq!(ids(&pool(&rig).await), before);
    // Another file, which has two of the three: they stay as they are.
    let (status, body) = rig.reload("backends.json", "other.json").await;
    assert_eq!(status, 200, "{body}");
    pool_becomes(&rig, "two left", |pool| pool.backends.len() == 2).await;
    assert_eq!(ids(&pool(&rig).await), before[..2]);
    load.answers(20).await;
    let (_, lost) = load.finish().await;
    assert!(lost.is_empty(), "{lost:?}");
    let told = changes(&rig).await;
    let reloads: Vec<_> = told.iter().filter(|one| one.by == "reload").collect();
    assert_eq!(reloads.len(), 2, "{told:?}");
    assert_eq!(
        (reloads[1].added.len(), reloads[1].removed.len()),
        (1, 1),
        "{told:?}"
    );
}

#[test]
fn check_reads_the_file_and_says_where_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[pool]]\nname = \"app\"\n[[pool.discovery]]\ntype = \"file\"\npath = \"b.json\"\n";
    std::fs::write(&config, text).unwrap();
    let check = || {
        let output = std::process::Command::new(exe())
            .arg("check")
            .arg("-c")
            .arg(&config)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (is_good, told) = check();
    assert!(is_good && told.contains("no such file"), "{told}");
    std::fs::write(dir.path().join("b.json"), "[\n{\"address\": \"x\"}]").unwrap();
    let (is_good, told) = check();
    assert!(is_good && told.contains("b.json:2: "), "{told}");
    std::fs::write(dir.path().join("b.json"), "[]").unwrap();
    let (is_good, told) = check();
    assert!(is_good && !told.contains("b.json"), "{told}");
}
