//! Files and fixed answers that are compressed while they are sent.

use super::*;
use lameduck_rig::backend::backends;

/// Files, a fixed answer and an error page, with these keys of `[compression]`, in this many threads.
async fn site(compression: &str, server: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("site");
    std::fs::create_dir(&root).unwrap();
    let text = page(200_000);
    std::fs::write(root.join("page.html"), &text).unwrap();
    std::fs::write(root.join("packed.css"), &text).unwrap();
    std::fs::write(root.join("packed.css.gz"), "gz").unwrap();
    std::fs::write(root.join("small.txt"), "small").unwrap();
    std::fs::write(root.join("picture.png"), &text).unwrap();
    std::fs::write(root.join("empty.html"), "").unwrap();
    let large: String = (0..24).map(|n| page(1_000_000) + &n.to_string()).collect();
    std::fs::write(root.join("large.html"), &large).unwrap();
    // Not of this moment: the tag of a file that is still young changes when it is not any more.
    let back_then = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for file in std::fs::read_dir(&root).unwrap() {
        let path = file.unwrap().path();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(back_then).unwrap();
    }
    std::fs::write(dir.path().join("gone.html"), page(5_000)).unwrap();
    let (backends, port) = backends(1).await;
    let gone = dir.path().join("gone.html");
    let tables = format!(
        "[compression]\n{compression}\n\
         [[route]]\nfiles = {{ root = {root:?}, precompressed = true }}\nerror_pages = {{ \"404\" = {gone:?} }}\n\
         [[route]]\npath_prefix = \"/plain\"\nstrip_prefix = \"/plain\"\nfiles = {{ root = {root:?} }}\ncompression = false\n\
         [[route]]\npath_prefix = \"/fixed\"\nstrip_prefix = \"/fixed\"\nfiles = {{ root = {root:?} }}\nresponse_headers = {{ set = {{ Cache-Control = \"no-transform\" }} }}\n\
         [[route]]\npath = \"/own\"\nrespond = {{ body = {body:?}, type = \"text/html\" }}\n\
         [[route]]\npath = \"/app\"\npool = \"app\"\n",
        body = page(3_000)
    );
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n",
        backends[0].address
    );
    Rig::start(dir, server, &tables, &pool, backends).await
}

async fn ask(rig: &Rig, line: &str, fields: &str) -> Message {
    let mut client = rig
        .ask(format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
        .await;
    match line.starts_with("HEAD") {
        true => Message {
            head: client.head().await,
            body: Vec::new(),
            trailers: String::new(),
        },
        false => client.response().await,
    }
}

fn accepts(coding: &str) -> String {
    format!("Accept-Encoding: {coding}\r\n")
}

#[lameduck_rig::test]
async fn file_is_compressed_and_says_so_in_every_coding() {
    let rig = site("", "").await;
    let plain = ask(&rig, "GET /page.html", "").await;
    assert_eq!(plain.field("vary"), Some("Accept-Encoding"));
    assert_eq!(plain.field("content-encoding"), None);
    let tag = plain.field("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && plain.has("Accept-Ranges: bytes"));
    for coding in CODINGS {
        let got = ask(&rig, "GET /page.html", &accepts(coding)).await;
        assert_eq!(got.field("content-encoding"), Some(coding));
        assert_eq!(got.field("vary"), Some("Accept-Encoding"));
        assert_eq!(got.field("transfer-encoding"), Some("chunked"));
        assert_eq!(got.field("content-length"), None);
        assert_eq!(got.field("accept-ranges"), None);
        assert_eq!(got.field("etag"), Some(format!("W/{tag}").as_str()));
        assert_eq!(got.field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(got.field("last-modified"), plain.field("last-modified"));
        assert!(got.body.len() < 60_000, "{}", got.body.len());
        assert!(decoded(coding, &got.body).unwrap().as_bytes() == plain.body);
        let head = ask(&rig, "HEAD /page.html", &accepts(coding)).await;
        let without_date = |head: &str| {
            let lines = head.lines().filter(|line| !line.starts_with("Date:"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(without_date(&head.head), without_date(&got.head));
    }
    assert_eq!(
        rig.metric("lameduck_compressed_responses_total{coding=\"gzip\"}")
            .await
            .unwrap_or(1),
        1
    );
}

#[lameduck_rig::test]
async fn what_is_not_worth_it_or_packed_or_switched_off_goes_as_it_is() {
    let rig = site("", "").await;
    for (target, varies) in [
        ("/small.txt", true),
        ("/picture.png", true),
        ("/empty.html", true),
        ("/plain/page.html", false),
        ("/fixed/page.html", true),
    ] {
        let got = ask(&rig, &format!("GET {target}"), &accepts("gzip")).await;
        assert_eq!(got.status(), 200, "{target}");
        assert_eq!(got.field("content-encoding"), None, "{target}");
        assert!(got.field("etag").unwrap().starts_with('"'), "{target}");
        assert!(got.field("content-length").is_some(), "{target}");
        let is_told = got.field("vary").is_some();
        assert_eq!(is_told, varies, "{target}");
    }
    // What is packed already, by whom it was packed.
    let packed = ask(&rig, "GET /packed.css", &accepts("gzip")).await;
    assert_eq!(
        (packed.text(), packed.field("content-length")),
        ("gz", Some("2"))
    );
    assert_eq!(packed.head.matches("Vary").count(), 1);
    let fresh = ask(&rig, "GET /packed.css", &accepts("br")).await;
    assert_eq!(fresh.field("content-encoding"), Some("br"));
    for fields in [
        "Accept-Encoding: gzip\r\nCache-Control: no-transform\r\n",
        "Accept-Encoding: gzip;q=0\r\n",
        "Accept-Encoding: identity\r\n",
    ] {
        let got = ask(&rig, "GET /page.html", fields).await;
        assert_eq!(got.field("content-encoding"), None, "{fields}");
        assert_eq!(got.field("vary"), Some("Accept-Encoding"), "{fields}");
    }
    let mut old = rig
        .ask("GET /page.html HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        .await;
    let got = old.response().await;
    assert_eq!(got.field("content-encoding"), None);
}

/// Parts are always of the plain file, and only a strong tag is good for them.
#[lameduck_rig::test]
async fn ranges_are_of_the_plain_file_and_conditions_hold_for_both_forms() {
    let rig = site("", "").await;
    let plain = ask(&rig, "GET /page.html", "").await;
    let tag = plain.field("etag").unwrap().to_owned();
    let date = plain.field("last-modified").unwrap().to_owned();
    let gzip = accepts("gzip");
    for (fields, status, coding) in [
        (format!("{gzip}Range: bytes=10-19\r\n"), 206, None),
        (
            format!("{gzip}Range: bytes=10-19\r\nIf-Range: {tag}\r\n"),
            206,
            None,
        ),
        (
            format!("Range: bytes=10-19\r\nIf-Range: {date}\r\n"),
            206,
            None,
        ),
        // Neither is good for a part of what was compressed.
        (
            format!("{gzip}Range: bytes=10-19\r\nIf-Range: W/{tag}\r\n"),
            200,
            Some("gzip"),
        ),
        (
            format!("{gzip}Range: bytes=10-19\r\nIf-Range: {date}\r\n"),
            200,
            Some("gzip"),
        ),
        (format!("{gzip}Range: bytes=900000-\r\n"), 416, None),
        (format!("{gzip}If-Match: W/{tag}\r\n"), 412, None),
        (format!("{gzip}If-Match: {tag}\r\n"), 200, Some("gzip")),
    ] {
        let got = ask(&rig, "GET /page.html", &fields).await;
        assert_eq!(got.status(), status, "{fields}");
        assert_eq!(got.field("content-encoding"), coding, "{fields}");
        if status == 206 {
            assert_eq!(got.body, plain.body[10..20], "{fields}");
            assert_eq!(got.field("etag"), Some(tag.as_str()), "{fields}");
            assert_eq!(got.field("vary"), Some("Accept-Encoding"), "{fields}");
        }
    }
    for (fields, known) in [
        (
            format!("{gzip}If-None-Match: W/{tag}\r\n"),
            format!("W/{tag}"),
        ),
        (format!("{gzip}If-None-Match: {tag}\r\n"), tag.clone()),
        (format!("If-None-Match: W/{tag}\r\n"), format!("W/{tag}")),
        (
            format!("{gzip}If-Modified-Since: {date}\r\n"),
            format!("W/{tag}"),
        ),
        (format!("If-Modified-Since: {date}\r\n"), tag.clone()),
    ] {
        let got = ask(&rig, "HEAD /page.html", &fields).await;
        assert_eq!(got.status(), 304, "{fields}");
        assert_eq!(got.field("etag"), Some(known.as_str()), "{fields}");
        assert_eq!(got.field("vary"), Some("Accept-Encoding"), "{fields}");
    }
}

#[lameduck_rig::test]
async fn fixed_answers_and_error_pages_are_compressed_and_have_their_length() {
    let rig = site("", "").await;
    for (target, status, length) in [("/own", 200, 3_000), ("/none.html", 404, 5_000)] {
        let html = "Accept: text/html\r\n";
        let plain = ask(&rig, &format!("GET {target}"), html).await;
        assert_eq!((plain.status(), plain.body.len()), (status, length));
        let varies = |answer: &Message| answer.head.contains("Vary: Accept-Encoding");
        assert!(varies(&plain), "{}", plain.head);
        for coding in CODINGS {
            let fields = format!("{html}{}", accepts(coding));
            let got = ask(&rig, &format!("GET {target}"), &fields).await;
            assert_eq!(got.field("content-encoding"), Some(coding));
            let told = got.field("content-length").unwrap();
            assert_eq!(told, got.body.len().to_string());
            assert!(got.body.len() < length / 3 && varies(&got));
            assert!(decoded(coding, &got.body).unwrap().as_bytes() == plain.body);
            let head = ask(&rig, &format!("HEAD {target}"), &fields).await;
            assert_eq!(head.field("content-encoding"), Some(coding));
            assert_eq!(head.field("content-length"), None);
        }
    }
    let none = ask(
        &rig,
        "GET /app",
        "Accept-Encoding: gzip\r\nConnection: close\r\n",
    );
    let (none, ()) = tokio::join!(none, async {
        let mut app = rig.backends[0].accept().await;
        app.request().await;
        app.answer_and_close("short").await;
    });
    assert_eq!(none.text(), "short");
}

/// 24 MB of text on the only thread, for a client that takes all and one that takes nothing: others are served meanwhile.
#[lameduck_rig::test]
async fn large_file_is_compressed_in_pieces_and_holds_up_nobody() {
    let rig = site("algorithms = [\"br\"]", "").await;
    let stuck = rig
        .ask(format!(
            "GET /large.html HTTP/1.1\r\nHost: a\r\n{}\r\n",
            accepts("br")
        ))
        .await;
    let mut taker = rig
        .ask(format!(
            "GET /large.html HTTP/1.1\r\nHost: a\r\n{}\r\n",
            accepts("br")
        ))
        .await;
    let taking = tokio::spawn(async move { taker.response().await });
    let mut meanwhile = 0;
    while !taking.is_finished() {
        assert_eq!(ask(&rig, "GET /small.txt", "").await.text(), "small");
        meanwhile += 1;
    }
    let whole = taking.await.unwrap();
    let text = decoded("br", &whole.body).unwrap();
    assert_eq!(text.len(), 24 * 1_000_000 + 10 + 14 * 2);
    // A step takes a tenth of a millisecond, all of it a second: held up, nobody would come between.
    assert!(meanwhile >= 20, "{meanwhile} small answers beside it");
    drop(stuck);
}

/// A body that breaks off must not look whole.
#[lameduck_rig::test]
async fn file_that_becomes_shorter_is_cut_for_its_client() {
    let rig = site("", "").await;
    let path = rig.socket.with_file_name("site").join("large.html");
    let mut client = rig
        .ask(format!(
            "GET /large.html HTTP/1.1\r\nHost: a\r\n{}\r\n",
            accepts("gzip")
        ))
        .await;
    client.head().await;
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1_000_000)
        .unwrap();
    let (rest, _) = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "{}", rest.len());
}
