//! The configuration changes under a running registry.

use std::time::Duration;

use lameduck::core::backend::ProbeResult;
use lameduck::core::balance::PickInput;
use lameduck::registry::view::DrainRequest;

use crate::rig::{Rig, TWO, pool, told};

fn names(states: Vec<(String, String)>) -> Vec<String> {
    let words = states
        .into_iter()
        .map(|(name, state)| format!("{name} {state}"));
    words.collect()
}

#[lameduck_rig::test]
async fn the_same_again_changes_nothing() {
    let mut rig = Rig::two().await;
    rig.events();
    assert!(rig.apply(&pool("", &TWO)).await.is_empty());
    assert_eq!(names(rig.states().await), ["a ready", "b ready"]);
    assert_eq!(rig.probed("a", |probed| probed.starts), 1);
    assert_eq!(rig.events(), ["config"]);
}

#[lameduck_rig::test]
async fn backends_come_go_and_move() {
    let rig = Rig::two().await;
    let (a, b) = (rig.endpoint("a"), rig.endpoint("b"));
    let permits = [a.permit(0).unwrap(), b.permit(0).unwrap()];
    let changes = rig.apply(&pool("", &[("b", 3102), ("c", 3003)])).await;
    assert_eq!(changes.len(), 3, "{changes:?}");
    let now = ["a draining", "b draining", "b~2 starting", "c starting"];
    assert_eq!(names(rig.states().await), now);
    assert_eq!(rig.snapshot().ready.len(), 0);
    rig.ready("b~2").await;
    rig.ready("c").await;
    assert_eq!(rig.snapshot().ready.len(), 2);
    drop(permits);
    rig.becomes("a", "gone").await;
    rig.becomes("b", "gone").await;
    assert_eq!(rig.snapshot().backends.len(), 2);
    // And again: what is there already stays.
    rig.apply(&pool("", &[("b", 3102), ("c", 3003)])).await;
    assert_eq!(names(rig.states().await), ["b~2 ready", "c ready"]);
}

#[lameduck_rig::test]
async fn what_an_operator_has_closed_stays_closed_when_it_moves() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    rig.apply(&pool("", &[("a", 3101), TWO[1]])).await;
    assert_eq!(names(rig.states().await), ["b ready", "a~2 drained"]);
}

#[lameduck_rig::test]
async fn weights_change_on_the_spot() {
    let rig = Rig::two().await;
    let text = pool("", &TWO).replacen("3001\"\n", "3001\"\nweight = 9\n", 1);
    rig.apply(&text).await;
    let snapshot = rig.snapshot();
    assert_eq!(snapshot.ready[0].weight(), 9);
    // The balancer knows it, too: least requests per weight.
    let permits: Vec<_> = (0..10)
        .map(|cursor| {
            let input = PickInput {
                cursor,
                ..PickInput::default()
            };
            let picked = snapshot.balancer.pick(&snapshot.ready, input, &[]);
            snapshot.ready[picked.unwrap()].permit(0).unwrap()
        })
        .collect();
    assert_eq!(permits.len(), 10);
    assert_eq!(rig.endpoint("a").gate.in_flight(), 9);
}

#[lameduck_rig::test]
async fn a_pool_that_goes_drains_and_vanishes() {
    let two_pools = |first: &str| {
        format!(
            "{first}[[pool]]\nname = \"web\"\n[[pool.backend]]\nname = \"w\"\naddress = \"127.0.0.1:5001\"\n"
        ) + "[[route]]\npath_prefix = \"/\"\npool = \"web\"\n"
    };
    let app_route = "[[route]]\npath_prefix = \"/app\"\npool = \"app\"\n";
    let rig = Rig::new(&(two_pools(&pool("", &TWO)) + app_route));
    rig.ready("a").await;
    rig.register("api-0", 4000).await.unwrap();
    let permit = rig.endpoint("a").permit(0).unwrap();
    rig.apply(&two_pools("")).await;
    let pools = rig.handle.pools().await.unwrap();
    assert_eq!(
        pools.iter().map(|pool| &*pool.name).collect::<Vec<_>>(),
        ["web"]
    );
    let snapshot = rig.handle.snapshot();
    assert_eq!(snapshot.pools.len(), 1);
    let found = snapshot.routes.lookup(b"", b"/app/x");
    assert_eq!(found.and_then(|target| target.pool()), Some(0));
    assert!(rig.handle.pool("app").await.is_err());
    assert!(rig.endpoint("a").gate.is_closed());
    let running = |rig: &Rig| {
        rig.probes
            .lock()
            .values()
            .filter(|probed| probed.running)
            .count()
    };
    assert_eq!(running(&rig), 2, "w, and a, which has yet to drain");
    drop(permit);
    rig.settled().await;
    assert_eq!(running(&rig), 1);
    assert!(rig.kept().registrations.is_empty());
}

#[lameduck_rig::test]
async fn a_pool_that_comes_back_while_it_goes_is_the_same_pool() {
    let other = "[[pool]]\nname = \"web\"\n[[pool.backend]]\naddress = \"127.0.0.1:5001\"\n";
    let rig = Rig::two().await;
    let shared = rig.snapshot().shared.clone();
    let permit = rig.endpoint("a").permit(0).unwrap();
    rig.apply(other).await;
    rig.apply(&pool("", &TWO)).await;
    assert_eq!(
        names(rig.states().await),
        ["a draining", "a~2 starting", "b starting"]
    );
    assert!(
        std::sync::Arc::ptr_eq(&rig.snapshot().shared, &shared),
        "who waits in it still does"
    );
    drop(permit);
    rig.becomes("a", "gone").await;
    rig.ready("a~2").await;
}

#[lameduck_rig::test]
async fn another_check_restarts_the_probers() {
    let rig = Rig::two().await;
    let settings = "[pool.health]\npath = \"/ok\"\ninterval = \"7s\"\n";
    rig.apply(&pool(settings, &TWO)).await;
    let probed = |starts| rig.probed("a", |probed| (probed.starts == starts, probed.cadence));
    let (again, cadence) = probed(2);
    assert!(again && rig.probed("a", |probed| probed.running));
    assert_eq!(cadence.interval, Duration::from_secs(7));
    assert_eq!(rig.state("a").await, "ready", "what is known stays known");
    assert_eq!(
        rig.probed("a", |probed| probed.health.interval),
        Duration::from_secs(7)
    );
}

/// A thousand new probers at once would be a burst of probes, and a thousand sentinels gone.
#[lameduck_rig::test]
async fn another_interval_restarts_no_prober() {
    let rig = Rig::two().await;
    let settings = "[pool.health]\ninterval = \"7s\"\nrise = 3\n";
    let before = rig.probed("a", |probed| probed.starts);
    // The section itself says that the check is taken at its word.
    rig.apply(&pool("[pool.health]\n", &TWO)).await;
    let explicit = rig.probed("a", |probed| probed.starts);
    assert_eq!(explicit, before + 1);
    rig.apply(&pool(settings, &TWO)).await;
    let (starts, cadence) = rig.probed("a", |probed| (probed.starts, probed.cadence));
    assert_eq!(starts, explicit);
    assert_eq!(cadence.interval, Duration::from_secs(7));
    assert!(cadence.in_turn, "not all of them at the same moment");
    // One that is in doubt is asked as soon as ever.
    rig.probe("a", ProbeResult::Status(500));
    rig.settled().await;
    rig.apply(&pool(
        "[pool.health]\ninterval = \"8s\"\nfast_interval = \"90ms\"\n",
        &TWO,
    ))
    .await;
    let cadence = rig.probed("a", |probed| probed.cadence);
    assert_eq!(cadence.interval, Duration::from_millis(90));
    assert!(!cadence.in_turn);
}

#[lameduck_rig::test]
async fn other_policies_take_effect() {
    let settings = "[pool.health]\nfall = 1\nrise = 3\n[pool.drain]\ndeadline = \"50ms\"\nclose_spread = \"0s\"\n\
                    [pool.retry]\nbudget = 1.0\n";
    let rig = Rig::two().await;
    rig.apply(&pool(settings, &TWO)).await;
    rig.probe("a", ProbeResult::Status(500));
    rig.becomes("a", "down").await;
    for state in ["down", "down", "ready"] {
        rig.probe("a", ProbeResult::Pass);
        rig.settled().await;
        assert_eq!(rig.state("a").await, state);
    }
    let _permit = rig.endpoint("a").permit(0).unwrap();
    let waiting = rig.draining("a", DrainRequest::default()).await;
    assert_eq!(told(waiting).await.outcome, "timed_out");
    let budget = &rig.snapshot().shared.budget;
    while budget.take(Duration::ZERO) {}
    budget.on_request();
    assert!(
        budget.take(Duration::ZERO),
        "each request pays for a retry now"
    );
}

#[lameduck_rig::test]
async fn registered_backend_survives_a_reload() {
    let rig = Rig::two().await;
    rig.register("api-0", 4000).await.unwrap();
    rig.ready("api-0").await;
    rig.apply(&pool("", &[TWO[0]])).await;
    rig.becomes("b", "gone").await;
    assert_eq!(names(rig.states().await), ["a ready", "api-0 ready"]);
}

#[lameduck_rig::test]
async fn a_registered_backend_that_is_configured_now_is_the_same() {
    let rig = Rig::new(&pool("", &[]));
    rig.register("api-0", 4000).await.unwrap();
    rig.register("api-1", 4001).await.unwrap();
    rig.ready("api-0").await;
    rig.ready("api-1").await;
    let permit = rig.endpoint("api-1").permit(0).unwrap();
    rig.apply(&pool("", &[("api-0", 4000), ("api-1", 4101)]))
        .await;
    let states = names(rig.states().await);
    assert_eq!(
        states,
        ["api-0 ready", "api-1 draining", "api-1~2 starting"]
    );
    assert_eq!(rig.view("api-0").await.unwrap().source, "config");
    assert!(rig.register("api-0", 4000).await.is_err());
    drop(permit);
    rig.becomes("api-1", "gone").await;
    assert!(rig.kept().registrations.is_empty());
}

#[lameduck_rig::test]
async fn drain_survives_a_reload() {
    let rig = Rig::two().await;
    rig.drain("a").await.unwrap();
    rig.apply(&pool("[pool.upstream]\nmax_in_flight = 3\n", &TWO))
        .await;
    assert_eq!(names(rig.states().await), ["a drained", "b ready"]);
    assert_eq!(rig.snapshot().config.upstream.max_in_flight, 3);
}

/// To free a snapshot of a thousand backends takes as long as some requests.
#[lameduck_rig::test]
async fn the_registry_frees_old_snapshots_not_the_request_that_used_them_last() {
    let rig = Rig::two().await;
    let used = rig.snapshot();
    let seen = std::sync::Arc::downgrade(&used);
    rig.drain("b").await.unwrap();
    rig.settled().await;
    drop(used);
    assert!(seen.upgrade().is_some(), "it was freed right here");
    rig.probe("a", ProbeResult::Pass);
    rig.settled().await;
    assert!(seen.upgrade().is_none(), "nobody uses it any more");
}

/// A drain changes who takes requests, not who is there: a thousand counts more and a thousand less for each.
#[lameduck_rig::test]
async fn snapshots_share_the_list_of_all_backends_until_one_comes_or_goes() {
    let rig = Rig::two().await;
    let list = |rig: &Rig| rig.snapshot().backends.clone();
    let before = list(&rig);
    rig.drain("b").await.unwrap();
    rig.settled().await;
    assert_eq!(rig.snapshot().ready.len(), 1);
    assert!(std::sync::Arc::ptr_eq(&before, &list(&rig)));
    rig.register("c", 9).await.unwrap();
    assert_eq!((before.len(), list(&rig).len()), (2, 3));
}
