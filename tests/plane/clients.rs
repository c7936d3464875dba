//! How many connections a client may have, and how many requests a connection.

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Ended, Wire};

async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        // Kept for the whole test, however long that takes on a busy machine.
        pool: "[pool.upstream]\nidle_timeout = \"60s\"",
        ..Setup::default()
    })
    .await
}

/// A client with another address than the rest.
async fn from_elsewhere(rig: &Rig) -> Wire {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    Wire::new(socket.connect(rig.address).await.unwrap())
}

/// Asks until there is room; how often it was refused.
async fn until_served(rig: &Rig, backend: &mut Wire) -> usize {
    for refused in 0..1000 {
        let mut client = rig.ask(GET).await;
        tokio::select! {
            _ = backend.head() => {
                backend.answer("room").await;
                assert_eq!(client.response().await.text(), "room");
                return refused;
            }
            response = client.response() => assert_eq!(response.status(), 429),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("there is never room again");
}

/// `max_connections_per_client`: one more is a 429, others have their own, and there is room again when one leaves.
#[lameduck_rig::test]
async fn too_many_connections_of_one_client_are_a_429() {
    let rig = rig("max_connections_per_client = 2").await;
    let (mut first, mut backend) = rig.get().await;
    backend.answer("x").await;
    first.response().await;
    let second = rig.ask(GET).await;
    backend.head().await;
    backend.answer("x").await;
    let mut third = rig.ask(GET).await;
    let response = third.response().await;
    assert_eq!(response.status(), 429);
    assert!(response.has("Connection: close"));
    third.closed().await;
    rig.was_limited("max_connections_per_client", 3, 429).await;

    let mut other = from_elsewhere(&rig).await;
    other.send(GET).await;
    backend.head().await;
    backend.answer("other").await;
    assert_eq!(other.response().await.text(), "other");

    second.reset();
    until_served(&rig, &mut backend).await;
}

/// Who opens far more than it may takes no room from others, however long it stays to be told so.
#[lameduck_rig::test]
async fn a_flood_of_one_client_leaves_room_for_others() {
    // A connection for each request: whether the one before is back in time for the next is not the question here.
    let rig = rig("max_connections = 8\nmax_connections_per_client = 4").await;
    let mut flood = Vec::new();
    for _ in 0..4 {
        let (mut client, mut backend) = rig.get().await;
        backend.answer_and_close("x").await;
        assert_eq!(client.response().await.text(), "x");
        flood.push(client);
    }
    let mut refused = Vec::new();
    for _ in 0..300 {
        refused.push(rig.client().await);
    }
    for mut client in refused {
        assert_eq!(client.response().await.status(), 429);
        flood.push(client);
    }
    for _ in 0..3 {
        let mut other = from_elsewhere(&rig).await;
        other.send(GET).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.answer_and_close("x").await;
        assert_eq!(other.response().await.text(), "x");
    }
    rig.counts_limited("max_connections_per_client", 300).await;
    assert_eq!(rig.limited("max_connections").await, 0);
}

/// `max_connections` is in the log and the metrics, too.
#[lameduck_rig::test]
async fn too_many_connections_are_told_of() {
    let rig = rig("max_connections = 1").await;
    let (mut first, mut backend) = rig.get().await;
    let mut second = rig.client().await;
    assert_eq!(second.response().await.status(), 503);
    let line = rig.was_limited("max_connections", 1, 503).await;
    assert_eq!(line["client"], "127.0.0.1");
    backend.answer("x").await;
    first.response().await;
}

/// `max_requests_per_connection`: the last response says so, and the connection ends in good order.
#[lameduck_rig::test]
async fn the_last_request_of_a_connection_is_told_so() {
    let rig = rig("max_requests_per_connection = 3").await;
    let (mut client, mut backend) = rig.get().await;
    for last in [false, false, true] {
        backend.answer("x").await;
        let response = client.response().await;
        assert_eq!(response.text(), "x");
        assert_eq!(response.has("Connection: close"), last);
        if !last {
            client.send(GET).await;
            backend.head().await;
        }
    }
    client.closed().await;
    rig.counts_limited("max_requests_per_connection", 1).await;
    // The backend's connection is another matter.
    let mut next = rig.ask(GET).await;
    backend.head().await;
    backend.answer("y").await;
    assert_eq!(next.response().await.text(), "y");
}

/// What was pipelined behind the last request isn't answered, and destroys no answer.
#[lameduck_rig::test]
async fn requests_behind_the_last_one_are_not_served() {
    let rig = rig("max_requests_per_connection = 2").await;
    let mut client = rig.ask(GET.repeat(5)).await;
    let mut backend = rig.backends[0].accept().await;
    for _ in 0..2 {
        backend.head().await;
        backend.answer("x").await;
        assert_eq!(client.response().await.text(), "x");
    }
    assert_eq!(client.rest().await, (Vec::new(), Ended::Closed));
    backend.quiet(std::time::Duration::from_millis(100)).await;
}

/// A client that asks for the end itself ran into nothing.
#[lameduck_rig::test]
async fn who_closes_anyway_is_not_limited() {
    let rig = rig("max_requests_per_connection = 1").await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    client.closed().await;
    assert_eq!(rig.limited("max_requests_per_connection").await, 0);
}
