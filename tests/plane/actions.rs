//! Routes that answer by themselves: redirects and fixed answers.

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Ended, Message, Wire};

async fn rig(tables: &'static str) -> Rig {
    Rig::new(Setup {
        tables,
        ..Setup::default()
    })
    .await
}

/// The answer to this head, on a connection of its own.
async fn answer(rig: &Rig, head: impl AsRef<str>) -> Message {
    let mut client = rig.ask(format!("{}\r\n\r\n", head.as_ref())).await;
    client.response().await
}

const REDIRECTS: &str = "[[route]]\nhost = \"app.test\"\npool = \"app\"\n\
     [[route]]\nhost = \"tls.test\"\nredirect = { scheme = \"https\" }\n\
     [[route]]\nhost = \"here.test\"\nredirect = { status = 302, host = \"www.here.test\" }\n\
     [[route]]\nhost = \"*.old.test\"\nredirect = { status = 301, host = \"{host}.new.test\", port = 8443, scheme = \"https\" }\n\
     [[route]]\nhost = \"port.test\"\nredirect = { status = 307, port = 80 }\n\
     [[route]]\nhost = \"move.test\"\npath_prefix = \"/old\"\nredirect = { status = 303, path = \"/new{rest}\" }\n\
     [[route]]\nhost = \"move.test\"\npath = \"/one\"\nredirect = { path = \"/two{rest}?was={path}&{query}\" }\n\
     [[route]]\nhost = \"re.test\"\npath_regex = \"^/u/([0-9]+)(/.*)?$\"\nredirect = { path = \"/users/$1$2\", host = \"re.test\" }\n\
     [[route]]\nhost = \"rest.test\"\nredirect = { path = \"{rest}\", host = \"good.test\" }\n\
     [[route]]\nhost = \"field.test\"\nredirect = { path = \"/to/{header.X-To}/{cookie.to}\" }\n\
     [[route]]\nhost = \"same.test\"\nredirect = { scheme = \"http\" }\n";

#[lameduck_rig::test]
async fn redirect_leads_where_it_says_and_keeps_the_rest() {
    let rig = rig(REDIRECTS).await;
    for (head, status, location) in [
        (
            "GET /a?b=c HTTP/1.1\r\nHost: tls.test",
            308,
            "https://tls.test/a?b=c",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: TLS.test:8080",
            308,
            "https://TLS.test/a",
        ),
        (
            "GET http://tls.test:81?q HTTP/1.1\r\nHost: other.test",
            308,
            "https://tls.test/?q",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: tls.test",
            308,
            "https://tls.test/",
        ),
        (
            "GET / HTTP/1.1\r\nHost: here.test:8080",
            302,
            "http://www.here.test:8080/",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a.old.test",
            301,
            "https://a.old.test.new.test:8443/x",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: port.test:99\r\nContent-Length: 0",
            307,
            "http://port.test/x",
        ),
        (
            "GET /old/x/y?q=1 HTTP/1.1\r\nHost: move.test",
            303,
            "http://move.test/new/x/y?q=1",
        ),
        (
            "GET /old HTTP/1.1\r\nHost: move.test",
            303,
            "http://move.test/new",
        ),
        (
            "GET //%6Fld//x HTTP/1.1\r\nHost: move.test",
            303,
            "http://move.test/new//x",
        ),
        (
            "GET /one?a=b HTTP/1.1\r\nHost: move.test",
            308,
            "http://move.test/two?was=/one&a=b",
        ),
        (
            "GET /u/12/photo HTTP/1.1\r\nHost: re.test",
            308,
            "http://re.test/users/12/photo",
        ),
        (
            "GET /u/12?x HTTP/1.1\r\nHost: re.test",
            308,
            "http://re.test/users/12?x",
        ),
    ] {
        let answer = answer(&rig, head).await;
        let got = (answer.status(), answer.field("location").unwrap_or("none"));
        assert_eq!(got, (status, location), "{head}");
        assert!(answer.has("Content-Length: 0"), "{}", answer.head);
    }
    let line = rig.access_log(1).await[0].to_string();
    assert!(line.contains("\"target\":\"/a?b=c\""), "{line}");
    assert_eq!(
        rig.metric("lameduck_local_responses_total{pool=\"\",code=\"303\"}")
            .await,
        Some(3)
    );
}

/// Whatever a client writes, `Location` names the host that the configuration means, and has nothing in it that a browser
/// reads as another.
#[lameduck_rig::test]
async fn no_request_makes_a_redirect_lead_elsewhere() {
    let rig = rig(REDIRECTS).await;
    let mut tried = 0;
    for target in [
        "//evil.test",
        "//evil.test/%2e%2e",
        "///evil.test",
        "/\\evil.test",
        "/\\/evil.test",
        "//\\evil.test",
        "/%5Cevil.test",
        "/%2F%2Fevil.test",
        "/.evil.test",
        "/@evil.test",
        "/:80@evil.test",
        "/http://evil.test",
        "/https:evil.test",
        "/%0d%0aLocation:%20http://evil.test",
        "/%0d%0a%0d%0aevil",
        "/?next=//evil.test",
        "/;//evil.test",
        "/|evil.test",
        "/\u{ff0f}evil.test",
        "/a//evil.test",
    ] {
        for (host, wanted) in [
            ("tls.test", "https://tls.test/"),
            ("here.test", "http://www.here.test/"),
            ("rest.test", "http://good.test/"),
            ("x.old.test", "https://x.old.test.new.test:8443/"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}");
            let answer = answer(&rig, &head).await;
            if let Some(location) = answer.field("location") {
                assert!(location.starts_with(wanted), "{head}: {location}");
                assert!(
                    location.is_ascii() && !location.contains(['\\', ' ', '"', '<']),
                    "{location}"
                );
                assert_eq!(
                    answer.head.matches("\r\n").count(),
                    answer.head.lines().count()
                );
                assert!(!answer.head.contains("\r\nevil"), "{}", answer.head);
            } else {
                assert_eq!(answer.status(), 400, "{head}: {}", answer.head);
            }
            tried += 1;
        }
    }
    // What is written into a path stays one segment of it.
    for value in [
        "//evil.test",
        "../..",
        "a\tb",
        "?x#y",
        "%2e%2e",
        "\u{fc}",
        "\\\\evil.test",
    ] {
        let head =
            format!("GET / HTTP/1.1\r\nHost: field.test\r\nX-To: {value}\r\nCookie: to={value}");
        let answer = answer(&rig, &head).await;
        let location = answer.field("location").unwrap();
        let path = location.strip_prefix("http://field.test/to/").unwrap();
        assert_eq!(path.split('/').count(), 2, "{location}");
        assert!(
            !path.contains(['?', '#', '\\', ' ']) && path.is_ascii(),
            "{location}"
        );
        tried += 1;
    }
    // Whose host it is not can't be said in another way either.
    for head in [
        "GET / HTTP/1.1\r\nHost: here.test\r\nX-Forwarded-Host: evil.test",
        "GET / HTTP/1.1\r\nHost: here.test\r\nForwarded: host=evil.test;proto=https",
        "GET / HTTP/1.1\r\nHost: here.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 99",
        "GET / HTTP/1.1\r\nHost: here.test\r\nX-Original-URL: //evil.test\r\nX-Rewrite-URL: //evil.test",
        "GET http://here.test/ HTTP/1.1\r\nHost: evil.test",
    ] {
        let answer = answer(&rig, head).await;
        assert_eq!(
            answer.field("location"),
            Some("http://www.here.test/"),
            "{head}"
        );
        tried += 1;
    }
    for head in [
        "GET / HTTP/1.1\r\nHost: here.test@evil.test",
        "GET / HTTP/1.1\r\nHost: here.test/evil.test",
        "GET / HTTP/1.1\r\nHost: here.test\\evil.test",
        "GET / HTTP/1.1\r\nHost: here.test\r\nHost: evil.test",
        "GET http://here.test@evil.test/ HTTP/1.1\r\nHost: here.test",
    ] {
        assert_eq!(answer(&rig, head).await.status(), 400, "{head}");
        tried += 1;
    }
    assert!(tried > 90, "{tried}");
}

#[lameduck_rig::test]
async fn redirect_to_itself_is_told_instead_of_followed() {
    let rig = rig(REDIRECTS).await;
    let answer = answer(&rig, "GET /x HTTP/1.1\r\nHost: same.test").await;
    assert_eq!(answer.status(), 508);
    assert!(
        answer.text().contains("was sent already"),
        "{}",
        answer.text()
    );
}

#[lameduck_rig::test]
async fn redirect_needs_a_host_and_believes_trusted_proxies_about_the_scheme() {
    let rig = rig(
        "[[route]]\nredirect = { scheme = \"https\" }\n[headers]\ntrusted = [\"127.0.0.0/8\"]\n",
    )
    .await;
    assert_eq!(answer(&rig, "GET / HTTP/1.0").await.status(), 400);
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto:";
    let over = |scheme: &str| format!("{head} {scheme}");
    let insecure = answer(&rig, over("http")).await;
    assert_eq!(insecure.field("location"), Some("https://a/"));
    // It came over TLS already: a redirect would go round and round.
    assert_eq!(answer(&rig, over("https")).await.status(), 508);
}

const ANSWERS: &str = "[[route]]\nname = \"ok\"\npath = \"/ok\"\nrespond = { body = \"fine\" }\n\
     [[route]]\npath = \"/empty\"\nrespond = { status = 204 }\n\
     [[route]]\npath = \"/same\"\nrespond = { status = 304 }\n\
     [[route]]\npath = \"/odd\"\nrespond = { status = 599, type = \"application/json\", body = '{{\"path\": \"{header.X}\"}}' }\n\
     [[route]]\npath_prefix = \"/page\"\nrespond = { status = 404, type = \"text/html\", body = '<p title=\"{rest}\">{header.X}</p>' }\n\
     [[route]]\npool = \"app\"\n";

#[lameduck_rig::test]
async fn fixed_answer_is_framed_by_its_status_and_method() {
    let rig = rig(ANSWERS).await;
    let mut client: Wire = rig.client().await;
    client
        .send(
            "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n\
             HEAD /ok HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /empty HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
             GET /same HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
             GET /odd HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let fine =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n\r\n";
    client.expect(format!("{fine}fine")).await;
    client.expect(fine).await;
    client.expect("HTTP/1.1 204 No Content\r\n\r\n").await;
    client.expect("HTTP/1.1 304 Not Modified\r\n\r\n").await;
    client.expect(format!("{fine}fine")).await;
    let odd = "HTTP/1.1 599 Server Error\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"path\": \"\"}";
    client.expect(odd).await;
    let log = rig.access_log(6).await;
    assert_eq!(
        (&log[0]["route"], &log[0]["status"]),
        (&"ok".into(), &200.into())
    );
    let counted = "lameduck_local_responses_total{pool=\"\",code=\"200\"}";
    rig.counts(counted, 3).await;
}

/// A body that isn't here is not waited for: the answer comes, and then the connection ends.
#[lameduck_rig::test]
async fn fixed_answer_comes_before_the_rest_of_a_body() {
    let rig = rig(ANSWERS).await;
    for head in [
        "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello",
        "POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
        "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nGET / HTTP/1.1\r\n",
        "GET /ok HTTP/1.0\r\n\r\n",
    ] {
        let mut client = rig.ask(head).await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text()), (200, "fine"), "{head}");
        assert!(answer.has("Connection: close"), "{}", answer.head);
        client.finish().await;
        assert_eq!(client.rest().await, (Vec::new(), Ended::Closed), "{head}");
    }
}

#[lameduck_rig::test]
async fn what_a_client_writes_is_no_markup_in_a_fixed_answer() {
    let rig = rig(ANSWERS).await;
    let head = "GET /page/\"><script>x</script> HTTP/1.1\r\nHost: a\r\nX: <img src=x onerror='y'>&";
    let page = answer(&rig, head).await;
    assert_eq!(
        page.text(),
        "<p title=\"/&quot;&gt;&lt;script&gt;x&lt;/script&gt;\">&lt;img src=x onerror=&#39;y&#39;&gt;&amp;</p>"
    );
    let head = "GET /odd HTTP/1.1\r\nHost: a\r\nX: \", \"admin\": \"\\\t</script>";
    let data: serde_json::Value = serde_json::from_str(answer(&rig, head).await.text()).unwrap();
    assert_eq!(data["path"], "\", \"admin\": \"\\\t</script>");
    assert_eq!(data.as_object().unwrap().len(), 1);
}

/// The recipe of docs/routes.md.
#[lameduck_rig::test]
async fn preflights_and_requests_of_other_origins_get_their_fields() {
    let rig = rig(
        "[[route]]\npath_prefix = \"/api\"\nmethods = [\"OPTIONS\"]\n\
         headers = { \"Origin\" = { regex = \"^https://([a-z]+\\\\.)?example\\\\.org$\" }, \"Access-Control-Request-Method\" = { regex = \".\" } }\n\
         respond = { status = 204 }\n\
         [route.response_headers]\nset = { \"Access-Control-Allow-Origin\" = \"{header.Origin}\", \"Access-Control-Allow-Methods\" = \"GET, PUT\", \
         \"Access-Control-Allow-Headers\" = \"Content-Type\", \"Access-Control-Max-Age\" = \"600\", \"Vary\" = \"Origin\" }\n\
         [[route]]\npath_prefix = \"/api\"\nheaders = { \"Origin\" = { regex = \"^https://([a-z]+\\\\.)?example\\\\.org$\" } }\npool = \"app\"\n\
         [route.response_headers]\nset = { \"Access-Control-Allow-Origin\" = \"{header.Origin}\" }\nadd = { \"Vary\" = \"Origin\" }\n\
         [[route]]\npool = \"app\"\n",
    )
    .await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /api/x HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT"
        )
    };
    let good = "https://shop.example.org";
    let answered = answer(&rig, preflight(good)).await;
    assert_eq!(answered.status(), 204);
    assert_eq!(answered.field("access-control-allow-origin"), Some(good));
    assert_eq!(
        answered.field("access-control-allow-methods"),
        Some("GET, PUT")
    );
    assert_eq!(answered.field("content-length"), None);
    // Whom the recipe doesn't name, the app answers, and it says nothing of other origins.
    for (origin, allowed) in [
        (good, Some(good)),
        ("https://evil.test", None),
        ("null", None),
    ] {
        let mut client = rig
            .ask(format!(
                "PUT /api/x HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend
            .send(
                "HTTP/1.1 200 OK\r\nVary: Accept\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )
            .await;
        let answered = client.response().await;
        assert_eq!(
            answered.field("access-control-allow-origin"),
            allowed,
            "{origin}"
        );
        assert!(answered.has("Vary: Accept"));
        assert_eq!(answered.has("Vary: Origin"), allowed.is_some());
    }
}

const TO_HTTPS: &str = "[headers]\ntrusted = [\"127.0.0.2\"]\n\
     [[route]]\nhost = \"tls.test\"\npool = \"app\"\nredirect_https = true\nallow = [\"10.0.0.0/8\"]\nauth = { basic = \"users\" }\n\
     [[route]]\nhost = \"tls.test\"\npath_prefix = \"/.well-known/acme-challenge\"\nrespond = { body = \"key\" }\n\
     [[route]]\nhost = \"port.test\"\nrespond = { body = \"safe\" }\nredirect_https = 8443\n\
     [[route]]\nhost = \"open.test\"\nrespond = { body = \"open\" }\n";

/// Of several hosts on one listener, those that want it are sent to HTTPS, before they are asked for anything.
#[lameduck_rig::test]
async fn route_sends_who_comes_without_tls_to_https_and_leaves_other_hosts_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("users"), super::guards::ANN).unwrap();
    let (backends, port) = lameduck_rig::backend::backends(1).await;
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n",
        backends[0].address
    );
    let rig = Rig::start(dir, "", TO_HTTPS, &pool, backends).await;
    for (head, status, location) in [
        (
            "GET /a?b=c HTTP/1.1\r\nHost: tls.test",
            301,
            Some("https://tls.test/a?b=c"),
        ),
        (
            "HEAD /a HTTP/1.1\r\nHost: TLS.test:8080",
            301,
            Some("https://TLS.test/a"),
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tls.test\r\nContent-Length: 0",
            308,
            Some("https://tls.test/a"),
        ),
        (
            "GET //evil.test HTTP/1.1\r\nHost: tls.test",
            301,
            Some("https://tls.test//evil.test"),
        ),
        (
            "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: tls.test",
            200,
            None,
        ),
        (
            "GET / HTTP/1.1\r\nHost: port.test",
            301,
            Some("https://port.test:8443/"),
        ),
        ("GET / HTTP/1.1\r\nHost: open.test", 200, None),
        // What somebody says who is not trusted counts for nothing.
        (
            "GET / HTTP/1.1\r\nHost: port.test\r\nX-Forwarded-Proto: https",
            301,
            Some("https://port.test:8443/"),
        ),
    ] {
        let mut client = rig.ask(format!("{head}\r\n\r\n")).await;
        let answer = client.head().await;
        let got = lameduck_rig::wire::field(&answer, "location");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
        assert_eq!(got, location, "{head}");
    }
    // By way of a proxy that is trusted, its word counts.
    for (proto, status) in [("https", 200), ("http", 301)] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let stream = socket.connect(rig.address).await.unwrap();
        let mut client = Wire::new(stream);
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: port.test\r\nX-Forwarded-Proto: {proto}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.status(), status, "{proto}");
    }
}
