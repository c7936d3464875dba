//! Which answers are compressed, and what their heads say.

use super::*;
use lameduck_rig::wire::has;

/// Everything that a compressed answer's head must say, and nothing about the plain body's bytes.
#[lameduck_rig::test]
async fn compressed_answer_says_so_and_nothing_of_the_plain_body() {
    let rig = rig().await;
    let body = page(5_000);
    let fields = "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\n\
        Content-MD5: Q2h1Y2s=\r\nDigest: sha-256=x\r\nContent-Digest: sha-256=:x:\r\n\
        Repr-Digest: sha-256=:x:\r\nVary: Cookie\r\nX-App: kept\r\n";
    for coding in CODINGS {
        let got = exchange(&rig, &get(coding), &answer(fields, &body)).await;
        assert_eq!(
            got.head,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nVary: Cookie\r\nX-App: kept\r\n\
                 Transfer-Encoding: chunked\r\nVary: Accept-Encoding\r\nContent-Encoding: {coding}\r\n\
                 ETag: W/\"v1\"\r\n\r\n"
            )
        );
        assert!(got.body.len() < body.len() / 3, "{}", got.body.len());
        assert!(decoded(coding, &got.body).unwrap() == body);
    }
}

/// What must not be compressed is passed on byte for byte, and says nothing of `Accept-Encoding` either.
#[lameduck_rig::test]
async fn answers_that_must_stay_as_they_are_are_passed_on_byte_for_byte() {
    let rig = rig().await;
    let body = page(3_000);
    let html = "Content-Type: text/html\r\n";
    let with = |fields: &str| answer(&format!("{html}{fields}"), &body);
    let status = |line: &str| with("").replace("HTTP/1.1 200 OK", line);
    let gzip = get("gzip");
    let cases = [
        (gzip.clone(), with("Content-Encoding: br\r\n")),
        (gzip.clone(), with("content-encoding: identity\r\n")),
        (gzip.clone(), with("Cache-Control: no-transform\r\n")),
        (
            gzip.clone(),
            with("Cache-Control: public,  NO-TRANSFORM\r\n"),
        ),
        (gzip.clone(), with("Content-Range: bytes 0-2999/9000\r\n")),
        (
            gzip.clone(),
            with("Signature-Input: sig=(\"content-length\")\r\n"),
        ),
        (gzip.clone(), status("HTTP/1.1 206 Partial Content")),
        (gzip.clone(), status("HTTP/1.1 205 Reset Content")),
        (gzip.clone(), answer("Content-Type: image/png\r\n", &body)),
        (gzip.clone(), answer("", &body)),
        (gzip.clone(), answer("Content-Type: texts/html\r\n", &body)),
        (
            gzip.clone(),
            answer("Content-Type: application/grpc\r\n", &body),
        ),
        // It fits a packet anyway.
        (gzip.clone(), answer(html, &page(1_023))),
        (
            gzip.replace("\r\n\r\n", "\r\nCache-Control: no-transform\r\n\r\n"),
            with(""),
        ),
    ];
    for (request, answer) in cases {
        let got = exchange(&rig, &request, &answer).await;
        let (head, sent) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(got.head, format!("{head}\r\n\r\n"), "{request}");
        assert!(got.body == sent.as_bytes(), "{head}");
    }
}

/// Caches must know that others get another body.
#[lameduck_rig::test]
async fn vary_is_added_once_also_where_the_client_gets_the_plain_body() {
    let rig = rig().await;
    let body = page(2_000);
    for (accepted, coding) in [
        ("gzip", Some("gzip")),
        ("identity", None),
        ("gzip;q=0", None),
        ("deflate", None),
        ("*;q=0", None),
        ("gzip;q=0.5, br;q=0.4, zstd;q=0", Some("gzip")),
        ("identity;q=0, *;q=0.1", Some("zstd")),
    ] {
        for (vary, count) in [
            ("", 1),
            ("Vary: accept-encoding\r\n", 1),
            ("Vary: Cookie, Accept-Encoding\r\n", 1),
            ("Vary: *\r\n", 0),
        ] {
            let fields = format!("Content-Type: text/css\r\nETag: \"e\"\r\n{vary}");
            let got = exchange(&rig, &get(accepted), &answer(&fields, &body)).await;
            let named = got
                .head
                .to_ascii_lowercase()
                .matches("accept-encoding")
                .count();
            assert_eq!(named, count, "{accepted} {}", got.head);
            assert_eq!(got.field("content-encoding"), coding, "{accepted}");
            if coding.is_none() {
                assert!(got.has("ETag: \"e\"") && got.has("Content-Length: 2000"));
                assert!(got.body == body.as_bytes());
            }
        }
    }
    // Nor does one that accepts nothing by name: it may be a client that knows none.
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let got = exchange(&rig, plain, &answer("Content-Type: text/css\r\n", &body)).await;
    assert!(got.has("Vary: Accept-Encoding") && got.has("Content-Length: 2000"));
}

/// The head of a HEAD is that of the GET.
#[lameduck_rig::test]
async fn head_of_a_head_is_that_of_its_get() {
    let rig = rig().await;
    let body = page(4_000);
    let fields = "Content-Type: application/problem+json\r\nETag: W/\"v1\"\r\n";
    for accepted in ["gzip", "zstd, br", "identity"] {
        let whole = answer(fields, &body);
        let (head, _) = whole.split_once("\r\n\r\n").unwrap();
        let asked = exchange(&rig, &get(accepted), &whole).await;
        let head_only = get(accepted).replacen("GET", "HEAD", 1);
        let told = exchange(&rig, &head_only, &format!("{head}\r\n\r\n")).await;
        assert_eq!(told.head, asked.head);
        assert!(told.has("ETag: W/\"v1\""));
    }
    // One that is too short for its GET to be compressed, and the connection goes on.
    let mut client = rig.ask(get("gzip").replacen("GET", "HEAD", 1)).await;
    let mut backend = rig.backends[0].accept().await;
    for length in ["5000", "100"] {
        backend.head().await;
        backend
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        let head = client.head().await;
        assert_eq!(
            has(&head, "Content-Encoding: gzip"),
            length == "5000",
            "{head}"
        );
        client.send(get("gzip").replacen("GET", "HEAD", 1)).await;
    }
}

/// It could not tell the end of such a body from a break.
#[lameduck_rig::test]
async fn http10_client_gets_the_plain_body() {
    let rig = rig().await;
    let body = page(2_000);
    let request = get("gzip").replace("HTTP/1.1", "HTTP/1.0");
    let got = exchange(
        &rig,
        &request,
        &answer("Content-Type: text/html\r\n", &body),
    )
    .await;
    assert!(got.field("content-encoding").is_none() && got.has("Vary: Accept-Encoding"));
    assert!(got.body == body.as_bytes());
}

/// The client that has the compressed answer knows it by its weak tag, and finds it again by that.
#[lameduck_rig::test]
async fn not_modified_has_the_tag_that_the_client_knows() {
    let rig = rig().await;
    for (known, tag, told) in [
        ("W/\"v1\"", "\"v1\"", "W/\"v1\""),
        ("\"v0\", W/\"v1\"", "\"v1\"", "W/\"v1\""),
        ("\"v1\"", "\"v1\"", "\"v1\""),
        ("W/\"v1\"", "W/\"v1\"", "W/\"v1\""),
    ] {
        let asked = get("gzip").replace("\r\n\r\n", &format!("\r\nIf-None-Match: {known}\r\n\r\n"));
        let mut client = rig.ask(&asked).await;
        let mut backend = rig.backends[0].accept().await;
        let head = backend.head().await;
        assert!(has(&head, &format!("If-None-Match: {known}")), "{head}");
        backend
            .send(format!("HTTP/1.1 304 Not Modified\r\nETag: {tag}\r\n\r\n"))
            .await;
        let got = client.response().await;
        assert_eq!(got.status(), 304);
        assert_eq!(got.field("etag"), Some(told), "{}", got.head);
        assert_eq!(
            got.has("Vary: Accept-Encoding"),
            told != tag,
            "{}",
            got.head
        );
    }
}

/// Errors are answers, too.
#[lameduck_rig::test]
async fn error_page_of_the_app_is_compressed() {
    let rig = rig().await;
    let page = answer("Content-Type: text/html\r\n", &page(2_000));
    for status in ["404 Not Found", "500 Internal Server Error", "201 Created"] {
        let got = exchange(&rig, &get("br"), &page.replace("200 OK", status)).await;
        assert_eq!(got.field("content-encoding"), Some("br"), "{status}");
    }
}

/// Answers with a secret beside what the client has sent are never compressed, where their route says so.
#[lameduck_rig::test]
async fn route_without_compression_passes_its_answers_on() {
    let rig = rig_with(
        "[compression]\n[[route]]\npath_prefix = \"/account\"\npool = \"app\"\ncompression = false\n\
         [[route]]\npool = \"app\"\n",
    )
    .await;
    let whole = answer("Content-Type: text/html\r\n", &page(2_000));
    for (path, is_compressed) in [("/account/me", false), ("/", true), ("/accounts", true)] {
        let request = get("gzip").replace("/page", path);
        let got = exchange(&rig, &request, &whole).await;
        assert_eq!(
            got.field("content-encoding").is_some(),
            is_compressed,
            "{path}"
        );
        assert_eq!(got.has("Vary: Accept-Encoding"), is_compressed, "{path}");
    }
}

/// Types, size, algorithms and their order are what the file says, from the next request on.
#[lameduck_rig::test]
async fn configuration_is_heeded_and_a_reload_changes_it() {
    let rig = rig_with("[compression]\ntypes = [\"image/*\"]\nmin_size = \"10\"\nalgorithms = [\"gzip\", \"br\"]\n").await;
    let all = get("zstd, br, gzip");
    let image = answer("Content-Type: image/x-own\r\n", "0123456789");
    let html = answer("Content-Type: text/html\r\n", &page(5_000));
    let got = exchange(&rig, &all, &image).await;
    assert_eq!(got.field("content-encoding"), Some("gzip"));
    assert!(
        exchange(&rig, &all, &html)
            .await
            .field("content-encoding")
            .is_none()
    );
    let (status, changes) = rig.reload("[\"image/*\"]", "[\"text/*\"]").await;
    assert_eq!(status, 200, "{changes}");
    assert!(changes.contains("[compression]"), "{changes}");
    assert_eq!(
        exchange(&rig, &all, &html).await.field("content-encoding"),
        Some("gzip")
    );
    assert!(
        exchange(&rig, &all, &image)
            .await
            .field("content-encoding")
            .is_none()
    );
    let (status, changes) = rig
        .reload("[compression]\ntypes = [\"text/*\"]\nmin_size = \"10\"\nalgorithms = [\"gzip\", \"br\"]\n", "")
        .await;
    assert_eq!(status, 200, "{changes}");
    let got = exchange(&rig, &all, &html).await;
    assert!(got.field("content-encoding").is_none() && got.field("vary").is_none());
}

/// Beyond it, answers go out as they are, and are counted.
#[lameduck_rig::test]
async fn answers_beyond_max_at_once_go_out_uncompressed_and_are_counted() {
    let rig = rig_with("[compression]\nmax_at_once = 1\n").await;
    let begun = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    let mut client = rig.ask(get("gzip")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(begun).await;
    assert!(has(&client.head().await, "Content-Encoding: gzip"));
    let whole = answer("Content-Type: text/html\r\n", &page(2_000));
    let got = exchange(&rig, &get("gzip"), &whole).await;
    assert!(got.field("content-encoding").is_none() && got.has("Vary: Accept-Encoding"));
    let refused = "lameduck_compression_refused_total{limit=\"max_at_once\"}";
    rig.counts(refused, 1).await;
    backend.send("0\r\n\r\n").await;
    let (body, _) = client.chunks().await;
    assert_eq!(decoded("gzip", &body).unwrap(), "hi");
    client.send(get("gzip")).await;
    backend.head().await;
    backend.send(&whole).await;
    let got = client.response().await;
    assert_eq!(got.field("content-encoding"), Some("gzip"));
    let compressed = "lameduck_compressed_responses_total{coding=\"gzip\"}";
    rig.counts(compressed, 2).await;
    let bytes = "lameduck_compression_bytes_total{coding=\"gzip\",side=\"in\"}";
    rig.counts(bytes, 2_002).await;
}

/// Encoders are part of what strangers may make the proxy keep.
#[lameduck_rig::test]
async fn encoders_without_room_in_max_memory_are_not_begun() {
    let rig = Rig::new(Setup {
        server: "max_memory = \"600KiB\"",
        tables: "[compression]\n",
        ..Setup::default()
    })
    .await;
    let whole = answer("Content-Type: text/html\r\n", &page(2_000));
    let got = exchange(&rig, &get("gzip"), &whole).await;
    assert!(got.field("content-encoding").is_none());
    let refused = "lameduck_compression_refused_total{limit=\"max_memory\"}";
    rig.counts(refused, 1).await;
}
