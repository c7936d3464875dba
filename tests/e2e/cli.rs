//! The command line against a proxy that was started with nothing but `--listen` and `--backend`.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::process::ChildProcess;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy on the command line's terms.
struct Plain {
    _process: ChildProcess,
    socket: PathBuf,
    address: std::net::SocketAddr,
    bench: Bench,
}

impl Plain {
    async fn start(count: usize) -> Self {
        let bench = Bench::start("cli", App::BuiltInAbrupt, count)
            .await
            .unwrap();
        let socket = bench.scratch.path().join("admin.sock");
        let mut command = Command::new(exe());
        command
            .args(["run", "--listen", "127.0.0.1:0"])
            .env("LAMEDUCK_ADMIN", &socket);
        for instance in &bench.instances {
            command.args(["--backend", &instance.address().to_string()]);
        }
        let mut process =
            ChildProcess::start("proxy", command, &bench.scratch.path().join("proxy.log")).unwrap();
        process.ignore_output();
        until("the proxy", PATIENCE, async || {
            process.check().unwrap();
            matches!(
                admin::request(&socket, "GET", "/-/ready", None).await,
                Ok((200, _))
            )
        })
        .await;
        let listeners = admin::call(&socket, "GET", "/v1/listeners", None)
            .await
            .unwrap();
        let address = listeners[0]["address"].as_str().unwrap().parse().unwrap();
        // All of them: some tests ask for one that nothing but a probe has found.
        until("the backends", PATIENCE, async || {
            let pool = admin::call(&socket, "GET", "/v1/pools/app", None).await;
            pool.unwrap()["eligible"] == count
        })
        .await;
        Self {
            _process: process,
            socket,
            address,
            bench,
        }
    }

    /// Runs `lameduck ARGUMENTS` to its end.
    async fn lameduck(&self, arguments: &[&str]) -> (i32, String, String) {
        run(&self.socket, arguments).await
    }
}

async fn run(socket: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(exe());
    command
        .args(arguments)
        .env("LAMEDUCK_ADMIN", socket)
        .env("NO_COLOR", "1")
        .kill_on_drop(true);
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[lameduck_rig::test]
async fn status_health_drain_and_resume() {
    let plain = Plain::start(2).await;
    let (code, table, errors) = plain.lameduck(&["status"]).await;
    assert_eq!(code, 0, "{errors}");
    assert!(
        table.contains("app-1") && table.contains("app-2") && table.contains("ready"),
        "{table}"
    );
    let (code, json, _) = plain.lameduck(&["status", "--json"]).await;
    assert_eq!(code, 0);
    assert!(json.contains("\"app-1\""), "{json}");
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
    assert_eq!(plain.lameduck(&["health", "app/app-1"]).await.0, 0);

    assert_eq!(
        plain
            .lameduck(&["drain", "app/app-1", "--timeout", "10s"])
            .await
            .0,
        0
    );
    let (_, table, _) = plain.lameduck(&["status", "app"]).await;
    assert!(table.contains("drained"), "{table}");
    for _ in 0..10 {
        assert_eq!(
            get(plain.address, "/").await.unwrap(),
            (200, "hello from app-2\n".into())
        );
    }
    assert_eq!(
        plain
            .lameduck(&["resume", "app/app-1", "--wait", "10s"])
            .await
            .0,
        0
    );
    let (_, table, _) = plain.lameduck(&["status"]).await;
    assert!(!table.contains("drain"), "{table}");
}

#[lameduck_rig::test]
async fn a_drain_past_its_deadline_is_3() {
    let plain = Plain::start(1).await;
    let slow = slow_request(&plain).await;
    let (code, _, errors) = plain
        .lameduck(&["drain", "app/app-1", "--timeout", "300ms"])
        .await;
    assert_eq!(code, 3, "{errors}");
    assert!(slow.await.unwrap().is_err(), "the slow request was not cut");
}

#[lameduck_rig::test]
async fn a_backend_that_dies_while_draining_is_4() {
    let mut plain = Plain::start(1).await;
    let slow = slow_request(&plain).await;
    let socket = plain.socket.clone();
    let drain =
        tokio::spawn(
            async move { run(&socket, &["drain", "app/app-1", "--timeout", "15s"]).await },
        );
    until("the drain", PATIENCE, async || {
        let pool = admin::call(&plain.socket, "GET", "/v1/pools/app", None)
            .await
            .unwrap();
        pool["backends"][0]["state"] == "draining"
    })
    .await;
    plain.bench.instances[0]
        .process()
        .signal(libc::SIGKILL)
        .unwrap();
    let (code, _, errors) = drain.await.unwrap();
    assert_eq!(code, 4, "{errors}");
    drop(slow);
}

/// A request that takes 10 s, once it has reached the app.
async fn slow_request(
    plain: &Plain,
) -> tokio::task::JoinHandle<Result<u16, lameduck::tools::demo::oracle::Loss>> {
    let mut connection = LoadConnection::open(plain.address).await.unwrap();
    let slow = tokio::spawn(async move {
        let request = b"GET /slow?ms=10000 HTTP/1.1\r\nHost: app\r\nx-demo-id: 1\r\n\r\n";
        let response = connection.exchange(request).await?;
        if response.app.is_some() {
            Ok(response.status)
        } else {
            Err(lameduck::tools::demo::oracle::Loss::ProxyError(
                response.status,
            ))
        }
    });
    let instance = &plain.bench.instances[0];
    until("the slow request", PATIENCE, async || {
        !instance.lives().unwrap()[0].arrivals.is_empty()
    })
    .await;
    slow
}

#[lameduck_rig::test]
async fn no_proxy_is_5_and_names_the_address() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("nobody.sock");
    for arguments in [
        &["status"][..],
        &["drain", "app/app-1"],
        &["reload"],
        &["health", "app"],
    ] {
        let (code, _, errors) = run(&socket, arguments).await;
        assert_eq!(code, 5, "{arguments:?}: {errors}");
        assert!(errors.contains("nobody.sock"), "{errors}");
    }
}

#[lameduck_rig::test]
async fn wrong_usage_is_2_and_unknown_names_are_1() {
    let plain = Plain::start(1).await;
    assert_eq!(plain.lameduck(&["drain"]).await.0, 2);
    let (code, _, errors) = plain.lameduck(&["drain", "app/nobody"]).await;
    assert_eq!(code, 1);
    assert!(
        errors.contains("nobody") && !errors.contains("panicked"),
        "{errors}"
    );
}

#[lameduck_rig::test]
async fn a_bad_file_is_refused_and_changes_nothing() {
    let bench = Bench::start("cli", App::BuiltIn, 1).await.unwrap();
    let settings = lameduck::tools::demo::proxy::ProxySettings::default();
    let front = crate::harness::front::Front::lameduck(&bench, &settings).await;
    let crate::harness::front::Front::Lameduck(mut proxy) = front else {
        unreachable!()
    };
    let good = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(
        proxy.config(),
        good.replace("[[pool]]", "[[pool]]\nbalanse = \"random\""),
    )
    .unwrap();
    let config = proxy.config().display().to_string();
    let (code, _, errors) = run(proxy.socket(), &["check", "-c", &config]).await;
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("balanse") && errors.contains(&config),
        "{errors}"
    );
    let (code, _, errors) = run(proxy.socket(), &["reload"]).await;
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("balanse"), "{errors}");
    syscall::kill(proxy.process().pid(), libc::SIGHUP).unwrap();
    assert_eq!(get(proxy.address(), "/").await.unwrap().0, 200);
    assert_eq!(proxy.pool().await.unwrap().eligible, 1);

    std::fs::write(proxy.config(), good).unwrap();
    assert_eq!(run(proxy.socket(), &["check", "-c", &config]).await.0, 0);
    assert_eq!(run(proxy.socket(), &["reload"]).await.0, 0);
    assert!(proxy.stop(PATIENCE).await.unwrap().success());
}
