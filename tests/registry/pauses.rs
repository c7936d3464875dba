//! Pools that are paused, and backups that stand by: what snapshots have, and what survives.

use std::time::Duration;

use lameduck::core::backend::ProbeResult;
use lameduck::registry::RegistryError;
use lameduck::registry::plan_view::{PlanRequest, PlanState};
use lameduck::registry::view::{PauseRequest, PauseView, SplitRequest};
use lameduck::rt::clock;

use crate::rig::{Rig, TWO, pool};

fn held_for(time: &str) -> PauseRequest {
    PauseRequest {
        length: Some(time.into()),
        ..PauseRequest::default()
    }
}

fn page(text: &str) -> PauseRequest {
    PauseRequest {
        page: Some(text.into()),
        ..PauseRequest::default()
    }
}

async fn pause_of(rig: &Rig) -> Option<PauseView> {
    rig.handle.pool("app").await.unwrap().pause
}

#[lameduck_rig::test]
async fn paused_pool_has_nothing_to_pick_and_goes_on_being_probed_and_drained() {
    let mut rig = Rig::two().await;
    let paused = rig.handle.pause("app", held_for("1m")).await.unwrap();
    assert!(!paused.was_paused && paused.warning.is_none());
    assert_eq!(paused.pause.unwrap().mode, "hold");
    assert!(rig.snapshot().ready.is_empty() && rig.snapshot().pause.is_some());
    // Both are as ready as before: a probe or a drain changes them as ever.
    assert_eq!(rig.handle.pool("app").await.unwrap().eligible, 2);
    rig.drain("a").await.unwrap();
    assert_eq!(rig.state("a").await, "drained");
    rig.probe("b", ProbeResult::Unavailable);
    rig.settled().await;
    assert_ne!(rig.state("b").await, "ready");
    rig.ready("b").await;
    let over = rig.handle.end_pause("app").await.unwrap();
    assert!(over.was_paused && over.pause.is_none());
    assert_eq!(rig.snapshot().ready.len(), 1);
    // Twice is once.
    assert!(!rig.handle.end_pause("app").await.unwrap().was_paused);
    let events = rig.events();
    let pauses = events.iter().filter(|event| event.starts_with("pause"));
    assert_eq!(pauses.collect::<Vec<_>>(), ["pause hold", "pause"]);
}

#[lameduck_rig::test]
async fn pause_ends_by_itself_at_its_time() {
    let rig = Rig::two().await;
    let began = clock::now();
    rig.handle.pause("app", held_for("50ms")).await.unwrap();
    while pause_of(&rig).await.is_some() {
        assert!(clock::now() - began < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(clock::now() - began >= Duration::from_millis(40));
    assert_eq!(rig.snapshot().ready.len(), 2);
}

#[lameduck_rig::test]
async fn second_pause_extends_the_first_and_never_shortens_it() {
    let rig = Rig::two().await;
    let first = rig.handle.pause("app", held_for("10m")).await.unwrap();
    let second = rig.handle.pause("app", held_for("1m")).await.unwrap();
    assert!(second.was_paused);
    assert_eq!(second.pause, first.pause);
    let third = rig.handle.pause("app", held_for("20m")).await.unwrap();
    let (first, third) = (first.pause.unwrap(), third.pause.unwrap());
    assert!(third.until > first.until);
    assert_eq!(third.since, first.since);
    // Another mode is in force at once.
    let page = rig.handle.pause("app", page("soon")).await.unwrap();
    let page = page.pause.unwrap();
    assert_eq!(
        (page.mode.as_str(), page.status, page.until),
        ("page", Some(503), None)
    );
}

#[lameduck_rig::test]
async fn pause_that_can_not_be_is_refused_with_what_to_do() {
    let rig = Rig::two().await;
    let refused = async |request: PauseRequest, says: &str| {
        let refusal = rig.handle.pause("app", request).await.unwrap_err();
        assert!(matches!(refusal, RegistryError::Invalid(_)), "{refusal}");
        assert!(refusal.to_string().contains(says), "{refusal}");
    };
    refused(held_for("2h"), "1h at most").await;
    refused(held_for("soon"), "write it like \"30s\"").await;
    refused(held_for("0s"), "lameduck resume").await;
    refused(page(""), "is empty").await;
    refused(page(&"x".repeat(30 * 1024 + 1)), "at most 30720").await;
    let with = |change: fn(&mut PauseRequest)| {
        let mut request = page("x");
        change(&mut request);
        request
    };
    refused(with(|page| page.status = Some(204)), "has no page").await;
    refused(with(|page| page.status = Some(199)), "has no page").await;
    let split = with(|page| page.media_type = Some("text/html\r\nX: y".into()));
    refused(split, "no media type").await;
    let lone = PauseRequest {
        status: Some(503),
        ..PauseRequest::default()
    };
    refused(lone, "give the page").await;
}

#[lameduck_rig::test]
async fn unknown_pool_is_refused_with_the_nearest_name() {
    let rig = Rig::two().await;
    let refusal = rig.handle.pause("ap", held_for("1m")).await.unwrap_err();
    let text = refusal.to_string();
    assert!(
        text.ends_with("known pools: app (did you mean `app`?)"),
        "{text}"
    );
    let refusal = rig.handle.end_pause("nothing").await.unwrap_err();
    assert!(!refusal.to_string().contains("mean"), "{refusal}");
}

#[lameduck_rig::test]
async fn pause_survives_reloads_and_restarts_and_ends_in_time() {
    let rig = Rig::two().await;
    rig.handle.pause("app", page("soon")).await.unwrap();
    rig.apply(&pool("[pool.hold]\nmax_requests = 7\n", &TWO))
        .await;
    let pause = pause_of(&rig).await.unwrap();
    assert_eq!(pause.mode, "page");
    let again = Rig::restored(&pool("", &TWO), rig.kept());
    assert_eq!(pause_of(&again).await.unwrap(), pause);
    let page = again
        .snapshot()
        .pause
        .as_ref()
        .and_then(|pause| pause.page.clone());
    assert_eq!(page.unwrap().body, "soon");
    // What was due while the proxy was away is over.
    again.handle.end_pause("app").await.unwrap();
    again.handle.pause("app", held_for("30ms")).await.unwrap();
    let kept = again.kept();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let last = Rig::restored(&pool("", &TWO), kept);
    assert_eq!(pause_of(&last).await, None);
    // A pool that has gone takes its pause along.
    let other = Rig::restored("[[pool]]\nname = \"web\"\n", rig.kept());
    assert_eq!(other.handle.pools().await.unwrap()[0].pause, None);
}

#[lameduck_rig::test]
async fn backup_serves_only_while_no_other_is_ready() {
    let backup = |key: &str| {
        let backends = pool("", &TWO);
        backends.replace("name = \"b\"", &format!("name = \"b\"\n{key}"))
    };
    let rig = Rig::new(&backup("backup = true"));
    let serving = || {
        let snapshot = rig.snapshot();
        let names = |list: &[std::sync::Arc<lameduck::registry::Endpoint>]| {
            let names: Vec<String> = list.iter().map(|one| one.name.to_string()).collect();
            names.join(" ")
        };
        let standing_by = snapshot.backups.as_ref();
        (
            names(&snapshot.ready),
            standing_by.map_or_else(String::new, |backups| names(&backups.ready)),
        )
    };
    let is = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    rig.ready("b").await;
    assert_eq!(serving(), is("b", ""));
    rig.ready("a").await;
    assert_eq!(serving(), is("a", "b"));
    assert!(rig.view("b").await.unwrap().backup && !rig.view("a").await.unwrap().backup);
    // Drained, too, another one takes its place, and back.
    rig.drain("a").await.unwrap();
    assert_eq!(serving(), is("b", ""));
    rig.resume("a", false).await.unwrap();
    rig.ready("a").await;
    assert_eq!(serving(), is("a", "b"));
    let changes = rig.apply(&backup("backup = false")).await;
    assert_eq!(changes, ["backend app/b: backup true → false"]);
    assert_eq!(serving(), is("a b", ""));
    rig.apply(&backup("backup = true")).await;
    assert_eq!(serving(), is("a", "b"));
}

fn split_pools(split: &str) -> String {
    format!(
        "{}[[pool]]\nname = \"next\"\n[[route]]\nname = \"shop\"\nsplit = {split}\n",
        pool("", &TWO)
    )
}

fn weights(app: u32, next: u32) -> SplitRequest {
    SplitRequest {
        weights: [("app".to_owned(), app), ("next".to_owned(), next)].into(),
    }
}

#[lameduck_rig::test]
async fn moved_split_survives_a_restart_as_long_as_the_file_says_the_same() {
    let text = split_pools("{ app = 95, next = 5 }");
    let rig = Rig::new(&text);
    rig.handle.move_split("shop", weights(1, 2)).await.unwrap();
    let again = Rig::restored(&text, rig.kept());
    let split = again.handle.split("shop").await.unwrap();
    assert_eq!(split.weights, weights(1, 2).weights);
    assert!(split.moved.is_some());
    // Written in another order, it says the same.
    again.apply(&split_pools("{ next = 5, app = 95 }")).await;
    assert!(again.handle.split("shop").await.unwrap().moved.is_some());
    let other = Rig::restored(&split_pools("{ app = 95, next = 6 }"), rig.kept());
    let split = other.handle.split("shop").await.unwrap();
    assert_eq!((split.weights, split.moved), (weights(95, 6).weights, None));
    // Back to what the file says is not moved.
    again
        .handle
        .move_split("shop", weights(95, 5))
        .await
        .unwrap();
    assert!(again.kept().splits.is_empty());
}

fn planned(to: f64) -> PlanRequest {
    PlanRequest {
        pool: "next".into(),
        to,
        length: "100s".into(),
        steps: Some(4),
        abort_on: vec!["5xx>1%".into()],
        ..PlanRequest::default()
    }
}

/// A plan goes on after a restart of the proxy, at its step, with what was seen and with the way back.
#[lameduck_rig::test]
async fn plan_of_a_split_survives_a_restart_as_long_as_the_file_says_the_same() {
    let text = split_pools("{ app = 95, next = 5 }");
    let rig = Rig::new(&text);
    rig.handle.move_split("shop", weights(3, 1)).await.unwrap();
    let moved = rig.handle.split("shop").await.unwrap().moved;
    rig.handle.begin_plan("shop", planned(100.0)).await.unwrap();
    rig.settled().await;
    let mut kept = rig.kept();
    kept.plans[0].step = 3;
    let again = Rig::restored(&text, kept);
    let split = again.handle.split("shop").await.unwrap();
    // From 25 %, three quarters of the way.
    assert_eq!(split.weights, weights(1875, 8125).weights);
    let plan = split.plan.unwrap();
    assert_eq!(
        (plan.state, plan.step, plan.records.len()),
        (PlanState::Running, 3, 2)
    );
    let back = again.handle.end_plan("shop", true).await.unwrap();
    assert_eq!(
        (back.state, back.before),
        (PlanState::WentBack, weights(3, 1).weights)
    );
    let split = again.handle.split("shop").await.unwrap();
    assert_eq!(split.weights, weights(3, 1).weights);
    // Exactly as before: also since when.
    assert_eq!(
        split.moved.map(|at| at[..19].to_owned()),
        moved.map(|at| at[..19].to_owned())
    );
    assert!(again.kept().plans.is_empty());
    let other = Rig::restored(&split_pools("{ app = 95, next = 6 }"), rig.kept());
    let split = other.handle.split("shop").await.unwrap();
    assert_eq!((split.weights, split.plan), (weights(95, 6).weights, None));
}

/// Weights that were the file's are the file's again, and not moved ones.
#[lameduck_rig::test]
async fn plan_that_goes_back_leaves_nothing_moved() {
    let text = split_pools("{ app = 95, next = 5 }");
    let mut rig = Rig::new(&text);
    rig.handle.begin_plan("shop", planned(50.0)).await.unwrap();
    rig.apply(&text).await;
    assert!(rig.handle.split("shop").await.unwrap().moved.is_some());
    rig.handle.end_plan("shop", true).await.unwrap();
    let split = rig.handle.split("shop").await.unwrap();
    assert_eq!((split.weights, split.moved), (weights(95, 5).weights, None));
    let events = rig.events();
    let plans: Vec<_> = events
        .iter()
        .filter(|event| event.starts_with("split_plan"))
        .collect();
    assert_eq!(plans, ["split_plan running", "split_plan went_back"]);
    // The route has gone: so has its report.
    rig.handle.begin_plan("shop", planned(50.0)).await.unwrap();
    rig.apply(&pool("", &TWO)).await;
    rig.apply(&text).await;
    assert_eq!(rig.handle.split("shop").await.unwrap().plan, None);
}
