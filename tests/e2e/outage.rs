//! A database outage: every instance says 503 on `/health`, and none of them is to be restarted.

use std::time::{Duration, Instant};

use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::{DemoRequestKind, Loss};
use lameduck::tools::demo::proxy::ProxySettings;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::streams::Streams;
use crate::harness::{Bench, proving, turn_beside_one, until, usual_load};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a request is held: `hold.timeout` below.
const HOLD: Duration = Duration::from_secs(4);

#[lameduck_rig::test]
async fn outage_of_all_instances_cuts_no_stream_and_all_come_back() {
    let _turn = turn_beside_one().await;
    let mut bench = Bench::start("outage", App::BuiltIn, 3).await.unwrap();
    let settings = ProxySettings {
        // More than it takes until all are back, and so that nobody is refused who comes then. 4 s of 500 requests/s would
        // overfill the default of 1000.
        pool: "[pool.hold]\ntimeout = \"4s\"\nmax_requests = 5000".into(),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let proxy = front.proxy();
    let load = Load::start(usual_load(front.address()));
    let streams = Streams::open(front.address(), 3).await;
    until("requests", PATIENCE, async || {
        load.progress().answered > 300
    })
    .await;

    let out = switch(&mut bench);
    until("the outage to be seen", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(if proving() { 60 } else { 5 })).await;
    let back = switch(&mut bench);
    let begun = Instant::now();
    until("all to be back", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == 3
    })
    .await;
    let recovery = begun.elapsed();
    let answered = load.progress().answered;
    until("requests", PATIENCE, async || {
        load.progress().answered > answered + 300
    })
    .await;

    assert_eq!(streams.close(), [], "a stream was ended");
    let sent = load.stop().await;
    let mut refused = 0;
    for request in &sent {
        match request.outcome {
            Ok(200) => {}
            Err(Loss::ProxyError(503)) => {
                refused += 1;
                assert!(
                    request.retry_after.is_some(),
                    "503 without Retry-After: {request:?}"
                );
                let held = Duration::from_nanos(request.latency);
                assert!(
                    held >= HOLD - Duration::from_millis(50),
                    "not held: {request:?}"
                );
                assert!(
                    request.at + request.latency > out && request.at < back,
                    "503 outside of the outage: {request:?}"
                );
            }
            _ => panic!("cut: {request:?}"),
        }
    }
    assert!(refused > 0, "no request was refused in the outage");
    assert!(
        sent.iter()
            .any(|s| s.kind == DemoRequestKind::Slow && s.at < out && s.at + s.latency > out),
        "none was in flight"
    );
    // `rise` = 2 passes at the interval of 1 s, one of them jittered. Other tests run beside the short run.
    let bound = Duration::from_millis(if proving() { 2_800 } else { 8_000 });
    assert!(recovery < bound, "back after {recovery:?}");
    let account = bench.account(sent, &front).await;
    assert_eq!(
        (account.delivered_twice, account.unexplained, account.lost),
        (0, 0, refused),
        "{account}"
    );
    let notes = vec![format!(
        "{refused} refused with Retry-After by design; all back after {recovery:?}"
    )];
    record(Row {
        test: "outage",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
}

fn switch(bench: &mut Bench) -> u64 {
    for instance in &mut bench.instances {
        instance.process().signal(libc::SIGUSR1).unwrap();
    }
    monotonic_ns()
}
