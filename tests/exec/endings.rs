//! Each way in which it can go wrong has a message and an exit code.

use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};

use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::oracle::Loss;

use crate::rig::{Rig, until};

/// One request; its status.
pub async fn get(address: SocketAddr, path: &'static str) -> Result<u16, Loss> {
    let mut connection = LoadConnection::open(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nx-demo-id: 1\r\nConnection: close\r\n\r\n"
    );
    Ok(connection.exchange(request.as_bytes()).await?.status)
}

/// Waits until this many requests have reached their apps. (One that is only counted may still go elsewhere.)
pub async fn in_flight(rig: &Rig, wanted: usize) {
    until("requests are in flight", async || rig.arrivals() >= wanted).await;
}

/// Runs a launcher to its end; exit code and what it said.
async fn end(rig: &mut Rig, options: &[&str], command: &[&str]) -> (Option<i32>, String) {
    let command = rig.exec(options, command);
    let mut launched = rig.spawn(command);
    (launched.exited().await.code(), launched.said())
}

#[lameduck_rig::test]
async fn the_app_s_end_is_the_launcher_s() {
    let mut rig = Rig::start().await;
    let pool = ["--pool", "app"];
    assert_eq!(
        end(&mut rig, &pool, &["sh", "-c", "exit 7"]).await.0,
        Some(7)
    );
    assert_eq!(end(&mut rig, &pool, &["true"]).await.0, Some(0));
    let mut launched = rig.script(&[], "kill -ABRT $$");
    assert_eq!(launched.exited().await.signal(), Some(libc::SIGABRT));
}

#[lameduck_rig::test]
async fn an_ignored_sigchld_that_was_inherited_does_not_hide_the_app_s_end() {
    let mut rig = Rig::start().await;
    let mut command = rig.exec(&["--no-port"], &["sh", "-c", "exit 3"]);
    // SAFETY: signal(2) is async-signal-safe.
    #[allow(unsafe_code, reason = "std knows no signals")]
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    assert_eq!(rig.spawn(command).exited().await.code(), Some(3));
}

#[lameduck_rig::test]
async fn an_app_that_goes_into_the_background_is_told_to_stay_in_front() {
    let mut rig = Rig::start().await;
    let (code, said) = end(&mut rig, &["--no-port"], &["sh", "-c", "sleep 60 &"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("stays in the foreground"), "{said}");
}

#[lameduck_rig::test]
async fn the_launcher_s_own_failures_have_codes_and_remedies() {
    let mut rig = Rig::start().await;
    for (options, command, code, says) in [
        (
            &["--pool", "nope"][..],
            &["true"][..],
            125,
            "known pools: app",
        ),
        (
            &["--pool", "app"],
            &["/etc/passwd"],
            126,
            "can't be run: Permission denied",
        ),
        (
            &["--pool", "app"],
            &["no-such-command"],
            127,
            "`no-such-command` is not found",
        ),
        (
            &["--pool", "app", "--notify-fd", "99"],
            &["true"],
            125,
            "notification-fd",
        ),
        (&["--pool", "app", "--port", "x"], &["true"], 2, "auto"),
    ] {
        let (ended, said) = end(&mut rig, options, command).await;
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[lameduck_rig::test]
async fn the_default_drain_timeout_is_told_once_and_only_as_a_default() {
    let mut rig = Rig::start().await;
    let (_, said) = end(&mut rig, &["--pool", "app"], &["true"]).await;
    assert_eq!(said.matches("--drain-timeout").count(), 1, "{said}");
    let (_, said) = end(
        &mut rig,
        &["--pool", "app", "--drain-timeout", "4s"],
        &["true"],
    )
    .await;
    assert!(!said.contains("--drain-timeout"), "{said}");
}

#[lameduck_rig::test]
async fn a_drain_longer_than_pm2_waits_is_told() {
    let mut rig = Rig::start().await;
    let mut command = rig.exec(&["--pool", "app", "--drain-timeout", "10s"], &["true"]);
    command
        .env("pm_id", "0")
        .env("name", "api")
        .env("kill_timeout", "5000")
        .env("treekill", "true");
    let mut launched = rig.spawn(command);
    launched.exited().await;
    let said = launched.said();
    assert!(said.contains("PM2 kills 5s after its signal"), "{said}");
    assert!(said.contains("treekill: false"), "{said}");
}

#[lameduck_rig::test]
async fn an_app_that_is_never_ready_is_given_up_if_asked() {
    let mut rig = Rig::start().await;
    let script = "\"$EXE\" demo-app --port 0 --log \"$LOG\" & trap 'kill $!' TERM; wait";
    // Time enough for the app to open the other port, also on a busy machine.
    let mut launched = rig.script(&["--ready-timeout", "6s"], script);
    assert_eq!(launched.exited().await.code(), Some(125));
    let said = launched.said();
    assert!(
        said.contains("not ready within --ready-timeout (6s)"),
        "{said}"
    );
    assert!(
        said.contains("does not listen on port") && said.contains("but on"),
        "{said}"
    );
    // The port that it did open is named.
    let journal = std::fs::read_to_string(&launched.journal).unwrap();
    assert!(journal.contains("listening"), "{journal}");
    assert!(rig.backends().await.is_empty());
}

#[lameduck_rig::test]
async fn a_listener_that_is_not_the_app_s_does_not_count() {
    let mut rig = Rig::start().await;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let mut launched = rig.script(&["--port", &port], "exec sleep 60");
    launched.says("is not the app's").await;
    assert!(rig.backends().await.is_empty());
    assert_eq!(launched.stop().await.signal(), Some(libc::SIGTERM));

    let (code, said) = end(
        &mut rig,
        &["--pool", "app", "--port", &port],
        &["sh", "-c", "sleep 0.2; exit 1"],
    )
    .await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains(&format!("port {port} is taken by another process")),
        "{said}"
    );
}

/// The port that the launcher found is taken by the time the app wants it.
#[lameduck_rig::test]
async fn a_port_that_was_taken_meanwhile_is_replaced() {
    let mut rig = Rig::start().await;
    // The first time, the script lets somebody else have the port, and fails as an app would.
    let script = "if [ ! -e \"$LOG.taken\" ]; then echo $PORT > \"$LOG.new\"; mv \"$LOG.new\" \"$LOG.port\"; \
                  while [ ! -e \"$LOG.taken\" ]; do sleep 0.01; done; exit 1; fi; \
                  exec \"$EXE\" demo-app --port $PORT --log \"$LOG\"";
    let mut launched = rig.script(&["--name", "api-0"], script);
    let beside = |end: &str| launched.journal.with_extension(format!("journal.{end}"));
    until("the port is known", async || beside("port").exists()).await;
    let port = std::fs::read_to_string(beside("port")).unwrap();
    let port: u16 = port.trim().parse().unwrap();
    let _thief = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::fs::write(beside("taken"), "").unwrap();
    rig.ready("api-0").await;
    assert!(
        launched.said().contains("another try"),
        "{}",
        launched.said()
    );
    assert!(launched.stop().await.success());
}

#[lameduck_rig::test]
async fn a_deadline_that_cuts_says_how_many() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &["--drain-timeout", "1s"]);
    rig.ready("api-0").await;
    let slow = tokio::spawn(get(rig.proxy.address(), "/slow?ms=20000"));
    in_flight(&rig, 1).await;
    launched.stop().await;
    let said = launched.said();
    assert!(
        said.contains("deadline (1s) passed: 1 request cut"),
        "{said}"
    );
    slow.abort();
}

#[lameduck_rig::test]
async fn a_second_signal_goes_on_at_once() {
    let mut rig = Rig::start().await;
    let mut launched = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let slow = tokio::spawn(get(rig.proxy.address(), "/slow?ms=20000"));
    in_flight(&rig, 1).await;
    launched.process.signal(libc::SIGTERM).unwrap();
    until("it drains", async || {
        rig.state("api-0").await.as_deref() == Some("draining")
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    launched.process.signal(libc::SIGTERM).unwrap();
    launched.says("told to stop again").await;
    until("the app has been told", async || {
        std::fs::read_to_string(&launched.journal)
            .unwrap()
            .contains("signalled")
    })
    .await;
    slow.abort();
    launched.process.signal(libc::SIGKILL).unwrap();
}
