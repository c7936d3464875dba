//! What survives a restart of the proxy.

use std::time::{Duration, SystemTime};

use lameduck::core::backend::ProbeResult;
use lameduck::registry::persist;
use lameduck::registry::view::DrainRequest;
use lameduck::rt::clock;
use serde_json::json;

use crate::rig::{PATIENCE, Rig, TWO, pool, restarted, within};

/// The same proxy, started again with what it kept.
fn again(rig: &Rig, text: &str) -> Rig {
    Rig::restored(text, rig.kept())
}

fn drained(state: &persist::KeptState) -> Vec<&str> {
    state.drains.iter().map(|kept| &*kept.backend).collect()
}

#[lameduck_rig::test]
async fn drains_and_registrations_are_kept_as_they_change() {
    let rig = Rig::two().await;
    assert_eq!(rig.kept(), persist::KeptState::default());
    rig.drain("a").await.unwrap();
    assert_eq!(drained(&rig.kept()), ["a"]);
    rig.register("api-0", 4000).await.unwrap();
    assert_eq!(
        rig.kept().registrations[0].backend.address,
        "127.0.0.1:4000"
    );
    rig.resume("a", false).await.unwrap();
    assert!(rig.kept().drains.is_empty());
    rig.handle
        .deregister("app", "api-0", within("1s"))
        .await
        .unwrap();
    assert_eq!(rig.kept(), persist::KeptState::default());
}

#[lameduck_rig::test]
async fn a_drain_that_passes_have_ended_is_not_kept() {
    let rig = Rig::two().await;
    rig.handle
        .drain("app", "a", restarted("10s"))
        .await
        .unwrap();
    assert_eq!(drained(&rig.kept()), ["a"]);
    rig.probe("a", ProbeResult::Refused);
    rig.ready("a").await;
    assert!(rig.kept().drains.is_empty());
}

#[lameduck_rig::test]
async fn the_apps_own_word_is_not_kept() {
    let rig = Rig::two().await;
    rig.probe("a", ProbeResult::Unavailable);
    rig.becomes("a", "drained").await;
    assert!(rig.kept().drains.is_empty());
}

/// Such as at the start of a machine whose clock was wrong before.
#[lameduck_rig::test]
async fn wall_clock_set_back_between_two_runs_makes_no_drain_and_no_pause_longer() {
    let then = |seconds: u64| {
        let hours = Duration::from_secs(4 * 3600 + seconds);
        clock::rfc3339(SystemTime::now() + hours)
    };
    let kept = json!({
        "drains": [{ "pool": "app", "backend": "a", "address": "127.0.0.1:3001", "drain": {
            "actor": "supervisor", "id": "supervisor", "reason": "restart", "until": "resumed",
            "since": then(0), "deadline": then(4), "expires": then(5),
        }}],
        "pauses": [{ "pool": "app", "reason": "migration", "since": then(0), "until": then(5) }],
    });
    let rig = Rig::restored(&pool("", &TWO), serde_json::from_value(kept).unwrap());
    assert_eq!(rig.state("a").await, "drained");
    assert!(rig.handle.pool("app").await.unwrap().pause.is_some());
    let over = async {
        while rig.handle.pool("app").await.unwrap().pause.is_some()
            || rig.state("a").await != "ready"
        {
            rig.probe("a", ProbeResult::Pass);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let over = tokio::time::timeout(PATIENCE, over).await;
    over.expect("both last five seconds");
}

#[lameduck_rig::test]
async fn a_drained_backend_is_still_drained() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    let rig = again(&rig, &pool("", &TWO));
    assert_eq!(rig.state("a").await, "drained");
    assert!(
        rig.told.ended.lock().unwrap().is_empty(),
        "that end was told before"
    );
    rig.probe("a", ProbeResult::Pass);
    rig.probe("a", ProbeResult::Pass);
    rig.ready("b").await;
    assert_eq!(rig.state("a").await, "drained");
    assert_eq!(drained(&rig.kept()), ["a"]);
    assert_eq!(rig.drain("a").await.unwrap().outcome, "drained");
    rig.resume("a", false).await.unwrap();
    rig.ready("a").await;
}

#[lameduck_rig::test]
async fn registrations_come_back_with_their_drains() {
    let rig = Rig::new(&pool("", &[]));
    for port in [4000, 4001] {
        rig.register("api-0", port).await.unwrap();
        rig.register("api-1", port + 100).await.unwrap();
    }
    // Both are shown as `~2` by now.
    rig.drain("api-0").await.unwrap();
    let rig = again(&rig, &pool("", &[]));
    assert_eq!(rig.state("api-0").await, "drained");
    assert_eq!(rig.state("api-1").await, "starting");
    assert_eq!(rig.view("api-0").await.unwrap().address, "127.0.0.1:4001");
}

#[lameduck_rig::test]
async fn a_drain_waits_for_a_backend_that_comes_later() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.drain("api-0").await.unwrap();
    let drains = rig.kept().drains;
    let later = persist::KeptState {
        drains,
        registrations: Vec::new(),
        ..persist::KeptState::default()
    };
    // It survives another restart on the way.
    let rig = Rig::restored(&pool("", &TWO), later);
    rig.settled().await;
    assert_eq!(drained(&rig.kept()), ["api-0"]);
    let rig = again(&rig, &pool("", &[]));
    assert_eq!(rig.register("api-0", 4005).await.unwrap().state, "drained");
    assert_eq!(rig.kept().drains.len(), 1);
    let rig = again(&rig, &pool("", &[("api-0", 4005)]));
    assert_eq!(rig.state("api-0").await, "drained", "configured by now");
    assert!(rig.kept().registrations.is_empty());
}

#[lameduck_rig::test]
async fn one_that_waits_for_its_backend_can_be_lifted() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    let rig = again(&rig, &pool("", &[TWO[1]]));
    assert!(rig.resume("a", false).await.is_err(), "it is not there");
    assert!(rig.kept().drains.is_empty());
    rig.apply(&pool("", &TWO)).await;
    assert_eq!(rig.state("a").await, "starting");
}

#[lameduck_rig::test]
async fn an_expired_drain_is_forgotten() {
    let rig = Rig::two().await;
    let request = DrainRequest {
        expires: Some("1h".into()),
        ..within("1s")
    };
    rig.handle.drain("app", "a", request).await.unwrap();
    let mut kept = rig.kept();
    assert_eq!(kept.drains.len(), 1);
    // As after more than that hour.
    let over = std::time::SystemTime::now() - Duration::from_secs(1);
    kept.drains[0].drain.limit_expiry(over);
    let rig = Rig::restored(&pool("", &TWO), kept);
    assert_eq!(rig.state("a").await, "starting");
}

#[lameduck_rig::test]
async fn the_drain_of_a_roll_that_the_restart_has_broken_ends_soon() {
    let rig = Rig::two().await;
    let roll = rig.handle.begin_roll("app", "a test").await.unwrap();
    let (of_roll, own) = (Some(roll.id().to_owned()), Some("roll-call".to_owned()));
    for (id, actor) in [(of_roll, "operator"), (own, "supervisor")] {
        let request = DrainRequest {
            id,
            actor: Some(actor.into()),
            expires: Some("10m".into()),
            ..within("1s")
        };
        rig.handle.drain("app", "a", request).await.unwrap();
    }
    // Killed: nobody has let go of the roll.
    let rig = again(&rig, &pool("", &TWO));
    rig.settled().await;
    let soon = clock::now() + Duration::from_secs(11);
    let expires = |actor: &str| {
        let kept = rig.kept().drains.into_iter().map(|kept| kept.drain.order());
        let mut of = kept.filter(|order| order.actor.as_str() == actor);
        of.next().unwrap().expires.unwrap()
    };
    assert!(expires("operator") <= soon);
    assert!(expires("supervisor") > soon, "not a roll's");
}

#[lameduck_rig::test]
async fn a_configured_name_wins_over_a_kept_registration() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("a", 4000).await.unwrap();
    let rig = again(&rig, &pool("", &TWO));
    let view = rig.view("a").await.unwrap();
    assert_eq!(
        (&*view.address, &*view.source),
        ("127.0.0.1:3001", "config")
    );
    rig.settled().await;
    assert!(rig.kept().registrations.is_empty());
}

/// Linear: some seconds in a debug build. When each looked through all drains of the last run, it took minutes.
#[lameduck_rig::test]
async fn a_hundred_thousand_registrations_come_back_within_seconds() {
    const COUNT: u32 = 100_000;
    let registration = |n: u32| persist::KeptRegistration {
        pool: "app".into(),
        backend: persist::KeptBackend {
            name: format!("api-{n}"),
            address: format!("10.{}.{}.{}:3000", n >> 16, n >> 8 & 255, n & 255),
            weight: 1,
            backup: false,
            zone: None,
        },
        owner: None,
    };
    // Each has a drain of the last run, too.
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    let drain = rig.kept().drains.remove(0).drain;
    let drains = (0..COUNT).map(|n| persist::KeptDrain {
        pool: "app".into(),
        backend: format!("api-{n}"),
        address: None,
        drain: drain.clone(),
    });
    let state = persist::KeptState {
        drains: drains.collect(),
        registrations: (0..=COUNT).map(registration).collect(),
        ..persist::KeptState::default()
    };
    let began = std::time::Instant::now();
    let rig = Rig::restored(&pool("", &[]), state);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(120), "{took:?}");
    assert_eq!(rig.state("api-99999").await, "drained");
    // One is one too many.
    assert!(rig.view("api-100000").await.is_none());
    let refusal = rig.register("more", 4000).await.unwrap_err();
    assert!(
        refusal.to_string().contains("no more can be registered"),
        "{refusal}"
    );
    let kept = rig.kept();
    assert_eq!(kept.registrations.len(), COUNT as usize);
    assert_eq!(kept.drains.len(), COUNT as usize);
    println!("restored in {took:?}");
}
