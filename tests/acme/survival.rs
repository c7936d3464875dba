//! What is on the disk may be damaged, lost or unwritable.

use super::authority::TestAuthority;
use super::rig::{Ports, Proxy, account_dir, scratch, until};

#[lameduck_rig::test]
async fn damaged_files_are_told_and_begun_anew_while_the_old_certificate_is_served() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    let acme = authority.keys(&["a.test"]);
    let proxy_dir = dir.path().join("proxy");
    let mut proxy = Proxy::start(&proxy_dir, ports, "", &acme).await;
    let client = authority.client();
    let first = proxy.until_served("a.test", &client).await.certificate;
    proxy.until_state("good").await;
    let state = account_dir(&proxy_dir);
    let text = std::fs::read_to_string(state.join("a.test.pem")).unwrap();
    std::fs::write(state.join("a.test.pem"), &text[..text.len() / 2]).unwrap();
    // What was served is served until there is another.
    until("a new one", async || {
        proxy.get("a.test", &client).await.unwrap().certificate != first
    })
    .await;
    proxy.logs("a.test.pem: it ends in the middle").await;
    assert_eq!(authority.orders(), 2);
    // All of the rest, at a start.
    proxy.kill().await;
    for file in [
        "account.json",
        "account.key",
        "orders.json",
        "a.test.json",
        "a.test.pem",
        "lock",
    ] {
        std::fs::write(state.join(file), "{\"half\": ").unwrap();
    }
    let proxy = Proxy::start_again(&proxy_dir, ports).await;
    proxy.until_served("a.test", &client).await;
    assert_eq!(authority.orders(), 3);
    for file in ["account.json", "account.key", "orders.json", "a.test.json"] {
        proxy.logs(&format!("the old one is {file}.bad")).await;
    }
}

#[lameduck_rig::test]
async fn directory_that_can_not_be_used_is_told_and_nothing_is_ordered() {
    let dir = scratch();
    let ports = Ports::free();
    let authority = TestAuthority::start(dir.path(), &[ports.plain]).await;
    // A file is in the way.
    std::fs::write(dir.path().join("there"), "").unwrap();
    let shared = format!("state_dir = {:?}\n", dir.path().join("there"));
    let acme = authority.keys(&["a.test"]) + &shared;
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    proxy.logs("no certificates can be ordered").await;
    let failing = proxy.until_state("failing").await;
    assert!(
        failing["last_error"].as_str().unwrap().contains("there"),
        "{failing}"
    );
    assert_eq!(authority.orders(), 0);
    assert!(
        proxy
            .plain("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 301")
    );
}
