//! What goes wrong inside, and how the first round ends.

use std::sync::atomic::Ordering;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;

use crate::rig::{Rig, TWO, pool};

#[lameduck_rig::test]
async fn a_fault_in_one_message_freezes_nothing() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    rig.probes.faulty.store(true, Ordering::SeqCst);
    let refusal = rig.resume("a", false).await.unwrap_err();
    assert_eq!(refusal, RegistryError::Failed);
    rig.probes.faulty.store(false, Ordering::SeqCst);
    // The step was taken; what came after it is made up for.
    assert_eq!(rig.state("a").await, "starting");
    rig.ready("a").await;
    assert_eq!(rig.drain("b").await.unwrap().outcome, "drained");
    assert_eq!(rig.snapshot().ready.len(), 1);
}

#[lameduck_rig::test]
async fn a_fault_that_time_brings_again_and_again_starves_nobody() {
    let rig = Rig::two().await;
    rig.probes.faulty.store(true, Ordering::SeqCst);
    let request = lameduck::registry::view::DrainRequest {
        expires: Some("10ms".into()),
        ..crate::rig::within("1s")
    };
    rig.handle.drain("app", "a", request).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(rig.drain("b").await.unwrap().outcome, "drained");
}

#[lameduck_rig::test]
async fn a_stopped_registry_says_so() {
    let (handle, ()) = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { (Rig::new(&pool("", &TWO)).handle, ()) })
    })
    .join()
    .unwrap();
    assert_eq!(handle.pools().await, Err(RegistryError::ShuttingDown));
    assert_eq!(handle.answers().await, Err(RegistryError::ShuttingDown));
    handle.ended().await;
}

#[lameduck_rig::test]
async fn the_first_round_is_over_once() {
    let rig = Rig::new(&pool("", &TWO));
    let rounds = || rig.told.first_rounds.load(Ordering::SeqCst);
    rig.probe("a", ProbeResult::Refused);
    rig.settled().await;
    assert_eq!(rounds(), 0);
    rig.probe("b", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rounds(), 1);
    rig.register("api-0", 4000).await.unwrap();
    rig.probe("api-0", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rounds(), 1);
}

#[lameduck_rig::test]
async fn without_backends_the_first_round_is_over_at_once() {
    let rig = Rig::new(&pool("", &[]));
    tokio::task::yield_now().await;
    assert_eq!(rig.told.first_rounds.load(Ordering::SeqCst), 1);
}

#[lameduck_rig::test]
async fn probes_hurry_after_a_first_failure_and_calm_down_again() {
    let rig = Rig::two().await;
    let interval = || rig.probed("a", |probed| probed.cadence.interval.as_millis());
    assert_eq!(interval(), 1000);
    rig.probe("a", ProbeResult::Status(500));
    rig.settled().await;
    assert_eq!(interval(), 100);
    rig.probe("a", ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(interval(), 1000);
}

#[lameduck_rig::test]
async fn many_hints_make_one_look() {
    let rig = Rig::two().await;
    let endpoint = rig.endpoint("a");
    for _ in 0..10_000 {
        endpoint.hint();
        endpoint.peer_closed();
    }
    rig.settled().await;
    assert!(rig.probed("a", |probed| probed.now) <= 2);
    endpoint.hint();
    rig.settled().await;
    assert!(
        rig.probed("a", |probed| probed.now) <= 3,
        "the next one counts again"
    );
}

#[lameduck_rig::test]
async fn only_the_apps_own_drain_leaves_a_last_resort() {
    let settings = "[pool.hold]\non_empty = \"fail_open\"\n";
    let rig = Rig::new(&pool(settings, &TWO));
    rig.ready("a").await;
    rig.probe("a", ProbeResult::Unavailable);
    rig.becomes("a", "drained").await;
    let (old, endpoint) = (rig.snapshot(), rig.endpoint("a"));
    assert_eq!(old.last_resort.len(), 1);
    drop(endpoint.permit_anyway().unwrap());
    rig.drain("a").await.unwrap();
    assert!(rig.snapshot().last_resort.is_empty());
    // Whoever still has the old snapshot is turned away, too.
    assert!(old.last_resort[0].permit_anyway().is_none());
    assert_eq!(endpoint.gate.in_flight(), 0);
}

#[lameduck_rig::test]
async fn a_drain_waits_for_what_fail_open_has_sent() {
    let rig = Rig::two().await;
    rig.probe("a", ProbeResult::Unavailable);
    rig.becomes("a", "drained").await;
    let permit = rig.endpoint("a").permit_anyway().unwrap();
    let waiting = rig.draining("a", Default::default()).await;
    assert!(!waiting.is_finished());
    assert_eq!(rig.state("a").await, "draining");
    drop(permit);
    assert_eq!(crate::rig::told(waiting).await.outcome, "drained");
}
