//! Was a POST delivered before its connection died? Only where it surely was not, it goes out again. What is proven
//! takes a race to reach through a proxy that looks before it sends: that one is in `races`.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use lameduck_rig::process::unread_in_queues;
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{PATIENCE, Wire};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// A client, the backend's listener, and a connection that has carried one POST.
async fn kept(rig: &mut Rig) -> (Wire, TcpListener, TcpStream) {
    let listener = rig.backends[0].take_listener();
    listener.set_nonblocking(false).unwrap();
    let mut client = rig.ask(POST).await;
    let (listener, theirs) = tokio::task::spawn_blocking(move || {
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        read_until(&mut theirs, b"\r\n\r\nbody");
        theirs
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        (listener, theirs)
    })
    .await
    .unwrap();
    assert_eq!(client.response().await.status(), 200);
    (client, listener, theirs)
}

fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
}

/// The client gets a 502, and no other connection comes.
async fn failed_and_not_repeated(
    rig: &Rig,
    mut client: Wire,
    listener: TcpListener,
    attempts: u64,
) {
    assert_eq!(client.response().await.status(), 502);
    listener.set_nonblocking(true).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let again = listener.accept();
    assert!(again.is_err(), "it was sent again: {again:?}");
    let log = rig.access_log(2).await;
    let line = &log[log.len() - 1];
    assert_eq!(
        (&line["end"], line["attempts"].as_u64()),
        (&"upstream_died".into(), Some(attempts))
    );
}

#[lameduck_rig::test]
async fn a_post_that_was_read_is_acknowledged_by_the_end_of_the_stream() {
    let mut rig = Rig::one().await;
    let (mut client, listener, mut theirs) = kept(&mut rig).await;
    client.send(POST).await;
    tokio::task::spawn_blocking(move || read_until(&mut theirs, b"\r\n\r\nbody"))
        .await
        .unwrap();
    failed_and_not_repeated(&rig, client, listener, 1).await;
}

/// The backend closes with the request unread: its kernel resets, and acknowledges nothing. Nor does that prove
/// anything, for an app may have read a part.
#[lameduck_rig::test]
async fn a_reset_with_the_request_unread_proves_nothing() {
    for read in [0, 10] {
        let mut rig = Rig::one().await;
        let (mut client, listener, mut theirs) = kept(&mut rig).await;
        client.send(POST).await;
        tokio::task::spawn_blocking(move || {
            // Blocks until it is there.
            assert!(theirs.peek(&mut [0; 1]).unwrap() > 0);
            theirs.read_exact(&mut vec![0; read]).unwrap();
        })
        .await
        .unwrap();
        failed_and_not_repeated(&rig, client, listener, 1).await;
    }
}

/// A dying listener takes its queue along, with connections and requests that its kernel has acknowledged and nobody
/// has read. That can't be told from an app that has read them: sent on trust, because the only backend has accepted
/// nothing for long, it is lost.
#[lameduck_rig::test]
async fn a_dying_accept_queue_proves_nothing() {
    let mut rig = Rig::new(Setup {
        pool: "[pool.upstream]\nconnect_timeout = \"100ms\"",
        ..Setup::default()
    })
    .await;
    let address = rig.backends[0].address;
    let listener = rig.backends[0].take_listener();
    let mut client = rig.ask(POST).await;
    unread_in_queue(address).await;
    drop(listener);
    assert_eq!(client.response().await.status(), 502);
}

/// An idempotent request loses nothing by it.
#[lameduck_rig::test]
async fn a_get_in_a_dying_accept_queue_goes_elsewhere() {
    let mut rig = Rig::of(2).await;
    let address = rig.backends[0].address;
    let listener = rig.backends[0].take_listener();
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (first, second) = (rig.ask(get).await, rig.ask(get).await);
    // An answer before the second request has come would leave the choice to chance.
    rig.until("one each", |pool| {
        pool.backends.iter().all(|backend| backend.in_flight == 1)
    })
    .await;
    let mut other = rig.backends[1].accept().await;
    other.head().await;
    other.answer("x").await;
    unread_in_queue(address).await;
    drop(listener);
    // On a fresh connection: a retry takes no kept one.
    let mut again = rig.backends[1].accept().await;
    again.head().await;
    again.answer("x").await;
    for mut client in [first, second] {
        assert_eq!(client.response().await.text(), "x");
    }
}

/// Waits until an established connection of that listener holds something unread.
async fn unread_in_queue(address: std::net::SocketAddr) {
    lameduck_rig::wait::until("a request in the queue", async || {
        unread_in_queues(address).contains(&true)
    })
    .await;
}

/// Half-closed after a part has arrived: the end of the stream acknowledges that part.
#[lameduck_rig::test]
async fn a_backend_that_half_closes_after_a_part_has_got_that_part() {
    let mut rig = Rig::new(Setup {
        pool: "[pool.upstream]\nrequest_buffering = false",
        ..Setup::default()
    })
    .await;
    let (mut client, listener, mut theirs) = kept(&mut rig).await;
    let (part, rest) = POST.split_at(POST.len() - 2);
    client.send(part).await;
    let theirs = tokio::task::spawn_blocking(move || {
        read_until(&mut theirs, b"\r\n\r\nbo");
        theirs.shutdown(Shutdown::Write).unwrap();
        theirs
    })
    .await
    .unwrap();
    // It may be on its way when the backend drops it unread.
    client.send(rest).await;
    drop(theirs);
    failed_and_not_repeated(&rig, client, listener, 1).await;
}
