//! What becomes of heads: pseudo-header fields, fields, and how the access log and the limits see them.

use http::{HeaderMap, Method, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use lameduck_rig::h2_client::{Client, answer, get, post, rig, try_answer};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{field, has};

#[lameduck_rig::test]
async fn a_request_and_its_response_go_through() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut request = get("/path?query=1");
    request
        .headers_mut()
        .insert("x-own", "value".parse().unwrap());
    let (response, _) = client.begin(request, true).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /path?query=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        has(&head, "host: a") && has(&head, "x-own: value"),
        "{head}"
    );
    assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("a"));
    let id = field(&head, "x-request-id").unwrap().to_owned();
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Theirs: yes\r\nKeep-Alive: timeout=9\r\n\r\nhello")
        .await;
    let answer = answer(response).await;
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    assert_eq!(answer.field("x-theirs"), Some("yes"));
    assert_eq!(answer.field("content-length"), Some("5"));
    assert_eq!(answer.field("keep-alive"), None);
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["request_id"], id, "{line}");
    assert_eq!(line["target"], "/path?query=1", "{line}");
    assert!(line.to_string().contains("HTTP/2.0"), "{line}");
}

/// Routes see a stream as they see a request of HTTP/1: `:authority` is the host, crumbs of cookies are cookies.
#[lameduck_rig::test]
async fn streams_are_routed_by_all_that_routes_look_at() {
    let rig = Rig::new(Setup {
        tables: "http2 = true\n[[route]]\nname = \"rest\"\npool = \"app\"\n\
                 [[route]]\nname = \"put\"\nmethods = [\"PUT\"]\npool = \"app\"\n\
                 [[route]]\nname = \"field\"\nheaders = { \"X-Own\" = { regex = \"^v\" } }\npool = \"app\"\n\
                 [[route]]\nname = \"query\"\nquery = { a = \"1\" }\npool = \"app\"\n\
                 [[route]]\nname = \"cookie\"\ncookies = { c = \"2\" }\npool = \"app\"\n\
                 [[route]]\nname = \"host\"\nhost = \"*.A.test\"\npath_regex = \"^/x+$\"\npool = \"app\"",
        ..Setup::default()
    })
    .await;
    let request = |method: &str, uri: &str, fields: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let crumbs = [("cookie", "b=1"), ("cookie", "c=2")];
    let cases = [
        ("rest", request("GET", "http://a/", &[])),
        ("put", request("PUT", "http://a/", &[])),
        ("field", request("GET", "http://a/", &[("x-own", "value")])),
        ("query", request("GET", "http://a/?b&a=%31", &[])),
        ("cookie", request("GET", "http://a/", &crumbs)),
        ("host", request("GET", "http://B.a.TEST:80/x%78", &[])),
    ];
    let mut client = Client::new(&rig).await;
    let mut backend = None;
    for (number, (name, request)) in cases.into_iter().enumerate() {
        let (response, _) = client.begin(request, true).await;
        let backend = match &mut backend {
            Some(backend) => backend,
            none => none.insert(rig.backends[0].accept().await),
        };
        backend.head().await;
        backend.answer("x").await;
        assert_eq!(answer(response).await.status(), 200, "{name}");
        let log = rig.access_log(number + 1).await;
        assert_eq!(log[number]["route"], name, "{}", log[number]);
    }
}

/// The connection to the backend is kept, and the client's carries many at a time.
#[lameduck_rig::test]
async fn streams_share_a_connection_and_not_their_fate() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let first = client.get("/slow").await;
    let mut slow = rig.backends[0].accept().await;
    slow.head().await;
    for n in 0..3 {
        let second = client.get("/quick").await;
        if n == 0 {
            let mut quick = rig.backends[0].accept().await;
            quick.head().await;
            quick.answer("quick").await;
            assert_eq!(answer(second).await.text(), "quick");
            drop(quick);
        } else {
            let mut quick = rig.backends[0].accept().await;
            quick.head().await;
            drop(quick);
            let mut again = rig.backends[0].accept().await;
            again.head().await;
            again.answer("again").await;
            assert_eq!(answer(second).await.text(), "again");
            drop(again);
        }
    }
    slow.answer("slow").await;
    assert_eq!(answer(first).await.text(), "slow");
    assert_eq!(
        rig.metric("lameduck_connections{side=\"client\"}").await,
        Some(1)
    );
}

#[lameduck_rig::test]
async fn responses_without_a_body_end_with_their_head() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut backend = None;
    for (method, head, status) in [
        (
            Method::HEAD,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            200,
        ),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", 204),
        (
            Method::GET,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
        ),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
        ),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri("http://a/")
            .body(())
            .unwrap();
        let (response, _) = client.begin(request, true).await;
        if backend.is_none() {
            backend = Some(rig.backends[0].accept().await);
        }
        let backend = backend.as_mut().unwrap();
        backend.head().await;
        backend.send(head).await;
        let response = lameduck_rig::h2_client::soon(response).await.unwrap();
        assert_eq!(response.status(), status, "{method}");
        assert!(response.body().is_end_stream(), "{method} {head}");
    }
}

/// RFC 9110 §15.2: interim responses arrive before the final one.
#[lameduck_rig::test]
async fn interim_responses_are_passed_on() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut request = post("/");
    request
        .headers_mut()
        .insert("expect", "100-continue".parse().unwrap());
    let (mut response, mut body) = client.begin(request, false).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(has(&backend.head().await, "expect: 100-continue"));
    backend
        .send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        .await;
    for (status, link) in [(103, true), (100, false)] {
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
        let interim = lameduck_rig::h2_client::soon(interim)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(interim.status(), status);
        assert_eq!(interim.headers().contains_key("link"), link);
    }
    body.send_data("body".into(), true).unwrap();
    assert_eq!(backend.chunks().await.0, b"body");
    backend.answer("done").await;
    assert_eq!(answer(response).await.text(), "done");
}

#[lameduck_rig::test]
async fn what_http1_has_two_readings_of_is_refused() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let field = |name: &'static str, value: &str| {
        let mut request = get("/");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let refused = [
        (field("host", "b"), 400),
        (field("content_length", "5"), 400),
        (field("x", " padded"), 400),
        (field("expect", "miracles"), 417),
        (Request::connect("a:443").body(()).unwrap(), 501),
        (Request::get("ftp://a/").body(()).unwrap(), 400),
        (get(&format!("/{}", "x".repeat(17 << 10))), 414),
        (field("x", &"y".repeat(70 << 10)), 431),
    ];
    let count = refused.len();
    for (request, status) in refused {
        let (response, _) = client.begin(request.clone(), true).await;
        assert_eq!(
            answer(response).await.status(),
            status,
            "{:?}",
            request.uri()
        );
    }
    assert!(
        !rig.backends[0]
            .is_called(lameduck_rig::h2_client::A_MOMENT)
            .await
    );
    rig.access_log(count).await;
    assert_eq!(rig.limited("max_uri").await, 1);
    assert_eq!(rig.limited("max_header").await, 1);
    assert_eq!(rig.refused("more than one Host").await, 1);
}

/// RFC 9113 §8.2.2: the connection's own fields make a request malformed; `TE: trailers` alone is passed on.
#[lameduck_rig::test]
async fn fields_of_the_connection_are_refused() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for (name, value) in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
    ] {
        let mut request = get("/");
        request.headers_mut().insert(name, value.parse().unwrap());
        let (response, _) = match client.try_begin(request, true).await {
            Ok(begun) => begun,
            // The client's own side refuses to send it: tests/conformance sends such frames itself.
            Err(_) => continue,
        };
        let error = try_answer(response).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{name}");
    }
    assert!(
        !rig.backends[0]
            .is_called(lameduck_rig::h2_client::A_MOMENT)
            .await
    );
    let mut request = get("/");
    request
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    let (response, _) = client.begin(request, true).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(
        has(&head, "TE: trailers") && has(&head, "Connection: te"),
        "{head}"
    );
    backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n4\r\nbody\r\n0\r\nX: y\r\n\r\n")
        .await;
    let answer = answer(response).await;
    assert_eq!(answer.text(), "body");
    let mut trailers = HeaderMap::new();
    trailers.insert("x", "y".parse().unwrap());
    assert_eq!(answer.trailers, Some(trailers));
}

/// A short HTTP/1 request on the same listener isn't kept waiting for 24 bytes.
#[lameduck_rig::test]
async fn http1_is_spoken_on_the_same_listener() {
    let rig = rig("").await;
    let mut client = rig.client().await;
    client.send("G").await;
    tokio::time::sleep(lameduck_rig::h2_client::A_MOMENT).await;
    client.send("ET / HTTP/1.0\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("short").await;
    assert_eq!(client.response().await.text(), "short");
    let mut bad = rig.ask("PRI * HTTP/2.0\r\n\r\nXX").await;
    assert_eq!(bad.response().await.status(), 505);
}

/// A PROXY protocol header comes before the preface, in the same segment even.
#[lameduck_rig::test]
async fn a_proxy_in_front_names_the_client() {
    let rig = Rig::new(Setup {
        tables: "http2 = true\nproxy_protocol = true\n[headers]\ntrusted = [\"127.0.0.1\"]",
        ..Setup::default()
    })
    .await;
    for header in [
        &b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 80\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\x12\x34\0\x50",
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        // Nagle's algorithm is on: the preface follows in as few segments as the kernel likes.
        stream.write_all(header).await.unwrap();
        let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..2 {
            let (response, _) = send.send_request(get("/"), true).unwrap();
            let mut backend = rig.backends[0].accept().await;
            let head = backend.head().await;
            assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.9"), "{head}");
            backend
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            assert_eq!(answer(response).await.status(), 200);
            send = send.ready().await.unwrap();
        }
    }
}
