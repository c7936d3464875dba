//! Redirects, fixed answers, paths and header rules where client or backend speak HTTP/2.

use http::{HeaderMap, HeaderValue, Request};
use lameduck_rig::h2_client::{Client, answer, try_answer};
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{field, has};

const ROUTES: &str = "http2 = true\n\
     [[route]]\nhost = \"go.test\"\nredirect = { scheme = \"https\", path = \"/new{rest}\" }\n\
     [[route]]\nhost = \"own.test\"\nrespond = { status = 200, body = \"own\" }\nresponse_headers = { set = { X-Mark = \"{method}\" } }\n\
     [[route]]\npath_prefix = \"/api\"\nstrip_prefix = \"/api\"\npool = \"app\"\n\
     [route.request_headers]\nset = { X-User = \"{header.X-Name}\", X-Real-IP = \"{client}\", X-Where = \"{host} {port}\", Host = \"app.internal\" }\nremove = [\"Cookie\"]\n\
     [route.response_headers]\nset = { X-Frame-Options = \"DENY\" }\nadd = { Set-Cookie = [\"b=2\", \"c=3\"] }\nremove = [\"Server\"]\n";

async fn rig() -> Rig {
    Rig::new(Setup {
        tables: ROUTES,
        ..Setup::default()
    })
    .await
}

fn request(method: &str, uri: &str, fields: &[(&str, &[u8])]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap()
}

#[lameduck_rig::test]
async fn streams_are_answered_and_changed_as_requests_of_http1_are() {
    let rig = rig().await;
    let mut client = Client::new(&rig).await;
    let (gone, _) = client
        .begin(request("GET", "http://go.test:81/x?y", &[]), true)
        .await;
    let gone = answer(gone).await;
    assert_eq!(
        (gone.status(), gone.field("location")),
        (308, Some("https://go.test/new/x?y"))
    );
    let (own, _) = client
        .begin(request("HEAD", "http://own.test/", &[]), true)
        .await;
    let own = answer(own).await;
    assert_eq!(
        (own.status(), own.text(), own.field("x-mark")),
        (200, "", Some("HEAD"))
    );
    assert_eq!(own.field("content-length"), Some("3"));
    // A body that nobody wants is no reason to end the connection.
    let (own, mut body) = client
        .begin(request("POST", "http://own.test/", &[]), false)
        .await;
    body.send_data("hello".into(), true).unwrap();
    assert_eq!(answer(own).await.text(), "own");
    let fields: [(&str, &[u8]); 4] = [
        ("x-name", b"me"),
        ("x-user", b"evil"),
        ("x_user", b"evil"),
        ("cookie", b"a=1"),
    ];
    let (changed, _) = client
        .begin(request("GET", "http://a.test:8080/api/x?y", &fields), true)
        .await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    for line in [
        "Host: app.internal",
        "X-User: me",
        "X-Real-IP: 127.0.0.1",
        "X-Where: a.test 8080",
    ] {
        assert!(has(&head, line), "{line}: {head}");
    }
    assert!(
        !head.contains("evil") && !head.to_ascii_lowercase().contains("cookie"),
        "{head}"
    );
    backend
        .send("HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a=1\r\nX-Frame-Options: ALLOW\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
        .await;
    let changed = answer(changed).await;
    assert_eq!((changed.status(), changed.text()), (200, "ok"));
    let headers = changed.head.headers();
    assert_eq!(
        headers
            .get_all("x-frame-options")
            .iter()
            .collect::<Vec<_>>(),
        ["DENY"]
    );
    assert_eq!(
        headers.get_all("set-cookie").iter().collect::<Vec<_>>(),
        ["a=1", "b=2", "c=3"]
    );
    assert_eq!(changed.field("server"), None);
    assert_eq!(changed.trailers.unwrap().get("x-sum").unwrap(), "1");
    let log = rig.access_log(4).await;
    assert_eq!(log[3]["target"], "/api/x?y");
}

/// What HTTP/2 can carry and HTTP/1 can't gets no further than a request of HTTP/1 would.
#[lameduck_rig::test]
async fn no_stream_poisons_a_field_a_path_or_a_redirect() {
    let rig = rig().await;
    let mut client = Client::new(&rig).await;
    for (uri, fields) in [
        ("http://go.test//evil.test", &[][..]),
        ("http://go.test/\\evil.test", &[]),
        ("http://go.test/%0d%0aset-cookie:x", &[]),
        ("http://go.test/..//evil.test/", &[]),
        (
            "http://go.test/x",
            &[
                ("x-forwarded-host", &b"evil.test"[..]),
                ("x-original-url", b"//evil.test"),
            ],
        ),
        ("http://go.test/x", &[("host", b"evil.test")]),
        (
            "http://go.test/x",
            &[
                ("x-http-method-override", b"PUT"),
                ("forwarded", b"host=evil.test"),
            ],
        ),
    ] {
        let Ok(sent) = client.try_begin(request("GET", uri, fields), true).await else {
            continue;
        };
        let Ok(answer) = try_answer(sent.0).await else {
            client = Client::new(&rig).await;
            continue;
        };
        if let Some(location) = answer.field("location") {
            assert!(
                location.starts_with("https://go.test/new"),
                "{uri}: {location}"
            );
            assert!(!location.contains('\\'), "{location}");
        } else {
            assert_eq!(answer.status(), 400, "{uri}");
        }
    }
    for target in [
        "/api/..",
        "/api/../admin",
        "/api/%2e%2e/admin",
        "/api/..%2fadmin",
        "/api/..;/admin",
    ] {
        let uri = format!("http://a.test{target}");
        let (sent, _) = client.begin(request("GET", &uri, &[]), true).await;
        let status = answer(sent).await.status();
        assert!([400, 404].contains(&status), "{target}: {status}");
    }
    // Trailers are no way around a rule.
    for name in ["x-user", "x_user", "cookie"] {
        let (sent, mut body) = client
            .begin(request("POST", "http://a.test/api/x", &[]), false)
            .await;
        body.send_data("hello".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert(name, HeaderValue::from_static("evil"));
        body.send_trailers(trailers).unwrap();
        assert_eq!(answer(sent).await.status(), 400, "{name}");
    }
    // Bytes beyond ASCII stay in their value.
    let rig = self::rig().await;
    let mut client = Client::new(&rig).await;
    let fields: [(&str, &[u8]); 1] = [("x-name", b"a\xff\tX-User: evil")];
    let (sent, _) = client
        .begin(request("GET", "http://a.test/api/x", &fields), true)
        .await;
    let mut backend = rig.backends[0].accept_bare().await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        tokio::io::AsyncReadExt::read_buf(&mut backend, &mut head)
            .await
            .unwrap();
    }
    let lines: Vec<_> = head.split(|byte| *byte == b'\n').collect();
    assert!(
        lines.contains(&&b"X-User: a\xff X-User: evil\r"[..]),
        "{}",
        head.escape_ascii()
    );
    drop((sent, backend));
}

/// A handshake of RFC 8441 is changed as one of RFC 6455 is.
#[lameduck_rig::test]
async fn websocket_over_http2_is_changed_too() {
    let rig = rig().await;
    let mut client = Client::new(&rig).await;
    let mut open = request(
        "CONNECT",
        "http://a.test/api/chat",
        &[("x-name", b"me"), ("sec-websocket-version", b"13")],
    );
    open.extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let (_response, _body) = client.begin(open, false).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    assert!(
        has(&head, "X-User: me") && has(&head, "Host: app.internal"),
        "{head}"
    );
    assert!(
        field(&head, "sec-websocket-key").is_some() && has(&head, "Upgrade: websocket"),
        "{head}"
    );
}
