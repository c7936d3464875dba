//! Copies of a route's requests for a pool of shadows, which change nothing for the requests themselves.

use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use serde_json::json;

use super::guards::ANN;
use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig};

/// The pool `app` and its `shadow`, each with one backend.
async fn rig(mirror: &str, shadow: &str) -> Rig {
    let (backends, port) = backends(2).await;
    let pool = |n: usize| {
        format!(
            "[[pool.backend]]\nname = \"b{}\"\naddress = \"{}\"\n[pool.health]\nport = {port}\n\
             rise = 1\nfast_interval = \"10ms\"\n",
            n + 1,
            backends[n].address
        )
    };
    let pools = format!(
        "{}[[pool]]\nname = \"shadow\"\n{}{shadow}",
        pool(0),
        pool(1)
    );
    let route = format!("[[route]]\nname = \"shop\"\npool = \"app\"\nmirror = {mirror}\n");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), ANN).unwrap();
    let rig = Rig::start(dir, "", &route, &pools, backends).await;
    for _ in 0..4000 {
        let shadow = admin::call(&rig.socket, "GET", "/v1/pools/shadow", None)
            .await
            .unwrap();
        if shadow["eligible"] == 1 {
            return rig;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the shadow is not ready");
}

/// What has become of copies, from the metrics, once there is as much as this.
async fn counted(rig: &Rig, series: &str, least: u64) {
    for _ in 0..4000 {
        if rig.metric(series).await.unwrap_or(0) >= least {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{series} is not {least}:\n{}", rig.metrics().await);
}

fn dropped(reason: &str) -> String {
    format!("lameduck_mirror_dropped_total{{pool=\"shadow\",reason=\"{reason}\"}}")
}

const MIRRORED: &str = "lameduck_mirrored_total{pool=\"shadow\"}";

/// The session's token is for the pool that answers: a shadow that logs what it gets must not learn it.
#[lameduck_rig::test]
async fn copy_has_no_token_of_the_session_and_keeps_other_cookies_and_the_body() {
    // The keys of `[pool.sticky]` belong to the pool that they follow, the first one.
    let rig = rig("{ pool = \"shadow\" }", "").await;
    let (status, why) = rig
        .reload(
            "[[pool]]\nname = \"shadow\"",
            "[pool.sticky]\n[[pool]]\nname = \"shadow\"",
        )
        .await;
    assert_eq!(status, 200, "{why}");
    let body = "Cookie: lameduck=body\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nCookie: a=1; lameduck=token; b=2\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = rig.ask(&request).await;
    let mut shadow = rig.backends[1].accept().await;
    let copy = shadow.request().await;
    let mut backend = rig.backends[0].accept().await;
    let original = backend.request().await;
    for got in [&copy, &original] {
        assert!(!got.head.contains("token"), "{}", got.head);
        assert_eq!(got.field("cookie"), Some("a=1; b=2"));
        assert_eq!(got.text(), body);
    }
    shadow.answer("shadow").await;
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
}

#[lameduck_rig::test]
async fn copy_is_sent_with_its_mark_and_the_same_id_and_its_answer_is_thrown_away() {
    let rig = rig("{ pool = \"shadow\" }", "").await;
    let request =
        "POST /x?y HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\nContent-Length: 4\r\n\r\nbody";
    let mut client = rig.ask(request).await;
    let mut shadow = rig.backends[1].accept().await;
    let copy = shadow.request().await;
    let mut backend = rig.backends[0].accept().await;
    let original = backend.request().await;
    assert_eq!((copy.text(), original.text()), ("body", "body"));
    assert_eq!(copy.field("x-lameduck-mirror"), Some("shop"));
    assert_eq!(original.field("x-lameduck-mirror"), None);
    assert_eq!(copy.field("x-request-id"), Some("abc"));
    // But for the mark, they are the same.
    let unmarked = copy.head.replace("X-Lameduck-Mirror: shop\r\n", "");
    assert_eq!(unmarked, original.head);
    shadow.answer("shadow").await;
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
    counted(&rig, MIRRORED, 1).await;
    // The next one finds the shadow's connection kept.
    client.send(GET).await;
    shadow.request().await;
    shadow.answer("again").await;
    backend.request().await;
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
    counted(&rig, MIRRORED, 2).await;
    let log = rig.access_log(2).await;
    assert!(log.iter().all(|line| line["pool"] == "app"), "{log:#?}");
}

/// What the route changes on the way, it changes of the copy, too.
#[lameduck_rig::test]
async fn copy_has_the_changes_that_the_route_makes() {
    let rig = rig(
        "{ pool = \"shadow\" }\npath_prefix = \"/api\"\nstrip_prefix = \"/api\"\n\
         request_headers = { set = { \"X-From\" = \"{path}\" }, remove = [\"X-Gone\"] }",
        "",
    )
    .await;
    let mut client = rig
        .ask("GET /api/x HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\n\r\n")
        .await;
    let mut shadow = rig.backends[1].accept().await;
    let copy = shadow.request().await;
    let mut backend = rig.backends[0].accept().await;
    let original = backend.request().await;
    assert!(
        copy.head.starts_with("GET /x HTTP/1.1\r\n"),
        "{}",
        copy.head
    );
    assert_eq!(copy.field("x-from"), Some("/api/x"));
    assert_eq!(copy.field("x-gone"), None);
    let unmarked = copy.head.replace("X-Lameduck-Mirror: shop\r\n", "");
    assert_eq!(unmarked, original.head);
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
}

/// The shadow learns who it is as the app does, and gets neither the password nor what a client claims to be.
#[lameduck_rig::test]
async fn copy_of_an_authenticated_request_says_what_the_guards_say() {
    let rig = rig(
        "{ pool = \"shadow\" }\nauth = { basic = \"users\", user_header = \"X-User\" }",
        "",
    )
    .await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YW5uOmE=\r\nX-User: root\r\n\r\n")
        .await;
    let mut shadow = rig.backends[1].accept().await;
    let copy = shadow.request().await;
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    assert_eq!(copy.field("x-user"), Some("ann"));
    assert!(!copy.head.contains("root"), "{}", copy.head);
    assert!(!copy.head.contains("YW5uOmE="), "{}", copy.head);
    backend.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
}

/// A shadow that answers nothing, breaks off, is gone or drained: the request hears nothing of it.
#[lameduck_rig::test]
async fn shadow_that_fails_in_any_way_changes_nothing_for_the_request() {
    let mut rig = rig(
        "{ pool = \"shadow\" }",
        "[pool.upstream]\nread_timeout = \"100ms\"\n",
    )
    .await;
    let served = async |rig: &Rig| {
        let began = Instant::now();
        let (mut client, mut backend) = rig.get().await;
        backend.answer_and_close("app").await;
        assert_eq!(client.response().await.text(), "app");
        assert!(began.elapsed() < Duration::from_secs(5));
    };
    // Silent, until the shadow's own read_timeout.
    served(&rig).await;
    let silent = rig.backends[1].accept().await;
    counted(&rig, &dropped("failed"), 1).await;
    drop(silent);
    // Broken off in the middle of its answer.
    served(&rig).await;
    let mut broken = rig.backends[1].accept().await;
    broken.request().await;
    broken
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
        .await;
    drop(broken);
    counted(&rig, &dropped("failed"), 2).await;
    // Not there, before anybody knows.
    rig.backends[1].refuse();
    served(&rig).await;
    counted(&rig, &dropped("connect"), 1).await;
    // Drained.
    let path = "/v1/pools/shadow/backends/b2/drain";
    admin::call(&rig.socket, "POST", path, Some(&json!({})))
        .await
        .unwrap();
    served(&rig).await;
    counted(&rig, &dropped("not_ready"), 1).await;
    assert_eq!(rig.metric(MIRRORED).await, Some(0));
}

/// A drain of the shadow waits for the copy that it has, as for any request.
#[lameduck_rig::test]
async fn drain_of_a_shadow_waits_for_its_copy() {
    let rig = rig("{ pool = \"shadow\" }", "").await;
    let (mut client, mut backend) = rig.get().await;
    let mut shadow = rig.backends[1].accept().await;
    shadow.request().await;
    backend.answer_and_close("app").await;
    assert_eq!(client.response().await.text(), "app");
    let path = "/v1/pools/shadow/backends/b2";
    let drain = json!({"wait": false});
    let drain = admin::call(&rig.socket, "POST", &format!("{path}/drain"), Some(&drain)).await;
    assert_eq!(drain.unwrap()["in_flight"], 1);
    shadow.answer_and_close("late").await;
    for _ in 0..4000 {
        let view = admin::call(&rig.socket, "GET", path, None).await.unwrap();
        if view["state"] == "drained" {
            counted(&rig, MIRRORED, 1).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the shadow is not drained");
}

/// What is not copied, and why.
#[lameduck_rig::test]
async fn large_and_open_bodies_upgrades_and_copies_are_not_copied() {
    let rig = rig("{ pool = \"shadow\" }", "").await;
    // Too large to be received whole; the head has to be enough to see it.
    let mut large = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    counted(&rig, &dropped("body"), 1).await;
    large.send(vec![b'x'; 100_000]).await;
    backend.exactly(100_000).await;
    backend.answer_and_close("x").await;
    assert_eq!(large.response().await.text(), "x");
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let _client = rig.ask(upgrade).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    counted(&rig, &dropped("upgrade"), 1).await;
    let copy = "GET / HTTP/1.1\r\nHost: a\r\nX-Lameduck-Mirror: other\r\n\r\n";
    let mut client = rig.ask(copy).await;
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
    assert!(!rig.backends[1].is_called(Duration::from_millis(100)).await);
}

/// So many at once, and no more; those that end make room.
#[lameduck_rig::test]
async fn copies_under_way_are_bounded() {
    let rig = rig(
        "{ pool = \"shadow\" }",
        "[pool.upstream]\nread_timeout = \"30s\"\n",
    )
    .await;
    let mut client = rig.client().await;
    let mut backend = None;
    let mut shadows = Vec::new();
    for _ in 0..256 {
        client.send(GET).await;
        shadows.push(rig.backends[1].accept().await);
        let backend = match &mut backend {
            Some(backend) => backend,
            None => backend.insert(rig.backends[0].accept().await),
        };
        backend.request().await;
        backend.answer("x").await;
        client.response().await;
    }
    client.send(GET).await;
    let backend = backend.as_mut().unwrap();
    backend.request().await;
    backend.answer("x").await;
    client.response().await;
    counted(&rig, &dropped("too_many"), 1).await;
    let mut first = shadows.remove(0);
    first.request().await;
    first.answer("x").await;
    counted(&rig, MIRRORED, 1).await;
    client.send(GET).await;
    first.request().await;
}

/// A percentage of them: 0 is none, and the rest by chance.
#[lameduck_rig::test]
async fn share_of_requests_is_copied() {
    let rig = rig("{ pool = \"shadow\", percent = 0 }", "").await;
    let answer_all = async |count: usize| {
        let mut client = rig.client().await;
        let mut backend = None;
        for _ in 0..count {
            client.send(GET).await;
            let backend = match &mut backend {
                Some(backend) => backend,
                None => backend.insert(rig.backends[0].accept().await),
            };
            backend.request().await;
            backend.answer("x").await;
            client.response().await;
        }
    };
    answer_all(50).await;
    assert!(!rig.backends[1].is_called(Duration::from_millis(50)).await);
    let (status, changes) = rig.reload("percent = 0", "percent = 25").await;
    assert_eq!(status, 200, "{changes}");
    assert!(changes.contains("mirror"), "{changes}");
    let shadow = async {
        loop {
            let mut shadow = rig.backends[1].accept().await;
            while shadow.head_or_end().await.is_some() {
                shadow.answer("x").await;
            }
        }
    };
    tokio::select! {
        () = async { answer_all(400).await; counted(&rig, MIRRORED, 56).await } => {}
        () = shadow => unreachable!(),
    }
    assert!(rig.metric(MIRRORED).await.unwrap() <= 144);
}
