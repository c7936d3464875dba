//! One registry goes on where another was, while that one still has requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lameduck::core::backend::ProbeResult;
use lameduck::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState};
use lameduck::core::supervisor_word::WordEffect;
use lameduck::registry::hand_over::{OpenedBackend, PredecessorWord};
use lameduck::registry::handed::HandedRegistry;
use lameduck::registry::supervised::SupervisedChange;
use lameduck::registry::view::{LeaseDrainRequest, LeaseEvent, PauseRequest, ResumeRequest};
use lameduck::registry::{self, RegistryError, persist};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::leases::lease;
use crate::rig::{PATIENCE, Probes, Rig, TWO, Told, config, pool, within};

/// The process that has taken over, and what it tells the one before it.
async fn successor(handed: HandedRegistry) -> (Rig, UnboundedReceiver<PredecessorWord>) {
    let (probes, told) = (Probes::default(), Told::default());
    let (double, observer) = (probes.clone(), Box::new(told.clone()));
    let (words, heard) = unbounded_channel();
    let handle = registry::take_over(
        config(&pool("", &TWO)),
        handed,
        Some(words),
        persist::OwnKeySource::default(),
        |_| Box::new(double),
        observer,
    );
    let rig = Rig {
        events: handle.subscribe(),
        handle,
        probes,
        told,
    };
    (rig, heard)
}

fn stopping(backend: &str) -> SupervisedChange {
    SupervisedChange {
        pool: "app".to_owned(),
        backend: backend.to_owned(),
        id: "watch:docker".to_owned(),
        effect: WordEffect::Drain,
        reason: "docker is stopping it".to_owned(),
    }
}

/// Who waits, or asks too late, hears that another process answers now, and not that something has failed.
#[lameduck_rig::test]
async fn changes_and_waits_of_a_process_that_has_handed_over_are_refused_as_handed_over() {
    let rig = Rig::new(&pool("", &TWO));
    rig.ready("a").await;
    let permit = rig.endpoint("a").permit(0).unwrap();
    let drain = rig.draining("a", within("50s")).await;
    let resume = |wait: Option<&str>| {
        let (handle, wait) = (rig.handle.clone(), wait.map(str::to_owned));
        let request = ResumeRequest {
            wait,
            ..ResumeRequest::default()
        };
        tokio::spawn(async move { handle.resume("app", "b", request).await })
    };
    let waits = resume(Some("50s"));
    rig.settled().await;
    rig.handle.give().await.unwrap();
    let held_back = resume(None);
    rig.settled().await;
    assert!(!held_back.is_finished() && !waits.is_finished());
    rig.handle.handed_over();
    let refused = Err(RegistryError::HandedOver);
    assert_eq!(drain.await.unwrap(), Err(RegistryError::HandedOver));
    for task in [waits, held_back, resume(None)] {
        assert_eq!(task.await.unwrap(), refused);
    }
    drop(permit);
}

/// The launcher waits where its requests may have gone, and asks for the rest of its drain there.
#[lameduck_rig::test]
async fn launcher_s_drain_ends_in_the_process_that_has_taken_over_and_has_lasted_since_its_begin() {
    let old = Rig::new(&pool("", &[]));
    let (mut held, id, ..) = lease(&old, "api-0", 4000, "x").await;
    old.ready("api-0").await;
    let permit = old.endpoint("api-0").permit(0).unwrap();
    let asked = LeaseDrainRequest {
        timeout: Some("50s".to_owned()),
        wait: Some(false),
        ..LeaseDrainRequest::default()
    };
    old.handle.drain_lease(&id, asked.clone()).await.unwrap();
    let draining = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (new, mut words) = successor(old.handle.give().await.unwrap()).await;
    old.handle.handed_over();
    let ended = async {
        while let Some(event) = held.next().await {
            assert!(!matches!(event, LeaseEvent::Drain(_)), "{event:?}");
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the old process ends the lease");
    let (mut held, again, ..) = lease(&new, "api-0", 4000, "x").await;
    assert_eq!(again, id);
    new.handle.drain_lease(&id, asked).await.unwrap();
    let Some(PredecessorWord::Drain(followed)) = words.recv().await else {
        panic!("another word");
    };
    let lasted = draining.elapsed();
    drop(permit);
    new.handle.predecessor_is_quiet(followed.number);
    let drained = async {
        loop {
            let event = held.next().await.expect("the lease lasts");
            if let LeaseEvent::Drain(answer) = event {
                return answer;
            }
        }
    };
    let drained = tokio::time::timeout(PATIENCE, drained).await.unwrap();
    assert_eq!((&*drained.outcome, drained.cut), ("drained", 0));
    // The two clocks are not the same.
    let waited = Duration::from_millis(drained.waited_ms + 100);
    assert!(waited >= lasted, "{drained:?} of {lasted:?}");
}

/// The new process hears the same, but for as long as it is not ready, the old one serves.
#[lameduck_rig::test]
async fn word_that_a_backend_stops_is_heeded_in_the_middle_of_a_hand_over() {
    let source = "[[pool.discovery]]\ntype = \"file\"\npath = \"/none\"\n";
    let rig = Rig::new(&pool(source, &TWO[..1]));
    rig.ready("a").await;
    let found = |state| {
        let mut backend = DiscoveredBackend::at("127.0.0.1:3002".parse().unwrap());
        backend.state = state;
        Arc::new(DiscoveredSet::from_iter([("b".to_owned(), backend)]))
    };
    let label: Arc<str> = rig.handle.snapshot().config.pools[0].discovery[0]
        .label()
        .into();
    let set = found(DiscoveredState::Serving);
    rig.handle
        .discovered("app", &label, set, true)
        .await
        .unwrap();
    rig.ready("b").await;
    rig.handle.give().await.unwrap();
    rig.handle.heed_supervisor(stopping("a"));
    rig.settled().await;
    assert_eq!(rig.state("a").await, "drained");
    let told = rig
        .handle
        .discovered("app", &label, found(DiscoveredState::Terminating), true);
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("it is held back")
        .unwrap();
    assert_eq!(rig.state("b").await, "drained");
}

#[lameduck_rig::test]
async fn backend_that_the_successor_opens_opens_for_what_the_predecessor_holds() {
    let old = Rig::two().await;
    old.drain("a").await.unwrap();
    old.drain("b").await.unwrap();
    let handed = old.handle.give().await.unwrap();
    let (new, mut words) = successor(handed).await;
    old.handle.handed_over();
    new.resume("a", false).await.unwrap();
    new.ready("a").await;
    let PredecessorWord::Opened(opened) = words.recv().await.unwrap() else {
        panic!("another word");
    };
    assert_eq!(
        (&*opened.backend, &*opened.address),
        ("a", "127.0.0.1:3001")
    );
    old.handle.successor_opened(opened);
    old.settled().await;
    old.ready("a").await;
    assert!(old.endpoint("a").permit(0).is_some());
    assert_eq!(old.state("b").await, "drained");
    // One that the old process has never heard of, such as a launcher's that has come since.
    old.handle.successor_opened(OpenedBackend {
        pool: "app".to_owned(),
        backend: "c".to_owned(),
        address: "127.0.0.1:3003".to_owned(),
        weight: 1,
        backup: false,
    });
    old.settled().await;
    old.ready("c").await;
}

/// The answer to the first drain must not end the second one's wait.
#[lameduck_rig::test]
async fn drain_after_an_opening_is_asked_of_the_predecessor_anew() {
    let old = Rig::two().await;
    let (new, mut words) = successor(old.handle.give().await.unwrap()).await;
    let first = new.draining("a", within("30s")).await;
    let PredecessorWord::Drain(asked) = words.recv().await.unwrap() else {
        panic!("another word");
    };
    new.resume("a", false).await.unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(
        words.recv().await,
        Some(PredecessorWord::Opened(_))
    ));
    let second = new.draining("a", within("30s")).await;
    let Some(PredecessorWord::Drain(anew)) = words.recv().await else {
        panic!("another word");
    };
    assert_ne!(asked.number, anew.number);
    new.handle.predecessor_is_quiet(asked.number);
    new.settled().await;
    assert_eq!(new.state("a").await, "draining");
    new.handle.predecessor_is_quiet(anew.number);
    assert_eq!(crate::rig::told(second).await.outcome, "drained");
}

#[lameduck_rig::test]
async fn pause_of_the_successor_holds_what_the_predecessor_holds() {
    let old = Rig::two().await;
    let asked = PauseRequest {
        length: Some("1m".into()),
        ..PauseRequest::default()
    };
    old.handle.pause("app", asked.clone()).await.unwrap();
    let (new, mut words) = successor(old.handle.give().await.unwrap()).await;
    old.handle.handed_over();
    let asked = PauseRequest {
        length: Some("2m".into()),
        ..asked
    };
    new.handle.pause("app", asked).await.unwrap();
    let until = new.handle.pool("app").await.unwrap().pause.unwrap().until;
    new.handle.end_pause("app").await.unwrap();
    for expected in [Some(until), None] {
        let Some(PredecessorWord::Paused { pool, pause }) = words.recv().await else {
            panic!("another word");
        };
        old.handle.successor_paused(pool, pause);
        let paused = old.handle.pool("app").await.unwrap().pause;
        assert_eq!(paused.map(|pause| pause.until), expected);
    }
    assert_eq!(old.snapshot().ready.len(), 2);
    old.probe("a", ProbeResult::Pass);
}
