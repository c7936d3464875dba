//! Bodies in every framing, whole and cut.

use super::*;
use std::time::{Duration, Instant};

/// The same page by its length, in chunks of any size, and until the backend closes.
#[lameduck_rig::test]
async fn body_in_every_framing_arrives_whole_and_the_connection_goes_on() {
    let rig = rig().await;
    let body = page(200_000);
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
    let mut chunked = format!("{html}Transfer-Encoding: chunked\r\n\r\n");
    for (at, piece) in body.as_bytes().chunks(7_001).enumerate() {
        let text = std::str::from_utf8(piece).unwrap();
        chunked += &format!("{:x};ext={at}\r\n{text}\r\n", piece.len());
    }
    chunked += "0\r\n\r\n";
    let framings = [
        answer("Content-Type: text/html\r\n", &body),
        chunked,
        format!("{html}Connection: close\r\n\r\n{body}"),
    ];
    for coding in CODINGS {
        let mut client = rig.client().await;
        for framing in &framings {
            client.send(get(coding)).await;
            let mut backend = rig.backends[0].accept().await;
            backend.head().await;
            backend.send(framing).await;
            if framing.contains("Connection: close") {
                backend.finish().await;
            }
            let got = client.response().await;
            assert_eq!(got.field("content-encoding"), Some(coding));
            assert_eq!(got.field("transfer-encoding"), Some("chunked"));
            assert!(decoded(coding, &got.body).unwrap() == body, "{coding}");
            // Nothing is left on it.
            if !framing.contains("Connection: close") {
                client.send(get(coding)).await;
                backend.head().await;
                backend.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
                assert_eq!(client.response().await.text(), "ok");
            }
        }
    }
}

/// A body that breaks off must not look whole: neither its chunks nor its coding end.
#[lameduck_rig::test]
async fn body_that_breaks_off_is_cut_for_the_client_too() {
    let rig = rig().await;
    let body = page(100_000);
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    for coding in CODINGS {
        for broken in [
            format!("{html}Content-Length: 100001\r\n\r\n{body}"),
            format!("{html}Transfer-Encoding: chunked\r\n\r\n{chunk}"),
            format!("{html}Transfer-Encoding: chunked\r\n\r\n{chunk}xyz\r\n"),
            format!("{html}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\nBroken trailer\r\n\r\n"),
        ] {
            let mut client = rig.ask(get(coding)).await;
            let mut backend = rig.backends[0].accept().await;
            backend.head().await;
            backend.send(&broken).await;
            drop(backend);
            assert!(client.head().await.contains(coding));
            let (rest, _) = client.rest().await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{coding}");
            let mut data = Vec::new();
            let mut left = &rest[..];
            while let Some(end) = left.windows(2).position(|two| two == b"\r\n") {
                let size = std::str::from_utf8(&left[..end]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                data.extend_from_slice(&left[end + 2..end + 2 + size]);
                left = &left[end + 4 + size..];
            }
            assert!(decoded(coding, &data).is_err(), "{coding}");
        }
    }
    // The same by a reset.
    let mut client = rig.ask(get("gzip")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(format!("{html}\r\n{body}")).await;
    client.head().await;
    backend.reset();
    assert!(!client.rest().await.0.ends_with(b"0\r\n\r\n"));
}

/// Trailers come through, without those that are about the plain body.
#[lameduck_rig::test]
async fn trailers_follow_the_compressed_body() {
    let rig = rig().await;
    let body = page(2_000);
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\nX-Sum: 7\r\nContent-Digest: sha-256=:x:\r\nRepr-Digest: y\r\nServer-Timing: a\r\n\r\n",
        body.len()
    );
    for coding in CODINGS {
        let got = exchange(&rig, &get(coding), &whole).await;
        assert!(decoded(coding, &got.body).unwrap() == body);
        assert_eq!(got.trailers, "X-Sum: 7\r\nServer-Timing: a\r\n");
    }
}

/// A client that takes nothing makes the backend wait, and costs no memory.
#[lameduck_rig::test]
async fn slow_client_holds_the_backend_back_and_gets_all_of_it() {
    let rig = rig().await;
    let mut random = fastrand::Rng::with_seed(3);
    let body: String = (0..12 << 20).map(|_| random.alphanumeric()).collect();
    let before = rig.memory();
    let mut client = rig.ask(get("gzip")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let whole = answer("Content-Type: text/plain\r\n", &body);
    let sending = tokio::spawn(async move {
        backend.send(whole).await;
        backend
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sending.is_finished(), "it would all be in the proxy");
    let grown = rig.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
    let got = client.response().await;
    assert!(decoded("gzip", &got.body).unwrap() == body);
    sending.await.unwrap();
}

/// While one thread compresses a body without end, others' small requests are served by it between two steps.
#[lameduck_rig::test(threads = 2)]
async fn large_body_does_not_hold_up_small_requests_on_its_thread() {
    let rig = rig().await;
    for coding in CODINGS {
        let mut large = rig.ask(get(coding)).await;
        let mut source = rig.backends[0].accept().await;
        source.head().await;
        source
            .send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await;
        let piece = page(64 * 1024);
        let piece = format!("{:x}\r\n{piece}\r\n", piece.len());
        let feeding = tokio::spawn(async move { while source.try_send(&piece).await.is_ok() {} });
        let taking = tokio::spawn(async move {
            large.head().await;
            loop {
                large.exactly(1_000).await;
            }
        });
        let mut took = Vec::new();
        let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut backend = rig.backends[0].accept().await;
        for _ in 0..50 {
            backend.head().await;
            let began = Instant::now();
            backend.answer("x").await;
            client.response().await;
            took.push(began.elapsed());
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        }
        backend.head().await;
        backend.answer_and_close("x").await;
        client.response().await;
        taking.abort();
        feeding.abort();
        took.sort();
        let median = took[took.len() / 2];
        eprintln!("{coding}: a small answer beside a large one took {median:?}");
        assert!(median < Duration::from_millis(250), "{coding} {took:?}");
    }
}

/// curl decodes what it asks for: another implementation of each.
#[lameduck_rig::test]
async fn curl_reads_every_coding() {
    let rig = rig().await;
    let body = page(300_000);
    for coding in CODINGS {
        let url = format!("http://{}/", rig.address);
        let curl = tokio::process::Command::new("curl")
            .args(["-s", "--max-time", "20", "--compressed", "-H"])
            .arg(format!("Accept-Encoding: {coding}"))
            .arg(&url)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let Ok(curl) = curl else {
            eprintln!("skipped: there is no curl");
            return;
        };
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend
            .send(answer("Content-Type: text/html\r\n", &body))
            .await;
        let got = curl.wait_with_output().await.unwrap();
        // 61: it was built without this coding.
        if got.status.code() == Some(61) {
            eprintln!("skipped: this curl knows no {coding}");
            continue;
        }
        assert!(got.status.success(), "{:?}", got.status);
        assert!(got.stdout == body.as_bytes(), "{coding}");
    }
}
