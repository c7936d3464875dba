//! The proxy's own end.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::upgrade::websocket;
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Ended, field, has};

/// What a busy connection gets for one more request.
const ONCE_MORE: Duration = Duration::from_millis(100);

async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        tables: "",
        ..Setup::default()
    })
    .await
}

/// While lame, everybody is served and told to go elsewhere; our own answers say so too.
#[lameduck_rig::test]
async fn every_response_of_a_lame_duck_says_close() {
    let rig = Rig::new(Setup {
        server: "lame_duck = \"30s\"",
        tables: "[[route]]\nhost = \"a\"\npool = \"app\"",
        ..Setup::default()
    })
    .await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    client.response().await;
    let mut lost = rig.client().await;
    // Idle connections are closed soon. These two have begun a request, however long the rest takes on a busy machine.
    let (begun, rest) = GET.split_at(4);
    client.send(begun).await;
    lost.send(begun).await;
    rig.terminate();
    wait_until_lame(&rig).await;
    client.send(rest).await;
    backend.head().await;
    backend.answer("x").await;
    assert!(client.response().await.has("Connection: close"));
    client.closed().await;
    lost.send("/ HTTP/1.1\r\nHost: elsewhere\r\n\r\n").await;
    let response = lost.response().await;
    assert_eq!(response.status(), 404);
    assert!(response.has("Connection: close"), "{}", response.head);
    lost.closed().await;
    let mut late = rig.ask(GET).await;
    backend.head().await;
    backend.answer("served").await;
    assert_eq!(late.response().await.text(), "served");
}

async fn wait_until_lame(rig: &Rig) {
    for _ in 0..4000 {
        let ready =
            lameduck::tools::demo::admin::request(&rig.socket, "GET", "/-/ready", None).await;
        if matches!(ready, Ok((503, _))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never became lame");
}

/// It finishes what is in flight, closes what is idle, and is gone the instant nothing is left.
#[lameduck_rig::test]
async fn proxy_exits_when_no_connection_is_left() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"10s\"").await;
    let mut idle = rig.client().await;
    let (mut client, mut backend) = rig.get().await;
    rig.terminate();
    idle.closed().await;
    client.quiet(Duration::from_millis(100)).await;
    backend.answer("to the end").await;
    let began = Instant::now();
    assert_eq!(client.response().await.text(), "to the end");
    client.closed().await;
    assert!(rig.exited().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// Without a lame duck, nobody is told to go before the door is closed: who came back at once would find it closing.
/// And who is busy is told.
#[lameduck_rig::test]
async fn who_is_told_to_go_meets_nobody_when_coming_back() {
    let mut rig = Rig::new(Setup {
        server: "lame_duck = \"0s\"",
        tables: "[[route]]\nhost = \"a\"\npool = \"app\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig.client().await;
    rig.terminate();
    let mut last = Instant::now();
    loop {
        let sent = client.try_send("GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n");
        let head = match sent.await {
            Ok(()) => client.head_or_end().await,
            Err(_) => None,
        };
        let Some(head) = head else {
            // A machine that stood still for so long was not busy.
            let idle = last.elapsed();
            assert!(idle >= ONCE_MORE, "closed without a word after {idle:?}");
            break;
        };
        if has(&head, "Connection: close") {
            break;
        }
        let length = field(&head, "Content-Length").unwrap();
        client.exactly(length.parse().unwrap()).await;
        last = Instant::now();
    }
    // At once: a SYN that is dropped comes again a second later.
    let again = tokio::time::timeout(Duration::from_millis(800), TcpStream::connect(rig.address));
    let again = again.await.expect("it is neither open nor closed");
    assert_eq!(again.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(rig.exited().await.success());
}

/// A client on a busy machine has connected, and comes to send its request only when the end has begun.
#[lameduck_rig::test]
async fn first_request_that_comes_a_second_after_the_end_began_is_served() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"10s\"").await;
    let mut client = rig.client().await;
    let opened = Instant::now();
    rig.terminate();
    client.quiet(Duration::from_millis(1000)).await;
    client.send(GET).await;
    // On a machine that stood still, nothing is shown.
    if opened.elapsed() < Duration::from_millis(1800) {
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.answer("served").await;
        let response = client.response().await;
        assert_eq!(response.text(), "served");
        assert!(response.has("Connection: close"), "{}", response.head);
    }
    client.closed().await;
    assert!(rig.exited().await.success());
}

/// At the deadline a request that still waits is cut, at once: nobody hangs on.
#[lameduck_rig::test]
async fn request_in_flight_at_the_deadline_is_cut() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"500ms\"").await;
    let (mut waiting, _backend) = rig.get().await;
    let (mut reading, mut sending) = rig.get().await;
    sending
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    reading.head().await;
    reading.expect("half").await;
    let began = Instant::now();
    rig.terminate();
    assert_eq!(
        waiting.rest().await,
        (Vec::new(), Ended::Reset),
        "{}",
        rig.log()
    );
    assert_eq!(
        reading.rest().await,
        (Vec::new(), Ended::Reset),
        "{}",
        rig.log()
    );
    let took = began.elapsed();
    assert!(took > Duration::from_millis(400), "{took:?}");
    assert!(
        took < Duration::from_secs(8),
        "{took:?}: it was not the deadline that cut them"
    );
    rig.exited().await;
}

/// Streams end before the deadline, in their orderly way, spread over the time that is left.
#[lameduck_rig::test]
async fn websockets_end_before_the_deadline_one_after_the_other() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"4s\"").await;
    let mut clients = Vec::new();
    let mut backends = Vec::new();
    for _ in 0..4 {
        let (client, backend) = websocket(&rig).await;
        clients.push(client);
        backends.push(backend);
    }
    let began = Instant::now();
    rig.terminate();
    let mut ended = Vec::new();
    for mut client in clients {
        ended.push(tokio::spawn(async move {
            let head = client.exactly(2).await;
            assert_eq!(head[0], 0x88);
            let payload = client.exactly(usize::from(head[1])).await;
            assert_eq!(payload[..2], 1001_u16.to_be_bytes());
            Instant::now()
        }));
    }
    let mut times = Vec::new();
    for task in ended {
        times.push(task.await.unwrap() - began);
    }
    times.sort();
    assert!(times[0] > Duration::from_millis(800), "{times:?}");
    // Whoever is still there at the deadline is cut, and gets no frame.
    assert!(times[3] < Duration::from_secs(12), "{times:?}");
    assert!(
        times[3] - times[0] > Duration::from_millis(500),
        "not spread: {times:?}"
    );
    drop(backends);
    rig.exited().await;
}

/// A shutdown that waits costs no CPU.
#[lameduck_rig::test]
async fn waiting_for_the_end_does_not_spin() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"10s\"").await;
    let (mut client, mut backend) = rig.get().await;
    rig.terminate();
    client.quiet(Duration::from_millis(100)).await;
    let before = rig.cpu_ms();
    client.quiet(Duration::from_millis(500)).await;
    let used = rig.cpu_ms() - before;
    assert!(used < 200, "{used} ms of CPU in half a second");
    backend.answer("x").await;
    client.response().await;
    rig.exited().await;
}
