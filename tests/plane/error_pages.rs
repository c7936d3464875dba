//! Error pages: who gets which form, and the app's answers that they take the place of.

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Message, Wire};

/// Longer than what the kernel takes for a client that reads nothing.
const LONG: usize = 250 * 1024;

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A proxy with one pool, these keys of `[server]` and these tables; `{pages}` in both is a directory with pages.
async fn rig(server: &str, tables: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    for page in ["404", "500", "5xx", "all"] {
        std::fs::write(
            dir.path().join(format!("{page}.html")),
            format!("<h1>our {page}</h1>"),
        )
        .unwrap();
    }
    std::fs::write(dir.path().join("long.html"), vec![b'x'; LONG]).unwrap();
    let pages = dir.path().display().to_string();
    let (backends, port) = backends(1).await;
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n\
         fast_interval = \"10ms\"",
        backends[0].address
    );
    let fill = |text: &str| text.replace("{pages}", &pages);
    Rig::start(dir, &fill(server), &fill(tables), &pool, backends).await
}

async fn ask(client: &mut Wire, line: &str, fields: &str) -> Message {
    client
        .send(format!(
            "{line} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n"
        ))
        .await;
    client.response().await
}

#[lameduck_rig::test]
async fn own_errors_have_the_form_that_the_client_asks_for() {
    let rig = rig(
        "error_pages = { \"4xx\" = \"{pages}/all.html\" }\n",
        "[[route]]\nhost = \"a.test\"\npath_prefix = \"/app\"\npool = \"app\"\n\
         [[route]]\nhost = \"a.test\"\npath = \"/own\"\nerror_pages = { \"404\" = \"{pages}/404.html\" }\nfiles = { root = \"{pages}\" }\n\
         [[route]]\nhost = \"a.test\"\npath = \"/fixed\"\nrespond = { status = 404 }\nerror_pages = { \"404\" = \"{pages}/404.html\" }\nresponse_headers = { add = { Vary = \"Accept\", Cache-Control = \"private\" } }\n\
         [[route]]\nhost = \"a.test\"\npath = \"/said\"\nrespond = { status = 404, body = \"said\" }\nerror_pages = { \"404\" = \"{pages}/404.html\" }\n\
         [[route]]\nhost = \"a.test\"\npath = \"/unset\"\nfiles = { root = \"{pages}\", try = [\"=503\"] }\n",
    )
    .await;
    let mut client = rig.client().await;
    let said = ask(&mut client, "GET /said", BROWSER).await;
    assert_eq!(
        said.text(),
        "said",
        "an answer with a body is no error page"
    );
    let fixed = ask(&mut client, "GET /fixed", BROWSER).await;
    let vary = fixed.head.matches("Vary: Accept\r\n").count();
    assert_eq!(vary, 1, "{}", fixed.head);
    assert!(
        fixed.head.contains("Cache-Control: no-store\r\n"),
        "{}",
        fixed.head
    );
    assert!(
        fixed.head.contains("Cache-Control: private\r\n"),
        "{}",
        fixed.head
    );
    for (target, fields, status, kind, body) in [
        (
            "/fixed",
            BROWSER,
            404,
            "text/html; charset=utf-8",
            "<h1>our 404</h1>",
        ),
        (
            "/nothing",
            BROWSER,
            404,
            "text/html; charset=utf-8",
            "<h1>our all</h1>",
        ),
        (
            "/nothing",
            "Accept: */*",
            404,
            "text/html; charset=utf-8",
            "<h1>our all</h1>",
        ),
        (
            "/nothing",
            "Accept: text/plain",
            404,
            "text/plain; charset=utf-8",
            "no route matches this host and path\n",
        ),
        (
            "/own",
            BROWSER,
            404,
            "text/html; charset=utf-8",
            "<h1>our 404</h1>",
        ),
        (
            "/unset",
            "Accept: */*",
            503,
            "text/plain; charset=utf-8",
            "Service Unavailable\n",
        ),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), fields).await;
        assert_eq!(
            (answer.status(), answer.text()),
            (status, body),
            "{target} {fields}"
        );
        assert_eq!(
            answer.field("content-type"),
            Some(kind),
            "{target} {fields}"
        );
        assert_eq!(answer.field("cache-control"), Some("no-store"));
    }
    let answer = ask(
        &mut client,
        "GET /nothing",
        "X-Request-Id: mine-1\r\nAccept: application/json",
    )
    .await;
    let document: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(
        (&document["status"], &document["request_id"]),
        (&404.into(), &"mine-1".into())
    );
    // The built-in page has the id that the log has.
    let answer = ask(&mut client, "GET /unset", BROWSER).await;
    assert!(
        answer.text().contains("<h1>Service Unavailable</h1>"),
        "{}",
        answer.text()
    );
    let log = rig.access_log(10).await;
    let id = log[9]["request_id"].as_str().unwrap();
    assert!(
        answer.text().contains(&format!("<code>{id}</code>")),
        "{id}: {}",
        answer.text()
    );
    client
        .send(format!(
            "HEAD /nothing HTTP/1.1\r\nHost: a.test\r\n{BROWSER}\r\n\r\n"
        ))
        .await;
    let head = client.head().await;
    assert!(head.contains("Content-Length: 16\r\n"), "{head}");
    assert_eq!(ask(&mut client, "GET /own", BROWSER).await.status(), 404);
}

#[lameduck_rig::test]
async fn intercepted_answers_of_the_app_have_pages_and_others_pass() {
    let rig = rig(
        "error_pages = { \"4xx\" = \"{pages}/all.html\" }\n",
        "[[route]]\nname = \"shop\"\nintercept = true\nerror_pages = { \"500\" = \"{pages}/500.html\", \"404\" = \"{pages}/404.html\" }\npool = \"app\"\n",
    )
    .await;
    let mut client = rig.client().await;
    let mut backend = None;
    for (theirs, fields, status, body) in [
        ("200 OK\r\nContent-Length: 2\r\n\r\nok", BROWSER, 200, "ok"),
        (
            "500 X\r\nContent-Length: 5\r\n\r\ntrace",
            BROWSER,
            500,
            "<h1>our 500</h1>",
        ),
        (
            "404 X\r\nContent-Length: 0\r\n\r\n",
            BROWSER,
            404,
            "<h1>our 404</h1>",
        ),
        (
            "401 X\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nno",
            BROWSER,
            401,
            "<h1>our all</h1>",
        ),
        (
            "502 X\r\nContent-Length: 6\r\n\r\ntheirs",
            BROWSER,
            502,
            "theirs",
        ),
        (
            "404 X\r\nContent-Length: 2\r\n\r\nno",
            "Accept: text/plain",
            404,
            "Not Found\n",
        ),
    ] {
        client
            .send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"))
            .await;
        // The connection to the app is kept: what is thrown away was here.
        let wire: &mut Wire = match &mut backend {
            Some(wire) => wire,
            None => backend.insert(rig.backends[0].accept().await),
        };
        wire.head().await;
        wire.send(format!("HTTP/1.1 {theirs}")).await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{theirs}");
        assert_eq!(answer.field("www-authenticate").is_some(), status == 401);
        assert_eq!(answer.field("set-cookie"), None, "{}", answer.head);
    }
    // HEAD has no page, and keeps the app's length.
    client
        .send(format!("HEAD /x HTTP/1.1\r\nHost: a\r\n{BROWSER}\r\n\r\n"))
        .await;
    let wire = backend.as_mut().unwrap();
    wire.head().await;
    wire.send("HTTP/1.1 404 X\r\nContent-Length: 77\r\n\r\n")
        .await;
    assert!(client.head().await.contains("Content-Length: 77\r\n"));
    // A long body is not waited for: its connection is closed.
    client
        .send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{BROWSER}\r\n\r\n"))
        .await;
    wire.head().await;
    wire.send("HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
        .await;
    assert_eq!(client.response().await.text(), "<h1>our 500</h1>");
    wire.gone().await;
    let log = rig.access_log(8).await;
    assert!(
        log.iter()
            .all(|line| line["backend"] != "" && line.get("cause").is_none()),
        "{log:#?}"
    );
}

#[lameduck_rig::test]
async fn page_that_has_changed_is_read_at_a_reload_and_a_missing_one_refuses_it() {
    let rig = rig(
        "error_pages = { \"4xx\" = \"{pages}/all.html\" }\n",
        "[[route]]\nhost = \"b.test\"\npool = \"app\"\n",
    )
    .await;
    let mut client = rig.client().await;
    assert_eq!(
        ask(&mut client, "GET /", BROWSER).await.text(),
        "<h1>our all</h1>"
    );
    let page = rig.socket.with_file_name("all.html");
    std::fs::write(&page, "<h1>new</h1>").unwrap();
    assert_eq!(
        ask(&mut client, "GET /", BROWSER).await.text(),
        "<h1>our all</h1>"
    );
    assert_eq!(rig.reload("", "").await.0, 200);
    assert_eq!(
        ask(&mut client, "GET /", BROWSER).await.text(),
        "<h1>new</h1>"
    );
    std::fs::remove_file(&page).unwrap();
    let (status, why) = rig.reload("", "").await;
    assert!(status != 200 && why.contains("all.html"), "{status} {why}");
    assert_eq!(
        ask(&mut client, "GET /", BROWSER).await.text(),
        "<h1>new</h1>"
    );
}

/// A client that takes nothing keeps its page, and a crowd of them no more than half of `max_memory` of pages.
#[lameduck_rig::test]
async fn pages_that_are_not_taken_are_bounded_by_max_memory() {
    // What is left of half the budget beside whole pages is less than this.
    let content = "x".repeat(65_000);
    let tables = "[[route]]\nhost = \"a.test\"\npath = \"/long\"\nrespond = { status = 404 }\nerror_pages = { \"404\" = \"{pages}/long.html\" }\n\
         [[route]]\nhost = \"a.test\"\npath = \"/content\"\nrespond = { body = \"{content}\" }\n\
         [[route]]\nhost = \"a.test\"\npath = \"/short\"\nrespond = { body = \"short\" }\n";
    let tables = tables.replace("{content}", &content);
    let rig = rig("max_memory = \"4MiB\"\n", &tables).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let client = rig.ask("GET /long HTTP/1.1\r\nHost: a.test\r\n\r\n");
        idle.push(client.await);
    }
    let mut client = rig.client().await;
    let mut refused = ask(&mut client, "GET /long", "").await;
    for _ in 0..1000 {
        if refused.body.len() < LONG {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        refused = ask(&mut client, "GET /long", "").await;
    }
    // An error keeps its status and its fields, and lacks its page.
    assert_eq!((refused.status(), refused.text()), (404, "Not Found\n"));
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    assert_eq!(
        refused.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    // Of content, there is nothing to be left out.
    let refused = ask(&mut client, "GET /content", "").await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.field("retry-after"), Some("2"));
    assert_eq!(refused.text(), "no memory is left for this answer\n");
    assert_eq!(ask(&mut client, "GET /short", "").await.text(), "short");
    lameduck_rig::wait::until("a line about the 503", async || {
        let log = rig.access_log(1).await;
        log.iter().any(|line| line["status"] == 503)
    })
    .await;
    lameduck_rig::wait::until("both to be counted", async || {
        rig.limited("max_memory").await >= 2
    })
    .await;
    // Those who go give theirs back.
    drop(idle);
    for _ in 0..1000 {
        if ask(&mut client, "GET /long", "").await.body.len() == LONG {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the memory of pages is not given back");
}
