//! Clients that leave while nobody reads what they send: their end stands behind bytes that stay in the kernel.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Wire, pattern};

const SHARE: &str = "[pool.hold]\nmax_bytes = \"64KiB\"\ntimeout = \"60s\"";

/// More than its share of the hold.
const BODY: usize = 200_000;

fn upload(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunks(count: usize) -> Vec<u8> {
    let mut bytes = format!("{count:x}\r\n").into_bytes();
    bytes.extend(pattern(count));
    bytes.extend(b"\r\n");
    bytes
}

async fn drained(pool: &'static str) -> Rig {
    let rig = Rig::new(Setup {
        pool,
        ..Setup::default()
    })
    .await;
    rig.begin_drain(0, "60s", "resumed").await;
    rig
}

async fn held(rig: &Rig, count: usize) {
    rig.until("held requests", |pool| pool.held == count).await;
}

/// The hold has no byte left: what its clients send stays in the kernel.
pub(super) async fn full(rig: &Rig) {
    lameduck_rig::wait::until("the hold to be full", async || {
        rig.metric("lameduck_held_bytes{pool=\"app\"}").await >= Some(64 * 1024)
    })
    .await;
}

/// Without the kernel's word for it, each stays until `hold.timeout`, and the hold is full of the dead.
#[lameduck_rig::test]
async fn a_client_that_leaves_with_its_share_full_gives_its_place_back() {
    let rig = drained(SHARE).await;
    for resets in [false, true] {
        for (head, body) in [
            (upload(2 * BODY), pattern(BODY)),
            (CHUNKED.to_owned(), chunks(BODY)),
        ] {
            let mut client = rig.ask(head).await;
            held(&rig, 1).await;
            client.send(&body).await;
            full(&rig).await;
            match resets {
                true => client.reset(),
                false => drop(client),
            }
            held(&rig, 0).await;
        }
    }
    assert_eq!(
        rig.metric("lameduck_held_bytes{pool=\"app\"}").await,
        Some(0)
    );
    let log = rig.access_log(4).await;
    assert!(
        log.iter().all(|line| line["end"] == "client_closed"),
        "{log:?}"
    );
}

/// `nc -N` and the like: they have finished sending, and read.
#[lameduck_rig::test]
async fn a_half_closed_client_with_a_whole_request_is_held_and_answered() {
    for (head, body) in [
        (GET.to_owned(), Vec::new()),
        (upload(4), b"body".to_vec()),
        (upload(BODY), pattern(BODY)),
        (
            CHUNKED.to_owned(),
            [chunks(BODY), b"0\r\n\r\n".to_vec()].concat(),
        ),
    ] {
        let rig = drained(SHARE).await;
        let mut client = rig.ask(&head).await;
        held(&rig, 1).await;
        client.send(&body).await;
        if body.len() == BODY {
            full(&rig).await;
        }
        client.finish().await;
        client.quiet(Duration::from_millis(100)).await;
        held(&rig, 1).await;
        rig.resume(0).await;
        let mut backend = rig.backends[0].accept().await;
        assert_eq!(
            backend.request().await.body.len(),
            match body.len() {
                more if more > BODY => BODY,
                length => length,
            }
        );
        backend.answer_and_close("x").await;
        assert_eq!(client.response().await.text(), "x", "{head}");
    }
}

/// Its body can never be whole.
#[lameduck_rig::test]
async fn a_half_closed_client_with_half_a_request_is_gone() {
    let rig = drained(SHARE).await;
    // Of a client that has closed one direction only, the kernel has to have room for what stands before its end.
    const LESS: usize = 90_000;
    for (head, body) in [
        (upload(BODY), pattern(LESS)),
        (upload(4), b"bod".to_vec()),
        (CHUNKED.to_owned(), chunks(LESS)),
        (CHUNKED.to_owned(), chunks(4)),
    ] {
        let mut client = rig.ask(&head).await;
        held(&rig, 1).await;
        client.send(&body).await;
        client.finish().await;
        held(&rig, 0).await;
        client.closed().await;
    }
}

/// Nothing is heard of its second half.
#[lameduck_rig::test]
async fn a_half_closed_client_that_leaves_later_is_noticed() {
    let rig = drained(SHARE).await;
    let mut client = rig.ask(GET).await;
    held(&rig, 1).await;
    client.finish().await;
    client.quiet(Duration::from_millis(50)).await;
    held(&rig, 1).await;
    drop(client);
    held(&rig, 0).await;
}

/// Waiting for room is the same wait.
#[lameduck_rig::test]
async fn a_client_that_leaves_while_it_waits_for_room_gives_its_place_back() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\nmax_in_flight = 1\nrequest_buffering = false\n[pool.hold]\nmax_bytes = \"64KiB\"",
        ..Setup::default()
    })
    .await;
    let (_busy, _backend) = rig.get().await;
    let mut client = rig.ask(upload(2 * BODY)).await;
    held(&rig, 1).await;
    client.send(pattern(BODY)).await;
    full(&rig).await;
    drop(client);
    held(&rig, 0).await;
}

/// A connect that hangs for a client that is gone holds no place on the backend.
#[lameduck_rig::test]
async fn a_client_that_leaves_during_a_connect_is_noticed() {
    let mut rig = Rig::new(Setup {
        pool: "[pool.upstream]\nconnect_timeout = \"60s\"",
        ..Setup::default()
    })
    .await;
    let _full = rig.backends[0].listen_with_a_full_queue().await;
    for resets in [false, true] {
        let client = rig.ask(GET).await;
        rig.until("in flight", |pool| pool.backends[0].in_flight == 1)
            .await;
        match resets {
            true => client.reset(),
            false => drop(client),
        }
        rig.until("given up", |pool| pool.backends[0].in_flight == 0)
            .await;
    }
}

/// A backend that takes no more of the body, and a client whose further requests fill the buffer.
#[lameduck_rig::test]
async fn a_client_that_leaves_unread_during_an_exchange_is_noticed() {
    let rig = Rig::one().await;
    for resets in [false, true] {
        let stalled = stalled_upload(&rig).await;
        let piped = pipelined(&rig).await;
        for (left, (client, _backend)) in [(1, stalled), (0, piped)] {
            match resets {
                true => client.reset(),
                false => drop(client),
            }
            rig.until("one less", |pool| pool.backends[0].in_flight == left)
                .await;
        }
    }
}

async fn stalled_upload(rig: &Rig) -> (Wire, Wire) {
    let mut client = rig.ask(upload(1 << 30)).await;
    // More than both kernels take, so that it stays unread.
    let sending = async {
        let piece = pattern(1 << 20);
        while tokio::time::timeout(Duration::from_millis(300), client.send(&piece))
            .await
            .is_ok()
        {}
    };
    let ((), mut backend) = tokio::join!(sending, rig.backends[0].accept());
    backend.head().await;
    (client, backend)
}

async fn pipelined(rig: &Rig) -> (Wire, Wire) {
    let (mut client, backend) = rig.get().await;
    client.send(GET.repeat(6000)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    (client, backend)
}
