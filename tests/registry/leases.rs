//! Instances that a launcher holds.

use std::time::Duration;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;
use lameduck::registry::lease::LeaseHandle;
use lameduck::registry::view::{DrainRequest, LeaseDrainRequest, LeaseEvent, LeaseRequest};

use crate::rig::{PATIENCE, Rig, TWO, pool};

/// A lease, its id, and the name that it is shown by.
pub async fn lease(
    rig: &Rig,
    name: &str,
    port: u16,
    nonce: &str,
) -> (LeaseHandle, String, String, u64) {
    let request = LeaseRequest {
        address: format!("127.0.0.1:{port}"),
        pid: Some(4711),
        nonce: Some(nonce.to_owned()),
        ..LeaseRequest::default()
    };
    let mut lease = rig.handle.lease("app", name, request).await.unwrap();
    match next(&mut lease).await {
        LeaseEvent::Registered {
            lease: id,
            name,
            incarnation,
            state,
            ..
        } => {
            assert!(state == "starting" || state.starts_with("drain"), "{state}");
            (lease, id, name, incarnation)
        }
        other => panic!("{other:?}"),
    }
}

async fn next(lease: &mut LeaseHandle) -> LeaseEvent {
    let event = tokio::time::timeout(PATIENCE, lease.next()).await;
    event.expect("nobody told us").expect("the lease goes on")
}

fn without_waiting() -> LeaseDrainRequest {
    LeaseDrainRequest {
        wait: Some(false),
        ..LeaseDrainRequest::default()
    }
}

#[lameduck_rig::test]
async fn leased_backup_stands_by_until_no_other_is_ready() {
    let rig = Rig::two().await;
    let request = LeaseRequest {
        address: "127.0.0.1:4000".into(),
        backup: true,
        zone: Some("eu-1".into()),
        ..LeaseRequest::default()
    };
    let _lease = rig.handle.lease("app", "spare", request).await.unwrap();
    rig.ready("spare").await;
    let zone = rig.view("spare").await.unwrap().zone;
    assert_eq!(zone.as_deref(), Some("eu-1"));
    assert!(rig.view("spare").await.unwrap().backup);
    assert_eq!(rig.snapshot().ready.len(), 2);
    rig.drain("a").await.unwrap();
    rig.drain("b").await.unwrap();
    rig.settled().await;
    assert_eq!(&*rig.snapshot().ready[0].name, "spare");
}

#[lameduck_rig::test]
async fn two_of_one_name_overlap_and_each_drains_alone() {
    let rig = Rig::new(&pool("", &[]));
    let (mut old, id, first, one) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    let (new, _, second, two) = lease(&rig, "api-0", 4001, "y").await;
    rig.ready("api-0~2").await;
    assert_eq!((&*first, one, &*second, two), ("api-0", 1, "api-0~2", 2));
    let ended = rig.handle.drain_lease(&id, LeaseDrainRequest::default());
    assert_eq!(ended.await.unwrap().outcome, "drained");
    assert_eq!(
        (rig.state("api-0").await, rig.state("api-0~2").await),
        ("drained".into(), "ready".into())
    );
    // The holder has heard of all of it.
    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.push(match next(&mut old).await {
            LeaseEvent::State { state, .. } => state,
            LeaseEvent::Drain(ended) => format!("ended: {}", ended.outcome),
            other => panic!("{other:?}"),
        });
    }
    heard.sort_unstable();
    assert_eq!(heard, ["drained", "draining", "ended: drained", "ready"]);
    drop(old);
    rig.becomes("api-0", "gone").await;
    assert_eq!(rig.state("api-0~2").await, "ready");
    drop(new);
    rig.becomes("api-0~2", "gone").await;
    let (_third, _, shown, three) = lease(&rig, "api-0", 4002, "z").await;
    assert_eq!((&*shown, three), ("api-0", 3));
}

#[lameduck_rig::test]
async fn a_broken_lease_takes_the_instance_out_and_what_is_in_flight_goes_on() {
    let rig = Rig::new(&pool("", &[]));
    let (lease, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    let permit = rig.endpoint("api-0").permit(0).unwrap();
    drop(lease);
    rig.becomes("api-0", "draining").await;
    assert!(rig.snapshot().ready.is_empty());
    drop(permit);
    rig.becomes("api-0", "gone").await;
}

/// The same process asks again: its old connection broke, and nobody has noticed yet.
#[lameduck_rig::test]
async fn the_same_process_takes_the_place_of_its_earlier_lease() {
    let rig = Rig::new(&pool("", &[]));
    let (mut earlier, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    let (_again, _, shown, incarnation) = lease(&rig, "api-0", 4000, "x").await;
    assert_eq!((&*shown, incarnation), ("api-0~2", 1));
    rig.becomes("api-0", "gone").await;
    let mut last = None;
    while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, earlier.next()).await {
        last = Some(event);
    }
    assert_eq!(last, Some(LeaseEvent::Left));
}

#[lameduck_rig::test]
async fn what_an_operator_closed_stays_closed_over_a_restart_and_a_lease_s_own_drain_does_not() {
    let rig = Rig::new(&pool("", &[]));
    let (first, id, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    rig.handle
        .drain_lease(&id, without_waiting())
        .await
        .unwrap();
    rig.becomes("api-0", "drained").await;
    // Beside it, while it drains: not closed with it.
    let (second, ..) = lease(&rig, "api-0", 4001, "y").await;
    rig.ready("api-0~2").await;
    drop(first);
    rig.becomes("api-0", "gone").await;
    let asked = rig.handle.drain("app", "api-0", DrainRequest::default());
    asked.await.unwrap();
    drop(second);
    rig.becomes("api-0~2", "gone").await;
    let (_third, ..) = lease(&rig, "api-0", 4002, "z").await;
    let view = rig.view("api-0").await.unwrap();
    assert_eq!(
        (&*view.state, &*view.drains[0].actor),
        ("drained", "operator")
    );
    rig.resume("api-0", false).await.unwrap();
    rig.ready("api-0").await;
}

#[lameduck_rig::test]
async fn leases_and_their_drains_are_not_kept_for_the_next_run() {
    let rig = Rig::new(&pool("", &[]));
    let (_lease, id, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    rig.handle
        .drain_lease(&id, without_waiting())
        .await
        .unwrap();
    rig.becomes("api-0", "drained").await;
    let kept = rig.kept();
    assert!(
        kept.registrations.is_empty() && kept.drains.is_empty(),
        "{kept:?}"
    );
}

/// A drain that was asked for by a supervisor ends some time after its deadline; a lease's own does not.
#[tokio::test(start_paused = true)]
async fn a_lease_s_drain_has_no_expiry() {
    let rig = Rig::new(&pool("", &[]));
    let (_lease, id, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    rig.handle
        .drain_lease(&id, without_waiting())
        .await
        .unwrap();
    let drain = rig.view("api-0").await.unwrap().drains.remove(0);
    assert_eq!((&*drain.actor, drain.expires), ("supervisor", None));
    for _ in 0..5 {
        rig.probe("api-0", ProbeResult::Pass);
    }
    rig.settled().await;
    assert_ne!(rig.state("api-0").await, "ready");
}

#[lameduck_rig::test]
async fn reloads_leave_leases_alone() {
    let rig = Rig::new(&pool("", &[]));
    let (_lease, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.ready("api-0").await;
    // The same name and address, now configured: another backend all the same.
    rig.apply(&pool("", &[("api-0", 4000), ("b", 4001)])).await;
    let view = rig.view("api-0").await.unwrap();
    assert_eq!((&*view.state, &*view.source), ("ready", "lease"));
    rig.apply(&pool("", &TWO)).await;
    assert_eq!(rig.state("api-0").await, "ready");
}

#[lameduck_rig::test]
async fn names_belong_to_one_kind() {
    let rig = Rig::two().await;
    let (_lease, ..) = lease(&rig, "api-0", 4000, "x").await;
    let request = LeaseRequest {
        address: "127.0.0.1:4000".to_owned(),
        ..LeaseRequest::default()
    };
    let taken = rig.handle.lease("app", "a", request.clone()).await;
    assert!(
        matches!(taken, Err(RegistryError::Conflict(_))),
        "{taken:?}"
    );
    let unknown = rig.handle.lease("nope", "a", request).await;
    assert!(
        matches!(unknown, Err(RegistryError::UnknownPool { .. })),
        "{unknown:?}"
    );
    let registered = rig.register("api-0", 4001).await;
    assert!(
        matches!(registered, Err(RegistryError::Conflict(_))),
        "{registered:?}"
    );
    let removed = rig
        .handle
        .deregister("app", "api-0", DrainRequest::default());
    assert!(matches!(removed.await, Err(RegistryError::Conflict(_))));
    let nobody = rig.handle.drain_lease("0", LeaseDrainRequest::default());
    assert!(matches!(nobody.await, Err(RegistryError::UnknownLease(_))));
}

#[lameduck_rig::test]
async fn a_lease_ends_with_its_pool() {
    let rig = Rig::new(&pool("", &[]));
    let (mut lease, ..) = lease(&rig, "api-0", 4000, "x").await;
    rig.apply("[[pool]]\nname = \"other\"\n").await;
    let ended = async { while lease.next().await.is_some() {} };
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    assert!(
        ended.is_ok(),
        "still held after {:?}",
        Duration::from_secs(10)
    );
}
