//! Attempts to get past what a route asks of its clients. None gets through: no backend of a guarded route is asked.

use lameduck_rig::backend::backends;
use lameduck_rig::h2_client::{self, Client};
use lameduck_rig::proxy::Rig;

use super::guards::ANN;

/// `open` answers on the routes without guards, `inner` on those with one. A client of this test passes none of them.
const TABLES: &str = "http2 = true\n\
     [[route]]\npool = \"app\"\n\
     [[route]]\npath_prefix = \"/admin\"\nallow = [\"192.0.2.0/24\"]\npool = \"inner\"\n\
     [[route]]\npath = \"/exact\"\nallow = [\"192.0.2.0/24\"]\npool = \"inner\"\n\
     [[route]]\npath_regex = \"^/r[0-9]+$\"\nallow = [\"192.0.2.0/24\"]\npool = \"inner\"\n\
     [[route]]\nhost = \"staff.test\"\npool = \"inner\"\nauth = { basic = \"users\", user_header = \"X-User\" }\n\
     [[route]]\nhost = \"staff.test\"\npath_prefix = \"/public\"\npool = \"app\"\n\
     [[route]]\nhost = \"sso.test\"\npool = \"inner\"\nauth = { forward = \"http://$AUTH/\", copy = [\"X-User\"], timeout = \"200ms\" }\n\
     [[route]]\nhost = \"denied.test\"\npool = \"inner\"\ndeny = [\"127.0.0.0/8\"]\n\
     [[route]]\nhost = \"write.test\"\nmethods = [\"GET\", \"HEAD\"]\npool = \"app\"\n\
     [[route]]\nhost = \"write.test\"\nallow = [\"192.0.2.0/24\"]\npool = \"inner\"\n";

async fn rig() -> Rig {
    let (mut backends, port) = backends(3).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), ANN).unwrap();
    let tables = TABLES.replace("$AUTH", &backends[2].address.to_string());
    // Nobody is there to be asked.
    backends[2].refuse();
    let backend = |index: usize| {
        format!(
            "[[pool.backend]]\nname = \"b\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n\
             fast_interval = \"10ms\"\n",
            backends[index].address
        )
    };
    let pools = format!("{}[[pool]]\nname = \"inner\"\n{}", backend(0), backend(1));
    Rig::start(dir, "", &tables, &pools, backends).await
}

/// Heads that ask for what is guarded. `H` is the field with its host.
const HEADS: &[&str] = &[
    // Spellings of a path.
    "GET /admin HTTP/1.1\r\nHost: a",
    "GET /admin/ HTTP/1.1\r\nHost: a",
    "GET /admin/x?y HTTP/1.1\r\nHost: a",
    "GET /admin? HTTP/1.1\r\nHost: a",
    "GET //admin HTTP/1.1\r\nHost: a",
    "GET ///admin//x HTTP/1.1\r\nHost: a",
    "GET /%61dmin HTTP/1.1\r\nHost: a",
    "GET /%61%64%6d%69%6e HTTP/1.1\r\nHost: a",
    "GET /%61%64%6D%69%6E/x HTTP/1.1\r\nHost: a",
    "GET /./admin HTTP/1.1\r\nHost: a",
    "GET /x/../admin HTTP/1.1\r\nHost: a",
    "GET /x/%2e%2e/admin HTTP/1.1\r\nHost: a",
    "GET /x/.%2E/admin HTTP/1.1\r\nHost: a",
    "GET /x/..%2fadmin HTTP/1.1\r\nHost: a",
    "GET /x/..;/admin HTTP/1.1\r\nHost: a",
    "GET /x/..;a=b/admin HTTP/1.1\r\nHost: a",
    "GET /x/..%5cadmin HTTP/1.1\r\nHost: a",
    "GET /x/..\\admin HTTP/1.1\r\nHost: a",
    "GET /.//admin HTTP/1.1\r\nHost: a",
    "GET /admin/. HTTP/1.1\r\nHost: a",
    "GET /admin/../admin HTTP/1.1\r\nHost: a",
    "GET /exact HTTP/1.1\r\nHost: a",
    "GET //exact?x HTTP/1.1\r\nHost: a",
    "GET /%65xact HTTP/1.1\r\nHost: a",
    "GET /y/../exact HTTP/1.1\r\nHost: a",
    "GET /r1 HTTP/1.1\r\nHost: a",
    "GET /%721 HTTP/1.1\r\nHost: a",
    "GET //r%31 HTTP/1.1\r\nHost: a",
    "GET http://a/admin HTTP/1.1\r\nHost: a",
    "GET http://other:1/admin HTTP/1.1\r\nHost: a",
    "GET HTTP://A//%61dmin HTTP/1.1\r\nHost: b",
    "GET /admin HTTP/1.0",
    "GET /admin#x HTTP/1.1\r\nHost: a",
    "GET /admin\t HTTP/1.1\r\nHost: a",
    " GET /admin HTTP/1.1\r\nHost: a",
    "HEAD /admin HTTP/1.1\r\nHost: a",
    "OPTIONS /admin HTTP/1.1\r\nHost: a",
    "GETS /admin HTTP/1.1\r\nHost: a",
    "TRACE /admin HTTP/1.1\r\nHost: a",
    "CONNECT /admin HTTP/1.1\r\nHost: a",
    // Who somebody claims to be.
    "GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nX-Real-IP: 192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nForwarded: for=192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nClient-IP: 192.0.2.1\r\nTrue-Client-IP: 192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nCF-Connecting-IP: 192.0.2.1",
    "GET /admin HTTP/1.1\r\nHost: a\r\nVia: 1.1 192.0.2.1",
    // Hosts.
    "GET / HTTP/1.1\r\nHost: staff.test",
    "GET / HTTP/1.1\r\nHost: STAFF.test",
    "GET / HTTP/1.1\r\nHost: staff.test.",
    "GET / HTTP/1.1\r\nHost: staff.test:80",
    "GET / HTTP/1.1\r\nHost: Staff.Test.:443",
    "GET http://staff.test/ HTTP/1.1\r\nHost: a",
    "GET http://staff.test:81/ HTTP/1.1\r\nHost: denied.test",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nHost: a",
    "GET / HTTP/1.1\r\nHost: a, staff.test",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nX-Forwarded-Host: a",
    "GET / HTTP/1.1\r\nHost: denied.test\r\nX-Forwarded-For: 192.0.2.1",
    // Out of the open part.
    "GET /public/../x HTTP/1.1\r\nHost: staff.test",
    "GET /public/..%2fx HTTP/1.1\r\nHost: staff.test",
    "GET /public/%2e%2e/x HTTP/1.1\r\nHost: staff.test",
    "GET /public/..;/x HTTP/1.1\r\nHost: staff.test",
    "GET /publicx HTTP/1.1\r\nHost: staff.test",
    "GET /PUBLIC HTTP/1.1\r\nHost: staff.test",
    "GET /public%2f..%2fx HTTP/1.1\r\nHost: staff.test",
    "GET /public%5c..%5cx HTTP/1.1\r\nHost: staff.test",
    "GET /x?/public HTTP/1.1\r\nHost: staff.test",
    "GET /x;/public HTTP/1.1\r\nHost: staff.test",
    // Passwords.
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic YW5uOg==",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic OmE=",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic Og==",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic QU5OOmE=",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic YW5uOmEA",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic YW5uAG46YQ==",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Digest YW5uOmE=",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nAuthorization: Basic YW5uOmE=\r\nAuthorization: Basic eDp5",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nProxy-Authorization: Basic YW5uOmE=",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nX-User: ann",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nCookie: Authorization=Basic YW5uOmE=",
    "GET http://ann:a@staff.test/ HTTP/1.1\r\nHost: staff.test",
    "GET / HTTP/1.1\r\nHost: ann:a@staff.test",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "GET / HTTP/1.1\r\nHost: staff.test\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA",
    "OPTIONS * HTTP/1.1\r\nHost: staff.test",
    // The other server's word.
    "GET / HTTP/1.1\r\nHost: sso.test",
    "GET / HTTP/1.1\r\nHost: sso.test\r\nX-User: ann",
    "GET / HTTP/1.1\r\nHost: sso.test\r\nX-Forwarded-Uri: /public\r\nX-Original-URL: /public",
    "GET / HTTP/1.1\r\nHost: sso.test\r\nAuthorization: Basic YW5uOmE=",
    "GET / HTTP/1.1\r\nHost: sso.test\r\nExpect: 100-continue\r\nContent-Length: 5",
    // Methods.
    "POST / HTTP/1.1\r\nHost: write.test\r\nContent-Length: 0",
    "DELETE / HTTP/1.1\r\nHost: write.test",
    "post / HTTP/1.1\r\nHost: write.test\r\nContent-Length: 0\r\nX-HTTP-Method: GET",
];

/// Those that are no request for anything guarded by their words: they are for the open pool, and it must not take them for
/// another request by a field.
const HARMLESS: &[(&str, &str)] = &[
    (
        "GET /public HTTP/1.1\r\nHost: staff.test\r\nX-Original-URL: /x",
        "original",
    ),
    (
        "GET /public HTTP/1.1\r\nHost: staff.test\r\nX_Original_Url: /x",
        "original",
    ),
    (
        "GET /public HTTP/1.1\r\nHost: staff.test\r\nX-Rewrite-URL: /x",
        "rewrite",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX-Original-URI: /admin",
        "original",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /admin",
        "prefix",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX-Original-Host: staff.test",
        "original",
    ),
];

#[lameduck_rig::test]
async fn none_of_many_attempts_reaches_a_guarded_backend() {
    let rig = rig().await;
    assert!(HEADS.len() >= 70, "{}", HEADS.len());
    for head in HEADS {
        let mut client = rig.ask(format!("{head}\r\n\r\n")).await;
        // An open backend may get what its words don't guard: then the attempt was none.
        let answer = tokio::select! {
            answer = client.head() => answer,
            _ = rig.backends[0].accept() => panic!("{head}: the open backend"),
            _ = rig.backends[1].accept() => panic!("{head}: the guarded backend"),
        };
        let status: u16 = answer[9..12].parse().unwrap();
        assert!((400..=505).contains(&status), "{head}: {answer}");
    }
}

#[lameduck_rig::test]
async fn open_route_is_not_taken_for_a_guarded_one_by_a_field() {
    let rig = rig().await;
    for (head, absent) in HARMLESS {
        let mut client = rig.ask(format!("{head}\r\n\r\n")).await;
        let mut app = rig.backends[0].accept().await;
        let seen = app.request().await;
        assert!(
            !seen.head.to_lowercase().contains(absent),
            "{head}: {}",
            seen.head
        );
        app.answer_and_close("app").await;
        client.response().await;
    }
}

#[lameduck_rig::test]
async fn second_request_of_a_connection_is_asked_anew() {
    let rig = rig().await;
    let mut client = rig
        .ask("GET /public HTTP/1.1\r\nHost: staff.test\r\n\r\nGET /x HTTP/1.1\r\nHost: staff.test\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.answer("app").await;
    assert_eq!(client.response().await.text(), "app");
    assert_eq!(client.response().await.status(), 401);
    assert_eq!(client.response().await.status(), 403);
}

/// The same in HTTP/2, where other fields say what is asked for.
#[lameduck_rig::test]
async fn no_stream_reaches_a_guarded_backend() {
    let rig = rig().await;
    let mut client = Client::new(&rig).await;
    for (uri, fields) in [
        ("http://a/admin", &[][..]),
        ("http://a//admin", &[]),
        ("http://a/%61dmin", &[]),
        ("http://a/x/../admin", &[]),
        ("http://a/x/..%2fadmin", &[]),
        ("http://a/exact?x", &[]),
        ("http://a/r7", &[]),
        ("http://staff.test/", &[]),
        ("http://STAFF.test./", &[]),
        ("http://staff.test:8443/", &[]),
        ("http://staff.test/", &[("host", "staff.test")]),
        (
            "http://staff.test/",
            &[("x-user", "ann"), ("x_user", "ann")],
        ),
        ("http://staff.test/public/../x", &[]),
        (
            "http://sso.test/",
            &[
                ("x-original-url", "/public"),
                ("x-forwarded-uri", "/public"),
            ],
        ),
        (
            "http://denied.test/",
            &[("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1")],
        ),
        ("http://a/admin", &[("x-forwarded-for", "192.0.2.1")]),
        ("http://a/admin", &[("forwarded", "for=192.0.2.1")]),
    ] {
        let mut request = http::Request::builder().uri(uri).body(()).unwrap();
        for (name, value) in fields {
            let name = http::HeaderName::from_static(name);
            request
                .headers_mut()
                .append(name, http::HeaderValue::from_static(value));
        }
        let (response, _) = client.send.send_request(request, true).unwrap();
        let status = tokio::select! {
            answer = h2_client::try_answer(response) => answer.map_or(400, |answer| answer.status()),
            _ = rig.backends[0].accept() => panic!("{uri}: the open backend"),
            _ = rig.backends[1].accept() => panic!("{uri}: the guarded backend"),
        };
        assert!((400..=505).contains(&status), "{uri}: {status}");
    }
}
