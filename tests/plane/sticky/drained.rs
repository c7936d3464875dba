//! What becomes of sessions when their backend drains, or is gone.

use super::{FINISH, MOVE, StickyRig, backend_of, cookie_of};
use std::time::{Duration, Instant};

#[lameduck_rig::test]
async fn session_moves_once_when_its_backend_drains() {
    let sticky = StickyRig::new(3, MOVE).await;
    let (cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    let ended = sticky.rig.drain(index, "5s", "resumed").await.unwrap();
    assert_eq!(ended.outcome, "drained");
    let answer = sticky.ask(&cookie).await;
    let (other, moved) = (backend_of(&answer).to_owned(), cookie_of(&answer));
    assert_ne!(other, name);
    sticky.rig.resume(index).await;
    for _ in 0..10 {
        let answer = sticky.ask(&moved).await;
        assert_eq!(
            (backend_of(&answer), answer.field("set-cookie")),
            (&*other, None)
        );
    }
    let log = sticky.rig.access_log(12).await;
    assert_eq!(
        (&log[1]["sticky"], &log[2]["sticky"]),
        (&"moved".into(), &"kept".into())
    );
    let moved = "lameduck_sticky_moved_total{pool=\"app\"}";
    sticky.rig.counts(moved, 1).await;
}

/// No waiting for a backend that is gone, whether its gate is closed or nobody listens there.
#[lameduck_rig::test]
async fn request_leaves_a_backend_that_is_gone_at_once() {
    let mut sticky = StickyRig::new(2, MOVE).await;
    let (cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    sticky.apps[index].abort();
    let began = Instant::now();
    let answer = sticky.ask(&cookie).await;
    assert_ne!(backend_of(&answer), name);
    cookie_of(&answer);
    assert!(began.elapsed() < Duration::from_secs(8));
    sticky.apps.remove(index);
}

/// Where there is no other, it waits for its own, and is still known there.
#[lameduck_rig::test]
async fn session_of_an_only_backend_is_kept_over_its_drain() {
    let sticky = StickyRig::new(1, MOVE).await;
    let (cookie, _) = sticky.begin().await;
    sticky.rig.drain(0, "5s", "resumed").await.unwrap();
    let mut waiting = sticky.ask_and_be_held(&cookie).await;
    sticky.rig.resume(0).await;
    let answer = waiting.response().await;
    assert_eq!(answer.field("set-cookie"), None);
}

#[lameduck_rig::test]
async fn drain_finishes_sessions_and_ends_with_the_last_one() {
    let sticky = StickyRig::new(2, FINISH).await;
    let mut here = Vec::new();
    let (first, name) = sticky.begin().await;
    here.push(first);
    while here.len() < 3 {
        let (cookie, other) = sticky.begin().await;
        if other == name {
            here.push(cookie);
        }
    }
    let index = sticky.index_of(&name);
    let drain = sticky.rig.begin_drain(index, "60s", "resumed").await;
    assert_eq!(sticky.rig.view(index).await.sessions, Some(3));
    let gauge = format!("lameduck_sticky_sessions{{pool=\"app\",backend=\"{name}\"}}");
    sticky.rig.counts(&gauge, 3).await;
    for _ in 0..5 {
        for cookie in &here {
            let answer = sticky.ask(cookie).await;
            assert_eq!(
                (backend_of(&answer), answer.field("set-cookie")),
                (&*name, None)
            );
        }
        let (_, other) = sticky.begin().await;
        assert_ne!(other, name, "a new session on a backend that drains");
    }
    assert!(!drain.is_finished());
    for (number, cookie) in here.iter().enumerate() {
        let answer = sticky.ask_for("/logout", cookie).await;
        assert_eq!(backend_of(&answer), name);
        assert_eq!(
            answer.field("set-cookie"),
            Some("lameduck=; Path=/; Max-Age=0")
        );
        let left = Some(2 - number as u32);
        sticky
            .rig
            .until("one session less", |pool| {
                let mut all = pool.backends.iter();
                all.any(|view| view.name == name && view.sessions == left)
            })
            .await;
    }
    let ended = drain.await.unwrap();
    assert_eq!(
        (ended.outcome.as_str(), ended.sessions),
        ("drained", Some(0))
    );
    assert!(ended.waited_ms < 10_000, "{ended:?}");
    // From now on the token names a backend that takes nobody.
    let answer = sticky.ask(&here[0]).await;
    assert_ne!(backend_of(&answer), name);
    let moved = "lameduck_sticky_moved_total{pool=\"app\"}";
    sticky.rig.counts(moved, 1).await;
    sticky.rig.logs("3 sessions may be finished there").await;
    sticky.rig.logs("no session is left").await;
}

#[lameduck_rig::test]
async fn session_that_does_not_end_leaves_before_the_deadline() {
    let sticky = StickyRig::new(2, FINISH).await;
    let (mut cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    let began = Instant::now();
    let drain = sticky.rig.begin_drain(index, "3s", "resumed").await;
    let mut moved_after = None;
    while began.elapsed() < Duration::from_secs(3) {
        let answer = sticky.ask(&cookie).await;
        if backend_of(&answer) != name && moved_after.is_none() {
            moved_after = Some(began.elapsed());
            cookie = cookie_of(&answer);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let moved_after = moved_after.expect("it never left");
    // At most half of the time is kept for what is in flight.
    assert!(moved_after > Duration::from_millis(1200), "{moved_after:?}");
    let ended = drain.await.unwrap();
    assert_eq!((ended.outcome.as_str(), ended.cut), ("drained", 0));
    let log = sticky.rig.access_log(2).await;
    assert_eq!(
        log.iter().filter(|line| line["sticky"] == "moved").count(),
        1
    );
}

/// An app that says itself that it stops gets nobody's requests, whatever was asked for.
#[lameduck_rig::test]
async fn sessions_leave_an_app_that_answers_503_to_its_health_check() {
    let sticky = StickyRig::new(2, FINISH).await;
    let (cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    let drain = sticky.rig.begin_drain(index, "60s", "resumed").await;
    assert_eq!(backend_of(&sticky.ask(&cookie).await), name);
    sticky.rig.backends[index].set_health(503);
    assert_eq!(drain.await.unwrap().outcome, "drained");
    assert_ne!(backend_of(&sticky.ask(&cookie).await), name);
}

/// A second order with less time is the second signal: it counts.
#[lameduck_rig::test]
async fn sessions_leave_when_a_second_drain_has_no_time() {
    let sticky = StickyRig::new(2, FINISH).await;
    let (cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    let first = sticky.rig.begin_drain(index, "60s", "resumed").await;
    assert_eq!(backend_of(&sticky.ask(&cookie).await), name);
    sticky
        .rig
        .until("nothing in flight", |pool| {
            pool.backends[index].in_flight == 0
        })
        .await;
    let second = sticky.rig.drain(index, "0s", "resumed").await.unwrap();
    assert!(second.waited_ms < 20_000, "{second:?}");
    assert_ne!(backend_of(&sticky.ask(&cookie).await), name);
    assert_eq!(second.cut, 0);
    first.await.unwrap();
}

/// It has been silent for longer than `idle`, and is in use all the same. Its drain waits for it as for each session, and
/// closes it in order where it does not end.
#[lameduck_rig::test]
async fn request_that_lasts_longer_than_idle_keeps_its_session_there() {
    const POOL: &str = "[pool.drain]\nclose_spread = \"500ms\"\n[pool.sticky]\nidle = \"1s\"\non_drain = \"finish\"";
    let sticky = StickyRig::new(2, POOL).await;
    let (cookie, name) = sticky.begin().await;
    let index = sticky.index_of(&name);
    let slow = format!("GET /slow HTTP/1.1\r\nHost: a\r\n{cookie}\r\n");
    let mut slow = sticky.rig.ask(slow).await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(sticky.rig.view(index).await.sessions, Some(1));
    let drain = sticky.rig.begin_drain(index, "60s", "resumed").await;
    let answer = sticky.ask(&cookie).await;
    assert_eq!(
        (backend_of(&answer), answer.field("set-cookie")),
        (&*name, None)
    );
    sticky.slow.notify_one();
    assert_eq!(backend_of(&slow.response().await), name);
    assert_eq!(drain.await.unwrap().outcome, "drained");
}
