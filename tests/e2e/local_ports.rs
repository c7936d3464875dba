//! A host whose local ports for a backend are all in use (EADDRNOTAVAIL): in a network namespace with few of them, kept
//! connections use them up, and answer, log and metric name that cause and what to do about it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::scratch::ScratchDir;

use crate::harness::{exe, get, skip, until};
use lameduck_rig::descriptors::hand_down;

const PATIENCE: Duration = Duration::from_secs(20);
/// The ports of the namespace: two even and two odd ones. The kernel takes them for one destination each.
const PORTS: [&str; 2] = ["40000", "40003"];
/// Where the app listens in the namespace, out of that range.
const APP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3001);

/// The words that make a network namespace: as root, or as a user who may make one of users, too.
fn namespace() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    ways.into_iter().find(|way| {
        let mut command = Command::new("unshare");
        command
            .args(*way)
            .args(["python3", "tests/shared/own_network.py"]);
        let status = command.args(PORTS).arg("true").status();
        status.is_ok_and(|status| status.success())
    })
}

#[lameduck_rig::test]
async fn local_ports_that_are_used_up_are_named_with_their_remedy() {
    let Some(way) = namespace() else {
        return skip(
            "local_ports",
            "python3, and the right to make a network namespace (unshare --net)",
        );
    };
    let scratch = ScratchDir::new("lameduck-ports").unwrap();
    let dir = scratch.path();
    // The clients are out here: a socket stays in the namespace in which it was made.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = ProxySettings {
        listen: address,
        pool: "[pool.health]\npath = \"/health\"\n[pool.hold]\ntimeout = \"300ms\"".into(),
        access_log: dir.join("access.log").display().to_string(),
        ..ProxySettings::default()
    };
    let (config, socket) = (dir.join("proxy.toml"), dir.join("proxy.sock"));
    let backends = [("app-1".to_owned(), APP)];
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    // App and proxy share the namespace; the shell is the proxy in the end.
    let script = "\"$0\" demo-app --name app-1 --port 3001 >app.log 2>&1 </dev/null 3<&- & \
                  LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" run -c proxy.toml";
    let mut command = Command::new("unshare");
    command
        .args(way)
        .arg("python3")
        .arg(
            std::env::current_dir()
                .unwrap()
                .join("tests/shared/own_network.py"),
        )
        .args(PORTS)
        .args(["sh", "-c", script])
        .arg(exe())
        .current_dir(dir)
        .env_remove("LAMEDUCK_ADMIN");
    hand_down(&mut command, [&listener]);
    let mut proxy = ChildProcess::start("proxy", command, &dir.join("proxy.log")).unwrap();
    proxy.ignore_output();
    until("ready", PATIENCE, async || {
        proxy.check().unwrap();
        let ready = admin::request(&socket, "GET", "/-/ready?pool=app", None).await;
        matches!(ready, Ok((200, _)))
    })
    .await;

    // More clients than there are ports ask again and again, so that a probe that fails meanwhile decides nothing.
    let enough = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..6)
        .map(|_| tokio::spawn(keep_busy(address, Arc::clone(&enough))))
        .collect();
    let shortages = async || {
        let metrics = admin::request(&socket, "GET", "/metrics", None).await;
        let (_, text) = metrics.unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        let series = "lameduck_connect_failures_total{pool=\"app\",reason=\"no_local_port\"}";
        let line = text.lines().find(|line| line.starts_with(series));
        let count = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        count.unwrap_or_default() > 0.0
    };
    until("the shortage to be counted", PATIENCE, shortages).await;
    let cause = "lameduck's host has no local port left for the last one tried";
    until("a client to be told the cause", PATIENCE, async || {
        let (status, body) = get(address, "/").await.unwrap();
        assert!(matches!(status, 200 | 503), "{status}: {body}");
        status == 503 && body.contains(cause)
    })
    .await;
    until("the access log's line", PATIENCE, async || {
        let records = std::fs::read_to_string(dir.join("access.log")).unwrap_or_default();
        records.contains(cause)
    })
    .await;
    for words in [
        "every local port of this destination is in use",
        "ip_local_port_range",
        "idle_timeout",
    ] {
        until(words, PATIENCE, async || {
            let log = std::fs::read_to_string(dir.join("proxy.log")).unwrap();
            log.contains(words)
        })
        .await;
    }
    // The shortage is ours: nobody calls the app down for it, and it ends with the connections.
    until("the app to be ready", PATIENCE, async || {
        let pool = admin::call(&socket, "GET", "/v1/pools/app", None).await;
        pool.unwrap()["backends"][0]["state"] == "ready"
    })
    .await;
    enough.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for one in busy {
        answered += one.await.unwrap();
    }
    assert!(answered > 0, "not one of the kept connections served");
    until("an answer after the shortage", PATIENCE, async || {
        get(address, "/")
            .await
            .is_ok_and(|(status, _)| status == 200)
    })
    .await;
}

/// A client that asks for slow answers until it has had enough: how many it got.
async fn keep_busy(address: SocketAddr, enough: Arc<AtomicBool>) -> u32 {
    let (mut answered, end) = (0, Instant::now() + 6 * PATIENCE);
    while !enough.load(Ordering::Relaxed) && Instant::now() < end {
        let answer = get(address, "/slow?ms=2000").await;
        answered += u32::from(answer.is_ok_and(|(status, _)| status == 200));
    }
    answered
}
