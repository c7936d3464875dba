//! Authorities that are away, busy, slow, wrong or forgetful: what is served goes on being served, and nobody is asked
//! more often than is good.

use std::time::Duration;

use super::authority::{Fault, TestAuthority};
use super::rig::{Ports, Proxy, account_dir, scratch, until};

#[lameduck_rig::test]
async fn authority_that_is_away_takes_no_listener_down() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = lameduck_rig::certificates::Authority::new("files");
    let own = authority.sign(&["files.test"]);
    own.write(&dir.path().join("own.pem"), &dir.path().join("own.key"));
    let nobody = lameduck_rig::ports::free_address();
    let acme = format!("domains = [\"a.test\"]\ndirectory = \"https://{nobody}/dir\"\n");
    // Nothing to serve yet: handshakes are refused, and everything else works.
    let bare = Proxy::start(&dir.path().join("bare"), ports, "", &acme).await;
    assert!(
        bare.plain("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 301")
    );
    let client = lameduck_rig::certificates::Client::default().config(&authority);
    let refused = bare.get("a.test", &client).await.err().unwrap();
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    let failing = bare.until_state("failing").await;
    assert!(
        failing["last_error"]
            .as_str()
            .unwrap()
            .contains("can't connect"),
        "{failing}"
    );
    assert!(failing["next_order"].is_string() && failing["failures"].as_u64() >= Some(1));
    bare.logs("no certificate: can't connect to").await;
    let metrics = bare.metrics().await;
    for line in [
        "lameduck_certificate_order_state{name=\"a.test\",state=\"failing\"} 1",
        "lameduck_tls_handshakes_total{outcome=\"no_certificate\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    // With a certificate from files beside it, that one is served.
    let tls = format!(
        "tls = {{ cert = \"{0}/own.pem\", key = \"{0}/own.key\" }}\n",
        dir.path().display()
    );
    let both = Proxy::start(&dir.path().join("both"), Ports::free(), &tls, &acme).await;
    assert!(
        both.until_served("files.test", &client)
            .await
            .answer
            .ends_with("hello")
    );
    both.until_state("failing").await;
    assert!(both.get("files.test", &client).await.is_ok());
}

#[lameduck_rig::test]
async fn faults_on_the_way_cost_time_and_no_second_order() {
    use Fault::{HangUp, Page, Problem};
    let nonce = Problem("badNonce", 400, None);
    let cases: [(&str, &'static str, Vec<Fault>, u32); 6] = [
        ("nonces", "finalize", vec![nonce.clone(), nonce], 0),
        ("a broken server", "dir", vec![Page(500)], 0),
        ("a page", "order", vec![Page(502)], 0),
        ("connections", "authz", vec![HangUp], 0),
        (
            "too much",
            "neworder",
            vec![Problem("rateLimited", 429, Some(2))],
            0,
        ),
        ("slow signing", "nothing", vec![], 3),
    ];
    let runs = cases.map(|(what, part, faults, processing)| async move {
        let dir = scratch();
        let ports = Ports::free();
        let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
        authority.fault(part, &faults);
        authority.script.lock().processing = processing;
        let acme = authority.keys(&["a.test", "b.test"]);
        let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
        let seen = proxy.until_served("b.test", &authority.client()).await;
        assert_eq!(seen.names(), ["a.test", "b.test"], "{what}");
        assert_eq!(authority.orders(), 1, "{what}");
    });
    futures_util::future::join_all(runs).await;
}

#[lameduck_rig::test]
async fn order_that_is_stuck_goes_on_at_the_next_try() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    authority.script.lock().processing = u32::MAX;
    let acme = authority.keys(&["a.test"]);
    let mut proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    until("the request", async || authority.asked("finalize") == 1).await;
    // Killed while it waits: its successor goes on with the same order and the same key.
    proxy.kill().await;
    authority.heard.lock().finish_all();
    let proxy = Proxy::start_again(&dir.path().join("proxy"), ports).await;
    proxy.until_served("a.test", &authority.client()).await;
    assert_eq!((authority.orders(), authority.asked("finalize")), (1, 1));
}

#[lameduck_rig::test]
async fn wrong_certificate_is_not_served_and_challenge_that_nobody_answers_is_explained() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    authority.script.lock().is_wrong = true;
    let acme = authority.keys(&["a.test"]);
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    let failing = proxy.until_state("failing").await;
    let why = failing["last_error"].as_str().unwrap();
    assert!(
        why.contains("what was not ordered: a.test is not in it"),
        "{why}"
    );
    assert!(proxy.get("a.test", &authority.client()).await.is_err());
    drop(proxy);

    let nobody = lameduck_rig::ports::free_address();
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[nobody]).await;
    let acme = authority.keys(&["a.test"]);
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    let failing = proxy.until_state("failing").await;
    let why = failing["last_error"].as_str().unwrap();
    assert!(
        why.contains("a.test: nobody answers there (connection)"),
        "{why}"
    );
    // It is not tried again at once: two minutes, and more each time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(authority.orders(), 1);
}

#[lameduck_rig::test]
async fn account_that_is_gone_is_made_anew() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    authority.fault(
        "neworder",
        &[Fault::Problem("accountDoesNotExist", 400, None)],
    );
    let acme = authority.keys(&["a.test"]);
    let proxy_dir = dir.path().join("proxy");
    let proxy = Proxy::start(&proxy_dir, ports, "", &acme).await;
    proxy.until_served("a.test", &authority.client()).await;
    assert_eq!(authority.asked("account"), 2);
    assert!(account_dir(&proxy_dir).join("account.json.bad").exists());
}

#[lameduck_rig::test]
async fn restarts_and_crashes_order_no_more_than_one_that_runs_on() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    authority.fault(
        "neworder",
        &vec![Fault::Problem("rejectedIdentifier", 400, None); 50],
    );
    let acme = authority.keys(&["a.test"]);
    let proxy_dir = dir.path().join("proxy");
    let mut proxy = Proxy::start(&proxy_dir, ports, "", &acme).await;
    proxy.until_state("failing").await;
    for _ in 0..4 {
        proxy.kill().await;
        proxy = Proxy::start_again(&proxy_dir, ports).await;
        proxy.until_state("failing").await;
    }
    assert_eq!(authority.asked("neworder"), 1);
    drop(proxy);

    // Without a note of how it ended, orders are counted all the same.
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    authority.fault("neworder", &vec![Fault::Hang; 50]);
    let acme = authority.keys(&["a.test"]) + "orders_per_hour = 2\n";
    let proxy_dir = dir.path().join("proxy");
    for crash in 1..=2 {
        let mut proxy = Proxy::start(&proxy_dir, ports, "", &acme).await;
        until("an order", async || authority.asked("neworder") == crash).await;
        proxy.kill().await;
    }
    let proxy = Proxy::start(&proxy_dir, ports, "", &acme).await;
    proxy.logs("there were 2 in the last hour").await;
    let waiting = proxy.until_state("waiting").await;
    assert!(waiting["next_order"].is_string());
    assert_eq!(authority.asked("neworder"), 2);
}
