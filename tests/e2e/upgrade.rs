//! One lameduck takes over from another: `lameduck upgrade`, USR2, and what happens where that fails.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use lameduck::admin::upgrade::UpgradeView;
use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::{Value, json};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::streams::Streams;
use crate::harness::{Bench, exe, get, proving, scale, turn, turn_alone, until};
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{children, is_running, status_kib};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(30);

/// `lameduck upgrade` with these words.
async fn upgrade(socket: &Path, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(exe());
    command
        .arg("upgrade")
        .args(words)
        .env("LAMEDUCK_ADMIN", socket)
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(80), command.output()).await;
    output.unwrap().unwrap()
}

/// One that has to go well; what it printed.
async fn upgraded(socket: &Path) -> Value {
    let output = upgrade(socket, &["--json"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One that has to fail with 1; what it said.
async fn refused(socket: &Path, words: &[&str]) -> String {
    let output = upgrade(socket, words).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    said
}

async fn view(socket: &Path) -> UpgradeView {
    let view = admin::call(socket, "GET", "/v1/upgrade", None)
        .await
        .unwrap();
    serde_json::from_value(view).unwrap()
}

async fn metric(socket: &Path, name: &str) -> u64 {
    let (_, text) = admin::request(socket, "GET", "/metrics", None)
        .await
        .unwrap();
    admin::metric(&String::from_utf8_lossy(&text), name).unwrap_or(0)
}

/// More requests of every kind have been sent, and none is lost.
async fn goes_on(load: &Load, more: u64) {
    let enough = load.progress().sent + more;
    until("requests to be sent", PATIENCE, async || {
        load.progress().sent >= enough
    })
    .await;
    assert_eq!(load.progress().lost, 0);
}

fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The program, once a file is there that says go.
fn waiting(dir: &Path, go: &Path) -> PathBuf {
    let (go, exe) = (go.display(), exe().display());
    script(
        dir,
        "waiting",
        &format!("while [ ! -e {go} ]; do sleep 0.02; done; exec {exe} \"$@\""),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A bench of three, a proxy before it, and the settings that it has.
async fn begin(test: &str) -> (Bench, DemoProxy) {
    let bench = Bench::start(test, App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        listen: free_address(),
        // Its default address may be another test's.
        admin: "http = \"\"".to_owned(),
        server: format!(
            "lame_duck = \"1s\"\ndeadline = \"10s\"\nstate_dir = {:?}",
            bench.scratch.path().join("state")
        ),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path();
    let proxy = DemoProxy::start(exe(), "proxy", dir, &settings, &bench.instances)
        .await
        .unwrap();
    (bench, proxy)
}

#[tokio::test]
async fn upgrades_in_a_row_under_load_lose_nothing_and_counters_go_on() {
    let _turn = turn_alone().await;
    let (bench, mut proxy) = begin("upgrade").await;
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    let load = Load::start(LoadPlan::new(proxy.address(), scale().rate));
    let (mut serving, mut counted) = (first, 0);
    let rounds = if proving() { 20 } else { 3 };
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        goes_on(&load, 100).await;
        let before = metric(&socket, "lameduck_requests_total").await;
        assert!(
            before >= counted,
            "{before} after {counted} in round {round}"
        );
        let began = Instant::now();
        let report = upgraded(&socket).await;
        slowest = slowest.max(began.elapsed());
        assert_eq!(report["old_pid"], serving, "{report}");
        assert_eq!(
            (&report["listeners"], &report["doors"]),
            (&json!(1), &json!(1))
        );
        let now = view(&socket).await;
        assert_eq!(json!(now.pid), report["pid"]);
        assert_ne!(now.pid, serving);
        serving = now.pid;
        counted = before;
    }
    goes_on(&load, 100).await;
    // What the old ones had left is finished, and only the first process's id is still there, small.
    until("the old ones to finish", PATIENCE, async || {
        view(&socket).await.predecessor.is_none() && children(first) == [serving]
    })
    .await;
    let memory = status_kib(first, "RssAnon").unwrap();
    assert!(memory < 16 << 10, "{memory} KiB");
    let sent = load.stop().await;
    let front = Front::Lameduck(proxy);
    let account = bench.account(sent, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    let answered = metric(&socket, "lameduck_requests_total").await;
    assert!(answered >= counted);
    let notes = vec![format!("{rounds} upgrades, the slowest took {slowest:?}")];
    record(Row {
        test: "upgrade",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
    // Whoever waits for the first process's id stops the one that serves.
    let Front::Lameduck(mut proxy) = front else {
        unreachable!()
    };
    let status = proxy.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(!is_running(serving), "{serving} still runs");
}

#[tokio::test]
async fn usr2_upgrades_and_a_killed_stand_in_stops_the_proxy() {
    let _turn = turn().await;
    let (_bench, mut proxy) = begin("upgrade-usr2").await;
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    proxy.process().signal(libc::SIGUSR2).unwrap();
    until("another process", PATIENCE, async || {
        let answer = admin::call(&socket, "GET", "/v1/upgrade", None).await;
        answer.is_ok_and(|view| view["pid"] != first && view["predecessor"].is_null())
    })
    .await;
    let serving = view(&socket).await.pid;
    assert!(matches!(get(proxy.address(), "/").await, Ok((200, _))));
    // HUP reaches the one that serves.
    let before = metric(&socket, "lameduck_config_reload_total").await;
    until("the stand-in", PATIENCE, async || {
        let line = std::fs::read(format!("/proc/{first}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("stand-in")
    })
    .await;
    proxy.process().signal(libc::SIGHUP).unwrap();
    until("a reload", PATIENCE, async || {
        metric(&socket, "lameduck_config_reload_total").await > before
    })
    .await;
    proxy.process().signal(libc::SIGKILL).unwrap();
    until("the proxy to stop", PATIENCE, async || !is_running(serving)).await;
}

/// Each of these leaves the old process as it was, and says why at the prompt, in the log and in the status.
#[tokio::test]
async fn failed_upgrade_leaves_the_old_process_as_it_was_and_says_why() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-fails").await;
    let dir = bench.scratch.path().to_owned();
    let socket = proxy.socket().to_owned();
    let pid = proxy.process().pid();
    let load = Load::start(LoadPlan::new(proxy.address(), scale().rate));
    goes_on(&load, 60).await;

    let plain = dir.join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let ends = script(&dir, "ends", "exit 7");
    let hangs = script(&dir, "hangs", "exec sleep 60");
    let broken = dir.join("broken.toml");
    std::fs::write(&broken, "[[listener]]\nadress = \"127.0.0.1:1\"\n").unwrap();
    let config = std::fs::read_to_string(proxy.config()).unwrap();
    let other = |name: &str, from: &str, to: &str| {
        let changed = config.replace(from, to);
        assert_ne!(changed, config, "{from}");
        let path = dir.join(name);
        std::fs::write(&path, changed).unwrap();
        path
    };
    // As on a full disk: nothing can be made there.
    let unwritable = other("unwritable.toml", text(&dir.join("state")), text(&plain));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("address = \"{}\"", proxy.address());
    let busy = format!(
        "{address}\n[[listener]]\naddress = \"{}\"",
        taken.local_addr().unwrap()
    );
    let busy = other("busy.toml", &address, &busy);

    for (words, said) in [
        (vec!["--binary", "/nowhere/lameduck"], "can't be started"),
        (vec!["--binary", text(&plain)], "chmod +x"),
        (vec!["--binary", text(&ends)], "exit status: 7"),
        (
            vec!["--binary", text(&hangs), "--timeout", "1s"],
            "within 1s",
        ),
        (vec!["-c", text(&broken)], "adress"),
        (vec!["-c", text(&unwritable)], "state_dir"),
        (vec!["-c", text(&busy)], "choose another port"),
    ] {
        let message = refused(&socket, &words).await;
        assert!(message.contains(said), "{words:?}: {message}");
        let now = view(&socket).await;
        assert_eq!(now.pid, pid, "{words:?}");
        assert!(!now.under_way);
        let failure = now.last_failure.unwrap();
        assert!(failure.contains(said), "{failure}");
        // Changes are taken as before.
        let drain = json!({ "wait": true, "timeout": "5s" });
        let path = "/v1/pools/app/backends/app-1";
        admin::call(&socket, "POST", &format!("{path}/drain"), Some(&drain))
            .await
            .unwrap();
        let wait = json!({ "wait": "10s" });
        admin::call(&socket, "POST", &format!("{path}/resume"), Some(&wait))
            .await
            .unwrap();
        goes_on(&load, 20).await;
    }
    let log = std::fs::read_to_string(dir.join("proxy.log")).unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("the upgrade failed"));
    assert_eq!(lines.count(), 7, "{log}");
    assert!(children(pid).is_empty());

    let account = bench
        .account(load.stop().await, &Front::Lameduck(proxy))
        .await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
}

#[tokio::test]
async fn second_upgrade_is_refused_and_a_killed_new_process_is_told() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-second").await;
    let dir = bench.scratch.path();
    let (socket, pid) = (proxy.socket().to_owned(), proxy.process().pid());
    let binary = waiting(dir, &dir.join("never"));
    let first = {
        let (socket, binary) = (socket.clone(), binary.clone());
        tokio::spawn(async move { refused(&socket, &["--binary", text(&binary)]).await })
    };
    until("the new process", PATIENCE, async || {
        !children(pid).is_empty()
    })
    .await;
    assert!(view(&socket).await.under_way);
    let message = refused(&socket, &[]).await;
    assert!(message.contains("under way"), "{message}");
    for child in children(pid) {
        let _ = syscall::kill(child, libc::SIGKILL);
    }
    let message = first.await.unwrap();
    assert!(message.contains("signal: 9"), "{message}");
    assert!(matches!(get(proxy.address(), "/").await, Ok((200, _))));
    // And then one goes well.
    upgraded(&socket).await;
}

#[tokio::test]
async fn new_process_starts_anew_where_the_old_one_dies_before_it_has_given_anything() {
    let _turn = turn().await;
    let (bench, mut proxy) = begin("upgrade-dies").await;
    let dir = bench.scratch.path();
    let (socket, pid) = (proxy.socket().to_owned(), proxy.process().pid());
    let go = dir.join("go");
    let binary = waiting(dir, &go);
    let asked = {
        let (socket, binary) = (socket.clone(), binary.clone());
        tokio::spawn(async move { upgrade(&socket, &["--binary", text(&binary)]).await })
    };
    until("the new process", PATIENCE, async || {
        !children(pid).is_empty()
    })
    .await;
    let new = children(pid)[0];
    proxy.process().signal(libc::SIGKILL).unwrap();
    assert!(!asked.await.unwrap().status.success());
    proxy.process().wait(PATIENCE).await.unwrap();
    std::fs::write(&go, "").unwrap();
    let ended = EndOnDrop(new);
    until("the new process to serve", PATIENCE, async || {
        matches!(get(proxy.address(), "/").await, Ok((200, _)))
    })
    .await;
    assert_eq!(view(&socket).await.pid, new);
    drop(ended);
}

/// A process that nobody else would end.
struct EndOnDrop(u32);

impl EndOnDrop {
    /// The process that has taken over.
    fn of(report: &Value) -> Self {
        Self(report["pid"].as_u64().unwrap() as u32)
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let _ = syscall::kill(self.0, libc::SIGKILL);
    }
}

/// systemd's side: it is told of another main process before that says that it is ready.
#[tokio::test]
async fn systemd_follows_the_process_that_has_taken_over() {
    let _turn = turn().await;
    let bench = Bench::start("upgrade-systemd", App::BuiltIn, 1)
        .await
        .unwrap();
    let dir = bench.scratch.path();
    let notify = dir.join("notify");
    let supervisor = UnixDatagram::bind(&notify).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, config) = (dir.join("p.sock"), dir.join("p.toml"));
    let settings = ProxySettings {
        server: "lame_duck = \"0s\"\ndeadline = \"5s\"".into(),
        ..ProxySettings::default()
    };
    let backends = [("app-1".to_owned(), bench.instances[0].address())];
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    let mut command = std::process::Command::new(exe());
    command
        .args(["run", "-c", text(&config)])
        .env_remove("LAMEDUCK_ADMIN")
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "400000");
    let mut old = ChildProcess::start("proxy", command, &dir.join("p.log")).unwrap();
    old.ignore_output();
    let said = |what: &str| {
        let mut all: Vec<String> = Vec::new();
        while !all.iter().any(|text| text.contains(what)) {
            let mut buffer = [0; 4096];
            let length = supervisor.recv(&mut buffer).unwrap();
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    };
    said("READY=1");
    let report = upgraded(&socket).await;
    assert_eq!(report["parent"], "systemd");
    let new = EndOnDrop::of(&report);
    let until_ready = said("READY=1");
    let main = format!("MAINPID={}", new.0);
    assert!(until_ready.contains(&main), "{until_ready:?}");
    assert!(
        !until_ready.iter().any(|text| text.contains("STOPPING")),
        "{until_ready:?}"
    );
    // The old one ends, and stays nowhere.
    let (status, _) = old.wait(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    said("WATCHDOG=1");
    assert_eq!(view(&socket).await.pid, new.0);
    syscall::kill(new.0, libc::SIGTERM).unwrap();
    said("STOPPING=1");
    until("its end", PATIENCE, async || !is_running(new.0)).await;
}

/// A request that the old process has in flight is waited for when the new one drains its backend.
#[tokio::test]
async fn drain_after_an_upgrade_waits_for_what_the_old_process_has_in_flight() {
    let rig = Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig.ask("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    let report = upgraded(&rig.socket).await;
    let _ended = EndOnDrop::of(&report);
    assert_eq!(report["left"], 1, "{report}");
    let drain = rig.begin_drain(index, "20s", "resumed").await;
    rig.until_state(index, "draining").await;
    // Long enough for a drain that looks at its own requests only.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!drain.is_finished());
    assert_eq!(rig.view(index).await.state, "draining");
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    let response = tokio::time::timeout(PATIENCE, drain)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.outcome, "drained");
}

/// Drains, pauses, health and lame duck go along; a backend that is known to be up is used before its next probe.
#[tokio::test]
async fn state_goes_along_and_no_backend_is_probed_before_it_is_used_again() {
    let rig = Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await;
    rig.begin_drain(1, "5s", "resumed").await;
    rig.until_state(1, "drained").await;
    let duck = json!({ "reason": "moving house" });
    admin::call(&rig.socket, "POST", "/v1/lame-duck", Some(&duck))
        .await
        .unwrap();
    let incarnation = rig.view(0).await.incarnation;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    let pool = rig.pool().await;
    assert_eq!((pool.eligible, pool.backends.len()), (1, 2));
    let first = rig.view(0).await;
    assert_eq!(
        (first.state.as_str(), first.incarnation),
        ("ready", incarnation)
    );
    let second = rig.view(1).await;
    assert_eq!(second.state, "drained");
    assert_eq!(second.drains[0].actor, "operator");
    let (status, why) = admin::request(&rig.socket, "GET", "/-/ready", None)
        .await
        .unwrap();
    assert_eq!(status, 503, "{why:?}");
    admin::call(&rig.socket, "DELETE", "/v1/lame-duck", None)
        .await
        .unwrap();
    rig.canary().await;
    rig.resume(1).await;
}

/// The launcher of an instance stays registered under its lease, and its app is not without traffic for a moment.
#[tokio::test]
async fn lease_goes_along_and_its_launcher_drains_by_it() {
    let _turn = turn().await;
    let (bench, proxy) = begin("upgrade-lease").await;
    let socket = proxy.socket().to_owned();
    let address = bench.instances[0].address().to_string();
    let request = json!({ "address": address, "nonce": "n-1", "weight": 7 });
    let path = "/v1/pools/app/backends/leased/lease";
    let lease = |request: Value| {
        let socket = socket.clone();
        async move {
            let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
            let body = request.to_string();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut lines = tokio::io::BufReader::new(stream).lines();
            loop {
                let line = lines.next_line().await.unwrap().expect("a lease");
                if line.starts_with('{') {
                    let event: Value = serde_json::from_str(&line).unwrap();
                    return (event, lines);
                }
            }
        }
    };
    let (registered, mut lines) = lease(request.clone()).await;
    let leased = async || {
        let pool = proxy.pool().await.unwrap();
        let mut all = pool.backends.into_iter();
        all.find(|backend| backend.name == "leased")
    };
    until("it to be ready", PATIENCE, async || {
        leased().await.is_some_and(|one| one.state == "ready")
    })
    .await;
    upgraded(&socket).await;
    let after = leased().await.unwrap();
    assert_eq!((after.state.as_str(), after.weight), ("ready", 7));
    // The old process ends the connection, and the launcher asks again: it is the same lease.
    while let Ok(Some(_)) = lines.next_line().await {}
    let (again, _lines) = lease(request).await;
    assert_eq!(again["lease"], registered["lease"], "{again}");
    assert_eq!(again["incarnation"], registered["incarnation"], "{again}");
    let pool = proxy.pool().await.unwrap();
    let named = pool
        .backends
        .iter()
        .filter(|one| one.name.starts_with("leased"));
    assert_eq!(named.count(), 1);
    let id = again["lease"].as_str().unwrap();
    let drained = admin::call(
        &socket,
        "POST",
        &format!("/v1/leases/{id}/drain"),
        Some(&json!({ "timeout": "5s" })),
    )
    .await
    .unwrap();
    assert_eq!(drained["outcome"], "drained");
}

/// What each client of a mix of protocols has seen.
#[derive(Default)]
struct Seen {
    answered: u64,
    failed: Vec<String>,
}

/// Requests over HTTP/2 on TLS, on one connection after the other: each is used until its server says that it goes.
async fn ask_over_http2(
    address: std::net::SocketAddr,
    config: std::sync::Arc<rustls::ClientConfig>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Seen {
    let mut seen = Seen::default();
    'connections: while !*stop.borrow() {
        let tcp = match tokio::net::TcpStream::connect(address).await {
            Ok(tcp) => tcp,
            Err(error) => {
                seen.failed.push(error.to_string());
                return seen;
            }
        };
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let tls = match connector.connect(name, tcp).await {
            Ok(tls) => tls,
            Err(error) => {
                seen.failed.push(error.to_string());
                continue;
            }
        };
        let (mut client, connection) = h2::client::handshake(tls).await.unwrap();
        let driver = tokio::spawn(connection);
        while !*stop.borrow_and_update() {
            client = match client.ready().await {
                Ok(client) => client,
                // GOAWAY: nothing was sent.
                Err(_) => continue 'connections,
            };
            let request = http::Request::get("https://localhost/").body(()).unwrap();
            let answer = match client.send_request(request, true) {
                Ok((answer, _)) => answer.await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) if answer.status() == 200 => seen.answered += 1,
                Ok(answer) => seen.failed.push(answer.status().to_string()),
                // A stream above GOAWAY's last one was not served: it can be sent again (RFC 9113, section 6.8).
                Err(error) if error.is_go_away() => continue 'connections,
                Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                    continue 'connections;
                }
                Err(error) => seen.failed.push(error.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        driver.abort();
    }
    seen
}

/// A client that trusts the authority in this directory.
fn trusting(dir: &Path, protocol: &[u8]) -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let file = dir.join("ca.pem");
    let authority = rustls::pki_types::CertificateDer::from_pem_file(file).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    std::sync::Arc::new(config)
}

/// HTTP/1 with and without TLS, HTTP/2, WebSockets and event streams, while one process takes over from the other, again and
/// again: nothing is lost, no WebSocket and no event stream in cleartext ends, and no process grows.
#[tokio::test]
async fn mixed_protocols_do_not_notice_upgrades_in_a_row() {
    let _turn = turn_alone().await;
    let bench = Bench::start("upgrade-mixed", App::BuiltIn, 3)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    crate::encrypted::certificates(&dir);
    let (plain, encrypted) = (free_address(), free_address());
    let settings = ProxySettings {
        listen: plain,
        listener: format!(
            "[[listener]]\naddress = \"{encrypted}\"\n[listener.tls]\ncert = {:?}\nkey = {:?}",
            dir.join("cert.pem"),
            dir.join("key.pem")
        ),
        server: "lame_duck = \"1s\"\ndeadline = \"6s\"".into(),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    let streams = Streams::open(plain, scale().streams).await;
    let load = Load::start(LoadPlan::new(plain, scale().rate));
    let rate = scale().rate / 4;
    let over_tls = Load::start(LoadPlan {
        tls: Some(trusting(&dir, b"http/1.1")),
        // Others' ids are others' requests.
        post_percent: 0,
        slow_percent: 0,
        ..LoadPlan::new(encrypted, rate)
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let config = trusting(&dir, b"h2");
    let over_http2 = tokio::spawn(ask_over_http2(encrypted, config, stopped));

    let rounds = if proving() { 20 } else { 4 };
    let mut sizes = Vec::new();
    for _ in 0..rounds {
        goes_on(&load, 100).await;
        assert_eq!(over_tls.progress().lost, 0);
        let report = upgraded(&socket).await;
        let moved = report["moved"].as_u64().unwrap();
        assert!(moved >= 2 * scale().streams as u64, "{report}");
        assert_eq!(streams.ends(), [], "{report}");
        let pid = report["pid"].as_u64().unwrap() as u32;
        let open = lameduck_rig::process::descriptors(pid).unwrap();
        sizes.push((open, status_kib(pid, "RssAnon").unwrap()));
    }
    goes_on(&load, 100).await;
    until("the old ones to finish", PATIENCE, async || {
        view(&socket).await.predecessor.is_none() && children(first).len() == 1
    })
    .await;
    stop.send_replace(true);
    let seen = over_http2.await.unwrap();
    assert_eq!(seen.failed, Vec::<String>::new());
    assert!(seen.answered > 20);
    let tls = over_tls.stop().await;
    let lost: Vec<_> = tls.iter().filter(|sent| sent.outcome.is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let ends = streams.close();
    assert_eq!(ends, [], "streams ended");
    let sent = load.stop().await;
    let lost: Vec<_> = sent.iter().filter(|sent| sent.outcome.is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let (from, to) = (sizes[0], sizes[rounds - 1]);
    // What differs from one to the next is who happens to be connected.
    assert!(to.0 < from.0 * 2 + 100, "descriptors: {sizes:?}");
    assert!(to.1 < from.1 * 2 + (16 << 10), "KiB: {sizes:?}");
}
