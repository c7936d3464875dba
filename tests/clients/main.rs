//! Clients that people really use, of several makers, agree with lameduck: over HTTP/1.1, HTTP/2 with and without TLS,
//! in WebSockets and event streams, and when a drain ends those.
//!
//! curl, nghttp and h2load come from the distribution, `websockets`, `httpx` and `ws` by tests/setup.sh. Chromium looks at the
//! dashboard; as a client it is tried in the long form alone (`LAMEDUCK_PROVE=1`). What isn't there is skipped, aloud; in CI it is there.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod browser;
mod command;
mod dashboard;
mod early;
mod stand;

use command::{Talking, has, has_app, output, venv};
use stand::Stand;

/// How a URL begins, and what makes curl speak which protocol to it.
const WAYS: [(&str, &str, &str); 4] = [
    ("http", "--http1.1", "1.1"),
    ("http", "--http2-prior-knowledge", "2"),
    ("https", "--http1.1", "1.1"),
    ("https", "--http2", "2"),
];

#[lameduck_rig::test]
async fn curl_gets_bodies_and_trailers() {
    if !has("curl") || !has_app() {
        return;
    }
    let stand = Stand::start().await;
    let body = stand.file("body", &"0123456789abcdef".repeat(100_000));
    for (scheme, flag, version) in WAYS {
        let url = stand.url(scheme);
        let curl = ["curl", "-sSk", "--max-time", "20", flag];
        let told =
            output(&[&curl[..], &["-w", "%{http_version} %{http_code}", &url]].concat()).await;
        assert_eq!(told, format!("hello\n{version} 200"), "{flag} {url}");
        let upload = format!("@{body}");
        let echo = format!("{url}echo");
        let told = output(&[&curl[..], &["--data-binary", &upload, &echo]].concat()).await;
        assert!(
            told == std::fs::read_to_string(&body).unwrap(),
            "{} bytes came back by {flag} {url}",
            told.len()
        );
        // curl shows trailers behind the body with -D.
        let trailers = format!("{url}trailers");
        let told =
            output(&[&curl[..], &["-D", "-", "-H", "TE: trailers", &trailers]].concat()).await;
        assert!(
            told.to_ascii_lowercase().contains("x-sum: of-it"),
            "{flag} {url}: {told}"
        );
    }
}

#[lameduck_rig::test]
async fn nghttp_and_h2load_lose_nothing() {
    if !has("nghttp") || !has("h2load") || !has_app() {
        return;
    }
    let stand = Stand::start().await;
    for scheme in ["http", "https"] {
        let url = stand.url(scheme);
        let told = output(&["nghttp", "--no-verify-peer", &url]).await;
        assert_eq!(told, "hello\n", "{url}");
        // 2,000 requests, 4 connections, 100 streams at a time.
        let told = output(&["h2load", "-n", "2000", "-c", "4", "-m", "100", &url]).await;
        let fine =
            "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(told.contains(fine), "{told}");
        assert!(told.contains("status codes: 2000 2xx"), "{told}");
    }
}

/// WebSockets are told 1001 (1012 when the app is to start anew), event streams end, and both clients say so.
#[lameduck_rig::test]
async fn a_drain_ends_websockets_and_event_streams_in_good_order() {
    let Some(python) = venv("clients-venv") else {
        return;
    };
    if !has("curl") || !has_app() {
        return;
    }
    let stand = Stand::start().await;
    for (until, code) in [("resumed", 1001), ("restarted", 1012)] {
        // First come those that are closed first: what is left of the time by then is theirs.
        let mut streams = Vec::new();
        for (scheme, flag, _) in WAYS {
            let url = format!("{}events", stand.url(scheme));
            streams.push(Talking::start(&[
                "curl",
                "-sSNk",
                "--max-time",
                "60",
                flag,
                &url,
            ]));
        }
        for stream in &mut streams {
            assert_eq!(stream.line().await, "data: tick");
        }
        let mut sockets = Vec::new();
        for scheme in ["ws", "wss"] {
            let url = format!("{}ws", stand.url(scheme));
            sockets.push(Talking::start(&[
                &python,
                "tests/clients/websocket.py",
                &url,
            ]));
            sockets.push(Talking::start(&[
                "node",
                "tests/clients/websocket.js",
                &url,
            ]));
        }
        for socket in &mut sockets {
            assert_eq!(socket.line().await, "open");
        }
        stand.drain(until).await;
        for socket in sockets {
            assert_eq!(socket.rest().await, (format!("closed {code}\n"), true));
        }
        for stream in streams {
            let (text, fine) = stream.rest().await;
            assert!(fine, "curl says that the end isn't one; it got {text:?}");
            assert!(
                text.ends_with("data: tick\n\n"),
                "cut within an event: {text:?}"
            );
        }
        stand.resume().await;
    }
}
