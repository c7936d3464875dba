//! Compressed answers over HTTP/2, from and to either side, and through restarts.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;
use lameduck::tools::demo::scratch::ScratchDir;
use lameduck_rig::h2_client::{Client, answer, piece, soon, try_answer};
use lameduck_rig::place::exe;
use lameduck_rig::proxy::{Rig, Setup};
use tokio::net::TcpListener;

use super::load::{Load, decoded};
use super::restarts::{STREAMS, account, instances, until_more};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

async fn rig(pool: &'static str) -> Rig {
    Rig::new(Setup {
        pool,
        tables: "http2 = true\n[compression]\n",
        ..Setup::default()
    })
    .await
}

fn asking(method: &str, coding: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri("http://a/page")
        .header("accept-encoding", coding)
        .body(())
        .unwrap()
}

fn page() -> String {
    (0..20_000)
        .map(|line| format!("<p>{}</p>\n", line * 7919 % 1000))
        .collect()
}

#[lameduck_rig::test]
async fn stream_gets_the_compressed_body_with_its_trailers() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let page = page();
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"1\"\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{page}\r\n0\r\nx-sum: 7\r\ncontent-digest: x\r\n\r\n",
        page.len()
    );
    let mut backend = None;
    for coding in CODINGS {
        let (response, _) = client.begin(asking("GET", coding), true).await;
        let backend = match &mut backend {
            Some(kept) => kept,
            none => none.insert(rig.backends[0].accept().await),
        };
        backend.head().await;
        backend.send(&whole).await;
        let got = answer(response).await;
        assert_eq!(got.field("content-encoding"), Some(coding));
        assert_eq!(got.field("vary"), Some("Accept-Encoding"));
        assert_eq!(got.field("etag"), Some("W/\"1\""));
        assert_eq!(got.field("content-length"), None);
        assert_eq!(got.field("transfer-encoding"), None);
        assert!(decoded(coding, &got.body).unwrap() == page.as_bytes());
        let trailers = got.trailers.unwrap();
        assert_eq!(trailers.get("x-sum").unwrap(), "7");
        assert!(!trailers.contains_key("content-digest"));
        // And the HEAD of it.
        let (response, _) = client.begin(asking("HEAD", coding), true).await;
        backend.head().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n";
        backend.send(head).await;
        let got = answer(response).await;
        assert_eq!(got.field("content-encoding"), Some(coding));
        assert_eq!(got.field("content-length"), None);
        assert!(got.body.is_empty());
    }
}

#[lameduck_rig::test]
async fn stream_whose_backend_breaks_off_is_reset() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for coding in CODINGS {
        let (response, _) = client.begin(asking("GET", coding), true).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 999999\r\n\r\n";
        backend.send(format!("{head}{}", page())).await;
        drop(backend);
        try_answer(response).await.unwrap_err();
    }
}

#[lameduck_rig::test]
async fn event_reaches_its_stream_before_the_next_one() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for coding in CODINGS {
        let (response, _) = client.begin(asking("GET", coding), true).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let (head, mut body) = soon(response).await.unwrap().into_parts();
        assert_eq!(head.headers["content-encoding"], coding);
        let mut seen = Vec::new();
        for _ in 0..10 {
            backend.send("9\r\ndata: a\n\n\r\n").await;
            // No other byte is on its way.
            seen.extend(piece(&mut body).await);
        }
        backend.send("0\r\n\r\n").await;
        let (rest, _) = lameduck_rig::h2_client::rest(body).await.unwrap();
        seen.extend(rest);
        assert_eq!(decoded(coding, &seen).unwrap(), b"data: a\n\n".repeat(10));
    }
}

/// A backend that speaks HTTP/2, with the `h2` crate: its body has a length, or none.
#[lameduck_rig::test]
async fn body_of_an_http2_backend_is_compressed() {
    let mut rig = rig("[pool.upstream]\nhttp2 = true\n").await;
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    let page = page();
    let sent = page.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut tells_length = false;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tells_length = !tells_length;
            let mut head = Response::builder().header("content-type", "text/html");
            if tells_length {
                head = head.header("content-length", sent.len());
            }
            let mut body = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            let text = Bytes::from(sent.clone());
            tokio::spawn(async move {
                body.send_data(text, tells_length).unwrap();
                if !tells_length {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", "7".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    let mut client = Client::new(&rig).await;
    for coding in CODINGS {
        for tells_length in [true, false] {
            let (response, _) = client.begin(asking("GET", coding), true).await;
            let got = answer(response).await;
            assert_eq!(got.field("content-encoding"), Some(coding));
            assert!(decoded(coding, &got.body).unwrap() == page.as_bytes());
            assert_eq!(got.trailers.is_some(), !tells_length);
        }
    }
    serving.abort();
}

/// 100 streams on one connection, all compressed, through the restart of every instance.
#[lameduck_rig::test(threads = 2)]
async fn rolling_restart_costs_no_compressed_answer() {
    let scratch = ScratchDir::new("lameduck-compression").unwrap();
    let mut apps = instances(&scratch).await;
    let settings = ProxySettings {
        listener: "http2 = true\n[compression]\ntypes = [\"*/*\"]\nmin_size = \"0\"".into(),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", scratch.path(), &settings, &apps)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let load = Load::start_accepting(proxy.address(), STREAMS, &CODINGS);
    until_more(&load, 300).await;
    for app in &mut apps {
        roll::restart(app, &proxy, Duration::from_secs(5), &|_, _| {})
            .await
            .unwrap();
        until_more(&load, 300).await;
    }
    let coded = load.coded();
    let account = account(load, &apps).await;
    assert!(account.is_clean(), "{account:#?}");
    assert_eq!(account.stops, 3);
    assert!(coded >= 1_000, "{coded} of {}", account.sent);
    println!("{} requests, {coded} compressed, 0 lost", account.sent);
}
