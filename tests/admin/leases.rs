//! Leases over real sockets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::server::{PATIENCE, Server};

/// A lease's connection, as `curl -N` has it.
struct Held(BufReader<UnixStream>);

impl Held {
    async fn ask(server: &Server, name: &str, port: u16) -> Self {
        let body = json!({ "address": format!("127.0.0.1:{port}") }).to_string();
        let request = format!(
            "POST /v1/pools/app/backends/{name}/lease HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line that is an event; head and chunk sizes are passed over. `None`: the end.
    async fn event(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
            if read.expect("nothing came").unwrap() == 0 {
                return None;
            }
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).unwrap());
            }
        }
    }
}

fn names(pool: &Value) -> Vec<&str> {
    let backends = pool["backends"].as_array().unwrap().iter();
    backends
        .map(|backend| backend["name"].as_str().unwrap())
        .collect()
}

#[lameduck_rig::test]
async fn a_lease_lasts_as_long_as_its_connection() {
    let server = Server::start().await;
    let mut held = Held::ask(&server, "api-0", 4000).await;
    let first = held.event().await.unwrap();
    assert_eq!(
        (&first["event"], &first["name"]),
        (&"registered".into(), &"api-0".into())
    );
    let ready = held.event().await.unwrap();
    assert_eq!(
        (&ready["event"], &ready["state"]),
        (&"state".into(), &"ready".into())
    );
    // A silent stream gives a sign of life.
    let alive = held.event().await.unwrap();
    assert_eq!(
        (&alive["event"], &alive["last_probe"]),
        (&"alive".into(), &"200 in 1ms".into())
    );
    let begun = Instant::now();
    drop(held);
    server.until(|pool| names(pool) == ["app-1", "app-2"]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn each_lease_is_drained_by_its_id_and_told_so() {
    let server = Server::start().await;
    let mut first = Held::ask(&server, "api-0", 4000).await;
    let lease = first.event().await.unwrap()["lease"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut second = Held::ask(&server, "api-0", 4001).await;
    assert_eq!(second.event().await.unwrap()["name"], "api-0~2");
    server.until(|pool| pool["eligible"] == 4).await;
    let path = format!("/v1/leases/{lease}/drain");
    let answer = server
        .ask("POST", &path, Some(json!({ "timeout": "4s" })))
        .await
        .json();
    assert_eq!(answer["outcome"], "drained");
    loop {
        let event = first.event().await.unwrap();
        if event["event"] == "drain" {
            assert_eq!(event["outcome"], "drained");
            break;
        }
    }
    let answer = server.ask("POST", "/v1/leases/nope/drain", None).await;
    answer.problem(404, "unknown-lease");
    server.stop().await;
    // Stopping in order ends the streams.
    while second.event().await.is_some() {}
}

/// Leases don't use up the places of those who only ask.
#[lameduck_rig::test]
async fn many_leases_leave_the_door_open() {
    let server = Server::start().await;
    let mut held = Vec::new();
    for n in 0..100u16 {
        let mut one = Held::ask(&server, &format!("api-{n}"), 4000 + n).await;
        assert_eq!(one.event().await.unwrap()["event"], "registered");
        held.push(one);
    }
    server.until(|pool| pool["eligible"] == 102).await;
    drop(held);
    server
        .until(|pool| pool["backends"].as_array().unwrap().len() == 2)
        .await;
    server.stop().await;
}
