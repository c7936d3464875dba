//! An API server by other hands: PyPI's kmock. It has no resource versions, and its watches begin with all that there is.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use lameduck::discovery::kubernetes::ApiAccess;
use lameduck_rig::kubernetes::slice;
use lameduck_rig::place;
use lameduck_rig::setting::skip;
use lameduck_rig::wire::Wire;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::listener::{FAST, Listener, pod, pods};

struct Kmock {
    address: SocketAddr,
    /// Its end is kmock's.
    _process: Child,
}

impl Kmock {
    async fn start() -> Option<Self> {
        let python = place::in_venv("kmock-venv", "python")?;
        let mut process = Command::new(python)
            .arg(place::root().join("tests/apps/kmock_server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines
            .next_line()
            .await
            .unwrap()
            .expect("kmock prints its URL");
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        Some(Self {
            address: address.parse().unwrap(),
            _process: process,
        })
    }

    async fn call(&self, method: &str, name: &str, body: &Value) {
        let body = body.to_string();
        let mut client = Wire::connect(self.address).await;
        let request = format!(
            "{method} /apis/discovery.k8s.io/v1/namespaces/shop/endpointslices{name} HTTP/1.1\r\nHost: kmock\r\n\
             Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        client.send(request).await;
        let answer = client.response().await;
        assert_eq!(answer.status(), 200, "{method} {name}: {}", answer.text());
    }
}

#[lameduck_rig::test]
async fn the_set_follows_an_api_server_by_other_hands() {
    let Some(kmock) = Kmock::start().await else {
        return skip("kmock", "target/kmock-venv (tests/setup.sh fetches it)");
    };
    kmock
        .call("POST", "", &slice("app-0", "app", 3000, &pods(2)))
        .await;
    let mut times = FAST;
    times.watch = Duration::from_secs(3);
    let mut listener = Listener::with(ApiAccess::Url(format!("http://{}", kmock.address)), times);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;

    let endpoints = |pods: &[lameduck_rig::kubernetes::Pod]| json!({ "endpoints": slice("app-0", "app", 3000, pods)["endpoints"] });
    kmock
        .call(
            "PATCH",
            "/app-0",
            &endpoints(&[pod(1).terminating(), pod(2), pod(3)]),
        )
        .await;
    listener
        .until_set(&["pod-1 terminating", "pod-2 serving", "pod-3 serving"])
        .await;
    kmock
        .call(
            "POST",
            "",
            &slice("app-1", "app", 3000, &[pod(4).not_ready()]),
        )
        .await;
    let all = [
        "pod-1 terminating",
        "pod-2 serving",
        "pod-3 serving",
        "pod-4 not ready",
    ];
    listener.until_set(&all).await;
    kmock.call("DELETE", "/app-1", &Value::Null).await;
    kmock.call("PATCH", "/app-0", &endpoints(&[pod(2)])).await;
    listener.until_set(&["pod-2 serving"]).await;
    assert_eq!(listener.failure, None);
}
