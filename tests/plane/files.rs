//! A route's `files`: what is served, how it is told of, and that nothing else is.

mod confined;
mod exchanged;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Message, Wire};

/// What must never be seen.
const SECRET: &str = "the-secret-beside-the-root";

/// 5 November 2026, 12:00:00 UTC.
const MODIFIED: u64 = 1_793_880_000;

/// A site with all that can be in one, and things beside it that are none of it.
fn make_site(dir: &Path) -> PathBuf {
    let root = dir.join("site");
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED))
            .unwrap();
    };
    write("index.html", b"<h1>home</h1>");
    write("hello.txt", b"hello world");
    write("empty.css", b"");
    write("docs/index.html", b"docs");
    write("docs/deep/page.html", b"page");
    write("bare/x.txt", b"x");
    write("app.js", b"plain script");
    write("app.js.gz", b"gz");
    write("app.js.br", b"brotli");
    write("assets/main.3f2a.css", b"css");
    write("with space.txt", b"space");
    write("%2e%2e", b"percent");
    write(".env", SECRET.as_bytes());
    write(".git/config", SECRET.as_bytes());
    write("docs/.htpasswd", SECRET.as_bytes());
    write(".well-known/security.txt", b"Contact: a");
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    write("big.bin", &big);
    std::fs::write(dir.join("secret.txt"), SECRET).unwrap();
    std::fs::create_dir(dir.join("site-secret")).unwrap();
    std::fs::write(dir.join("site-secret/index.html"), SECRET).unwrap();
    symlink("hello.txt", root.join("inside.txt")).unwrap();
    symlink("../secret.txt", root.join("outside.txt")).unwrap();
    symlink(dir.join("secret.txt"), root.join("absolute.txt")).unwrap();
    symlink("..", root.join("up")).unwrap();
    symlink("/", root.join("rootlink")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(root.join("pipe"))
        .status();
    assert!(made.unwrap().success());
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    root
}

/// A proxy whose route `site` serves the files of a new site, with these further keys of `files`.
async fn rig_with(keys: &str, server: &str) -> (Rig, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = make_site(dir.path());
    let (backends, port) = backends(1).await;
    let tables = format!(
        "http2 = true\n[[route]]\nname = \"site\"\nfiles = {{ root = {root:?}{keys} }}\n\
         [[route]]\nhost = \"app.test\"\npool = \"app\"\n"
    );
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n\
         fast_interval = \"10ms\"",
        backends[0].address
    );
    (
        Rig::start(dir, server, &tables, &pool, backends).await,
        root,
    )
}

async fn rig(keys: &str) -> (Rig, PathBuf) {
    rig_with(keys, "").await
}

/// Sends the request line and fields, and reads the answer.
async fn ask(client: &mut Wire, line: &str, fields: &[&str]) -> Message {
    let mut request = format!("{line} HTTP/1.1\r\nHost: a\r\n");
    for field in fields {
        request += &format!("{field}\r\n");
    }
    client.send(request + "\r\n").await;
    match line.starts_with("HEAD") {
        true => Message {
            head: client.head().await,
            body: Vec::new(),
            trailers: String::new(),
        },
        false => client.response().await,
    }
}

#[lameduck_rig::test]
async fn file_is_served_with_its_type_length_and_state() {
    let (rig, _root) = rig("").await;
    let mut client = rig.client().await;
    let answer = ask(&mut client, "GET /hello.txt?x=1", &[]).await;
    assert_eq!((answer.status(), answer.text()), (200, "hello world"));
    for line in [
        "Content-Type: text/plain; charset=utf-8",
        "Content-Length: 11",
        "Last-Modified: Thu, 05 Nov 2026 12:00:00 GMT",
        "ETag: \"6aec6fc0-b\"",
        "Accept-Ranges: bytes",
    ] {
        assert!(answer.has(line), "{line} is not in {}", answer.head);
    }
    assert!(answer.field("date").is_some() && answer.field("cache-control").is_none());
    let head = ask(&mut client, "HEAD /hello.txt", &[]).await;
    assert!(head.has("Content-Length: 11"), "{}", head.head);
    for (target, status, body) in [
        ("/", 200, "<h1>home</h1>"),
        ("/docs/", 200, "docs"),
        ("/docs/deep/page.html", 200, "page"),
        ("/docs/deep/../index.html", 200, "docs"),
        ("//docs//deep///page.html", 200, "page"),
        ("/with%20space.txt", 200, "space"),
        ("/%68ello.txt", 200, "hello world"),
        ("/%252e%252e", 200, "percent"),
        ("/inside.txt", 200, "hello world"),
        ("/empty.css", 200, ""),
        ("/.well-known/security.txt", 200, "Contact: a"),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{target}");
    }
    let big = ask(&mut client, "GET /big.bin", &[]).await;
    assert_eq!(big.body.len(), 3_000_000);
    assert!(
        big.body
            .iter()
            .enumerate()
            .all(|(n, byte)| *byte == (n % 251) as u8)
    );
    for (target, status) in [
        ("/nothing", 404),
        ("/hello.txt/", 404),
        ("/hello.txt/x", 404),
        ("/bare/", 403),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
        assert_eq!(answer.status(), status, "{target}");
    }
    let line = &rig.access_log(1).await[0];
    assert_eq!(
        (
            &line["route"],
            &line["pool"],
            &line["status"],
            &line["bytes_out"]
        ),
        (&"site".into(), &"".into(), &200.into(), &11.into()),
        "{line}"
    );
}

#[lameduck_rig::test]
async fn other_methods_are_told_which_are_allowed() {
    let (rig, _root) = rig("").await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let mut client = rig.client().await;
        let answer = ask(
            &mut client,
            &format!("{method} /hello.txt"),
            &["Content-Length: 0"],
        )
        .await;
        assert_eq!(answer.status(), 405, "{method}");
        assert!(answer.has("Allow: GET, HEAD"), "{}", answer.head);
    }
}

#[lameduck_rig::test]
async fn directory_without_its_slash_is_redirected_on_the_same_host() {
    let (rig, _root) = rig("").await;
    let mut client = rig.client().await;
    for (target, location) in [
        ("/docs", "/docs/"),
        ("/docs?a=//evil.example", "/docs/?a=//evil.example"),
        ("//docs", "/docs/"),
        ("///docs/deep", "/docs/deep/"),
        ("//docs/./deep/.", ""),
        ("/docs/deep/..", ""),
        ("http://a//docs", "/docs/"),
        ("/bare", "/bare/"),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
        match location {
            "" => assert_ne!(answer.status(), 301, "{target}"),
            location => {
                assert_eq!(answer.status(), 301, "{target}");
                assert_eq!(answer.field("location"), Some(location), "{target}");
            }
        }
    }
}

#[lameduck_rig::test]
async fn client_that_has_the_file_is_told_so() {
    let (rig, _root) = rig("").await;
    let mut client = rig.client().await;
    let (tag, date) = ("\"6aec6fc0-b\"", "Thu, 05 Nov 2026 12:00:00 GMT");
    for (field, status) in [
        (format!("If-None-Match: {tag}"), 304),
        (format!("If-None-Match: \"x\", W/{tag}"), 304),
        ("If-None-Match: *".into(), 304),
        ("If-None-Match: \"x\"".into(), 200),
        (format!("If-Modified-Since: {date}"), 304),
        (
            "If-Modified-Since: Thu, 05 Nov 2026 11:59:59 GMT".into(),
            200,
        ),
        (
            "If-Modified-Since: Thu, 05 Nov 2026 12:00:01 GMT".into(),
            200,
        ),
        ("If-Modified-Since: yesterday".into(), 200),
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"),
            200,
        ),
        (format!("If-Match: {tag}"), 200),
        ("If-Match: \"x\"".into(), 412),
        (
            "If-Unmodified-Since: Thu, 05 Nov 2026 11:59:59 GMT".into(),
            412,
        ),
        (format!("If-Unmodified-Since: {date}"), 200),
    ] {
        let answer = ask(&mut client, "GET /hello.txt", &[&field]).await;
        assert_eq!(answer.status(), status, "{field}");
        if status == 304 {
            assert_eq!(answer.field("etag"), Some(tag), "{field}");
            assert_eq!(answer.field("content-length"), None, "{field}");
        }
    }
}

#[lameduck_rig::test]
async fn ranges_are_served_one_by_one_and_several_at_once() {
    let (rig, _root) = rig("").await;
    let mut client = rig.client().await;
    let (tag, date) = ("\"6aec6fc0-b\"", "Thu, 05 Nov 2026 12:00:00 GMT");
    for (range, status, body, content_range) in [
        ("bytes=0-4", 206, "hello", "bytes 0-4/11"),
        ("bytes=6-", 206, "world", "bytes 6-10/11"),
        ("bytes=-5", 206, "world", "bytes 6-10/11"),
        ("bytes=-500", 206, "hello world", "bytes 0-10/11"),
        ("bytes=6-5000", 206, "world", "bytes 6-10/11"),
        (
            "bytes=11-",
            416,
            "the file has none of these bytes\n",
            "bytes */11",
        ),
        (
            "bytes=x",
            416,
            "the file has none of these bytes\n",
            "bytes */11",
        ),
        ("lines=1-2", 200, "hello world", ""),
        ("bytes=0-10,0-10", 200, "hello world", ""),
    ] {
        let answer = ask(&mut client, "GET /hello.txt", &[&format!("Range: {range}")]).await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{range}");
        assert_eq!(
            answer.field("content-range").unwrap_or_default(),
            content_range,
            "{range}"
        );
    }
    for (state, status) in [
        (tag, 206),
        (date, 206),
        ("W/\"6aec6fc0-b\"", 200),
        ("\"x\"", 200),
        ("Thu, 05 Nov 2026 12:00:01 GMT", 200),
    ] {
        let fields = ["Range: bytes=0-1", &format!("If-Range: {state}")];
        let answer = ask(&mut client, "GET /hello.txt", &fields).await;
        assert_eq!(answer.status(), status, "{state}");
    }
    let answer = ask(
        &mut client,
        "GET /hello.txt",
        &["Range: bytes=0-1, 4-4, -2"],
    )
    .await;
    assert_eq!(answer.status(), 206);
    let kind = answer.field("content-type").unwrap();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/11\r\n\r\n{body}"
        )
    };
    let expected = [part("0-1", "he"), part("4-4", "o"), part("9-10", "ld")].concat();
    assert_eq!(answer.text(), format!("{expected}\r\n--{boundary}--\r\n"));
    // HEAD has no use for them, and none of their bytes.
    let head = ask(&mut client, "HEAD /hello.txt", &["Range: bytes=0-1, 4-4"]).await;
    assert_eq!(head.status(), 206);
    assert_eq!(ask(&mut client, "GET /docs/", &[]).await.text(), "docs");
}

#[lameduck_rig::test]
async fn compressed_neighbour_is_served_to_clients_that_take_it() {
    let (rig, _root) = rig(", precompressed = true, cache = { \"*\" = \"1h\", \"*.js\" = \"1y\", \"/docs/*\" = \"no-cache\", \"/assets/*\" = \"immutable\" }").await;
    let mut client = rig.client().await;
    for (accepted, body, coding) in [
        ("gzip, deflate, br, zstd", "brotli", Some("br")),
        ("gzip", "gz", Some("gzip")),
        ("gzip;q=1.0, br;q=0.1", "gz", Some("gzip")),
        ("br;q=0, *", "gz", Some("gzip")),
        ("identity", "plain script", None),
        ("zstd", "plain script", None),
    ] {
        let field = format!("Accept-Encoding: {accepted}");
        let answer = ask(&mut client, "GET /app.js", &[&field]).await;
        assert_eq!(answer.text(), body, "{accepted}");
        assert_eq!(answer.field("content-encoding"), coding, "{accepted}");
        assert_eq!(
            answer.field("content-type"),
            Some("text/javascript; charset=utf-8")
        );
        assert!(
            answer.has("Vary: Accept-Encoding") && answer.has("Cache-Control: max-age=31536000")
        );
    }
    let tags: Vec<_> = [
        ask(&mut client, "GET /app.js", &["Accept-Encoding: gzip"]).await,
        ask(&mut client, "GET /app.js", &[]).await,
    ]
    .iter()
    .map(|answer| answer.field("etag").unwrap().to_owned())
    .collect();
    assert_ne!(tags[0], tags[1]);
    for (target, cache) in [
        ("/hello.txt", "max-age=3600"),
        ("/docs/", "no-cache"),
        ("/assets/main.3f2a.css", "max-age=31536000, immutable"),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
        assert_eq!(answer.field("cache-control"), Some(cache), "{target}");
    }
}

#[lameduck_rig::test]
async fn steps_of_try_are_taken_in_their_order() {
    let (app, _root) = rig(
        ", try = [\"{path}\", \"{path}.html\", \"{path}/\", \"/docs{path}.html\", \"/index.html\"]",
    )
    .await;
    let mut client = app.client().await;
    for (target, status, body) in [
        ("/hello.txt", 200, "hello world"),
        ("/docs/deep/page", 200, "page"),
        ("/deep/page", 200, "page"),
        ("/docs/", 200, "docs"),
        ("/cart/42", 200, "<h1>home</h1>"),
        ("/cart/42/", 200, "<h1>home</h1>"),
        ("/.git/config", 200, "<h1>home</h1>"),
    ] {
        let answer = ask(&mut client, &format!("GET {target}"), &[]).await;
        assert_eq!((answer.status(), answer.text()), (status, body), "{target}");
    }
    let (gone, _root) = rig(", try = [\"{path}\", \"=410\"], hidden = true").await;
    let mut client = gone.client().await;
    assert_eq!(ask(&mut client, "GET /nothing", &[]).await.status(), 410);
    assert_eq!(ask(&mut client, "GET /docs", &[]).await.status(), 410);
    assert_eq!(ask(&mut client, "GET /.env", &[]).await.text(), SECRET);
}

#[lameduck_rig::test]
async fn old_client_keeps_its_connection_where_it_asks_for_it() {
    let (rig, _root) = rig("").await;
    let mut client = rig.client().await;
    for _ in 0..2 {
        client
            .send("GET /hello.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let answer = client.response().await;
        assert!(answer.has("Connection: keep-alive"), "{}", answer.head);
    }
    client.send("GET /hello.txt HTTP/1.0\r\n\r\n").await;
    assert!(client.response().await.has("Connection: close"));
    client.closed().await;
    // A body that is here is taken; one that is to come is not waited for.
    let mut client = rig.client().await;
    for body in ["abc", "a"] {
        client
            .send(format!(
                "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{body}"
            ))
            .await;
        assert_eq!(client.response().await.text(), "hello world");
    }
    client.closed().await;
}
