//! What pods do, and what the source reports of it, while everything works.

use lameduck_rig::kubernetes::{ApiServer, slice};

use super::listener::{Listener, pod, pods};

#[lameduck_rig::test]
async fn each_change_of_a_pod_is_reported_as_it_is_written() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(2), 100);
    let mut listener = Listener::start(&server);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
    server
        .wait_until("a watch", |asked| asked.open_watches == 1)
        .await;

    // One that starts is there and not ready, then ready.
    server.set_pods("app", 3000, &[pod(1), pod(2), pod(3).not_ready()], 100);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving", "pod-3 not ready"])
        .await;
    server.set_pods("app", 3000, &pods(3), 100);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving", "pod-3 serving"])
        .await;
    // One that ends still serves for a while, then no longer, then it is gone: it is ending all the time.
    server.set_pods("app", 3000, &[pod(1).terminating(), pod(2), pod(3)], 100);
    listener
        .until_set(&["pod-1 terminating", "pod-2 serving", "pod-3 serving"])
        .await;
    server.set_pods(
        "app",
        3000,
        &[pod(1).terminating().not_ready(), pod(2), pod(3)],
        100,
    );
    server.set_pods("app", 3000, &[pod(2), pod(3)], 100);
    listener
        .until_set(&["pod-2 serving", "pod-3 serving"])
        .await;
    // One that goes without a word.
    server.set_pods("app", 3000, &[pod(2)], 100);
    listener.until_set(&["pod-2 serving"]).await;

    let asked = server.asked();
    assert_eq!((asked.lists, listener.failures), (1, 0), "{asked:?}");
    assert_eq!(asked.selector, "kubernetes.io/service-name=app");
}

#[lameduck_rig::test]
async fn slices_of_other_services_are_not_taken() {
    let server = ApiServer::start().await;
    server.put(slice("other-0", "other", 3000, &[pod(9)]));
    server.set_pods("app", 3000, &pods(1), 100);
    let mut listener = Listener::start(&server);
    listener.until_set(&["pod-1 serving"]).await;
    server.put(slice("other-0", "other", 3000, &[pod(9), pod(8)]));
    server.set_pods("app", 3000, &pods(2), 100);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
}

/// The controller moves a pod from one slice to another by two writes: in between it is in both, or in none if the
/// order is the other one. It is written into the new one first.
#[lameduck_rig::test]
async fn a_pod_that_moves_between_slices_is_there_all_the_time() {
    let server = ApiServer::start().await;
    server.put(slice("app-0", "app", 3000, &pods(2)));
    let mut listener = Listener::start(&server);
    listener
        .until_set(&["pod-1 serving", "pod-2 serving"])
        .await;
    server
        .wait_until("a watch", |asked| asked.open_watches == 1)
        .await;
    server.put(slice("app-1", "app", 3000, &[pod(2), pod(3)]));
    server.put(slice("app-0", "app", 3000, &[pod(1)]));
    listener
        .until("three pods", |listener| {
            assert!(
                listener.set.iter().any(|one| one == "pod-2 serving"),
                "{:?}",
                listener.set
            );
            listener.set.len() == 3
        })
        .await;
    server.delete("app-0");
    listener
        .until_set(&["pod-2 serving", "pod-3 serving"])
        .await;
}

#[lameduck_rig::test]
async fn a_list_in_pages_is_one_answer() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(250), 1);
    let mut listener = Listener::start(&server);
    listener.hear().await;
    assert_eq!(listener.set.len(), 250);
    let asked = server.asked();
    assert_eq!((asked.lists, asked.pages), (1, 3));
}

/// A bookmark moves the version on which the next watch begins, past what the server has forgotten.
#[lameduck_rig::test]
async fn the_next_watch_begins_at_the_last_bookmark() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(1), 100);
    let listed = server.version().to_string();
    let mut listener = Listener::start(&server);
    server
        .wait_until("a watch", |asked| asked.open_watches == 1)
        .await;
    server.bookmark();
    let marked = server.version().to_string();
    assert_ne!(listed, marked);
    // Its time is up after a second at most.
    server
        .wait_until("the next watch", |asked| asked.watched_from.len() >= 2)
        .await;
    let asked = server.asked();
    assert_eq!(asked.watched_from[..2], [listed, marked]);
    assert_eq!(asked.lists, 1);
    listener.until_set(&["pod-1 serving"]).await;
}

/// A wrong `port` is a failure with words, and not a Service without pods.
#[lameduck_rig::test]
async fn slices_without_the_port_are_a_failure_and_not_an_empty_set() {
    let server = ApiServer::start().await;
    let mut two = slice("app-0", "app", 3000, &pods(2));
    two["ports"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({ "name": "metrics", "port": 9100 }));
    server.put(two);
    let mut listener = Listener::start(&server);
    listener
        .until_failure("several ports (http = 3000, metrics = 9100")
        .await;
    assert_eq!(listener.answers, 0);
}

/// Pods that end and are gone before anybody looks have been said to end: a set that shrinks so is no reason for doubt.
#[lameduck_rig::test]
async fn pods_that_end_and_go_in_one_burst_are_reported_as_ended() {
    let server = ApiServer::start().await;
    server.set_pods("app", 3000, &pods(4), 100);
    let mut listener = Listener::start(&server);
    listener
        .until_set(&[
            "pod-1 serving",
            "pod-2 serving",
            "pod-3 serving",
            "pod-4 serving",
        ])
        .await;
    server
        .wait_until("a watch", |asked| asked.open_watches == 1)
        .await;
    let ending: Vec<_> = pods(3).into_iter().map(|pod| pod.terminating()).collect();
    server.set_pods("app", 3000, &[ending, vec![pod(4)]].concat(), 100);
    server.set_pods("app", 3000, &[pod(4)], 100);
    listener
        .until("three were said to end", |listener| {
            listener.set.len() == 1
                || listener
                    .set
                    .iter()
                    .filter(|one| one.ends_with("terminating"))
                    .count()
                    == 3
        })
        .await;
    listener.until_set(&["pod-4 serving"]).await;
    let ended: Vec<_> = listener.ended.iter().map(String::as_str).collect();
    assert_eq!(ended, ["pod-1", "pod-2", "pod-3"]);
}
