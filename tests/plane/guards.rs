//! What routes ask of their clients: networks, rates, passwords, another server's word; and settings of their own.

mod authentication_server;
mod passwords;

use std::time::Duration;

use lameduck_rig::backend::backends;
use lameduck_rig::h2_client::{self, Client};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Message;

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

/// So many were refused. They are counted when their answers are out: whoever has read one may be earlier.
async fn refused_so_many(rig: &Rig, route: &str, reason: &str, count: u64) {
    let mut last = 0;
    lameduck_rig::wait::until("all refusals to be counted", async || {
        last = refusals(rig, route, reason).await;
        last >= count
    })
    .await;
    assert_eq!(last, count, "{reason} of {route:?}");
}

async fn refusals(rig: &Rig, route: &str, reason: &str) -> u64 {
    let series = format!("lameduck_route_refused_total{{reason=\"{reason}\",route=\"{route}\"}}");
    let other = format!("lameduck_route_refused_total{{route=\"{route}\",reason=\"{reason}\"}}");
    let found = rig.metric(&series).await;
    found.or(rig.metric(&other).await).unwrap_or(0)
}

#[lameduck_rig::test]
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
    refused_so_many(&rig, "in", "network", 5).await;
    refused_so_many(&rig, "", "network", 1).await;
    let log = rig.access_log(11).await;
    let refused: Vec<_> = log.iter().filter(|line| line["end"] == "network").collect();
    assert_eq!(refused.len(), 6);
}

#[lameduck_rig::test]
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
    refused_so_many(&rig, "api", "rate", 3).await;
    let (status, text) = rig.reload("2/h", "3/h").await;
    assert_eq!(status, 200, "{text}");
    passes(&rig, get("/", "")).await;
}

#[lameduck_rig::test]
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
        ("/cookie", "Cookie: sid = 1\r\n", false),
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

#[lameduck_rig::test]
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
    refused_so_many(&rig, "few", "connections", refused).await;
}

#[lameduck_rig::test]
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
#[lameduck_rig::test]
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

#[lameduck_rig::test]
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
