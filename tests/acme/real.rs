//! A real authority issues, by both challenges.

use std::process::Command;

use lameduck_rig::certificates::Authority;
use lameduck_rig::setting::skip;
use lameduck_rig::wait::until_within;

use super::pebble::{EAB, Pebble};
use super::rig::{Ports, Proxy, account_dir, client_of, scratch};

#[lameduck_rig::test]
async fn pebble_issues_several_certificates_by_handshakes_and_every_client_gets_its_own() {
    let dir = scratch();
    let ports = Ports::free();
    let Some(pebble) = Pebble::start(dir.path(), ports, false).await else {
        return skip("acme", "pebble");
    };
    // Clients have to show certificates, and an authority has none to show.
    let clients = Authority::new("clients");
    std::fs::write(dir.path().join("clients.pem"), &clients.pem).unwrap();
    let tls = format!(
        "[listener.tls]\nclient_auth = \"required\"\nclient_ca = \"{}\"\n",
        dir.path().join("clients.pem").display()
    );
    let acme = pebble.keys(&["one.test", "two.test"])
        + "challenge = \"tls-alpn-01\"\nemail = \"ops@one.test\"\n";
    let more = "[[listener.acme.certificates]]\ndomains = [\"three.test\"]\n";
    let proxy_dir = dir.path().join("proxy");
    let proxy = Proxy::start(&proxy_dir, ports, &tls, &(acme + more)).await;
    let patience = std::time::Duration::from_secs(60);
    until_within("both certificates", patience, async || {
        let listener = proxy.listener().await;
        // It is there from the first look on.
        let all = listener["acme"].as_array();
        all.is_some_and(|all| all.iter().all(|one| one["state"] == "good"))
    })
    .await;
    let shown = clients.sign(&["a client"]);
    let root = pebble.root().await;
    std::fs::write(dir.path().join("root.pem"), &root).unwrap();
    shown.write(
        &dir.path().join("client.pem"),
        &dir.path().join("client.key"),
    );
    for (name, names) in [("one.test", 2), ("two.test", 2), ("three.test", 1)] {
        // A client of other people's.
        let curl = Command::new("curl")
            .args(["-sS", "--max-time", "20", "--resolve"])
            .arg(format!("{name}:{}:127.0.0.1", ports.tls.port()))
            .arg("--cacert")
            .arg(dir.path().join("root.pem"))
            .arg("--cert")
            .arg(dir.path().join("client.pem"))
            .arg("--key")
            .arg(dir.path().join("client.key"))
            .arg(format!("https://{name}:{}/", ports.tls.port()))
            .output();
        match curl {
            Ok(curl) => assert_eq!(String::from_utf8_lossy(&curl.stdout), "hello", "{curl:?}"),
            Err(_) => skip("acme", "curl"),
        }
        let listener = proxy.listener().await;
        let served = listener["certificates"].as_array().unwrap().iter();
        let served = served.filter(|one| one["names"].as_array().unwrap().contains(&name.into()));
        let served: Vec<_> = served.collect();
        assert_eq!(served.len(), 1, "{listener}");
        assert_eq!(served[0]["names"].as_array().unwrap().len(), names);
        assert!(
            served[0]["issuer"].as_str().unwrap().contains("Pebble"),
            "{listener}"
        );
    }
    // Without a certificate of its own, nobody but the authority was let in.
    assert!(proxy.get("one.test", &client_of(&root)).await.is_err());
    let metrics = proxy.metrics().await;
    for line in [
        "lameduck_certificate_orders_total{name=\"one.test\",outcome=\"issued\"} 1",
        "lameduck_certificate_order_state{name=\"three.test\",state=\"good\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let challenges = metrics
        .lines()
        .find(|line| line.contains("acme_challenge"))
        .unwrap();
    let seen: u32 = challenges.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(seen >= 3, "{challenges}");
    assert_private(&account_dir(&proxy_dir));
}

#[lameduck_rig::test]
async fn pebble_issues_over_http_to_a_bound_account_on_a_listener_that_redirects() {
    let dir = scratch();
    let ports = Ports::free();
    let Some(pebble) = Pebble::start(dir.path(), ports, true).await else {
        return skip("acme", "pebble");
    };
    let eab = format!(
        "challenge = \"http-01\"\neab_kid = {:?}\neab_key = {:?}\n",
        EAB.0, EAB.1
    );
    let acme = pebble.keys(&["one.test", "two.test"]) + &eab;
    let proxy = Proxy::start(&dir.path().join("proxy"), ports, "", &acme).await;
    proxy.until_state("good").await;
    let client = client_of(&pebble.root().await);
    let seen = proxy.until_served("two.test", &client).await;
    assert_eq!(seen.names().len(), 2);
    assert!(seen.answer.ends_with("hello"));
    // Every other request goes its way, such as those of another ACME client behind us.
    for path in ["/.well-known/acme-challenge/another", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n");
        assert!(proxy.plain(&request).await.starts_with("HTTP/1.1 301"));
    }
}

/// Nobody else may read what is kept.
fn assert_private(dir: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        // One that was just renamed has been looked at, or will be, under its other name.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let mode = metadata.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
        files += 1;
    }
    assert!(files >= 4, "{files}");
}
