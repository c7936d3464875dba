//! Another process takes over from the proxy while an instance is drained: its launcher goes on draining there.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::rig::{Launched, PATIENCE, Rig, exe, until};
use lameduck_rig::wire::Wire;

/// Longer than a launcher pauses before the signal when no proxy answers.
const LONGER_THAN_A_PAUSE: Duration = Duration::from_millis(2_500);

/// The old process finishes what it has for a minute, so no test waits for its deadline.
async fn rig() -> Rig {
    Rig::start_with("lame_duck = \"0s\"\ndeadline = \"60s\"").await
}

/// What a command of lameduck's prints.
async fn command(rig: &Rig, words: &[&str]) -> Vec<u8> {
    let mut command = tokio::process::Command::new(exe());
    command.args(words).arg("--admin").arg(rig.proxy.socket());
    let done = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output());
    let done = done.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    done.stdout
}

/// What `lameduck upgrade` reports.
async fn upgrade(rig: &Rig) -> Value {
    serde_json::from_slice(&command(rig, &["upgrade", "--json"]).await).unwrap()
}

struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    async fn open(rig: &Rig) -> Self {
        let stream = TcpStream::connect(rig.proxy.address()).await.unwrap();
        let opened = tokio_tungstenite::client_async("ws://app/ws", stream).await;
        let mut socket = Self(opened.unwrap().0);
        socket.is_answered().await;
        socket
    }

    async fn is_answered(&mut self) {
        self.0.send(Message::text("there?")).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.0.next()).await;
        let answer = answer.expect("an answer").expect("it is open").unwrap();
        assert_eq!(answer, Message::text("there?"));
    }

    async fn close(mut self) {
        self.0.close(None).await.unwrap();
        while let Some(Ok(_)) = self.0.next().await {}
    }
}

async fn is_told_to_stop(rig: &Rig, launched: &mut Launched, name: &str) {
    launched.process.signal(libc::SIGTERM).unwrap();
    until("the instance drains", async || {
        rig.state(name).await.as_deref() == Some("draining")
    })
    .await;
}

/// The drain is over with the WebSocket, long before its deadline, and nothing was cut.
async fn ends_with(mut launched: Launched, socket: WebSocket) {
    let closed = Instant::now();
    socket.close().await;
    let status = launched.exited().await;
    let said = launched.said();
    assert!(status.success(), "{said}");
    assert!(closed.elapsed() < Duration::from_secs(20), "{said}");
    for text in ["cut", "mid-drain", "at once"] {
        assert!(!said.contains(text), "{said}");
    }
}

/// It is the new process that has the WebSocket, while the old one lasts for the sake of something else.
#[lameduck_rig::test]
async fn drain_of_a_websocket_that_moves_ends_with_it_while_the_old_process_stays() {
    let mut rig = rig().await;
    let mut first = rig.launch("api-0", &["--drain-timeout", "50s"]);
    rig.ready("api-0").await;
    let mut socket = WebSocket::open(&rig).await;
    let mut second = rig.launch("api-1", &[]);
    rig.ready("api-1").await;
    is_told_to_stop(&rig, &mut first, "api-0").await;
    // To the second instance, as the first takes none.
    let mut client = Wire::connect(rig.proxy.address()).await;
    client
        .send("GET /slow?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    until("the request is in flight", async || {
        let pool = rig.backends().await;
        pool.iter()
            .any(|one| one.name == "api-1" && one.in_flight == 1)
    })
    .await;
    let report = upgrade(&rig).await;
    assert_eq!((&report["moved"], &report["left"]), (&1.into(), &1.into()));
    tokio::time::sleep(LONGER_THAN_A_PAUSE).await;
    assert_eq!(rig.state("api-0").await.as_deref(), Some("draining"));
    socket.is_answered().await;
    ends_with(first, socket).await;
    rig.gone("api-0").await;
    // What the old process finishes is none of the second one's.
    assert_eq!(rig.state("api-1").await.as_deref(), Some("ready"));
    second.process.signal(libc::SIGKILL).unwrap();
    second.exited().await;
}

/// Upgrades in a row, of which none leaves a process behind: nobody but the newest knows of the drain.
#[lameduck_rig::test]
async fn drain_of_a_websocket_that_moves_outlives_the_old_processes() {
    let mut rig = rig().await;
    let mut launched = rig.launch("api-0", &["--drain-timeout", "50s"]);
    rig.ready("api-0").await;
    let mut socket = WebSocket::open(&rig).await;
    is_told_to_stop(&rig, &mut launched, "api-0").await;
    for _ in 0..2 {
        let report = upgrade(&rig).await;
        assert_eq!((&report["moved"], &report["left"]), (&1.into(), &0.into()));
        tokio::time::sleep(LONGER_THAN_A_PAUSE).await;
        socket.is_answered().await;
    }
    assert_eq!(rig.state("api-0").await.as_deref(), Some("draining"));
    ends_with(launched, socket).await;
}

/// Its launcher is not one that waits for a drain: it follows to the process that is asked to resume.
#[lameduck_rig::test]
async fn launcher_of_an_instance_that_an_operator_has_drained_follows_at_once() {
    let mut rig = rig().await;
    let mut first = rig.launch("api-0", &[]);
    rig.ready("api-0").await;
    let mut client = Wire::connect(rig.proxy.address()).await;
    client
        .send("GET /slow?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    until("the request is in flight", async || {
        rig.backends().await.iter().any(|one| one.in_flight == 1)
    })
    .await;
    let mut second = rig.launch("api-1", &[]);
    rig.ready("api-1").await;
    command(&rig, &["drain", "app/api-1"]).await;
    let report = upgrade(&rig).await;
    assert_eq!(&report["left"], 1, "{report}");
    second.says("asking for it again").await;
    command(&rig, &["resume", "app/api-1", "--wait", "20s"]).await;
    rig.ready("api-1").await;
    assert!(second.stop().await.success(), "{}", second.said());
    first.process.signal(libc::SIGKILL).unwrap();
    first.exited().await;
}
