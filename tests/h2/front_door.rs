//! What a site has in front of its app, asked for by streams: files, error pages, pauses, mirrors, passwords and rates.

use http::Request;
use lameduck::tools::demo::admin;
use lameduck_rig::backend::backends;
use lameduck_rig::h2_client::{Answer, Client, answer};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wait::until;
use serde_json::json;

use super::load::decoded;

/// Of user `ann`, password `a`.
const ANN: &str = "ann:{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=\n";

/// A proxy with these routes, in which `$DIR` is the directory of its files. `app` has the first backend, `shadow` the
/// second.
async fn rig(routes: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("site");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("hello.txt"), "hello world").unwrap();
    std::fs::write(root.join("page.html"), page()).unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(root.join("big.bin"), big).unwrap();
    std::fs::create_dir(root.join("docs")).unwrap();
    std::fs::write(root.join("docs/index.html"), "docs").unwrap();
    std::fs::write(dir.path().join("busy.html"), "<h1>busy</h1>").unwrap();
    std::fs::write(dir.path().join("users"), ANN).unwrap();
    let (backends, port) = backends(2).await;
    let tables = format!(
        "http2 = true\n{}",
        routes.replace("$DIR", dir.path().to_str().unwrap())
    );
    let pool = |n: usize| {
        format!(
            "[[pool.backend]]\nname = \"b{n}\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\n\
             rise = 1\nfast_interval = \"10ms\"\n",
            backends[n].address
        )
    };
    let pools = match routes.contains("shadow") {
        true => format!("{}[[pool]]\nname = \"shadow\"\n{}", pool(0), pool(1)),
        false => pool(0),
    };
    Rig::start(dir, "", &tables, &pools, backends).await
}

fn page() -> String {
    (0..5_000)
        .map(|line| format!("<p>{}</p>\n", line * 7919 % 1000))
        .collect()
}

/// The answer to a request without a body.
async fn ask(client: &mut Client, line: &str, fields: &[(&str, &str)]) -> Answer {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://a{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (response, _) = client.begin(request.body(()).unwrap(), true).await;
    answer(response).await
}

#[lameduck_rig::test]
async fn streams_get_files_parts_of_them_and_what_their_conditions_say() {
    let rig = rig("[compression]\n[[route]]\nfiles = { root = \"$DIR/site\" }\n").await;
    let mut client = Client::new(&rig).await;
    let whole = ask(&mut client, "GET /hello.txt", &[]).await;
    assert_eq!((whole.status(), whole.text()), (200, "hello world"));
    assert_eq!(
        whole.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(whole.field("content-length"), Some("11"));
    assert_eq!(whole.field("connection"), None);
    let tag = whole.field("etag").unwrap().to_owned();
    let head = ask(&mut client, "HEAD /hello.txt", &[]).await;
    assert_eq!((head.status(), head.text()), (200, ""));
    assert_eq!(head.field("content-length"), Some("11"));
    for (fields, status, text) in [
        (&[("range", "bytes=0-4")][..], 206, "hello"),
        (&[("range", "bytes=-5")], 206, "world"),
        (&[("range", "bytes=6-"), ("if-range", &tag)], 206, "world"),
        (
            &[("range", "bytes=6-"), ("if-range", "\"other\"")],
            200,
            "hello world",
        ),
        (&[("if-none-match", &tag)], 304, ""),
        (&[("if-none-match", "\"other\"")], 200, "hello world"),
        (&[("if-match", &tag)], 200, "hello world"),
    ] {
        let got = ask(&mut client, "GET /hello.txt", fields).await;
        assert_eq!((got.status(), got.text()), (status, text), "{fields:?}");
    }
    for (line, fields, status) in [
        ("GET /hello.txt", &[("range", "bytes=99-")][..], 416),
        ("GET /hello.txt", &[("if-match", "\"other\"")], 412),
        ("GET /none.txt", &[], 404),
        ("POST /hello.txt", &[], 405),
        ("GET /../secret", &[], 400),
    ] {
        let got = ask(&mut client, line, fields).await;
        assert_eq!(got.status(), status, "{line} {fields:?}");
        if status == 416 {
            assert_eq!(got.field("content-range"), Some("bytes */11"));
        }
    }
    let parts = ask(
        &mut client,
        "GET /hello.txt",
        &[("range", "bytes=0-0,10-10")],
    )
    .await;
    assert_eq!(parts.status(), 206);
    let told = parts.field("content-type").unwrap();
    assert!(told.starts_with("multipart/byteranges"), "{told}");
    assert!(parts.text().contains("Content-Range: bytes 10-10/11"));
    let moved = ask(&mut client, "GET /docs?x", &[]).await;
    assert_eq!(
        (moved.status(), moved.field("location")),
        (301, Some("/docs/?x"))
    );
    let big = ask(&mut client, "GET /big.bin", &[]).await;
    assert_eq!(big.body.len(), 3_000_000);
    assert!(
        big.body
            .iter()
            .enumerate()
            .all(|(n, byte)| usize::from(*byte) == n % 251)
    );
    // And compressed.
    for coding in ["zstd", "br", "gzip"] {
        let fields = [("accept-encoding", coding)];
        let got = ask(&mut client, "GET /page.html", &fields).await;
        assert_eq!(got.field("content-encoding"), Some(coding));
        assert_eq!(got.field("content-length"), None);
        assert_eq!(got.field("transfer-encoding"), None);
        assert!(got.field("etag").unwrap().starts_with("W/"));
        assert!(decoded(coding, &got.body).unwrap() == page().as_bytes());
        let head = ask(&mut client, "HEAD /page.html", &fields).await;
        assert_eq!(head.field("content-encoding"), Some(coding));
        assert_eq!(head.body.len(), 0);
    }
}

/// Many streams of one connection at once: each gets its own file, whole.
#[lameduck_rig::test]
async fn streams_of_one_connection_get_large_files_side_by_side() {
    let rig = rig("[compression]\n[[route]]\nfiles = { root = \"$DIR/site\" }\n").await;
    let mut client = Client::new(&rig).await;
    let mut asked = Vec::new();
    for n in 0..20 {
        let target = if n % 2 == 0 { "/big.bin" } else { "/page.html" };
        let request = Request::get(format!("http://a{target}"))
            .header("accept-encoding", "gzip")
            .body(())
            .unwrap();
        let response = client.begin(request, true).await.0;
        asked.push((n, tokio::spawn(answer(response))));
    }
    for (n, asked) in asked {
        let got = asked.await.unwrap();
        match n % 2 {
            0 => assert_eq!(got.body.len(), 3_000_000),
            _ => assert!(decoded("gzip", &got.body).unwrap() == page().as_bytes()),
        }
    }
}

#[lameduck_rig::test]
async fn streams_get_files_and_what_is_none_is_the_apps() {
    let rig = rig("[[route]]\npool = \"app\"\nfiles = { root = \"$DIR/site\" }\n").await;
    let mut client = Client::new(&rig).await;
    assert_eq!(
        ask(&mut client, "GET /hello.txt", &[]).await.text(),
        "hello world"
    );
    for line in ["GET /users", "POST /hello.txt"] {
        let (method, target) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://a{target}"));
        let (response, mut body) = client
            .begin(request.body(()).unwrap(), method == "GET")
            .await;
        if method == "POST" {
            body.send_data("body".into(), true).unwrap();
        }
        let mut app = rig.backends[0].accept().await;
        let seen = app.request().await;
        assert!(
            seen.head.starts_with(&format!("{line} HTTP/1.1")),
            "{}",
            seen.head
        );
        app.answer_and_close("app").await;
        assert_eq!(answer(response).await.text(), "app");
    }
}

#[lameduck_rig::test]
async fn streams_are_sent_to_https_by_their_route_and_get_error_pages() {
    let rig = rig(
        "[[route]]\nhost = \"tls.test\"\nrespond = { body = \"safe\" }\nredirect_https = 8443\n\
         [[route]]\nrespond = { status = 503 }\nerror_pages = { \"5xx\" = \"$DIR/busy.html\" }\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    let request = Request::get("http://tls.test:81/a?b").body(()).unwrap();
    let moved = answer(client.begin(request, true).await.0).await;
    assert_eq!(
        (moved.status(), moved.field("location")),
        (301, Some("https://tls.test:8443/a?b"))
    );
    let busy = ask(&mut client, "GET /", &[("accept", "text/html")]).await;
    assert_eq!((busy.status(), busy.text()), (503, "<h1>busy</h1>"));
    let told = ask(&mut client, "GET /", &[("accept", "application/json")]).await;
    assert_eq!(told.field("content-type"), Some("application/problem+json"));
    assert!(told.text().contains("503"), "{}", told.text());
    let head = ask(&mut client, "HEAD /", &[("accept", "text/html")]).await;
    assert_eq!((head.status(), head.text()), (503, ""));
}

#[lameduck_rig::test]
async fn streams_to_a_paused_pool_get_its_page_and_then_the_app() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let pause = json!({"page": "<h1>back soon</h1>", "for": "1m"});
    let paused = admin::call(&rig.socket, "POST", "/v1/pools/app/pause", Some(&pause)).await;
    let paused = paused.unwrap();
    assert_eq!(paused["pause"]["mode"], "page", "{paused}");
    let page = ask(&mut client, "GET /", &[("accept", "text/html")]).await;
    assert_eq!((page.status(), page.text()), (503, "<h1>back soon</h1>"));
    let head = ask(&mut client, "HEAD /", &[]).await;
    assert_eq!((head.status(), head.text()), (503, ""));
    admin::call(&rig.socket, "DELETE", "/v1/pools/app/pause", None)
        .await
        .unwrap();
    let asked = client.get("/").await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.answer_and_close("app").await;
    assert_eq!(answer(asked).await.text(), "app");
}

#[lameduck_rig::test]
async fn stream_is_mirrored_and_its_answer_is_the_apps() {
    let rig = rig("[[route]]\npool = \"app\"\nmirror = { pool = \"shadow\" }\n").await;
    until("the shadow", async || {
        let shadow = admin::call(&rig.socket, "GET", "/v1/pools/shadow", None).await;
        shadow.unwrap()["eligible"] == 1
    })
    .await;
    let mut client = Client::new(&rig).await;
    let request = Request::post("http://a/x?y").header("content-length", "4");
    let request = request.body(()).unwrap();
    let (asked, mut body) = client.begin(request, false).await;
    body.send_data("body".into(), true).unwrap();
    let mut app = rig.backends[0].accept().await;
    assert_eq!(app.request().await.text(), "body");
    app.answer_and_close("app").await;
    assert_eq!(answer(asked).await.text(), "app");
    let mut shadow = rig.backends[1].accept().await;
    let copy = shadow.request().await;
    assert!(copy.head.starts_with("POST /x?y HTTP/1.1"), "{}", copy.head);
    assert_eq!(copy.text(), "body");
    shadow.answer_and_close("nobody gets this").await;
}

#[lameduck_rig::test]
async fn stream_needs_its_password_and_has_its_rate() {
    let rig = rig(
        "[[route]]\npath_prefix = \"/in\"\nauth = { basic = \"users\", realm = \"the door\" }\nrespond = { body = \"in\" }\n\
         [[route]]\npath_prefix = \"/rate\"\nrate = { limit = \"1/m\", burst = 2 }\nrespond = { body = \"ok\" }\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    for (given, status) in [
        (None, 401),
        (Some("Basic YW5uOmE="), 200),
        (Some("Basic YW5uOmI="), 401),
    ] {
        let fields: Vec<_> = given
            .iter()
            .map(|given| ("authorization", *given))
            .collect();
        let got = ask(&mut client, "GET /in", &fields).await;
        assert_eq!(got.status(), status, "{given:?}");
        if status == 401 {
            let asked = got.field("www-authenticate").unwrap();
            assert!(asked.contains("realm=\"the door\""), "{asked}");
        }
    }
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let got = ask(&mut client, "GET /rate", &[]).await;
        if got.status() == 429 {
            let after: u32 = got.field("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&after), "{after}");
        }
        statuses.push(got.status());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}
