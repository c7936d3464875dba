//! An app that closes idle keep-alive connections, and POSTs that come at just that moment.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::proxy::ProxySettings;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, proving, turn_alone};

/// POSTs at a time, each of which takes a kept connection of its own.
const LANES: usize = 40;

/// When the app closes a connection that it has answered on: by the clock of who waits for it.
async fn closes_after(app: SocketAddr) -> Duration {
    let mut connection = LoadConnection::open(app).await.unwrap();
    let response = connection.exchange(&post(app, "first")).await.unwrap();
    assert_eq!(response.status, 200);
    let answered = Instant::now();
    while connection.is_reusable() {
        assert!(
            answered.elapsed() < Duration::from_secs(15),
            "it keeps its connections"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    answered.elapsed()
}

fn post(address: SocketAddr, body: &str) -> Vec<u8> {
    format!(
        "POST /echo HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Bursts of POSTs, each about as long after the one before as the app keeps idle connections; how they failed.
async fn bursts(app: App, run: Duration) -> Option<Vec<String>> {
    let bench = Bench::start("keepalive", app, 1).await?;
    let access_log = bench.scratch.path().join("access.log");
    let settings = ProxySettings {
        access_log: access_log.display().to_string(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let address = front.address();
    let gap = closes_after(bench.instances[0].address()).await;
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        lanes.push(LoadConnection::open(address).await.unwrap());
    }
    let (mut failed, mut burst) = (Vec::new(), 0);
    let end = Instant::now() + run;
    loop {
        let sent = lanes
            .iter_mut()
            .enumerate()
            .map(|(lane, connection)| async move {
                let body = format!("{burst}-{lane}");
                match connection.exchange(&post(address, &body)).await {
                    Ok(response) if response.status == 200 && response.body == body.as_bytes() => {
                        None
                    }
                    other => Some(format!("{body}: {other:?}")),
                }
            });
        let results = futures_util::future::join_all(sent).await;
        for (lane, result) in results.into_iter().enumerate() {
            if let Some(how) = result {
                failed.push(how);
                lanes[lane] = LoadConnection::open(address).await.unwrap();
            }
        }
        if Instant::now() + gap > end {
            break;
        }
        burst += 1;
        // Around the moment, a millisecond earlier or later each time.
        let early = Duration::from_millis(4).saturating_sub(Duration::from_millis(burst % 9));
        let late = Duration::from_millis((burst % 9).saturating_sub(4));
        tokio::time::sleep((gap + late).saturating_sub(early)).await;
    }
    println!(
        "{app:?}: closes after {gap:?}, {} POSTs, {} failed",
        (burst as usize + 1) * LANES,
        failed.len()
    );
    if !failed.is_empty() {
        println!("{}", crate::harness::failures(&access_log));
    }
    Some(failed)
}

/// An app that says how long it keeps connections, as Node does by default, is never met at the wrong moment; one that
/// doesn't say it neither.
#[lameduck_rig::test]
async fn posts_survive_apps_that_close_idle_connections() {
    let _turn = turn_alone().await;
    let run = Duration::from_secs(if proving() { 60 } else { 8 });
    let apps = ["1000", "2000", "5000"]
        .into_iter()
        .flat_map(|after| [App::NodeKeepAlive(after), App::NodeUnannounced(after)]);
    let runs = futures_util::future::join_all(apps.map(|app| bursts(app, run)));
    for failed in runs.await.into_iter().flatten() {
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
