//! What routes ask of their clients: networks, rates, passwords, another server's word; and settings of their own.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lameduck_rig::backend::backends;
use lameduck_rig::h2_client::{self, Client};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Message, Wire};

/// Of user `ann`, password `a`.
pub const ANN: &str = "ann:{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=\n";
/// `ann:a`.
const ANNS: &str = "Authorization: Basic YW5uOmE=\r\n";

/// A proxy with these tables. The pool has one backend; the second one is the authentication server, whose address
/// stands for `$AUTH`. The file `users` is beside the configuration.
async fn rig(tables: &str) -> Rig {
    let (backends, port) = backends(2).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), ANN).unwrap();
    let tables = tables.replace("$AUTH", &backends[1].address.to_string());
    let pool = format!(
        "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\n\
         rise = 1\ninterval = \"200ms\"\nfast_interval = \"10ms\"\n",
        backends[0].address
    );
    Rig::start(dir, "", &tables, &pool, backends).await
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

/// What a client is told to whom no backend answers.
async fn told(rig: &Rig, request: impl AsRef<[u8]>) -> Message {
    rig.ask(request).await.response().await
}

/// What the app has got, and its client.
async fn passes(rig: &Rig, request: impl AsRef<[u8]>) -> (Message, Message) {
    let mut client = rig.ask(request).await;
    let mut app = rig.backends[0].accept().await;
    let seen = app.request().await;
    app.answer_and_close("app").await;
    let response = client.response().await;
    assert_eq!(response.text(), "app", "{}", response.head);
    (seen, response)
}

async fn refusals(rig: &Rig, route: &str, reason: &str) -> u64 {
    let series = format!("lameduck_route_refused_total{{reason=\"{reason}\",route=\"{route}\"}}");
    let other = format!("lameduck_route_refused_total{{route=\"{route}\",reason=\"{reason}\"}}");
    let found = rig.metric(&series).await;
    found.or(rig.metric(&other).await).unwrap_or(0)
}

#[tokio::test]
async fn networks_are_those_of_the_client_behind_trusted_proxies() {
    let rig = rig("[headers]\ntrusted = [\"127.0.0.0/8\"]\n\
         [[route]]\nname = \"in\"\npath_prefix = \"/in\"\nallow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n\
         deny = [\"10.9.0.0/16\"]\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/out\"\ndeny = [\"10.9.0.0/16\"]\npool = \"app\"\n")
    .await;
    for (path, fields, may) in [
        ("/in", "", true),
        ("/in", "X-Forwarded-For: 10.1.0.1\r\n", true),
        ("/in", "X-Forwarded-For: 192.0.2.1, 10.1.0.1\r\n", true),
        ("/in", "X-Forwarded-For: 10.9.0.1\r\n", false),
        ("/in", "X-Forwarded-For: 10.1.0.1, 192.0.2.1\r\n", false),
        ("/in", "Forwarded: for=192.0.2.1\r\n", false),
        // A trusted proxy that doesn't know for whom it comes.
        ("/in", "X-Forwarded-For: unknown\r\n", false),
        ("/in", "Forwarded: for=_hidden\r\n", false),
        ("/out", "X-Forwarded-For: 10.9.0.1\r\n", false),
        ("/out", "X-Forwarded-For: 10.8.0.1\r\n", true),
        ("/out", "X-Forwarded-For: unknown\r\n", true),
    ] {
        let request = get(path, fields);
        if may {
            passes(&rig, request).await;
        } else {
            let answer = told(&rig, request).await;
            assert_eq!(answer.status(), 403, "{path} {fields}");
        }
    }
    assert_eq!(refusals(&rig, "in", "network").await, 5);
    assert_eq!(refusals(&rig, "", "network").await, 1);
    let log = rig.access_log(11).await;
    let refused: Vec<_> = log.iter().filter(|line| line["end"] == "network").collect();
    assert_eq!(refused.len(), 6);
}

#[tokio::test]
async fn requests_beyond_the_rate_get_429_until_the_rate_is_another() {
    let rig = rig(
        "[[route]]\nname = \"api\"\nmax_body = \"1KiB\"\npool = \"app\"\n\
         rate = { limit = \"2/h\", burst = 2 }\n",
    )
    .await;
    for _ in 0..2 {
        passes(&rig, get("/", "")).await;
    }
    let refused = |answer: Message| {
        assert_eq!(answer.status(), 429);
        let after: u32 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((1700..=1800).contains(&after), "{after}");
        assert!(
            answer.has("RateLimit-Policy: \"rate\";q=2;w=3600"),
            "{}",
            answer.head
        );
        assert!(
            answer.has(&format!("RateLimit: \"rate\";r=0;t={after}")),
            "{}",
            answer.head
        );
    };
    refused(told(&rig, get("/", "")).await);
    // What a client says of itself makes it nobody else.
    refused(
        told(
            &rig,
            get("/", "X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n"),
        )
        .await,
    );
    // A reload that changes something else.
    let (status, text) = rig.reload("1KiB", "2KiB").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("max_body"), "{text}");
    refused(told(&rig, get("/", "")).await);
    assert_eq!(refusals(&rig, "api", "rate").await, 3);
    let (status, text) = rig.reload("2/h", "3/h").await;
    assert_eq!(status, 200, "{text}");
    passes(&rig, get("/", "")).await;
}

#[tokio::test]
async fn each_key_has_its_rate_and_ambiguous_ones_are_their_clients() {
    let rig = rig("[[route]]\npath_prefix = \"/key\"\npool = \"app\"\n\
         rate = { limit = \"1/h\", key = \"header:X-Api-Key\" }\n\
         [[route]]\npath_prefix = \"/cookie\"\npool = \"app\"\n\
         rate = { limit = \"1/h\", key = \"cookie:sid\" }\n\
         [[route]]\npath_prefix = \"/all\"\npool = \"app\"\n\
         rate = { limit = \"1/h\", key = \"route\" }\n")
    .await;
    for (path, fields, may) in [
        ("/key", "X-Api-Key: one\r\n", true),
        ("/key", "X-Api-Key: two\r\n", true),
        ("/key", "X-Api-Key: one\r\n", false),
        ("/key", "x-api-key:   one  \r\n", false),
        ("/key", "X_Api_Key: two\r\n", false),
        // The client's own bucket, once for all of these.
        ("/key", "X-Api-Key: three\r\nX-Api-Key: one\r\n", true),
        ("/key", "X-Api-Key: four\r\nX_Api_Key: one\r\n", false),
        ("/key", "X-Api-Key:\r\n", false),
        ("/key", "", false),
        (
            "/key",
            "X-Api-Key: five\r\nConnection: X-Api-Key\r\n",
            false,
        ),
        ("/cookie", "Cookie: a=b; sid=1\r\n", true),
        ("/cookie", "Cookie: sid=1; a=c\r\n", false),
        ("/cookie", "Cookie: a=b\r\nCookie: sid=2\r\n", true),
        ("/cookie", "Cookie: sid=3; sid=1\r\n", true),
        ("/cookie", "Cookie: sid=4; sid=1\r\n", false),
        ("/all", "", true),
        ("/all", "X-Forwarded-For: 10.0.0.1\r\n", false),
    ] {
        let request = get(path, fields);
        if may {
            passes(&rig, request).await;
        } else {
            assert_eq!(told(&rig, request).await.status(), 429, "{path} {fields}");
        }
    }
    let long = format!("X-Api-Key: {}\r\n", "k".repeat(30_000));
    passes(&rig, get("/key", &long)).await;
    assert_eq!(told(&rig, get("/key", &long)).await.status(), 429);
}

#[tokio::test]
async fn place_among_requests_at_once_is_free_again_when_the_request_ends() {
    let rig = rig("[[route]]\nname = \"few\"\nconnections = 1\npool = \"app\"\n").await;
    let mut first = rig.ask(get("/", "")).await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    let answer = told(&rig, get("/", "")).await;
    assert_eq!(
        (answer.status(), answer.field("retry-after")),
        (429, Some("1"))
    );
    app.answer_and_close("app").await;
    assert_eq!(first.response().await.text(), "app");
    passes(&rig, get("/", "")).await;
    // One whose client has left, too.
    let gone = rig.ask(get("/", "")).await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    drop(gone);
    app.answer_and_close("app").await;
    let mut refused = 1;
    loop {
        let mut client = rig.ask(get("/", "")).await;
        tokio::select! {
            mut app = rig.backends[0].accept() => {
                app.request().await;
                app.answer_and_close("app").await;
                break;
            }
            answer = client.response() => assert_eq!(answer.status(), 429),
        }
        refused += 1;
        assert!(refused < 500, "the place is never free again");
    }
    assert_eq!(refusals(&rig, "few", "connections").await, refused);
}

#[tokio::test]
async fn passwords_are_checked_and_stay_with_the_proxy() {
    let rig = rig("[[route]]\nname = \"staff\"\npool = \"app\"\n\
         auth = { basic = \"users\", realm = \"the staff\", user_header = \"X-User\" }\n\
         [[route]]\npath_prefix = \"/kept\"\npool = \"app\"\n\
         auth = { basic = \"users\", keep_authorization = true }\n")
    .await;
    for fields in [
        "",
        "Authorization: Basic YW5uOmI=\r\n",
        "Authorization: Basic Ym9iOmE=\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Bearer YW5uOmE=\r\n",
        &format!("{ANNS}{ANNS}"),
    ] {
        let answer = told(&rig, get("/", fields)).await;
        assert_eq!(answer.status(), 401, "{fields}");
        let asked = answer.field("www-authenticate");
        assert_eq!(asked, Some("Basic realm=\"the staff\", charset=\"UTF-8\""));
    }
    let fields = format!("{ANNS}X-User: root\r\nx_user: root\r\n");
    for _ in 0..2 {
        let (seen, _) = passes(&rig, get("/", &fields)).await;
        assert!(
            !seen.head.to_lowercase().contains("authorization"),
            "{}",
            seen.head
        );
        assert!(!seen.head.contains("root"), "{}", seen.head);
        assert_eq!(seen.field("x-user"), Some("ann"));
    }
    let (seen, _) = passes(&rig, get("/kept", ANNS)).await;
    assert!(seen.head.contains("YW5uOmE="), "{}", seen.head);
    let log = rig.access_log(9).await;
    assert_eq!(log.iter().filter(|line| line["user"] == "ann").count(), 3);
    let refused = log.iter().filter(|line| line["end"] == "unauthorized");
    assert!(refused.clone().all(|line| line["user"].is_null()));
    assert_eq!(refused.count(), 6);
    assert!(
        !format!("{log:?}").contains("YW5uO"),
        "a password is in the log"
    );
    assert_eq!(refusals(&rig, "staff", "unauthorized").await, 6);
}

#[tokio::test]
async fn trailers_can_not_say_who_asks() {
    let rig = rig("[[route]]\npool = \"app\"\nrequest_buffering = false\n\
         auth = { basic = \"users\", user_header = \"X-User\" }\n")
    .await;
    for name in ["X-User", "x_user", "X-USER"] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{ANNS}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: root\r\n\r\n"
        );
        let answer = told(&rig, request).await;
        assert_eq!(answer.status(), 400, "{name}");
    }
}

#[tokio::test]
async fn reload_takes_another_file_of_users_and_refuses_a_bad_one() {
    let rig =
        rig("[[route]]\npool = \"app\"\nmax_body = \"1KiB\"\nauth = { basic = \"users\" }\n").await;
    passes(&rig, get("/", ANNS)).await;
    let users = rig.socket.with_file_name("users");
    std::fs::write(&users, "ann:hunter2secret\nbob:$apr1$abc$hunter2secret\n").unwrap();
    let (status, text) = rig.reload("1KiB", "2KiB").await;
    assert_eq!(status, 422, "{text}");
    assert!(
        text.contains("users:1: ") && text.contains("users:2: "),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!rig.log().contains("hunter2"));
    passes(&rig, get("/", ANNS)).await;
    // The password of ann is "b" from now on; nobody remembers the old one.
    std::fs::write(
        &users,
        ANN.replace(
            "hvfkN/qlp/zhXR3cuerq6jd2Z7g=",
            "6dcfXufJLW3J6S/9rRe4vUlBj5g=",
        ),
    )
    .unwrap();
    let (status, text) = rig.reload("2KiB", "3KiB").await;
    assert_eq!(status, 200, "{text}");
    let old = told(&rig, get("/", ANNS)).await;
    let new = "Authorization: Basic YW5uOmI=\r\n";
    match old.status() {
        401 => {
            passes(&rig, get("/", new)).await;
        }
        other => panic!("the old password is answered with {other}"),
    }
    let (_, config) = lameduck::tools::demo::admin::request(&rig.socket, "GET", "/v1/config", None)
        .await
        .unwrap();
    let config = String::from_utf8_lossy(&config).into_owned();
    assert!(
        !config.contains("{SHA}") && !config.contains("hvfkN"),
        "{config}"
    );
}

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

#[tokio::test]
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

#[tokio::test]
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
    assert_eq!(refusals(&rig, "apps", "unauthorized").await, 4);
    let two = told(&rig, get("/", &format!("{ANNS}{ANNS}"))).await;
    assert_eq!(two.status(), 400);
}

#[tokio::test]
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
    assert_eq!(refusals(&rig, "apps", "auth_down").await, 4);
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn route_has_sizes_and_times_of_its_own() {
    let rig = rig("[[route]]\npath_prefix = \"/small\"\nmax_body = \"10\"\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/fast\"\nread_timeout = \"100ms\"\nretry = { attempts = 1 }\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/soon\"\ntotal_timeout = \"100ms\"\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/now\"\nhold = { on_empty = \"fail\" }\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/wait\"\nhold = { timeout = \"100ms\" }\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/direct\"\nrequest_buffering = false\npool = \"app\"\n")
    .await;
    let post = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        )
    };
    passes(&rig, post("/small", 10)).await;
    assert_eq!(told(&rig, post("/small", 11)).await.status(), 413);
    passes(&rig, post("/direct", 11)).await;
    for path in ["/fast", "/soon"] {
        let mut client = rig.ask(get(path, "")).await;
        let mut app = rig.backends[0].accept().await;
        app.request().await;
        assert_eq!(client.response().await.status(), 504, "{path}");
    }
    // Not buffered: the app has the head before the body is whole.
    let mut client = rig
        .ask("POST /direct HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
        .await;
    let mut app = rig.backends[0].accept().await;
    app.head().await;
    client.send("x").await;
    app.expect("xx").await;
    app.answer_and_close("app").await;
    assert_eq!(client.response().await.text(), "app");
    rig.backends[0].set_health(503);
    rig.until("drained", |pool| pool.backends[0].state == "drained")
        .await;
    for path in ["/now", "/wait"] {
        let began = std::time::Instant::now();
        assert_eq!(told(&rig, get(path, "")).await.status(), 503, "{path}");
        assert!(began.elapsed() < Duration::from_secs(8), "{path}");
    }
}

/// A request that waits while a reload gives its route a guard has not seen that guard.
#[tokio::test]
async fn held_request_meets_the_guards_that_a_reload_brings() {
    let rig = rig("[[route]]\npool = \"app\"\nmax_body = \"1KiB\" # guard\n").await;
    rig.backends[0].set_health(503);
    rig.until("drained", |pool| pool.backends[0].state == "drained")
        .await;
    let mut client = rig.ask(get("/", "")).await;
    rig.until("held", |pool| pool.held == 1).await;
    let (status, text) = rig.reload("# guard", "\ndeny = [\"127.0.0.0/8\"]").await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(client.response().await.status(), 403);
}

/// A browser asks for the parts of a page at once, all with a password that was not checked yet.
#[tokio::test]
async fn requests_that_bring_one_password_at_once_share_its_check() {
    let (backends, port) = backends(1).await;
    let dir = tempfile::tempdir().unwrap();
    // Of "bench-password", with cost 10.
    let hash = "$2y$10$cD.ujOZpuOyU75xJpDZXiexL5WbrnsGWtox3nfCwK4RmDJeT7c8cy";
    std::fs::write(dir.path().join("users"), format!("ann:{hash}\n")).unwrap();
    let pool = format!(
        "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfast_interval = \"10ms\"\n",
        backends[0].address
    );
    let tables = "[[route]]\nname = \"page\"\npool = \"app\"\nauth = { basic = \"users\" }\n";
    let rig = Rig::start(dir, "", tables, &pool, backends).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(
            rig.ask(get(
                "/",
                "Authorization: Basic YW5uOmJlbmNoLXBhc3N3b3Jk\r\n",
            ))
            .await,
        );
    }
    for _ in 0..12 {
        let mut app = rig.backends[0].accept().await;
        app.request().await;
        app.answer_and_close("app").await;
    }
    for mut client in clients {
        assert_eq!(client.response().await.status(), 200);
    }
    assert_eq!(refusals(&rig, "page", "auth_busy").await, 0);
}

/// Somebody who tries passwords with a slow hash holds up neither traffic nor others.
#[tokio::test]
async fn flood_of_wrong_passwords_starves_nobody() {
    // Cost 14: about a second of a core.
    let hash = bcrypt_hash();
    let (backends, port) = backends(1).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("slow"), format!("ann:{hash}\n")).unwrap();
    let pool = format!(
        "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfast_interval = \"10ms\"\n",
        backends[0].address
    );
    let tables = "[[route]]\nname = \"slow\"\npath_prefix = \"/slow\"\npool = \"app\"\nauth = { basic = \"slow\" }\n\
         [[route]]\npool = \"app\"\n";
    let rig = Rig::start(dir, "", tables, &pool, backends).await;
    let mut clients = Vec::new();
    for n in 10..50 {
        // Another one each time, as who guesses has them: the same ones would share a check.
        let field = format!(
            "Authorization: Basic {}\r\n",
            BASE64.encode(format!("ann:{n}"))
        );
        clients.push(rig.ask(get("/slow", &field)).await);
    }
    let began = std::time::Instant::now();
    passes(&rig, get("/", "")).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let (mut wrong, mut busy) = (0, 0);
    for mut client in clients {
        match client.response().await.status() {
            401 => wrong += 1,
            429 | 503 => busy += 1,
            other => panic!("{other}"),
        }
    }
    assert!(busy >= 10 && wrong >= 1, "{busy} {wrong}");
    assert_eq!(refusals(&rig, "slow", "auth_busy").await, busy);
}

/// Of a password that nobody asks for, with cost 14.
fn bcrypt_hash() -> &'static str {
    "$2y$14$abcdefghijklmnopqrstuu5EHxj5fFSFXmgGnTx7SDuEKfk9uBpFy"
}

#[tokio::test]
async fn streams_of_one_connection_meet_the_guards_one_by_one() {
    let rig = rig(
        "http2 = true\n[[route]]\nhost = \"open.test\"\npool = \"app\"\n\
         [[route]]\nhost = \"staff.test\"\npool = \"app\"\nauth = { basic = \"users\" }\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    let ask = |host: &str, path: &str| {
        http::Request::builder()
            .uri(format!("http://{host}{path}"))
            .body(())
            .unwrap()
    };
    let (open, _) = client
        .send
        .send_request(ask("open.test", "/"), true)
        .unwrap();
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.answer("app").await;
    assert_eq!(h2_client::answer(open).await.text(), "app");
    // The same connection, coalesced: another host.
    let (staff, _) = client
        .send
        .send_request(ask("staff.test", "/"), true)
        .unwrap();
    let answer = h2_client::answer(staff).await;
    assert_eq!(answer.status(), 401);
    assert!(answer.field("www-authenticate").is_some());
    let mut request = ask("staff.test", "/");
    let value = http::HeaderValue::from_static("Basic YW5uOmE=");
    request.headers_mut().insert("authorization", value);
    let (staff, _) = client.send.send_request(request, true).unwrap();
    let seen = app.request().await;
    assert!(!seen.head.contains("YW5uOmE="), "{}", seen.head);
    app.answer("app").await;
    assert_eq!(h2_client::answer(staff).await.text(), "app");
}
