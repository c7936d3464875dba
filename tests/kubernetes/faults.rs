//! What goes wrong with an API server, and that the set is right all the same as soon as it can be.

use std::time::{Duration, Instant};

use lameduck_rig::kubernetes::{ApiRefusal, ApiServer, GoneAs, WatchEnd};

use lameduck::discovery::kubernetes::{ApiAccess, FollowTimes};

use super::listener::{FAST, Listener, pod, pods};

/// A server with two pods, and a follower that knows them and watches.
async fn watched() -> (ApiServer, Listener) {
    watched_with(FAST).await
}

/// The same, with other times.
async fn watched_with(times: FollowTimes) -> (ApiServer, Listener) {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(2), 100);
    let mut listener = Listener::with(ApiAccess::Url(server.url()), times);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
    server
        .wait_until("a watch", |asked| asked.open_watches == 1)
        .await;
    (server, listener)
}

fn refusal(code: u16) -> Option<ApiRefusal> {
    Some(ApiRefusal {
        code,
        retry_after: 0,
    })
}

/// Whatever happens between two watches is caught up on, without a list, and nothing that was known is doubted.
#[lameduck_rig::test]
async fn a_watch_that_ends_in_any_way_is_gone_on_with() {
    for end in [
        WatchEnd::Clean,
        WatchEnd::Reset,
        WatchEnd::MidEvent,
        WatchEnd::Hang,
    ] {
        let (server, mut listener) = watched().await;
        server.cut_watches(end);
        server.set_pods("app", 3000, &[pod(1).terminating(), pod(2), pod(3)], 100);
        listener
            .until(&format!("{end:?}"), |listener| {
                assert!(listener.set.len() >= 2, "{end:?}: {:?}", listener.set);
                listener.set == ["pod-1 terminating", "pod-2 serving", "pod-3 serving"]
            })
            .await;
        assert_eq!(server.asked().lists, 1, "{end:?}");
    }
}

#[lameduck_rig::test]
async fn a_version_that_is_forgotten_is_answered_by_a_list() {
    for gone_as in [GoneAs::Status, GoneAs::Event] {
        let (server, mut listener) = watched().await;
        server.fail(|faults| faults.gone_as = gone_as);
        server.set_pods("app", 3000, &[pod(2).terminating(), pod(3)], 100);
        server.compact();
        server.cut_watches(WatchEnd::Reset);
        listener
            .until_set(&["pod-2 terminating", "pod-3 serving"])
            .await;
        // The events that were lost with the watch may have been sent before the cut: the list is what must come.
        server.wait_until("a list", |asked| asked.lists == 2).await;
        assert!(
            listener
                .failure
                .as_ref()
                .is_none_or(|failure| !failure.contains("410")),
            "{gone_as:?}: {:?}",
            listener.failure
        );
    }
}

#[lameduck_rig::test]
async fn a_list_whose_version_is_forgotten_between_two_pages_is_begun_again() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(150), 1);
    server.fail(|faults| faults.slow_lists = Duration::from_millis(50));
    let mut listener = Listener::start(&server);
    server
        .wait_until("the second page", |asked| asked.pages == 2)
        .await;
    server.compact();
    listener.hear().await;
    assert_eq!((listener.set.len(), listener.failures), (150, 0));
    assert_eq!(server.asked().lists, 2);
}

/// A server that lags behind must not bring back a pod that has gone, nor lift the drain of one that ends.
#[lameduck_rig::test]
async fn an_older_list_never_undoes_what_was_known() {
    let (server, mut listener) = watched().await;
    let old = server.version();
    server.set_pods("app", 3000, &[pod(2).terminating(), pod(3)], 100);
    listener
        .until_set(&["pod-2 terminating", "pod-3 serving"])
        .await;
    server.fail(|faults| {
        faults.lag = Some(old);
        faults.refuse_watches = refusal(500);
    });
    server.cut_watches(WatchEnd::Reset);
    listener
        .until_failure("an API server that lags behind")
        .await;
    assert_eq!(listener.set, ["pod-2 terminating", "pod-3 serving"]);
    server.fail(|faults| {
        faults.lag = None;
        faults.refuse_watches = None;
    });
    let answers = listener.answers;
    listener
        .until("an answer", |listener| listener.answers > answers)
        .await;
    assert_eq!(listener.set, ["pod-2 terminating", "pod-3 serving"]);
}

/// A cluster that was restored from a backup has older versions for good.
#[lameduck_rig::test]
async fn a_server_that_was_set_back_is_believed_after_a_while() {
    let (server, mut listener) = watched().await;
    let old = server.version();
    server.set_pods("app", 3000, &pods(3), 100);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving", "pod-3 serving"])
        .await;
    let began = Instant::now();
    server.fail(|faults| {
        faults.lag = Some(old);
        faults.refuse_watches = refusal(500);
    });
    server.cut_watches(WatchEnd::Reset);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
    assert!(began.elapsed() >= FAST.stale, "{:?}", began.elapsed());
}

/// Kubernetes renews a service account's token in its file; kube alone would go on with the old one for a minute.
#[lameduck_rig::test]
async fn a_renewed_token_is_read_again_at_once() {
    let server = ApiServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (token, kubeconfig) = (dir.path().join("token"), dir.path().join("kubeconfig"));
    std::fs::write(&token, "first\n").unwrap();
    std::fs::write(&kubeconfig, server.kubeconfig(&token)).unwrap();
    server.fail(|faults| faults.tokens = Some(vec!["first".to_owned()]));
    server.set_pods("app", 3000, &pods(1), 100);
    let mut listener = Listener::by_kubeconfig(&kubeconfig);
    listener.until_set(&["pod-1 serving"]).await;

    server.fail(|faults| faults.tokens = Some(vec!["second".to_owned()]));
    server.cut_watches(WatchEnd::Clean);
    listener.until_failure("doesn't know who asks (401)").await;
    std::fs::write(&token, "second\n").unwrap();
    server.set_pods("app", 3000, &pods(2), 100);
    let began = Instant::now();
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

#[lameduck_rig::test]
async fn missing_rights_are_named_with_what_gives_them() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(1), 100);
    server.fail(|faults| faults.refuse_lists = refusal(403));
    let mut listener = Listener::start(&server);
    listener
        .until_failure("needs `list` and `watch` on `endpointslices`")
        .await;
    assert_eq!(listener.answers, 0);
    server.fail(|faults| faults.refuse_lists = None);
    listener.until_set(&["pod-1 serving"]).await;
}

/// Where it may list and not watch, or watches fail: a list now and then is better than nothing.
#[lameduck_rig::test]
async fn without_watches_the_set_follows_by_lists() {
    for code in [403, 500] {
        let server = ApiServer::start().await;
        server.set_pods("app", 3000, &pods(1), 100);
        server.fail(|faults| faults.refuse_watches = refusal(code));
        let mut listener = Listener::start(&server);
        listener.until_set(&["pod-1 serving"]).await;
        server.set_pods("app", 3000, &pods(2), 100);
        listener
            .until_set(&["pod-1 serving", "pod-2 serving"])
            .await;
        listener.until_failure(&code.to_string()).await;
        // The set is the same from here on: nothing says that it is well.
        let (answers, failures) = (listener.answers, listener.failures);
        listener
            .until("more failures", |listener| {
                listener.failures >= failures + 4
            })
            .await;
        assert_eq!(listener.answers, answers);
    }
}

#[lameduck_rig::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(1), 100);
    let busy = ApiRefusal {
        code: 429,
        retry_after: 1,
    };
    server.fail(|faults| faults.refuse_lists = Some(busy));
    let mut times = FAST;
    times.longest_pause = Duration::from_secs(5);
    // Before it can have asked: the pause begins with the answer, and nobody knows when the test hears of that.
    let began = Instant::now();
    let mut listener = Listener::with(ApiAccess::Url(server.url()), times);
    listener.until_failure("429").await;
    server.fail(|faults| faults.refuse_lists = None);
    listener.until_set(&["pod-1 serving"]).await;
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.asked().lists, 2);
}

/// Nothing is reported but the failure, so that what was known stays.
#[lameduck_rig::test]
async fn a_server_that_is_away_or_silent_leaves_the_set_as_it_was() {
    for mute in [false, true] {
        let mut times = FAST;
        if mute {
            // This is waited for.
            times.answer = Duration::from_secs(1);
        }
        let (server, mut listener) = watched_with(times).await;
        let answers = listener.answers;
        server.fail(|faults| (faults.away, faults.mute) = (!mute, mute));
        server.cut_watches(WatchEnd::Reset);
        server.set_pods("app", 3000, &[pod(2), pod(3)], 100);
        listener
            .until("a failure", |listener| {
                listener.failure.as_ref().is_some_and(|failure| {
                    failure.contains(if mute {
                        "doesn't answer"
                    } else {
                        "can't be asked"
                    })
                })
            })
            .await;
        if !mute {
            listener
                .until("several failures", |listener| listener.failures >= 4)
                .await;
        }
        // What the watch brought before it was cut counts; no answer comes from a server that gives none.
        assert!(
            listener.answers <= answers + 1,
            "{} after {answers}",
            listener.answers
        );
        server.fail(|faults| (faults.away, faults.mute) = (false, false));
        listener
            .until_set(&["pod-2 serving", "pod-3 serving"])
            .await;
    }
}

/// Pauses grow, so that a server in trouble isn't asked in a loop.
#[lameduck_rig::test]
async fn pauses_between_failures_grow() {
    let server = ApiServer::start().await;
    server.fail(|faults| faults.refuse_lists = refusal(500));
    let mut listener = Listener::start(&server);
    let began = Instant::now();
    listener
        .until("ten failures", |listener| listener.failures == 10)
        .await;
    // 20, 40, 80, 160 and five times 200 ms, each less a half at most.
    assert!(
        began.elapsed() >= Duration::from_millis(650),
        "{:?}",
        began.elapsed()
    );
}

/// A server that ends each watch as soon as it begins isn't asked in a loop either.
#[lameduck_rig::test]
async fn watches_that_end_at_once_are_not_a_loop() {
    const WATCHES: usize = 8;
    let (server, mut listener) = watched().await;
    let before = server.asked().watches;
    let began = Instant::now();
    while server.asked().watches < before + WATCHES {
        assert!(began.elapsed() < Duration::from_secs(60), "no watch begins");
        server.cut_watches(WatchEnd::Clean);
        tokio::time::sleep(Duration::from_millis(1)).await;
        while tokio::time::timeout(Duration::ZERO, listener.hear())
            .await
            .is_ok()
        {}
    }
    // 40 in a second at most: without a pause they would take a few milliseconds each.
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(25 * WATCHES as u64),
        "{WATCHES} watches in {took:?}"
    );
}
