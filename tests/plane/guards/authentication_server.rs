//! Forward authentication: another server is asked who may pass.

use super::{ANNS, get, refused_so_many, rig, told};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;
use std::time::Duration;

/// The question that the authentication server has got, and what it says.
async fn asked(rig: &Rig, answer: &str) -> String {
    let mut server = rig.backends[1].accept().await;
    let question = server.head().await;
    server.send(answer).await;
    server.closed_or_kept().await;
    question
}

/// Keeps a connection open for a moment, as servers do.
trait Kept {
    async fn closed_or_kept(self);
}

impl Kept for Wire {
    async fn closed_or_kept(self) {
        tokio::spawn(async move {
            let _kept = self;
            tokio::time::sleep(Duration::from_secs(20)).await;
        });
    }
}

const FORWARD: &str = "[[route]]\nname = \"apps\"\npool = \"app\"\n\
     auth = { forward = \"http://$AUTH/verify?x=1\", copy = [\"X-User\", \"X-Groups\"], timeout = \"500ms\" }\n";

#[lameduck_rig::test]
async fn authentication_server_learns_what_is_asked_and_says_who_asks() {
    let rig = rig(FORWARD).await;
    let request = "POST /a/%2e?q=1 HTTP/1.1\r\nHost: shop.test:8080\r\nCookie: s=1\r\nX-User: root\r\nX_Groups: all\r\n\
         X-Original-URL: http://x/public\r\nX-Forwarded-Uri: /public\r\nX-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n\
         Range: bytes=0-1\r\nIf-None-Match: x\r\nContent-Length: 4\r\n\r\nbody";
    let mut client = rig.ask(request).await;
    let ok = "HTTP/1.1 204 No Content\r\nX-User: ann\r\nX-Groups: a\r\nX-Groups: b\r\nX-Other: c\r\n\r\n";
    let question = asked(&rig, ok).await;
    let mut app = rig.backends[0].accept().await;
    let seen = app.request().await;
    app.answer_and_close("app").await;
    assert_eq!(client.response().await.text(), "app");
    let asks = |line: &str| {
        let lower = line.to_lowercase();
        assert!(
            question
                .to_lowercase()
                .contains(&format!("\r\n{lower}\r\n")),
            "{line}: {question}"
        );
    };
    assert!(
        question.starts_with("GET /verify?x=1 HTTP/1.1\r\n"),
        "{question}"
    );
    asks("X-Forwarded-Method: POST");
    asks("X-Forwarded-Uri: /a/%2e?q=1");
    asks("X-Forwarded-Host: shop.test:8080");
    asks("X-Forwarded-Proto: http");
    asks("X-Forwarded-For: 127.0.0.1");
    asks("X-Real-IP: 127.0.0.1");
    asks("X-Original-Method: POST");
    asks("X-Original-URL: http://shop.test:8080/a/%2e?q=1");
    asks("Cookie: s=1");
    asks(&format!("Host: {}", rig.backends[1].address));
    for absent in [
        "public",
        "10.0.0.1",
        "content-length",
        "range",
        "if-none-match",
    ] {
        assert!(
            !question.to_lowercase().contains(absent),
            "{absent}: {question}"
        );
    }
    assert_eq!(seen.field("x-user"), Some("ann"));
    assert!(
        seen.has("X-Groups: a") && seen.has("X-Groups: b"),
        "{}",
        seen.head
    );
    assert!(
        !seen.head.contains("root") && !seen.head.contains("all"),
        "{}",
        seen.head
    );
    assert_eq!(seen.field("x-other"), None);
    assert_eq!(seen.body, b"body");
}

#[lameduck_rig::test]
async fn other_answers_of_the_authentication_server_are_the_clients() {
    let rig = rig(FORWARD).await;
    for (answer, status, lines) in [
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 5\r\nX-Inner: 1\r\n\r\nlogin",
            401,
            &["www-authenticate: Bearer"][..],
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://login.test/?rd=x\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nlogin",
            302,
            &[
                "location: https://login.test/?rd=x",
                "set-cookie: a=1",
                "set-cookie: b=2",
            ],
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nlogin",
            403,
            &[],
        ),
        (
            "HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nlogin",
            500,
            &[],
        ),
    ] {
        let mut client = rig
            .ask(get("/", "X-User: root\r\nConnection: close\r\n"))
            .await;
        let mut server = rig.backends[1].accept().await;
        server.head().await;
        server.send(answer).await;
        let told = client.response().await;
        assert_eq!((told.status(), told.text()), (status, "login"));
        for line in lines {
            assert!(told.has(line), "{line}: {}", told.head);
        }
        assert_eq!(told.field("x-inner"), None);
        assert!(told.has("Cache-Control: no-store"), "{}", told.head);
        drop(server);
    }
    refused_so_many(&rig, "apps", "unauthorized", 4).await;
    let two = told(&rig, get("/", &format!("{ANNS}{ANNS}"))).await;
    assert_eq!(two.status(), 400);
}

#[lameduck_rig::test]
async fn dead_or_slow_authentication_server_lets_nobody_through() {
    let mut rig = rig(FORWARD).await;
    let mut client = rig.ask(get("/", "")).await;
    let silent = rig.backends[1].accept().await;
    assert_eq!(client.response().await.status(), 504);
    drop(silent);
    // One that answers, and then no more.
    let mut client = rig.ask(get("/", "")).await;
    let mut server = rig.backends[1].accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
        .await;
    assert_eq!(client.response().await.status(), 504);
    drop(server);
    // One that talks nonsense.
    let mut client = rig.ask(get("/", "")).await;
    let serving = async {
        for _ in 0..2 {
            let mut server = rig.backends[1].accept().await;
            server.head().await;
            server.send("200 OK\r\n\r\n").await;
        }
    };
    let (answer, ()) = tokio::join!(client.response(), serving);
    assert_eq!(answer.status(), 503);
    rig.backends[1].refuse();
    let answer = told(&rig, get("/", "")).await;
    assert_eq!(
        (answer.status(), answer.field("retry-after")),
        (503, Some("1"))
    );
    refused_so_many(&rig, "apps", "auth_down", 4).await;
}

#[lameduck_rig::test]
async fn connection_to_the_authentication_server_is_kept_and_replaced() {
    let rig = rig(FORWARD).await;
    let ok = "HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 2\r\n\r\nok";
    let mut server = None;
    for _ in 0..3 {
        let mut client = rig.ask(get("/", "")).await;
        if server.is_none() {
            server = Some(rig.backends[1].accept().await);
        }
        let wire: &mut Wire = server.as_mut().unwrap();
        wire.head().await;
        wire.send(ok).await;
        let mut app = rig.backends[0].accept().await;
        app.request().await;
        app.answer_and_close("app").await;
        assert_eq!(client.response().await.text(), "app");
    }
    // It closes the kept one with the next question on its way: that is asked again.
    let mut client = rig.ask(get("/", "")).await;
    server.as_mut().unwrap().head().await;
    drop(server.take());
    asked(&rig, ok).await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.answer_and_close("app").await;
    assert_eq!(client.response().await.text(), "app");
}

#[lameduck_rig::test]
async fn upgrade_is_asked_for_like_any_request() {
    let rig = rig(FORWARD).await;
    let upgrade = get(
        "/ws",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-User: root\r\n",
    );
    let mut client = rig.ask(&upgrade).await;
    let question = asked(
        &rig,
        "HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(!question.to_lowercase().contains("upgrade"), "{question}");
    assert!(
        !question.to_lowercase().contains("sec-websocket"),
        "{question}"
    );
    let mut app = rig.backends[0].accept().await;
    let head = app.head().await;
    assert!(
        head.contains("X-User: ann") && !head.contains("root"),
        "{head}"
    );
    app.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhi").await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client.expect("hi").await;
    let mut refused = rig.ask(&upgrade).await;
    let answer = async {
        let mut server = rig.backends[1].accept().await;
        server.head().await;
        server
            .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            .await;
        server
    };
    let (server, told) = tokio::join!(answer, refused.response());
    assert_eq!(told.status(), 403);
    drop(server);
}

/// A server that speaks something else there, such as WebSockets. The client has asked for no other protocol.
#[lameduck_rig::test]
async fn switch_of_protocols_by_the_authentication_server_is_no_answer() {
    let rig = rig(FORWARD).await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    asked(&rig, switch).await;
    assert_eq!(client.response().await.status(), 503);
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["end"], "auth_down", "{line}");
}
