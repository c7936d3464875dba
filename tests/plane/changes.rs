//! What routes change on the way: paths and header fields, of requests and answers.

mod paths;

use std::time::Duration;

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Message, Wire, field, has};

async fn rig(tables: &'static str) -> Rig {
    Rig::new(Setup {
        tables,
        ..Setup::default()
    })
    .await
}

/// Answers each request with the head that it came with, and with fields of its own.
async fn echo(rig: &Rig) {
    loop {
        let mut backend: Wire = rig.backends[0].accept().await;
        while let Some(head) = backend.head_or_end().await {
            if let Some(length) = field(&head, "content-length") {
                backend.exactly(length.parse().unwrap()).await;
            } else if has(&head, "Transfer-Encoding: chunked") {
                backend.chunks().await;
            }
            let length = head.len();
            backend
                .send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nX-Powered-By: PHP\r\nServer: app\r\nSet-Cookie: a=1\r\n\
                     X-Frame-Options: SAMEORIGIN\r\nx-frame-options: ALLOWALL\r\n\r\n{head}"
                ))
                .await;
        }
    }
}

/// The answers to these messages, each on a connection of its own.
async fn ask(rig: &Rig, requests: &[String]) -> Vec<Message> {
    let asking = async {
        let mut answers = Vec::new();
        for request in requests {
            let mut client = rig.ask(request).await;
            answers.push(client.response().await);
        }
        answers
    };
    tokio::select! {
        answers = asking => answers,
        () = echo(rig) => unreachable!("it never ends"),
    }
}

fn get(target: &str, host: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
}

const FIELDS: &str = "[[route]]\nhost = \"fields.test\"\npool = \"app\"\n\
     [route.request_headers]\nset = { \"X-Real-IP\" = \"{client}\", \"X-User\" = \"anonymous\", \"X-Copy\" = \"{header.X-Source}\", \"X-Forwarded-Prefix\" = \"/shop\", \
     \"Host\" = \"app.internal:99\", \"X-Empty\" = \"\" }\nadd = { \"X-Tag\" = [\"one\", \"{method} {request_id}\"] }\nremove = [\"Accept-Encoding\", \"X-Secret\"]\n\
     [route.response_headers]\nset = { \"X-Frame-Options\" = \"DENY\", \"X-Id\" = \"{request_id}\" }\nadd = { \"Set-Cookie\" = \"b=2\" }\nremove = [\"x-powered-by\", \"Server\"]\n\
     [[route]]\nhost = \"host.test\"\npool = \"app\"\nrequest_headers = { set = { host = \"{header.X-Host}\" } }\n\
     [[route]]\nhost = \"own.test\"\nrespond = { status = 403, body = \"no\" }\nresponse_headers = { set = { \"Content-Type\" = \"text/x\", \"Cache-Control\" = \"no-store\" } }\n";

#[lameduck_rig::test]
async fn fields_are_set_added_and_removed_on_both_ways() {
    let rig = rig(FIELDS).await;
    let lines = "X-Real-IP: 6.6.6.6\r\nx-user: admin\r\nAccept-Encoding: gzip\r\nX-Tag: zero\r\nX-Source: a\r\nX-Source: b\r\n\
         X-Empty: full\r\nX-Request-Id: id-7\r\nX-Secret: s\r\nAccept: */*\r\n";
    let answers = ask(&rig, &[get("/x", "fields.test", lines)]).await;
    let (answer, seen) = (&answers[0], answers[0].text());
    for line in [
        "GET /x HTTP/1.1",
        "Host: app.internal:99",
        "X-Real-IP: 127.0.0.1",
        "X-User: anonymous",
        "X-Copy: a, b",
        "X-Forwarded-Prefix: /shop",
        "X-Tag: zero",
        "X-Tag: one",
        "X-Tag: GET id-7",
        "X-Source: a",
        "Accept: */*",
        "X-Forwarded-Host: fields.test",
        "X-Request-Id: id-7",
    ] {
        assert!(has(seen, line), "{line}: {seen}");
    }
    for gone in ["6.6.6.6", "admin", "gzip", "X-Empty", "X-Secret"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    assert_eq!(seen.matches("ost: app.internal").count(), 1);
    for line in [
        "X-Frame-Options: DENY",
        "X-Id: id-7",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
    ] {
        assert!(answer.has(line), "{line}: {}", answer.head);
    }
    for gone in ["PHP", "Server", "SAMEORIGIN", "ALLOWALL"] {
        assert!(!answer.head.contains(gone), "{gone}: {}", answer.head);
    }
    assert_eq!(
        answer
            .head
            .to_ascii_lowercase()
            .matches("content-length")
            .count(),
        1
    );
}

/// Our own answers on a route have its fields, whatever they say.
#[lameduck_rig::test]
async fn own_answers_have_the_routes_fields() {
    let rig = rig(FIELDS).await;
    let mut client = rig.ask(get("/", "own.test", "")).await;
    let own = client.response().await;
    assert_eq!((own.status(), own.text()), (403, "no"));
    assert!(
        own.has("Content-Type: text/x")
            && own.has("Cache-Control: no-store")
            && own.has("Content-Length: 2")
    );
    assert_eq!(own.head.matches("Content-Type").count(), 1);
    let mut client = rig
        .ask(get("/", "fields.test", "X-Request-Id: id-8\r\n"))
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send("nonsense\r\n\r\n").await;
    let failed = client.response().await;
    assert_eq!(failed.status(), 502);
    assert!(
        failed.has("X-Frame-Options: DENY") && failed.has("X-Id: id-8"),
        "{}",
        failed.head
    );
}

/// Attempts to have a field of one's own in place of the route's, or to break a line.
#[lameduck_rig::test]
async fn no_client_poisons_a_field_that_a_route_sets() {
    let rig = rig(FIELDS).await;
    let attempts = [
        "X_Real_IP: 6.6.6.6\r\nX-User: evil\r\n",
        "X_User: evil\r\n",
        "x_uSER: evil\r\n",
        "X-USER: evil\r\nX-User: evil\r\n",
        "X-User: evil\r\nConnection: X-User\r\n",
        "Connection: X-Real-IP, X-User, X-Copy\r\n",
        "X-User : evil\r\n",
        "X-User:\tevil\r\n",
        " X-User: evil\r\n",
        "X-Source: a\r\n X-User: evil\r\n",
        "X-Source: a\rX-User: evil\r\n",
        "X-Source: a\nX-User: evil\r\n",
        "X-Source: a\u{0}evil\r\n",
        "X-Source: a\u{85}X-User: evil\u{2028}\r\n",
        "X-Source: %0d%0aX-User: evil\r\n",
        "X-Source: \\r\\nX-User: evil\r\n",
        "X-Source: a\u{b}X-User: evil\r\n",
        "X-Request-Id: a\tX-User: evil\r\n",
        "X-Request-Id: evil evil\r\n",
        "X_Secret: evil\r\n",
        "Content-Length: 0\r\nX_Tag: Content-Length\r\n",
        "X-Forwarded-Prefix: /evil\r\n",
        "X_Forwarded_Prefix: /evil\r\n",
        "X-Forwarded-For: evil\r\n",
        "X-Original-URL: /evil\r\nX-User: evil\r\n",
    ];
    let requests: Vec<_> = attempts
        .iter()
        .map(|lines| get("/", "fields.test", lines))
        .collect();
    for (answer, lines) in ask(&rig, &requests).await.iter().zip(attempts) {
        if answer.status() != 200 {
            assert_eq!(answer.status(), 400, "{lines}");
            continue;
        }
        let seen = answer.text();
        for (name, wanted) in [
            ("X-Real-IP", "127.0.0.1"),
            ("X-User", "anonymous"),
            ("X-Forwarded-Prefix", "/shop"),
        ] {
            let folded = |line: &str| line.split(':').next().unwrap_or_default().replace('_', "-");
            let named = seen
                .split("\r\n")
                .filter(|line| folded(line).eq_ignore_ascii_case(name));
            let values: Vec<_> = named.map(|line| line.split_once(": ").unwrap().1).collect();
            assert_eq!(values, [wanted], "{lines}: {seen}");
        }
        assert!(
            !seen.contains("X_Secret") && seen.is_char_boundary(seen.len()),
            "{seen}"
        );
    }
}

/// An app that merges trailers into the header would take them for the route's.
#[lameduck_rig::test]
async fn field_that_a_route_sets_is_refused_in_trailers() {
    let rig = rig(FIELDS).await;
    for (trailer, status) in [
        ("X-Sum: 1", 200),
        ("X-User: evil", 400),
        ("x_user: evil", 400),
        ("X-Secret: evil", 400),
        ("Accept_Encoding: evil", 400),
        ("X-Tag: zero", 200),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: fields.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n\r\n"
        );
        assert_eq!(ask(&rig, &[request]).await[0].status(), status, "{trailer}");
    }
}

#[lameduck_rig::test]
async fn host_that_a_client_makes_is_one_or_is_refused() {
    let rig = rig(FIELDS).await;
    for (host, status) in [
        ("app.internal:8080", 200),
        ("[::1]", 200),
        ("", 400),
        ("a b", 400),
        ("a/b", 400),
        ("u@a", 400),
        ("a\\b", 400),
        ("a:b", 400),
        ("a,b", 400),
        ("\u{fc}", 400),
    ] {
        let answers = ask(
            &rig,
            &[get("/", "host.test", &format!("X-Host: {host}\r\n"))],
        )
        .await;
        assert_eq!(answers[0].status(), status, "{host}");
        if status == 200 {
            assert_eq!(field(answers[0].text(), "host"), Some(host));
        }
    }
}

#[lameduck_rig::test]
async fn each_attempt_has_the_same_changes() {
    let rig = Rig::new(Setup {
        backends: 2,
        tables: FIELDS,
        ..Setup::default()
    })
    .await;
    let mut client = rig
        .ask(get(
            "/x",
            "fields.test",
            "X-User: admin\r\nX-Request-Id: id-9\r\n",
        ))
        .await;
    let (first, mut backend) = rig.first().await;
    let head = backend.head().await;
    // A GET is sent again where its connection ends without an answer.
    drop(backend);
    let mut other = rig.backends[1 - first].accept().await;
    let again = other.head().await;
    assert_eq!(head, again);
    assert!(
        has(&again, "X-User: anonymous") && !again.contains("admin"),
        "{again}"
    );
    other.answer("well").await;
    let answer = client.response().await;
    assert!(
        answer.has("X-Frame-Options: DENY") && answer.has("X-Id: id-9"),
        "{}",
        answer.head
    );
}

#[lameduck_rig::test]
async fn upgrade_is_changed_like_any_request_and_interim_answers_are_not() {
    let rig = rig(
        "[[route]]\nstrip_prefix = \"/ws\"\npool = \"app\"\nrequest_headers = { set = { X-User = \"me\" }, remove = [\"Origin\"] }\n\
         response_headers = { set = { X-Mark = \"1\" } }\n",
    )
    .await;
    let upgrade = "Connection: upgrade\r\nUpgrade: other\r\nOrigin: x\r\nX-User: evil\r\n";
    let mut client = rig.ask(get("/ws/chat?a", "a", upgrade)).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /chat?a HTTP/1.1\r\n"), "{head}");
    assert!(
        has(&head, "Upgrade: other")
            && has(&head, "X-User: me")
            && !head.contains("evil")
            && !head.contains("Origin")
    );
    backend
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n")
        .await;
    let hints = client.head().await;
    assert!(
        hints.starts_with("HTTP/1.1 103") && !hints.contains("X-Mark"),
        "{hints}"
    );
    let switched = client.head().await;
    assert!(
        has(&switched, "X-Mark: 1") && has(&switched, "Upgrade: other"),
        "{switched}"
    );
    client.send("ping").await;
    backend.expect("ping").await;
    backend.send("pong").await;
    client.expect("pong").await;
}

/// A held request goes by the configuration that is in force when it goes on: another pool's, or another action.
#[lameduck_rig::test]
async fn held_request_goes_by_the_changes_of_the_newest_configuration() {
    let rig = Rig::new(Setup {
        pool: "[pool.hold]\ntimeout = \"20s\"",
        tables: "[[route]]\nname = \"r\"\npool = \"app\"\nrewrite = \"/old{path}\"\n",
        ..Setup::default()
    })
    .await;
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until_state(0, "drained").await;
    let client = rig.ask(get("/x", "a", "")).await;
    rig.until("it is held", |pool| pool.held == 1).await;
    let (status, said) = rig
        .reload("rewrite = \"/old{path}\"", "rewrite = \"/new{path}\"")
        .await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("rewrite"), "{said}");
    let mut waiting = client;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(backend.head().await.starts_with("GET /new/x HTTP/1.1\r\n"));
    backend.answer_and_close("well").await;
    assert_eq!(waiting.response().await.text(), "well");
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until_state(0, "drained").await;
    let mut waiting = rig.ask(get("/y", "a", "")).await;
    rig.until("it is held", |pool| pool.held == 1).await;
    let (status, said) = rig
        .reload(
            "pool = \"app\"\nrewrite = \"/new{path}\"",
            "redirect = { path = \"/there\" }\n[[route]]\nhost = \"b\"\npool = \"app\"",
        )
        .await;
    assert_eq!(status, 200, "{said}");
    let answer = waiting.response().await;
    assert_eq!(
        (answer.status(), answer.field("location")),
        (308, Some("http://a/there"))
    );
    waiting.quiet(Duration::from_millis(1)).await;
}
