//! The proxy under a supervisor of its own: sd_notify, socket activation, process 1.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::ProxySettings;
use serde_json::json;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, exe, get, skip, turn, until, usual_load};
use lameduck_rig::descriptors::hand_down;
use lameduck_rig::process::children;
use lameduck_rig::setting::say;

const PATIENCE: Duration = Duration::from_secs(20);

/// A configuration for `listen`, and the admin socket that it names.
fn configure(bench: &Bench, name: &str, settings: &ProxySettings) -> (PathBuf, PathBuf) {
    let dir = bench.scratch.path();
    let (socket, config) = (
        dir.join(format!("{name}.sock")),
        dir.join(format!("{name}.toml")),
    );
    let instances = bench.instances.iter();
    let backends: Vec<_> = instances
        .map(|one| (one.name().to_owned(), one.address()))
        .collect();
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    (config, socket)
}

fn run(config: &Path) -> Command {
    let mut command = Command::new(exe());
    command.arg("run").arg("-c").arg(config);
    command.env_remove("LAMEDUCK_ADMIN");
    command
}

fn start(bench: &Bench, name: &str, command: Command) -> ChildProcess {
    let log = bench.scratch.path().join(format!("{name}.log"));
    let mut process = ChildProcess::start(name, command, &log).unwrap();
    process.ignore_output();
    process
}

/// Waits for a datagram that has this in it; returns it with those before it.
fn heard(socket: &UnixDatagram, what: &str) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no {what:?} in {all:?}");
        socket.set_read_timeout(Some(left)).unwrap();
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        if all.iter().any(|text| text.contains(what)) {
            return all;
        }
    }
}

/// As in a chroot that nobody has filled.
#[lameduck_rig::test]
async fn proxy_starts_without_a_null_device() {
    let namespace = ["--user", "--map-root-user", "--mount"];
    let able = Command::new("unshare").args(namespace).arg("true").status();
    if !able.is_ok_and(|status| status.success()) {
        return skip("service", "unshare(1), and the right to make namespaces");
    }
    let bench = Bench::start("service", App::BuiltIn, 1).await.unwrap();
    let (config, socket) = configure(&bench, "bare", &ProxySettings::default());
    let mut command = Command::new("unshare");
    command
        .args(namespace)
        .args(["sh", "-c", "mount -t tmpfs none /dev && exec \"$0\" \"$@\""])
        .arg(exe())
        .args(["run", "-c"])
        .arg(&config)
        .env_remove("LAMEDUCK_ADMIN");
    let mut process = start(&bench, "bare", command);
    until("the proxy to be ready", PATIENCE, async || {
        process.check().unwrap();
        let ready = admin::request(&socket, "GET", "/-/ready?pool=app", None).await;
        ready.is_ok_and(|(status, _)| status == 200)
    })
    .await;
}

/// An image from scratch has none.
#[lameduck_rig::test]
async fn proxy_starts_without_the_systems_certificates() {
    let bench = Bench::start("service", App::BuiltIn, 1).await.unwrap();
    let (config, socket) = configure(&bench, "bare", &ProxySettings::default());
    let mut command = run(&config);
    command
        .env("SSL_CERT_FILE", "/nowhere/ca.crt")
        .env("SSL_CERT_DIR", "/nowhere");
    let mut proxy = start(&bench, "bare", command);
    until("it to be ready", PATIENCE, async || {
        proxy.check().unwrap();
        let answer = admin::request(&socket, "GET", "/-/ready?pool=app", None).await;
        matches!(answer, Ok((200, _)))
    })
    .await;
}

#[lameduck_rig::test]
async fn its_supervisor_is_told_what_it_does() {
    let bench = Bench::start("service", App::BuiltIn, 2).await.unwrap();
    let settings = ProxySettings {
        server: "lame_duck = \"300ms\"".into(),
        ..ProxySettings::default()
    };
    let (config, socket) = configure(&bench, "proxy", &settings);
    let path = bench.scratch.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    let mut command = run(&config);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let mut proxy = start(&bench, "proxy", command);

    let first = heard(&supervisor, "READY=1");
    assert_eq!(first, ["READY=1"], "nothing comes before it");
    let (status, _) = admin::request(&socket, "GET", "/-/started", None)
        .await
        .unwrap();
    assert_eq!(status, 200);
    heard(&supervisor, "STATUS=app: 2 ready");
    heard(&supervisor, "WATCHDOG=1");

    let drain = json!({ "wait": true });
    admin::call(
        &socket,
        "POST",
        "/v1/pools/app/backends/app-1/drain",
        Some(&drain),
    )
    .await
    .unwrap();
    heard(&supervisor, "STATUS=app: 1 ready, 1 drained");

    admin::call(&socket, "POST", "/v1/config/reload", None)
        .await
        .unwrap();
    let reload = heard(&supervisor, "READY=1");
    let begun = reload
        .iter()
        .find(|text| text.contains("RELOADING=1"))
        .unwrap();
    let at: u64 = begun
        .split("MONOTONIC_USEC=")
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(at <= syscall::monotonic_ns() / 1000 && at > 0);

    // A process that stands still does not say that it is alive.
    proxy.signal(libc::SIGSTOP).unwrap();
    supervisor
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    let mut buffer = [0; 4096];
    while supervisor.recv(&mut buffer).is_ok() {}
    proxy.signal(libc::SIGCONT).unwrap();
    heard(&supervisor, "WATCHDOG=1");

    proxy.signal(libc::SIGTERM).unwrap();
    heard(&supervisor, "STOPPING=1");
    heard(&supervisor, "EXTEND_TIMEOUT_USEC=");
    assert!(proxy.wait(PATIENCE).await.unwrap().0.success());
}

/// Another process's watchdog, and no supervisor at all, change nothing.
#[lameduck_rig::test]
async fn a_supervisor_that_is_gone_does_not_matter() {
    let bench = Bench::start("service", App::BuiltIn, 1).await.unwrap();
    let (config, socket) = configure(&bench, "proxy", &ProxySettings::default());
    let mut command = run(&config);
    command
        .env("NOTIFY_SOCKET", bench.scratch.path().join("nobody"))
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    let mut proxy = start(&bench, "proxy", command);
    until("ready", PATIENCE, async || {
        proxy.check().unwrap();
        matches!(
            admin::request(&socket, "GET", "/-/ready", None).await,
            Ok((200, _))
        )
    })
    .await;
}

/// As a supervisor would start it: descriptor 3 is the socket, and the variables say so.
pub fn activated(config: &Path, socket: &impl AsFd, name: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "LISTEN_PID=$$ exec \"$0\" run -c \"$1\"";
    command.args(["-c", script]).arg(exe()).arg(config);
    command
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .env_remove("LAMEDUCK_ADMIN");
    hand_down(&mut command, [socket]);
    command
}

/// One process after the other on the supervisor's socket: in between, connections wait in its queue.
#[lameduck_rig::test]
async fn a_restart_on_an_activated_socket_refuses_nobody() {
    let _turn = turn().await;
    let bench = Bench::start("activation", App::BuiltIn, 2).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = ProxySettings {
        listen: address,
        server: "lame_duck = \"100ms\"".into(),
        ..ProxySettings::default()
    };
    let (config, socket) = configure(&bench, "proxy", &settings);
    let ready = async |process: &mut ChildProcess| {
        until("ready", PATIENCE, async || {
            process.check().unwrap();
            let path = "/-/ready?pool=app";
            matches!(
                admin::request(&socket, "GET", path, None).await,
                Ok((200, _))
            )
        })
        .await;
    };
    let mut proxy = start(&bench, "proxy-1", activated(&config, &listener, "web"));
    ready(&mut proxy).await;
    let load = Load::start(usual_load(address));
    for n in 2..=4 {
        proxy.signal(libc::SIGTERM).unwrap();
        assert!(proxy.wait(PATIENCE).await.unwrap().0.success());
        // Nobody accepts now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let name = format!("proxy-{n}");
        proxy = start(&bench, &name, activated(&config, &listener, "web"));
        ready(&mut proxy).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let account = bench
        .account(load.stop().await, &Front::Direct(address))
        .await;
    assert!(account.is_clean(), "{account}");
    assert_eq!(account.delivered_twice, 0, "{account}");
}

#[lameduck_rig::test]
async fn a_socket_that_fits_nothing_is_named() {
    let bench = Bench::start("activation", App::BuiltIn, 1).await.unwrap();
    let (config, socket) = configure(&bench, "proxy", &ProxySettings::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = start(&bench, "proxy", activated(&config, &listener, "web"));
    until("ready", PATIENCE, async || {
        proxy.check().unwrap();
        matches!(
            admin::request(&socket, "GET", "/-/ready", None).await,
            Ok((200, _))
        )
    })
    .await;
    let log = bench.scratch.path().join("proxy.log");
    let expected = format!(
        "has passed a socket ({}, web)",
        listener.local_addr().unwrap()
    );
    until(&expected, PATIENCE, async || {
        std::fs::read_to_string(&log).unwrap().contains(&expected)
    })
    .await;
}

/// The admin socket, too, can be the supervisor's; its file stays when the proxy goes.
#[lameduck_rig::test]
async fn the_admin_socket_can_be_activated() {
    let bench = Bench::start("activation", App::BuiltIn, 1).await.unwrap();
    let (config, _) = configure(&bench, "proxy", &ProxySettings::default());
    let path = bench.scratch.path().join("supervisors.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut proxy = start(&bench, "proxy", activated(&config, &listener, "admin"));
    until("ready", PATIENCE, async || {
        proxy.check().unwrap();
        matches!(
            admin::request(&path, "GET", "/-/ready", None).await,
            Ok((200, _))
        )
    })
    .await;
    proxy.signal(libc::SIGTERM).unwrap();
    assert!(proxy.wait(PATIENCE).await.unwrap().0.success());
    assert!(path.exists());
}

#[lameduck_rig::test]
async fn as_process_1_it_reaps_orphans_and_stops_when_told() {
    let may = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .status();
    if !may.is_ok_and(|status| status.success()) {
        // Not even CI can be expected to allow this.
        say("as process 1: skipped: needs the right to unshare(1)");
        return;
    }
    let bench = Bench::start("pid-1", App::BuiltIn, 1).await.unwrap();
    let settings = ProxySettings {
        server: "lame_duck = \"0s\"".into(),
        ..ProxySettings::default()
    };
    let (config, socket) = configure(&bench, "proxy", &settings);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.arg(exe()).arg("run").arg("-c").arg(&config);
    let mut outer = start(&bench, "proxy", command);
    until("ready", PATIENCE, async || {
        outer.check().unwrap();
        matches!(
            admin::request(&socket, "GET", "/-/ready", None).await,
            Ok((200, _))
        )
    })
    .await;
    let proxy = children(outer.pid())[0];

    // A process that loses its parent while it runs: it becomes the proxy's child, and then must not stay.
    // It stays until it has been seen.
    let gate = bench.scratch.path().join("gate");
    std::fs::write(&gate, "").unwrap();
    let script = "while [ -e \"$0\" ]; do sleep 0.05; done & exit 0";
    let orphan = Command::new("nsenter")
        .args(["--pid", "--target", &proxy.to_string()])
        .args(["sh", "-c", script])
        .arg(&gate)
        .status();
    assert!(orphan.unwrap().success());
    until("the orphan to arrive", PATIENCE, async || {
        !children(proxy).is_empty()
    })
    .await;
    std::fs::remove_file(&gate).unwrap();
    until("the orphan to be reaped", PATIENCE, async || {
        children(proxy).is_empty()
    })
    .await;

    let listeners = admin::call(&socket, "GET", "/v1/listeners", None)
        .await
        .unwrap();
    let address = listeners[0]["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(get(address, "/").await.unwrap().0, 200);
    syscall::kill(proxy, libc::SIGTERM).unwrap();
    assert!(outer.wait(PATIENCE).await.unwrap().0.success());
}
