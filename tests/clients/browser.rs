//! Chromium without a window, over TLS: fetch, a WebSocket and an EventSource from a page.

use serde_json::{Value, json};

use super::command::{Talking, has, has_app};
use super::stand::Stand;

#[lameduck_rig::test]
async fn chromium_fetches_talks_and_listens() {
    if std::env::var("LAMEDUCK_PROVE").as_deref() != Ok("1") {
        return;
    }
    if !has("chromium-headless-shell") || !has_app() {
        return;
    }
    let mut stand = Stand::start().await;
    let profile = tempfile::tempdir().unwrap();
    let directory = format!("--user-data-dir={}", profile.path().display());
    let page = format!("{}page", stand.url("https"));
    let _browser = Talking::start(&[
        "chromium-headless-shell",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        // Else it ends when the page is loaded.
        "--remote-debugging-port=0",
        &directory,
        &page,
    ]);
    let found = stand.app.as_mut().unwrap().line().await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let numbers: Vec<_> = (0..50).map(|n: u32| n.to_string()).collect();
    assert_eq!(found["echo"], 200_000, "{found}");
    assert_eq!(found["socket"], json!([70_000, 1000, true]), "{found}");
    assert_eq!(found["events"], json!(["tick", "tick", "tick"]), "{found}");
    assert_eq!(found["many"], numbers.join(","), "{found}");
    assert_eq!(found["protocols"], json!(["h2"]), "{found}");
    // Chromium puts a WebSocket on the page's HTTP/2 connection, since lameduck says that it may (RFC 8441).
    for _ in 0..200 {
        let log = stand.rig.access_log(1).await;
        if let Some(line) = log.iter().find(|line| line["target"] == "/ws") {
            assert_eq!(line["version"], "HTTP/2.0", "{line}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the access log has no line about the WebSocket");
}
