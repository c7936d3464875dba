//! Backends of sources: who owns which, what comes, changes and goes.

use std::sync::Arc;

use lameduck::config::Address;
use lameduck::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState};
use lameduck::registry::view::{LeaseRequest, RegisterRequest};
use lameduck::registry::{AppliedSet, RegistryError};
use lameduck::rt::clock;

use crate::rig::{Rig, TWO, pool};

const SOURCES: &str = "\
[[pool.discovery]]\ntype = \"file\"\npath = \"/one.json\"\n\
[[pool.discovery]]\ntype = \"file\"\npath = \"/two.json\"\n";

const ONE: &str = "file /one.json";
const OTHER: &str = "file /two.json";

fn at(port: u16) -> DiscoveredBackend<Address> {
    DiscoveredBackend::at(format!("127.0.0.1:{port}").parse().unwrap())
}

fn set(backends: &[(&str, u16)]) -> DiscoveredSet<Address> {
    let one = |(name, port): &(&str, u16)| ((*name).to_owned(), at(*port));
    backends.iter().map(one).collect()
}

impl Rig {
    async fn sends(
        &self,
        source: &str,
        set: DiscoveredSet<Address>,
        is_patient: bool,
    ) -> Result<AppliedSet, RegistryError> {
        let source: Arc<str> = source.into();
        let sent = self
            .handle
            .discovered("app", &source, Arc::new(set), is_patient);
        let applied = sent.await;
        self.settled().await;
        applied
    }

    async fn names(&self) -> Vec<String> {
        let states = self.states().await.into_iter();
        states
            .map(|(name, state)| format!("{name} {state}"))
            .collect()
    }
}

fn refused(applied: &AppliedSet) -> Vec<&str> {
    applied.refused.iter().map(|(name, _)| &**name).collect()
}

#[lameduck_rig::test]
async fn set_of_a_source_is_added_probed_and_drained_away() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    let applied = rig.sends(ONE, set(&TWO), true).await.unwrap();
    assert_eq!(applied.backends, 2);
    assert_eq!(rig.names().await, ["a starting", "b starting"]);
    rig.ready("a").await;
    rig.ready("b").await;
    let view = rig.view("a").await.unwrap();
    assert_eq!(view.source, "discovery");
    // The same again changes nothing.
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    assert_eq!(rig.probed("a", |probed| probed.starts), 1);
    // One of them has a request: it stays until that has ended.
    let endpoint = rig.endpoint("a");
    let permit = endpoint.permit(0).unwrap();
    rig.sends(ONE, set(&[TWO[1]]), true).await.unwrap();
    assert_eq!(rig.names().await, ["a draining", "b ready"]);
    let drains = rig.view("a").await.unwrap().drains;
    assert_eq!(drains[0].actor, "discovery");
    assert!(endpoint.permit(0).is_none(), "nothing new goes there");
    drop(permit);
    rig.becomes("a", "gone").await;
    let changes = rig.handle.live_figures().changes(10);
    let told: Vec<_> = changes.iter().map(|one| one.summary()).collect();
    assert_eq!(
        told,
        [
            "2 added (app/a at 127.0.0.1:3001, app/b at 127.0.0.1:3002)",
            "1 removed (app/a at 127.0.0.1:3001)",
        ]
    );
    assert!(changes.iter().all(|one| one.by == "discovery"));
    assert_eq!(changes[0].source.as_deref(), Some(ONE));
}

#[lameduck_rig::test]
async fn source_changes_its_own_backends_only() {
    let text = pool(SOURCES, &[("static", 3000)]);
    let rig = Rig::new(&text);
    rig.register("api", 3010).await.unwrap();
    let lease = LeaseRequest {
        address: "127.0.0.1:3011".into(),
        ..LeaseRequest::default()
    };
    let _lease = rig.handle.lease("app", "leased", lease).await.unwrap();
    rig.sends(OTHER, set(&[("other", 3012)]), true)
        .await
        .unwrap();
    let greedy = [
        ("static", 4000),
        ("api", 4001),
        ("leased", 4002),
        ("other", 4003),
        ("own", 4004),
    ];
    for _ in 0..3 {
        let applied = rig.sends(ONE, set(&greedy), true).await.unwrap();
        assert_eq!(refused(&applied), ["api", "leased", "other", "static"]);
        assert_eq!(applied.backends, 1);
    }
    let starts = |name: &str| rig.probed(name, |probed| probed.starts);
    let all = ["static", "api", "leased", "other", "own"];
    assert!(all.iter().all(|name| starts(name) == 1), "nobody flaps");
    // What it no longer names, or never had, stays with whose it is.
    rig.sends(ONE, DiscoveredSet::default(), false)
        .await
        .unwrap();
    rig.becomes("own", "gone").await;
    assert_eq!(rig.states().await.len(), 4);
    // A name that is free again is taken.
    rig.sends(OTHER, DiscoveredSet::default(), false)
        .await
        .unwrap();
    rig.becomes("other", "gone").await;
    let applied = rig.sends(ONE, set(&greedy), true).await.unwrap();
    assert_eq!(refused(&applied), ["api", "leased", "static"]);
}

#[lameduck_rig::test]
async fn nobody_else_takes_a_name_from_a_source() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    let lease = LeaseRequest {
        address: "127.0.0.1:3001".into(),
        ..LeaseRequest::default()
    };
    let register = RegisterRequest {
        address: "127.0.0.1:3001".into(),
        ..RegisterRequest::default()
    };
    let errors = [
        rig.handle.register("app", "a", register).await.err(),
        rig.handle.lease("app", "a", lease).await.err(),
        rig.handle
            .deregister("app", "a", Default::default())
            .await
            .err(),
    ];
    for error in errors {
        let told = error.unwrap().to_string();
        assert!(told.contains(ONE), "{told}");
    }
    // The configuration may: what it names is its own.
    rig.apply(&pool(SOURCES, &[("a", 3001)])).await;
    assert_eq!(rig.view("a").await.unwrap().source, "config");
    assert_eq!(rig.probed("a", |probed| probed.starts), 1);
    let applied = rig.sends(ONE, set(&TWO), true).await.unwrap();
    assert_eq!(refused(&applied), ["a"]);
    rig.sends(ONE, set(&[TWO[1]]), true).await.unwrap();
    assert_eq!(rig.states().await.len(), 2);
}

#[lameduck_rig::test]
async fn terminating_backend_drains_by_the_word_of_its_source_and_comes_back_by_it() {
    let mut rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    rig.ready("b").await;
    let mut ending = set(&TWO);
    let backend = DiscoveredBackend {
        state: DiscoveredState::Terminating,
        ..at(3001)
    };
    ending.insert("a".to_owned(), backend.clone());
    // One that is terminating when it is first named is not added.
    ending.insert(
        "late".to_owned(),
        DiscoveredBackend {
            address: "127.0.0.1:9".parse().unwrap(),
            ..backend
        },
    );
    rig.events();
    rig.sends(ONE, ending, true).await.unwrap();
    assert_eq!(rig.names().await, ["a drained", "b ready"]);
    let drain = &rig.view("a").await.unwrap().drains[0];
    assert_eq!((&*drain.actor, &*drain.id), ("supervisor", "discovery"));
    assert!(
        rig.kept().drains.is_empty(),
        "another run asks the source itself"
    );
    assert!(rig.events().contains(&"discovery".to_owned()));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    assert!(rig.view("a").await.unwrap().drains.is_empty());
}

#[lameduck_rig::test]
async fn another_address_is_another_process() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    rig.ready("b").await;
    rig.drain("b").await.unwrap();
    let permit = rig.endpoint("a").permit(0).unwrap();
    rig.sends(ONE, set(&[("a", 4001), ("b", 4002)]), true)
        .await
        .unwrap();
    assert_eq!(
        rig.names().await,
        ["a draining", "a~2 starting", "b~2 drained"],
        "what an operator has closed stays closed"
    );
    drop(permit);
    rig.becomes("a", "gone").await;
    let last = rig.handle.live_figures().changes(1);
    assert_eq!(
        last[0].changed[0].to_string(),
        "app/a: address: 127.0.0.1:3001 → 127.0.0.1:4001"
    );
}

#[lameduck_rig::test]
async fn those_that_go_wait_for_a_successor_where_nobody_else_is_ready() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    let new = || set(&[("c", 3003), ("d", 3004)]);
    let applied = rig.sends(ONE, new(), true).await.unwrap();
    assert_eq!((applied.waiting, applied.backends), (2, 4));
    assert!(rig.snapshot().pick_any(), "a still serves");
    rig.ready("c").await;
    let applied = rig.sends(ONE, new(), true).await.unwrap();
    assert_eq!((applied.waiting, applied.backends), (0, 2));
    rig.becomes("a", "gone").await;
    rig.becomes("b", "gone").await;
    // Who isn't patient doesn't wait.
    let applied = rig.sends(ONE, set(&[("e", 3005)]), false).await.unwrap();
    assert_eq!(applied.waiting, 0);
}

#[lameduck_rig::test]
async fn weights_zones_and_backups_change_on_the_spot() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    let mut other = set(&TWO);
    other.insert(
        "a".to_owned(),
        DiscoveredBackend {
            weight: 7,
            zone: Some("eu".to_owned()),
            is_backup: true,
            ..at(3001)
        },
    );
    rig.sends(ONE, other, true).await.unwrap();
    let view = rig.view("a").await.unwrap();
    assert_eq!((view.weight, view.backup), (7, true));
    assert_eq!((view.zone.as_deref(), &*view.state), (Some("eu"), "ready"));
    let last = rig.handle.live_figures().changes(1);
    assert_eq!(last[0].changed.len(), 3);
}

#[lameduck_rig::test]
async fn source_that_is_gone_leaves_its_backends_to_another_one() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    rig.sends(ONE, set(&TWO), true).await.unwrap();
    rig.ready("a").await;
    let only_other = "[[pool.discovery]]\ntype = \"file\"\npath = \"/two.json\"\n";
    rig.apply(&pool(only_other, &[])).await;
    assert_eq!(rig.states().await.len(), 2, "they stay for now");
    let late = rig.sends(ONE, set(&TWO), true).await;
    assert!(matches!(late, Err(RegistryError::Conflict(_))), "{late:?}");
    rig.sends(OTHER, set(&[TWO[0]]), true).await.unwrap();
    rig.sends(ONE, DiscoveredSet::default(), false)
        .await
        .unwrap();
    rig.becomes("b", "gone").await;
    assert_eq!(rig.names().await, ["a ready"]);
    assert_eq!(
        rig.probed("a", |probed| probed.starts),
        1,
        "it was taken over"
    );
}

#[lameduck_rig::test]
async fn backends_of_a_source_come_back_in_the_next_run_until_it_answers() {
    let rig = Rig::new(&pool(SOURCES, &[]));
    let answered = Some(clock::now());
    let live = rig.handle.live_figures();
    live.note_source("app", &ONE.into(), |status| status.answered = answered);
    let mut three = set(&[("a", 3001), ("b", 3002), ("c", 3003)]);
    let heavy = DiscoveredBackend {
        weight: 7,
        zone: Some("eu".to_owned()),
        is_backup: true,
        ..at(3002)
    };
    three.insert("b".to_owned(), heavy.clone());
    let stops = DiscoveredBackend {
        state: DiscoveredState::Terminating,
        ..at(3003)
    };
    rig.sends(ONE, three.clone(), true).await.unwrap();
    three.insert("c".to_owned(), stops);
    rig.sends(ONE, three, true).await.unwrap();
    let kept = rig.kept();
    let names: Vec<_> = kept.sources[0]
        .backends
        .iter()
        .map(|one| &*one.name)
        .collect();
    assert_eq!(names, ["a", "b"], "not the one that stops");
    // By now the configuration has `a` itself, and nobody speaks for the other source.
    let again = Rig::restored(&pool(SOURCES, &[("a", 3009)]), kept.clone());
    assert_eq!(again.names().await, ["a starting", "b starting"]);
    let back = again.view("b").await.unwrap();
    assert_eq!((&*back.source, back.weight), ("discovery", 7));
    let sources = again.handle.live_figures().sources();
    let status = sources.into_iter().find(|(_, source, _)| &**source == ONE);
    let remembered = status.unwrap().2.remembered.unwrap();
    let only: DiscoveredSet<Address> = [("b".to_owned(), heavy)].into_iter().collect();
    assert_eq!(*remembered.set, only);
    // Until it answers, they are kept for the run after that, as old as they are.
    again.drain("b").await.unwrap();
    let next = again.kept();
    assert_eq!(next.sources[0].backends.len(), 1);
    assert_eq!(next.sources[0].answered, kept.sources[0].answered);
    // A source that the configuration no longer has brings nothing back.
    let without = Rig::restored(&pool("", &[]), kept);
    assert!(without.names().await.is_empty());
}

#[lameduck_rig::test]
async fn every_author_of_a_change_is_remembered() {
    let rig = Rig::new(&pool("", &TWO));
    rig.apply(&pool(
        "[pool.hold]\ntimeout = \"3s\"\n",
        &[TWO[0], ("c", 3003)],
    ))
    .await;
    rig.register("api", 3010).await.unwrap();
    rig.register("api", 3011).await.unwrap();
    rig.handle
        .deregister("app", "api", Default::default())
        .await
        .unwrap();
    let lease = LeaseRequest {
        address: "127.0.0.1:3011".into(),
        ..LeaseRequest::default()
    };
    let lease = rig.handle.lease("app", "leased", lease).await.unwrap();
    drop(lease);
    rig.settled().await;
    let changes = rig.handle.live_figures().changes(usize::MAX);
    let told: Vec<_> = changes
        .iter()
        .map(|one| format!("{}: {}", one.by, one.summary()))
        .collect();
    assert_eq!(told[0].matches("reload: ").count(), 1, "{told:?}");
    assert!(
        told[0].contains("1 added (app/c at 127.0.0.1:3003)"),
        "{told:?}"
    );
    assert!(
        told[0].contains("1 removed (app/b at 127.0.0.1:3002)"),
        "{told:?}"
    );
    assert!(
        told[0].contains("pool app: [pool.hold] timeout: "),
        "{told:?}"
    );
    assert_eq!(
        told[1..],
        [
            "api: 1 added (app/api at 127.0.0.1:3010)",
            "api: 1 changed (app/api: address: 127.0.0.1:3010 → 127.0.0.1:3011)",
            "api: 1 removed (app/api~2 at 127.0.0.1:3011)",
            "launcher: 1 added (app/leased at 127.0.0.1:3011)",
            "launcher: 1 removed (app/leased at 127.0.0.1:3011)",
        ]
    );
}

/// Whether a request would find somebody.
trait PickAny {
    fn pick_any(&self) -> bool;
}

impl PickAny for lameduck::registry::snapshot::PoolSnapshot {
    fn pick_any(&self) -> bool {
        self.ready
            .iter()
            .any(|endpoint| endpoint.permit(0).is_some())
    }
}
