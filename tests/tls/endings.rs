//! Ends over TLS: of the proxy, and of the instances behind it.

use std::time::Duration;

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::roll;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::apps::Apps;
use super::rig::{PATIENCE, Rig, ask, connect, get, proving, read_to_end, until};

/// Nothing of a rolling restart is noticed over TLS, neither of the instances nor, in the end, of the proxy.
#[lameduck_rig::test]
async fn a_rolling_restart_over_tls_loses_nothing() {
    let mut apps = Apps::start(&["app-1", "app-2", "app-3"]).await;
    let backends = apps.backends();
    let mut rig = Rig::before("", "", "lame_duck = \"1s\"", &backends).await;
    let plan = LoadPlan {
        tls: Some(rig.client()),
        slow: Duration::from_millis(500),
        ..LoadPlan::new(rig.address(), if proving() { 500 } else { 100 })
    };
    let load = Load::start(plan);
    let rounds = if proving() { 3 } else { 1 };
    for _ in 0..rounds {
        for instance in &mut apps.instances {
            let deadline = Duration::from_secs(5);
            roll::restart(instance, &rig.proxy, deadline, &|_, _| {})
                .await
                .unwrap();
        }
    }
    let account = apps.clean_account(load).await;
    println!("{account}");
    rig.proxy.stop(PATIENCE).await.unwrap();
}

/// Whoever was accepted is served, and told of the end in TLS's own way.
#[lameduck_rig::test]
async fn a_shutdown_serves_whoever_was_accepted() {
    let mut rig = Rig::with("", "", "lame_duck = \"300ms\"\nheader_timeout = \"60s\"").await;
    let (address, config) = (rig.address(), rig.client());
    let mut idle = connect(address, "localhost", config.clone()).await.unwrap();
    let mut busy = connect(address, "localhost", config.clone()).await.unwrap();
    busy.write_all(get("/slow").as_bytes()).await.unwrap();
    busy.flush().await.unwrap();
    let used = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    idle.write_all(used).await.unwrap();
    let mut some = [0; 1024];
    assert!(idle.read(&mut some).await.unwrap() > 0);
    // Accepted, and in the middle of its handshake when the proxy stops accepting.
    let late = TcpStream::connect(address).await.unwrap();
    until("it to be accepted", async || {
        let metrics = rig.metrics().await;
        lameduck::tools::demo::admin::metric(&metrics, "lameduck_connections{side=\"client\"}")
            == Some(3)
    })
    .await;
    let stalled = TcpStream::connect(address).await.unwrap();
    let log = rig.log.clone();
    rig.proxy.process().signal(libc::SIGTERM).unwrap();
    until("the end of accepting", async || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("no longer accepting")
    })
    .await;
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut late = tokio_rustls::TlsConnector::from(config)
        .connect(name, late)
        .await
        .unwrap();
    assert!(
        ask(&mut late, &get("/"))
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    // close_notify: an end without it is an error.
    assert!(
        read_to_end(&mut busy)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    assert_eq!(read_to_end(&mut idle).await.unwrap(), "");
    // Who stalls holds it up for a moment only, and far from `header_timeout`.
    let (status, _) = rig.proxy.process().wait(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    drop(stalled);
}

/// An answer that breaks off must not look whole: there is no close_notify.
#[lameduck_rig::test]
async fn an_answer_that_is_cut_has_no_orderly_end() {
    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = backend.accept().await {
            let mut head = [0; 4096];
            let count = stream.read(&mut head).await.unwrap_or(0);
            let answer: &[u8] = if head[..count].starts_with(b"GET /health") {
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
            };
            let _ = stream.write_all(answer).await;
        }
    });
    let rig = Rig::before("", "", "", &[("half".to_owned(), address)]).await;
    let mut stream = connect(rig.address(), "localhost", rig.client())
        .await
        .unwrap();
    let cut = ask(&mut stream, &get("/")).await;
    assert!(cut.is_err(), "{cut:?}");
}
