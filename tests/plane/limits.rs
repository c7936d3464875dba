//! Bounds, and requests that are refused.

use lameduck_rig::proxy::{GET, Rig, Setup};

/// `max_connections`: one more is told so at once, and there is room again when one leaves.
#[lameduck_rig::test]
async fn too_many_connections_are_a_503() {
    let rig = Rig::new(Setup {
        server: "max_connections = 2",
        ..Setup::default()
    })
    .await;
    let (mut first, mut backend) = rig.get().await;
    let (second, mut other) = rig.get().await;
    backend.answer("x").await;
    first.response().await;
    let mut third = rig.client().await;
    let response = third.response().await;
    assert_eq!(response.status(), 503);
    assert!(response.has("Connection: close"));
    third.closed().await;
    drop(third);
    second.reset();
    other.gone().await;
    // The proxy lets go of the backend first, and counts the client out a moment later.
    for _ in 0..2000 {
        let mut fourth = rig.ask(GET).await;
        tokio::select! {
            _ = backend.head() => {
                backend.answer("room").await;
                assert_eq!(fourth.response().await.text(), "room");
                return;
            }
            refused = fourth.response() => assert_eq!(refused.status(), 503),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("there is never room again");
}

/// `max_header`: a head that outgrows it is a 431 (RFC 6585 §5).
#[lameduck_rig::test]
async fn a_head_that_is_too_large_is_a_431() {
    let rig = Rig::new(Setup {
        server: "max_header = \"4KiB\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig
        .ask(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(5000)
        ))
        .await;
    assert_eq!(client.response().await.status(), 431);
    client.closed().await;
    let mut unfinished = rig
        .ask(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}",
            "x".repeat(5000)
        ))
        .await;
    assert_eq!(unfinished.response().await.status(), 431);
    let mut fits = rig
        .ask(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(3900)
        ))
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(fits.response().await.text(), "x");
}

/// The largest head that is allowed, by default, with a body behind it.
#[lameduck_rig::test]
async fn the_largest_head_goes_through_with_its_body() {
    let rig = Rig::one().await;
    let mut head = String::from("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n");
    while head.len() < 64 * 1024 - 1100 {
        head += &format!("X-{}: {}\r\n", head.len(), "x".repeat(1000));
    }
    let pad = 64 * 1024 - head.len() - "P: \r\n\r\n".len();
    head += &format!("P: {}\r\n\r\n", "x".repeat(pad));
    assert_eq!(head.len(), 64 * 1024);
    let mut client = rig.ask(&head).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let ((), body) = tokio::join!(client.send(vec![b'y'; 200_000]), backend.exactly(200_000));
    assert!(body.iter().all(|byte| *byte == b'y'));
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A response head has the same bound.
#[lameduck_rig::test]
async fn a_response_head_that_is_too_large_is_a_502() {
    let rig = Rig::new(Setup {
        server: "max_header = \"4KiB\"",
        ..Setup::default()
    })
    .await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: {}\r\n\r\n",
            "x".repeat(5000)
        ))
        .await;
    assert_eq!(client.response().await.status(), 502);
    backend.gone().await;
}

/// RFC 9112 §2.2, §3, §5, §6: what two readers could read differently is refused, and nobody after it suffers.
#[lameduck_rig::test]
async fn bad_requests_are_refused() {
    let rig = Rig::one().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 505),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n",
            400,
        ),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
        ("\x16\x03\x01\x02\x00\x01\x00", 400),
    ] {
        let mut client = rig.ask(request).await;
        let response = client.response().await;
        assert_eq!(response.status(), status, "{request:?}");
        assert!(response.has("Connection: close"), "{request:?}");
        client.closed().await;
        rig.canary().await;
    }
}

/// No route: a 404 of our own. The client did nothing wrong, so its connection is kept.
#[lameduck_rig::test]
async fn no_route_is_a_404() {
    let rig = Rig::new(Setup {
        tables: "[[route]]\nhost = \"known\"\npool = \"app\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: unknown\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.field("connection"), None);
    client.send("GET / HTTP/1.1\r\nHost: known\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    client
        .send("POST / HTTP/1.1\r\nHost: unknown\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    let response = client.response().await;
    assert_eq!(response.status(), 404);
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// A large body doesn't leave a large buffer with an idle connection.
#[lameduck_rig::test]
async fn idle_connections_cost_little_memory() {
    let rig = Rig::one().await;
    let mut idle = Vec::new();
    let mut cost = [0; 2];
    for (cost, size) in cost.iter_mut().zip([1, 65_000]) {
        let before = rig.memory();
        for _ in 0..200 {
            let mut client = rig
                .ask(format!(
                    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
                ))
                .await;
            client.send(vec![b'x'; size]).await;
            let mut backend = rig.backends[0].accept().await;
            backend.request().await;
            backend
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            client.response().await;
            idle.push(client);
        }
        *cost = rig.memory().saturating_sub(before);
    }
    assert!(
        cost[1] < cost[0] + (4 << 20),
        "200 idle connections cost {} bytes, and {} after large bodies",
        cost[0],
        cost[1]
    );
}

/// Each bound on a size has its status, its count, and a line in the log with the request as far as it was there.
#[lameduck_rig::test]
async fn sizes_are_counted_and_logged() {
    let rig = Rig::new(Setup {
        server: "max_header = \"4KiB\"\nmax_uri = \"1KiB\"\nmax_body = \"10B\"",
        ..Setup::default()
    })
    .await;
    let (long, longer) = ("u".repeat(2000), "x".repeat(5000));
    let many = "a: b\r\n".repeat(101);
    for (request, status, limit, count) in [
        (format!("GET /{long} HTTP/1.1\r\n"), 414, "max_uri", 1),
        (format!("GET /{long}"), 414, "max_uri", 2),
        (
            format!("GET /big HTTP/1.1\r\nX: {longer}"),
            431,
            "max_header",
            1,
        ),
        (
            format!("GET /many HTTP/1.1\r\n{many}\r\n"),
            431,
            "max_header",
            2,
        ),
        (
            "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".into(),
            413,
            "max_body",
            1,
        ),
    ] {
        let mut client = rig.ask(&request).await;
        assert_eq!(client.response().await.status(), status, "{request:.60}");
        client.closed().await;
        assert_eq!(rig.limited(limit).await, count, "{request:.60}");
    }
    let log = rig.access_log(5).await;
    for (limit, target) in [
        ("max_header", "/big"),
        ("max_header", "/many"),
        ("max_body", "/body"),
    ] {
        let line = log.iter().find(|line| line["target"] == target);
        assert_eq!(line.unwrap_or_else(|| panic!("{log:#?}"))["end"], limit);
    }
    rig.canary().await;
}

/// What is no request at all is in the log, too.
#[lameduck_rig::test]
async fn what_is_refused_is_logged() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET /x HTTP/1.1\r\nHost : a\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["end"], "refused");
    assert_eq!(
        (&line["method"], &line["target"]),
        (&"GET".into(), &"/x".into())
    );
    assert_eq!(line["cause"], "malformed header field name");
}

/// A long head that comes in small pieces is read like any other.
#[lameduck_rig::test]
async fn a_long_head_in_small_pieces_goes_through() {
    let rig = Rig::one().await;
    let mut head = format!("GET /{} HTTP/1.1\r\nHost: a\r\n", "u".repeat(900));
    for n in 0..20 {
        head += &format!("X-{n}: {}\r\n", "x".repeat(50));
    }
    head += "\r\n";
    let mut client = rig.client().await;
    client.send_in_pieces(&head, 7).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(backend.head().await.contains("X-19: xxx"));
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}
