//! What the API does when everything is right.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use crate::http::Http;
use crate::server::{PATIENCE, Server};

const APP_1: &str = "/v1/pools/app/backends/app-1";

#[lameduck_rig::test]
async fn pools_and_backends_are_shown() {
    let server = Server::start().await;
    let pools = server.ask("GET", "/v1/pools", None).await.json();
    assert_eq!(pools[0]["name"], "app");
    let pool = server.ask("GET", "/v1/pools/app", None).await.json();
    assert_eq!((&pool["eligible"], &pool["held"]), (&2.into(), &0.into()));
    let backends = server
        .ask("GET", "/v1/pools/app/backends", None)
        .await
        .json();
    assert_eq!(backends.as_array().unwrap().len(), 2);
    let backend = server.ask("GET", APP_1, None).await.json();
    assert_eq!(backend["address"], "127.0.0.1:3001");
    assert_eq!(
        (&backend["state"], &backend["health"]),
        (&"ready".into(), &"up".into())
    );
    let head = server.ask("HEAD", APP_1, None).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_drain_waits_for_what_is_in_flight() {
    let server = Server::start().await;
    let permit = server.endpoint("app-1").permit(0).unwrap();
    let asked = json!({ "timeout": "30s", "reason": "deploy 42" });
    let path = format!("{APP_1}/drain");
    let drain = server.ask("POST", &path, Some(asked));
    let finish = async {
        server
            .until(|pool| pool["backends"][0]["state"] == "draining")
            .await;
        let backend = server.ask("GET", APP_1, None).await.json();
        assert_eq!(backend["in_flight"], 1);
        assert_eq!(backend["drains"][0]["reason"], "deploy 42");
        assert_eq!(backend["drains"][0]["actor"], "operator");
        drop(permit);
    };
    let (answer, ()) = tokio::join!(drain, finish);
    let answer = answer.json();
    assert_eq!(
        (&answer["outcome"], &answer["in_flight"]),
        (&"drained".into(), &0.into())
    );
    let lifted = json!({ "wait": "5s" });
    let backend = server
        .ask("POST", &format!("{APP_1}/resume"), Some(lifted))
        .await
        .json();
    assert_eq!(
        (&backend["state"], &backend["drains"]),
        (&"ready".into(), &json!([]))
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_drain_s_deadline_and_not_waiting() {
    let server = Server::start().await;
    let _permit = server.endpoint("app-1").permit(0).unwrap();
    let path = format!("{APP_1}/drain");
    let asked = json!({ "wait": false });
    let answer = server.ask("POST", &path, Some(asked)).await.json();
    assert_eq!(
        (&answer["outcome"], &answer["in_flight"]),
        (&"asked".into(), &1.into())
    );
    let asked = json!({ "timeout": "50ms" });
    let answer = server.ask("POST", &path, Some(asked)).await.json();
    assert_eq!(
        (&answer["outcome"], &answer["cut"]),
        (&"timed_out".into(), &1.into())
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn hanging_up_takes_nothing_back() {
    let server = Server::start().await;
    let _permit = server.endpoint("app-1").permit(0).unwrap();
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    let request = format!("POST {APP_1}/drain HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    server
        .until(|pool| pool["backends"][0]["state"] == "draining")
        .await;
    drop(stream);
    // Long enough for a hang-up to be noticed, which is what this is about.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let backend = server.ask("GET", APP_1, None).await.json();
    assert_eq!(backend["state"], "draining");
    server.stop().await;
}

#[lameduck_rig::test]
async fn backends_are_registered_moved_and_removed() {
    let server = Server::start().await;
    let path = "/v1/pools/app/backends/new";
    let asked = |address: &str| Some(json!({ "address": address, "weight": 2, "wait": "5s" }));
    let backend = server
        .ask("PUT", path, asked("127.0.0.1:3003"))
        .await
        .json();
    assert_eq!(
        (&backend["state"], &backend["source"]),
        (&"ready".into(), &"api".into())
    );
    let permit = server.endpoint("new").permit(0).unwrap();
    let moved = server
        .ask("PUT", path, asked("127.0.0.1:3004"))
        .await
        .json();
    assert_eq!(
        (&moved["name"], &moved["address"]),
        (&"new~2".into(), &"127.0.0.1:3004".into())
    );
    let newest = server.ask("GET", path, None).await.json();
    assert_eq!(newest["address"], "127.0.0.1:3004");
    drop(permit);
    server
        .until(|pool| pool["backends"].as_array().unwrap().len() == 3)
        .await;
    let answer = server
        .ask("DELETE", &format!("{path}?timeout=1s&reason=done"), None)
        .await
        .json();
    assert_eq!(answer["outcome"], "drained");
    server
        .ask("GET", path, None)
        .await
        .problem(404, "unknown-backend");
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_wait_that_runs_out_is_504_and_the_change_stays() {
    let server = Server::start().await;
    let other = json!({ "actor": "supervisor", "id": "roll", "wait": false });
    server
        .ask("POST", &format!("{APP_1}/drain"), Some(other))
        .await;
    let asked = json!({ "wait": "50ms" });
    let answer = server
        .ask("POST", &format!("{APP_1}/resume"), Some(asked))
        .await;
    let problem = answer.problem(504, "wait-ran-out");
    assert!(problem["state"].as_str().unwrap().starts_with("drain"));
    server.stop().await;
}

#[lameduck_rig::test]
async fn liveness_startup_and_readiness_follow_the_process() {
    let server = Server::start().await;
    let status = |path: &'static str| {
        let server = &server;
        async move { server.ask("GET", path, None).await.status }
    };
    assert_eq!(status("/-/live").await, 200);
    assert_eq!(status("/-/ready?pool=app").await, 200);
    server.process.dead.store(true, Ordering::SeqCst);
    let problem = server
        .ask("GET", "/-/live", None)
        .await
        .problem(503, "not-alive");
    assert_eq!(problem["detail"], "The scribe has ended.");
    server.process.dead.store(false, Ordering::SeqCst);
    server.process.unstarted.store(true, Ordering::SeqCst);
    server
        .ask("GET", "/-/started", None)
        .await
        .problem(503, "not-ready");
    server.process.unready.store(true, Ordering::SeqCst);
    let problem = server
        .ask("GET", "/-/ready", None)
        .await
        .problem(503, "not-ready");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("round of probes")
    );
    server.process.unready.store(false, Ordering::SeqCst);

    let lame = server
        .ask("POST", "/v1/lame-duck", Some(json!({ "reason": "deploy" })))
        .await;
    assert_eq!(lame.json(), json!({ "lame_duck": true }));
    let problem = server
        .ask("GET", "/-/ready", None)
        .await
        .problem(503, "not-ready");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("DELETE /v1/lame-duck")
    );
    let lame = server.ask("DELETE", "/v1/lame-duck", None).await;
    assert_eq!(lame.json(), json!({ "lame_duck": false }));

    // No backend takes requests: the proxy is ready, the pool is not.
    for name in ["app-1", "app-2"] {
        let path = format!("/v1/pools/app/backends/{name}/drain");
        server
            .ask("POST", &path, Some(json!({ "wait": false })))
            .await;
    }
    assert_eq!(status("/-/ready").await, 200);
    let problem = server
        .ask("GET", "/-/ready?pool=app", None)
        .await
        .problem(503, "not-ready");
    assert!(problem["detail"].as_str().unwrap().contains("2 in all"));
    server.stop().await;
}

#[lameduck_rig::test]
async fn listeners_config_reload_and_metrics() {
    let server = Server::start().await;
    let listeners = server.ask("GET", "/v1/listeners", None).await.json();
    assert_eq!(listeners, json!([{ "address": "127.0.0.1:41234" }]));
    let config = server.ask("GET", "/v1/config", None).await.json();
    assert_eq!(config["pool"][0]["name"], "app");
    let reloaded = server.ask("POST", "/v1/config/reload", None).await.json();
    assert_eq!(reloaded, json!({ "changes": ["pool app: balance random"] }));
    server.process.bad_config.store(true, Ordering::SeqCst);
    let refused = server.ask("POST", "/v1/config/reload", None).await;
    let problem = refused.problem(422, "config-refused");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("lameduck.toml:3:1")
    );
    let metrics = server.ask("GET", "/metrics", None).await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(metrics.body, "lameduck_build_info 1\n");
    server.stop().await;
}

async fn subscribe(server: &Server, path: &str) -> Lines<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    until(&mut lines, |line| line == ": subscribed").await;
    lines
}

async fn until(lines: &mut Lines<BufReader<UnixStream>>, wanted: impl Fn(&str) -> bool) -> String {
    let found = async {
        loop {
            let line = lines
                .next_line()
                .await
                .unwrap()
                .expect("the stream goes on");
            if wanted(&line) {
                break line;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .expect("in time")
}

#[lameduck_rig::test]
async fn events_are_streamed_until_the_end() {
    let server = Server::start().await;
    let mut lines = subscribe(&server, "/v1/events?pool=app").await;
    server.ask("POST", &format!("{APP_1}/drain"), None).await;
    until(&mut lines, |line| line == "event: state").await;
    let data = until(&mut lines, |line| line.starts_with("data: ")).await;
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        (&event["backend"], &event["from"]),
        (&"app-1".into(), &"ready".into())
    );
    until(&mut lines, |line| line == "event: drain").await;
    // Stopping ends the stream instead of waiting for its reader.
    server.stop().await;
    while let Some(_line) = lines.next_line().await.unwrap() {}
}

#[lameduck_rig::test]
async fn stopping_removes_the_socket_and_answers_what_is_under_way() {
    let server = Server::start().await;
    let socket = server.socket.clone();
    let idle = UnixStream::connect(&socket).await.unwrap();
    assert_eq!(
        Http::new("GET", "/-/live").over_unix(&socket).await.status,
        200
    );
    assert!(socket.exists());
    server.stop().await;
    assert!(!socket.exists());
    drop(idle);
}
