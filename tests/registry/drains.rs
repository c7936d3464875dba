//! Drains that somebody waits for: every end, told once, and to everybody.

use std::time::Duration;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;
use lameduck::registry::view::DrainRequest;
use lameduck::rt::clock;
use lameduck::rt::shutdown_signal::ShutdownLevel;
use tokio::time::sleep;

use crate::rig::{PATIENCE, Rig, pool, restarted, supervisor, told, within};

const A_MOMENT: Duration = Duration::from_millis(30);

#[lameduck_rig::test]
async fn drained_means_no_request_and_no_connection() {
    let rig = Rig::two().await;
    let endpoint = rig.endpoint("a");
    let permit = endpoint.permit(0).unwrap();
    let (request, probe) = (endpoint.connection_opened(), endpoint.connection_opened());
    let waiting = rig.draining("a", DrainRequest::default()).await;
    assert!(endpoint.gate.is_closed() && endpoint.permit(0).is_none());
    assert_eq!(rig.state("a").await, "draining");
    drop(request);
    drop(permit);
    sleep(A_MOMENT).await;
    assert!(!waiting.is_finished(), "the probe's connection is open");
    drop(probe);
    let answer = told(waiting).await;
    assert_eq!((&*answer.outcome, answer.in_flight), ("drained", 0));
    assert_eq!(rig.state("a").await, "drained");
    assert_eq!(*rig.told.ended.lock().unwrap(), ["app drained"]);
}

#[lameduck_rig::test]
async fn the_last_permit_ends_it_too() {
    let rig = Rig::two().await;
    let endpoint = rig.endpoint("a");
    let (permit, other) = (endpoint.permit(0).unwrap(), endpoint.permit(0).unwrap());
    drop(endpoint.connection_opened());
    let waiting = rig.draining("a", DrainRequest::default()).await;
    drop(permit);
    sleep(A_MOMENT).await;
    assert!(!waiting.is_finished());
    drop(other);
    assert_eq!(told(waiting).await.outcome, "drained");
}

#[lameduck_rig::test]
async fn every_waiting_request_is_answered() {
    let rig = Rig::two().await;
    let permit = rig.endpoint("a").permit(0).unwrap();
    let one = rig.draining("a", DrainRequest::default()).await;
    let two = rig.draining("a", supervisor("deploy")).await;
    drop(permit);
    assert_eq!(told(one).await.outcome, "drained");
    assert_eq!(told(two).await.outcome, "drained");
    // Who asks when it is over is told at once.
    assert_eq!(rig.drain("a").await.unwrap().outcome, "drained");
}

#[lameduck_rig::test]
async fn a_quiet_backend_is_drained_at_once() {
    let rig = Rig::two().await;
    assert_eq!(rig.drain("a").await.unwrap().outcome, "drained");
    assert_eq!(rig.snapshot().ready.len(), 1);
    assert!(!rig.probed("a", |probed| probed.cadence.keep));
}

#[lameduck_rig::test]
async fn resumed_while_somebody_waits() {
    let rig = Rig::two().await;
    let endpoint = rig.endpoint("a");
    let _permit = endpoint.permit(0).unwrap();
    let waiting = rig.draining("a", DrainRequest::default()).await;
    assert_eq!(rig.resume("a", false).await.unwrap().state, "ready");
    let answer = told(waiting).await;
    assert_eq!((&*answer.outcome, answer.in_flight), ("resumed", 1));
    assert!(endpoint.permit(0).is_some());
}

#[lameduck_rig::test]
async fn the_deadline_ends_streams_then_cuts_and_says_how_many() {
    let settings = "[pool.drain]\nclose_spread = \"3s\"\n";
    let rig = Rig::new(&pool(settings, &crate::rig::TWO));
    rig.ready("a").await;
    let endpoint = rig.endpoint("a");
    let permits = [endpoint.permit(0).unwrap(), endpoint.permit(0).unwrap()];
    let streams = [endpoint.connection_opened(), endpoint.connection_opened()];
    let waiting = rig.draining("a", within("4s")).await;
    let level = |index: usize| streams[index].interrupt().level();
    assert_eq!([level(0), level(1)], [ShutdownLevel::Run; 2]);
    while level(0) == ShutdownLevel::Run {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!([level(0), level(1)], [ShutdownLevel::End; 2]);
    assert!(
        streams[0].interrupt().at() < streams[1].interrupt().at(),
        "spread"
    );
    let answer = told(waiting).await;
    assert_eq!((&*answer.outcome, answer.cut), ("timed_out", 2));
    assert_eq!([level(0), level(1)], [ShutdownLevel::Cut; 2]);
    assert_eq!(rig.state("a").await, "draining", "they have yet to go");
    drop(streams);
    drop(permits);
    rig.becomes("a", "drained").await;
    assert_eq!(rig.drain("a").await.unwrap().outcome, "drained");
}

#[lameduck_rig::test]
async fn before_a_restart_streams_are_told_so() {
    let rig = Rig::two().await;
    let stream = rig.endpoint("a").connection_opened();
    let waiting = rig.draining("a", restarted("1s")).await;
    assert_eq!(stream.interrupt().level(), ShutdownLevel::EndRestart);
    drop(stream);
    assert_eq!(told(waiting).await.outcome, "drained");
}

#[lameduck_rig::test]
async fn a_process_that_died_took_requests_along() {
    let rig = Rig::two().await;
    let endpoint = rig.endpoint("a");
    let permits: Vec<_> = (0..3).map(|_| endpoint.permit(0).unwrap()).collect();
    let waiting = rig.draining("a", DrainRequest::default()).await;
    for permit in permits {
        endpoint.request_lost();
        drop(permit);
    }
    sleep(A_MOMENT).await;
    assert!(!waiting.is_finished(), "a probe has to tell what it was");
    assert!(rig.probed("a", |probed| probed.now) > 0);
    rig.probe("a", ProbeResult::Refused);
    let answer = told(waiting).await;
    assert_eq!((&*answer.outcome, answer.lost), ("died", 3));
}

#[lameduck_rig::test]
async fn until_restarted_opens_for_a_new_process_only() {
    let rig = Rig::two().await;
    let drain = rig.handle.drain("app", "a", restarted("10s"));
    assert_eq!(drain.await.unwrap().outcome, "drained");
    for _ in 0..10 {
        rig.probe("a", ProbeResult::Pass);
    }
    rig.settled().await;
    assert_eq!(rig.state("a").await, "drained", "it is the old one");
    assert_eq!(
        rig.probed("a", |probed| probed.cadence.interval),
        Duration::from_millis(100)
    );
    rig.probe("a", ProbeResult::Refused);
    rig.probe("a", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rig.state("a").await, "drained", "one pass of two");
    rig.probe("a", ProbeResult::Pass);
    rig.becomes("a", "ready").await;
    assert_eq!(rig.view("a").await.unwrap().incarnation, 2);
    assert!(rig.probed("a", |probed| probed.cadence.keep));
}

#[lameduck_rig::test]
async fn until_restarted_sees_a_restart_faster_than_a_probe() {
    let rig = Rig::two().await;
    rig.probe_of("a", ProbeResult::Pass, Some(71));
    let drain = rig.handle.drain("app", "a", restarted("10s"));
    assert_eq!(drain.await.unwrap().outcome, "drained");
    rig.probe_of("a", ProbeResult::Pass, Some(72));
    rig.probe_of("a", ProbeResult::Pass, Some(72));
    rig.becomes("a", "ready").await;
}

#[lameduck_rig::test]
async fn an_expiry_opens_after_fresh_passes() {
    let rig = Rig::two().await;
    let request = DrainRequest {
        expires: Some("60ms".into()),
        ..within("50ms")
    };
    // In its time, whenever they are told of: this test may stand still for longer than that.
    let before = clock::now() + Duration::from_millis(20);
    let drain = rig.handle.drain("app", "a", request);
    assert_eq!(drain.await.unwrap().outcome, "drained");
    for _ in 0..5 {
        rig.probe_begun("a", ProbeResult::Pass, None, before);
    }
    rig.settled().await;
    assert_eq!(rig.state("a").await, "drained");
    let expired = async {
        while rig.probed("a", |probed| probed.now) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.unwrap();
    rig.probe_begun("a", ProbeResult::Pass, None, before);
    rig.probe("a", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rig.state("a").await, "drained", "one fresh pass of two");
    rig.probe("a", ProbeResult::Pass);
    rig.becomes("a", "ready").await;
}

#[lameduck_rig::test]
async fn each_actor_lifts_its_own() {
    let rig = Rig::two().await;
    let permit = rig.endpoint("a").permit(0).unwrap();
    let one = rig.draining("a", DrainRequest::default()).await;
    let two = rig.draining("a", supervisor("one")).await;
    let three = rig.draining("a", supervisor("two")).await;
    assert_eq!(rig.view("a").await.unwrap().drains.len(), 3);
    let view = rig.resume("a", false).await.unwrap();
    assert_eq!((&*view.state, view.drains.len()), ("draining", 2));
    drop(permit);
    for waiting in [one, two, three] {
        assert_eq!(told(waiting).await.outcome, "drained");
    }
    rig.resume("a", true).await.unwrap();
    assert!(rig.view("a").await.unwrap().drains.is_empty());
}

#[lameduck_rig::test]
async fn the_apps_503_drains_and_passes_lift_it() {
    let mut rig = Rig::two().await;
    rig.events();
    rig.probe("a", ProbeResult::Unavailable);
    rig.becomes("a", "drained").await;
    assert_eq!(rig.snapshot().last_resort.len(), 1);
    rig.probe("a", ProbeResult::Pass);
    rig.probe("a", ProbeResult::Pass);
    rig.becomes("a", "ready").await;
    let events = rig.events();
    let wanted = [
        "state a draining",
        "drain a drained",
        "state a drained",
        "state a ready",
    ];
    assert_eq!(events, wanted);
}

#[lameduck_rig::test]
async fn not_to_wait_is_possible() {
    let rig = Rig::two().await;
    let _permit = rig.endpoint("a").permit(0).unwrap();
    let request = DrainRequest {
        wait: Some(false),
        ..DrainRequest::default()
    };
    let answer = rig.handle.drain("app", "a", request).await.unwrap();
    assert_eq!((&*answer.outcome, answer.in_flight), ("asked", 1));
}

#[lameduck_rig::test]
async fn refusals_say_what_there_is() {
    let rig = Rig::two().await;
    let text = |refusal: RegistryError| refusal.to_string();
    let drain = rig.handle.drain("web", "a", DrainRequest::default()).await;
    assert_eq!(
        text(drain.unwrap_err()),
        "there is no pool `web`; known pools: app"
    );
    let wanted = "pool `app` has no backend `c`; known backends: a, b";
    assert_eq!(text(rig.drain("c").await.unwrap_err()), wanted);
    assert_eq!(text(rig.resume("c", true).await.unwrap_err()), wanted);
    assert_eq!(
        text(rig.handle.backends("app", "c").await.unwrap_err()),
        wanted
    );
    let bad = [
        within("soon"),
        within("2years"),
        within("18446744073709551615s"),
        DrainRequest {
            expires: Some("500000000years".into()),
            ..DrainRequest::default()
        },
        DrainRequest {
            actor: Some("app".into()),
            ..DrainRequest::default()
        },
        DrainRequest {
            until: Some("never".into()),
            ..DrainRequest::default()
        },
    ];
    for request in bad {
        let refusal = rig.handle.drain("app", "a", request.clone()).await;
        assert!(
            matches!(refusal, Err(RegistryError::Invalid(_))),
            "{request:?}: {refusal:?}"
        );
    }
    assert_eq!(rig.state("a").await, "ready");
}

#[lameduck_rig::test]
async fn waiters_that_hang_up_are_dropped() {
    let rig = Rig::two().await;
    let permit = rig.endpoint("a").permit(0).unwrap();
    for _ in 0..3 {
        rig.draining("a", DrainRequest::default()).await.abort();
    }
    let waiting = rig.draining("a", within("20s")).await;
    drop(permit);
    assert_eq!(told(waiting).await.outcome, "drained");
}

#[lameduck_rig::test(threads = 2)]
async fn losses_are_counted_before_quiet() {
    // The permit goes back at once: "drained" must not overtake what was lost.
    let rig = Rig::two().await;
    for _ in 0..100 {
        let endpoint = rig.endpoint("a");
        let permit = endpoint.permit(0).unwrap();
        let waiting = rig.draining("a", DrainRequest::default()).await;
        let lost = std::thread::spawn(move || {
            endpoint.request_lost();
            drop(permit);
        });
        lost.join().unwrap();
        rig.settled().await;
        rig.probe("a", ProbeResult::Refused);
        assert_eq!(told(waiting).await.outcome, "died");
        rig.resume("a", true).await.unwrap();
        rig.ready("a").await;
    }
}
