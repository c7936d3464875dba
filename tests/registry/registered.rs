//! Backends that come and go by themselves.

use std::sync::atomic::Ordering;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;
use lameduck::registry::view::{BackendView, DrainRequest, RegisterRequest, ResumeRequest};

use crate::rig::{PATIENCE, Rig, Waiting, in_background, pool, told, within};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, state): &(&str, &str)| ((*name).to_owned(), (*state).to_owned());
    list.iter().map(owned).collect()
}

async fn deregister(rig: &Rig, name: &'static str, request: DrainRequest) -> Waiting {
    let handle = rig.handle.clone();
    let task = in_background(async move { handle.deregister("app", name, request).await }).await;
    rig.settled().await;
    task
}

#[lameduck_rig::test]
async fn registered_backend_starts_closed_and_is_listed() {
    let mut rig = Rig::new(&pool("", &[]));
    let view = rig.register("api-0", 4000).await.unwrap();
    assert_eq!(
        (&*view.state, &*view.source, view.weight),
        ("starting", "api", 1)
    );
    assert_eq!(rig.told.registered.load(Ordering::SeqCst), 1);
    assert_eq!(rig.snapshot().backends.len(), 1);
    rig.ready("api-0").await;
    assert_eq!(rig.snapshot().ready.len(), 1);
    let events = rig.events();
    assert_eq!(events, ["registered api-0", "state api-0 ready"]);
}

#[lameduck_rig::test]
async fn the_same_address_again_changes_nothing_but_the_weight() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.probe("api-0", ProbeResult::Pass);
    rig.register("api-0", 4000).await.unwrap();
    rig.probe("api-0", ProbeResult::Pass);
    rig.becomes("api-0", "ready").await;
    let request = RegisterRequest {
        address: "127.0.0.1:4000".into(),
        weight: Some(7),
        ..RegisterRequest::default()
    };
    let view = rig.handle.register("app", "api-0", request).await.unwrap();
    assert_eq!(
        (&*view.state, view.weight, view.incarnation),
        ("ready", 7, 1)
    );
    assert_eq!(rig.snapshot().ready[0].weight(), 7);
}

/// A registered backup stands by, says so, and is one after a restart of the proxy; asked for without it, it is none.
#[lameduck_rig::test]
async fn registered_backup_stands_by_and_stays_one_until_it_is_registered_without() {
    let rig = Rig::two().await;
    let request = |backup| RegisterRequest {
        address: "127.0.0.1:4000".into(),
        backup,
        ..RegisterRequest::default()
    };
    let register = async |backup| {
        let registered = rig.handle.register("app", "spare", request(backup)).await;
        registered.unwrap()
    };
    assert!(register(true).await.backup);
    rig.ready("spare").await;
    let snapshot = rig.snapshot();
    assert_eq!(
        snapshot.ready.len(),
        2,
        "it is no use while others are ready"
    );
    assert_eq!(snapshot.backups.as_ref().unwrap().ready.len(), 1);
    rig.drain("a").await.unwrap();
    rig.drain("b").await.unwrap();
    rig.settled().await;
    assert_eq!(&*rig.snapshot().ready[0].name, "spare");
    let kept = rig.kept();
    assert!(kept.registrations[0].backend.backup);
    let again = Rig::restored(&pool("", &crate::rig::TWO), kept);
    again.settled().await;
    assert!(again.view("spare").await.unwrap().backup);
    assert!(!register(false).await.backup);
    rig.settled().await;
    assert!(!rig.kept().registrations[0].backend.backup);
    assert!(rig.snapshot().backups.is_none());
}

/// What a registered instance says of its zone counts like what the file says, and outlives the proxy.
#[lameduck_rig::test]
async fn registered_zone_is_shown_counts_and_is_kept_until_it_is_registered_without() {
    let text = format!("[server]\nzone = \"eu-1\"\n{}", pool("", &[]));
    let rig = Rig::new(&text);
    let request = |port: u16, zone: Option<&str>| RegisterRequest {
        address: format!("127.0.0.1:{port}"),
        zone: zone.map(str::to_owned),
        ..RegisterRequest::default()
    };
    let register = async |name: &str, request| {
        let registered = rig.handle.register("app", name, request).await;
        registered.unwrap().zone
    };
    let near = register("near", request(4000, Some("eu-1"))).await;
    assert_eq!(near.as_deref(), Some("eu-1"));
    register("far", request(4001, Some("us-1"))).await;
    rig.ready("near").await;
    rig.ready("far").await;
    let first: Vec<_> = rig
        .snapshot()
        .ready
        .iter()
        .map(|one| one.name.to_string())
        .collect();
    assert_eq!(first, ["near"]);
    let again = Rig::restored(&text, rig.kept());
    again.settled().await;
    assert_eq!(
        again.view("far").await.unwrap().zone.as_deref(),
        Some("us-1")
    );
    // Registered again without it, at the same address.
    assert_eq!(register("far", request(4001, None)).await, None);
    let refused = rig
        .handle
        .register("app", "x", request(4002, Some("no zone")))
        .await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, RegistryError::Invalid(_)), "{refused}");
}

#[lameduck_rig::test]
async fn the_same_address_after_a_drain_is_a_new_process() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let drain = rig
        .handle
        .drain("app", "api-0", crate::rig::restarted("5s"));
    drain.await.unwrap();
    let view = rig.register("api-0", 4000).await.unwrap();
    assert_eq!((&*view.state, view.incarnation), ("drained", 2));
    rig.ready("api-0").await;
}

#[lameduck_rig::test]
async fn another_address_drains_the_old_one_under_the_same_name() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let old = rig.endpoint("api-0");
    let permit = old.permit(0).unwrap();
    let view = rig.register("api-0", 4001).await.unwrap();
    assert_eq!((&*view.name, &*view.address), ("api-0~2", "127.0.0.1:4001"));
    let both = [("api-0", "draining"), ("api-0~2", "starting")];
    assert_eq!(rig.states().await, pairs(&both));
    let meant = |name: &'static str| rig.handle.backends("app", name);
    assert_eq!(
        meant("api-0").await.unwrap().len(),
        2,
        "the name means both"
    );
    assert_eq!(meant("api-0~2").await.unwrap().len(), 1);
    rig.ready("api-0~2").await;
    assert_eq!(rig.snapshot().ready.len(), 1);
    drop(permit);
    rig.becomes("api-0", "gone").await;
    assert_eq!(rig.snapshot().backends.len(), 1);
    assert!(!rig.probes.lock()[&old.key].running);
    // The next one finds the name free again.
    assert_eq!(rig.register("api-0", 4002).await.unwrap().name, "api-0");
}

#[lameduck_rig::test]
async fn a_drain_by_name_waits_for_both() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let permit = rig.endpoint("api-0").permit(0).unwrap();
    rig.register("api-0", 4001).await.unwrap();
    let waiting = rig.draining("api-0", DrainRequest::default()).await;
    assert!(!waiting.is_finished());
    drop(permit);
    assert_eq!(told(waiting).await.outcome, "drained");
    assert_eq!(rig.states().await, pairs(&[("api-0~2", "drained")]));
}

#[lameduck_rig::test]
async fn what_an_operator_has_closed_stays_closed_at_another_address() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    rig.drain("api-0").await.unwrap();
    let view = rig.register("api-0", 4001).await.unwrap();
    assert_eq!((&*view.state, view.drains.len()), ("drained", 1));
    rig.probe(&view.name, ProbeResult::Pass);
    rig.probe(&view.name, ProbeResult::Pass);
    rig.settled().await;
    assert_eq!(rig.state(&view.name).await, "drained");
    rig.resume("api-0", false).await.unwrap();
    rig.ready(&view.name).await;
}

#[lameduck_rig::test]
async fn a_restart_at_another_address_is_a_restart() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let drain = rig
        .handle
        .drain("app", "api-0", crate::rig::restarted("5s"));
    drain.await.unwrap();
    let view = rig.register("api-0", 4001).await.unwrap();
    assert_eq!(view.state, "starting");
    rig.ready(&view.name).await;
}

#[lameduck_rig::test]
async fn deregistered_when_drained() {
    let mut rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    rig.events();
    let endpoint = rig.endpoint("api-0");
    let permit = endpoint.permit(0).unwrap();
    let waiting = deregister(&rig, "api-0", within("10s")).await;
    assert_eq!(rig.state("api-0").await, "draining");
    drop(permit);
    assert_eq!(told(waiting).await.outcome, "drained");
    assert_eq!(rig.states().await, []);
    assert!(rig.snapshot().backends.is_empty());
    assert!(endpoint.permit(0).is_none());
    let events = rig.events();
    assert_eq!(events.last().unwrap(), "deregistered api-0");
    let again = rig.handle.deregister("app", "api-0", within("1s")).await;
    assert!(matches!(again, Err(RegistryError::UnknownBackend { .. })));
}

#[lameduck_rig::test]
async fn one_that_leaves_is_gone_at_the_deadline_too() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let endpoint = rig.endpoint("api-0");
    let (permit, connection) = (endpoint.permit(0).unwrap(), endpoint.connection_opened());
    let waiting = deregister(&rig, "api-0", within("50ms")).await;
    let answer = told(waiting).await;
    assert_eq!((&*answer.outcome, answer.cut), ("timed_out", 1));
    assert_eq!(rig.states().await, []);
    // What is left of it says no more, and breaks nothing.
    drop(connection);
    drop(permit);
    endpoint.hint();
    rig.settled().await;
}

#[lameduck_rig::test]
async fn leaving_backend_cannot_be_resumed() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    let permit = rig.endpoint("api-0").permit(0).unwrap();
    let waiting = deregister(&rig, "api-0", within("10s")).await;
    for all in [false, true] {
        let refusal = rig.resume("api-0", all).await.unwrap_err();
        assert!(matches!(refusal, RegistryError::Conflict(_)), "{refusal}");
    }
    assert_eq!(rig.state("api-0").await, "draining");
    // Registered again it is another one, even at the same address.
    let view = rig.register("api-0", 4000).await.unwrap();
    assert_eq!((&*view.name, &*view.state), ("api-0~2", "starting"));
    rig.resume("api-0", false).await.unwrap();
    drop(permit);
    assert_eq!(told(waiting).await.outcome, "drained");
    assert_eq!(rig.states().await, pairs(&[("api-0~2", "starting")]));
}

#[lameduck_rig::test]
async fn configured_names_and_wrong_values_are_refused() {
    let rig = Rig::two().await;
    let refusal = rig.register("a", 4000).await.unwrap_err();
    assert!(matches!(refusal, RegistryError::Conflict(_)), "{refusal}");
    let refusal = rig.handle.deregister("app", "a", within("1s")).await;
    assert!(matches!(refusal, Err(RegistryError::Conflict(_))));
    let request = |address: &str, weight| RegisterRequest {
        address: address.into(),
        weight,
        ..RegisterRequest::default()
    };
    for (name, request) in [
        ("c", request("nowhere", None)),
        ("c", request("127.0.0.1:0", None)),
        ("c", request("127.0.0.1:1", Some(1001))),
        ("c~2", request("127.0.0.1:1", None)),
        ("", request("127.0.0.1:1", None)),
    ] {
        let refusal = rig.handle.register("app", name, request).await;
        assert!(
            matches!(refusal, Err(RegistryError::Invalid(_))),
            "{name}: {refusal:?}"
        );
    }
    let refusal = rig
        .handle
        .register("web", "c", request("127.0.0.1:1", None))
        .await;
    assert!(matches!(refusal, Err(RegistryError::UnknownPool { .. })));
    assert_eq!(rig.states().await, pairs(&[("a", "ready"), ("b", "ready")]));
}

#[lameduck_rig::test]
async fn registering_can_wait_until_ready() {
    let rig = Rig::new(&pool("", &[]));
    let request = RegisterRequest {
        address: "127.0.0.1:4000".into(),
        wait: Some("10s".into()),
        ..RegisterRequest::default()
    };
    let handle = rig.handle.clone();
    let waiting = tokio::spawn(async move { handle.register("app", "api-0", request).await });
    rig.becomes("api-0", "starting").await;
    rig.ready("api-0").await;
    assert_eq!(waiting.await.unwrap().unwrap().state, "ready");
}

/// `lameduck roll` puts both into commands.
#[lameduck_rig::test]
async fn names_and_addresses_that_commands_would_misread_are_refused() {
    let rig = Rig::new(&pool("", &[]));
    for name in [
        "-rf", "--help", ".", "..", ".a", "_a", "a b", "a;b", "a$(b)",
    ] {
        let refusal = rig.register(name, 4000).await.unwrap_err();
        assert!(
            matches!(refusal, RegistryError::Invalid(_)),
            "{name}: {refusal}"
        );
    }
    for address in [
        "unix:/run/$(reboot)",
        "unix:/run/`reboot`",
        "unix:/run/a;b",
        "unix:/run/a'b",
        "unix:/run/a\"b",
        "unix:/run/a|b",
        "unix:/run/a&b",
        "unix:/run/a>b",
        "-o:80",
        "$(reboot):80",
        "a;b:80",
    ] {
        let request = RegisterRequest {
            address: address.into(),
            ..RegisterRequest::default()
        };
        let refusal = rig.handle.register("app", "a", request).await.unwrap_err();
        assert!(
            matches!(refusal, RegistryError::Invalid(_)),
            "{address}: {refusal}"
        );
    }
    rig.register("0-a_b.c", 4000).await.unwrap();
}

/// What leads back to the proxy is no backend.
#[lameduck_rig::test]
async fn own_listeners_are_refused() {
    let rig = Rig::new(&pool("", &[]));
    let own = rig.handle.own_listeners();
    own.bound(vec!["0.0.0.0:4000".parse().unwrap()]);
    let refusal = rig.register("a", 4000).await.unwrap_err();
    assert!(
        refusal.to_string().contains("own listener 0.0.0.0:4000"),
        "{refusal}"
    );
    rig.register("a", 4001).await.unwrap();
}

async fn resumed(rig: &Rig, name: &str, wait: &str) -> Result<BackendView, RegistryError> {
    let request = ResumeRequest {
        wait: Some(wait.to_owned()),
        ..ResumeRequest::default()
    };
    rig.handle.resume("app", name, request).await
}

/// A supervisor has started it a moment ago.
#[lameduck_rig::test]
async fn resume_that_waits_waits_for_a_backend_that_is_still_to_come() {
    let rig = Rig::new(&pool("", &[]));
    let come = async {
        rig.settled().await;
        rig.register("api-0", 4000).await.unwrap();
        rig.ready("api-0").await;
    };
    let (view, ()) = tokio::join!(resumed(&rig, "api-0", "50s"), come);
    assert_eq!(view.unwrap().state, "ready");
    let error = resumed(&rig, "api-1", "20ms").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no backend `api-1` has come to pool `app` within 20ms; known backends: api-0"
    );
}

/// Nothing comes there by itself: it is a typing mistake.
#[lameduck_rig::test]
async fn resume_of_an_unknown_backend_fails_at_once_where_the_file_names_all() {
    let rig = Rig::two().await;
    let resumed = tokio::time::timeout(PATIENCE, resumed(&rig, "c", "1h")).await;
    let error = resumed.expect("it does not wait").unwrap_err();
    assert!(
        matches!(error, RegistryError::UnknownBackend { .. }),
        "{error}"
    );
    assert!(rig.resume("c", false).await.is_err());
}
