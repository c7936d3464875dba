//! Alerts, `status` and 503s name the last thing that was really seen.

use lameduck::tools::demo::admin;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use lameduck_rig::proxy::{GET, Rig, Setup};

const HEALTH: &str = "[pool.health]\npath = \"/health\"\ninterval = \"100ms\"\nfast_interval = \"50ms\"\nabsent_after = \"1s\"";

async fn with_backend(address: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let pool = format!("[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n{HEALTH}");
    Rig::start(dir, "", "", &pool, Vec::new()).await
}

/// Waits for the alert, and checks its words.
async fn alert_says(rig: &Rig, words: &str) {
    rig.until("the backend is down", |pool| {
        pool.backends[0].state == "down"
    })
    .await;
    rig.logs(words).await;
    let log = rig.log();
    assert!(!log.contains("no sign of life"), "{log}");
}

#[lameduck_rig::test]
async fn alert_for_a_redirecting_health_check_names_the_redirect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = "HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let rig = with_backend(&address.to_string()).await;
    alert_says(
        &rig,
        "no probe passed for 1s, the last: 301 Moved Permanently",
    )
    .await;
    app.abort();
}

#[lameduck_rig::test]
async fn alert_and_status_for_an_unknown_name_say_that_it_is_not_resolved() {
    let rig = with_backend("nothing.invalid:80").await;
    alert_says(&rig, "`nothing.invalid` can't be resolved").await;
    let seen = rig.pool().await.backends[0].last_probe.clone().unwrap();
    assert!(seen.contains("can't be resolved"), "{seen}");
    assert!(!seen.contains("socket"), "{seen}");
}

#[lameduck_rig::test]
async fn unavailable_answer_names_the_last_failed_connect_and_counts_it() {
    let mut rig = Rig::new(Setup {
        pool: "[pool.hold]\ntimeout = \"200ms\"",
        ..Setup::default()
    })
    .await;
    rig.backends.clear();
    let response = rig.ask(GET).await.response().await;
    assert_eq!(response.status(), 503);
    let words = "the last one tried refused the connection";
    assert!(response.text().contains(words), "{}", response.text());
    let line = rig.access_log(1).await.pop().unwrap();
    assert!(line["cause"].as_str().unwrap().contains(words), "{line}");
    let series = "lameduck_connect_failures_total{pool=\"app\",reason=\"refused\"}";
    assert!(rig.metric(series).await.unwrap_or_default() > 0);
}

/// An app whose health check has this answer, and that nobody asks anything else.
async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, app)
}

/// A request that tried no backend has seen nothing itself: the last probe has.
#[lameduck_rig::test]
async fn unavailable_answer_of_a_request_that_tried_none_quotes_the_last_probe() {
    let unavailable =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (address, app) = answering(unavailable).await;
    for (hold, words) in [
        (
            "[pool.hold]\ntimeout = \"200ms\"",
            "no backend became ready in time: last probe of a: 503",
        ),
        (
            "[pool.hold]\non_empty = \"fail\"",
            "no backend is ready: last probe of a: 503",
        ),
    ] {
        let pool =
            format!("[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n{HEALTH}\n{hold}");
        let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
        rig.until("probed", |pool| pool.backends[0].last_probe.is_some())
            .await;
        let response = rig.ask(GET).await.response().await;
        assert_eq!(response.status(), 503);
        // Names of backends are nobody's business outside.
        let told = words.split(':').next().unwrap();
        assert_eq!(response.text(), format!("{told}\n"));
        let line = rig.access_log(1).await.pop().unwrap();
        assert!(line["cause"].as_str().unwrap().contains(words), "{line}");
    }
    app.abort();
}

/// A probe that passes would be a riddle beside "none is ready": whoever keeps requests away is named, too.
#[lameduck_rig::test]
async fn unavailable_answer_of_a_drained_pool_names_who_drained_it() {
    let (address, app) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let hold = "[pool.hold]\ntimeout = \"200ms\"";
    let pool = format!("[[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n{HEALTH}\n{hold}");
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
    rig.until("ready", |pool| pool.backends[0].state == "ready")
        .await;
    let body = json!({ "timeout": "1s" });
    admin::call(
        &rig.socket,
        "POST",
        "/v1/pools/app/backends/a/drain",
        Some(&body),
    )
    .await
    .unwrap();
    let mut said = String::new();
    // The first probe after the drain tells.
    for asked in 1..=50 {
        let response = rig.ask(GET).await.response().await;
        assert_eq!(response.status(), 503);
        let lines = rig.access_log(asked).await;
        said = lines.last().unwrap()["cause"].as_str().unwrap().to_owned();
        if said.contains("(drained by operator)") {
            break;
        }
    }
    assert!(
        said.contains("last probe of a: 200") && said.contains("(drained by operator)"),
        "{said}"
    );
    app.abort();
}
