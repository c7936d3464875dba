//! Who a request comes from, where trusted proxies stand between.

use lameduck_rig::proxy::{Rig, Setup};

async fn rig(tables: &'static str) -> Rig {
    Rig::new(Setup {
        tables,
        ..Setup::default()
    })
    .await
}

/// What the app gets as `X-Forwarded-For` of a request with this line, and what the log has as its client.
async fn told(rig: &Rig, line: &str, lines: usize) -> (String, String) {
    let mut client = rig
        .ask(format!(
            "GET /{lines} HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"
        ))
        .await;
    let (_, mut backend) = rig.first().await;
    let request = backend.request().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    client.response().await;
    drop(client);
    let log = rig.access_log(lines).await;
    let line = log
        .iter()
        .find(|line| line["target"] == format!("/{lines}"))
        .unwrap();
    let chain = request.field("X-Forwarded-For").unwrap();
    (
        chain.to_owned(),
        line["client"].as_str().unwrap().to_owned(),
    )
}

/// The log has the client that the trusted ones tell of; the app gets the whole chain, as ever.
#[lameduck_rig::test]
async fn the_log_names_the_client_behind_trusted_proxies() {
    let rig = rig("[headers]\ntrusted = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").await;
    let cases = [
        (
            "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1",
            "6.6.6.6, 192.0.2.1, 10.0.0.1, 127.0.0.1",
            "192.0.2.1",
        ),
        (
            "X-Forwarded-For: unknown",
            "unknown, 127.0.0.1",
            "127.0.0.1",
        ),
        (
            "Forwarded: for=\"[2001:db8::1]:80\"",
            "127.0.0.1",
            "2001:db8::1",
        ),
        ("X-A: b", "127.0.0.1", "127.0.0.1"),
    ];
    for (number, (line, chain, client)) in cases.into_iter().enumerate() {
        let told = told(&rig, line, number + 1).await;
        assert_eq!(told, (chain.to_owned(), client.to_owned()), "{line}");
    }
}

/// A client that nobody trusts is who its connection says.
#[lameduck_rig::test]
async fn an_untrusted_client_says_nothing() {
    let rig = rig("[headers]\ntrusted = [\"10.0.0.0/8\"]").await;
    let told = told(
        &rig,
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1",
        1,
    )
    .await;
    assert_eq!(told, ("127.0.0.1".to_owned(), "127.0.0.1".to_owned()));
}
