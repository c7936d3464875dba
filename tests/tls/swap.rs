//! Certificates, authorities and configurations change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lameduck::tools::demo::load::{Load, LoadPlan};
use rustls::ClientConfig;

use super::apps::Apps;
use super::rig::{Rig, connect, fetch, proving, until};
use lameduck_rig::certificates::{Authority, Client, replace};

/// Handshakes from the start, one after the other, none of them resumed, until told to stop. Counts the good ones; returns
/// how the others failed.
async fn shake_hands(
    address: std::net::SocketAddr,
    config: ClientConfig,
    good: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut bad = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut config = config.clone();
        config.resumption = rustls::client::Resumption::disabled();
        match connect(address, "localhost", Arc::new(config)).await {
            Ok(_) => drop(good.fetch_add(1, Ordering::Relaxed)),
            Err(error) => bad.push(error.to_string()),
        }
    }
    bad
}

#[lameduck_rig::test]
async fn a_hundred_swaps_under_load_cost_nothing() {
    let apps = Apps::start(&["app-1", "app-2"]).await;
    let backends = apps.backends();
    let tls = "client_auth = \"required\"\nclient_ca = \"$DIR/ca.pem\"";
    let mut rig = Rig::before(tls, "http2 = false", "", &backends).await;
    let me = rig.authority.sign(&["me"]);
    let config = Client {
        shows: Some(&me),
        ..Client::default()
    }
    .config(&rig.authority);
    let plan = LoadPlan {
        tls: Some(config.clone()),
        ..LoadPlan::new(rig.address(), if proving() { 300 } else { 100 })
    };
    let load = Load::start(plan);
    let (good, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let handshakes = shake_hands(rig.address(), (*config).clone(), good.clone(), stop.clone());
    let shaking = tokio::spawn(handshakes);

    let rounds = if proving() { 100 } else { 12 };
    let other = Authority::new("another authority");
    let text = std::fs::read_to_string(rig.proxy.config()).unwrap();
    for round in 0..rounds {
        rig.swap(&rig.authority.sign(&["localhost"]));
        // The old authority stays: those who have its certificates are still to be let in.
        let both = if round % 2 == 0 { &other.pem } else { "" };
        replace(
            &rig.dir().join("ca.pem"),
            &format!("{}{both}", rig.authority.pem),
        );
        if round % 3 == 0 {
            let hsts = format!("http2 = false\nhsts = \"{}s\"", round + 1);
            std::fs::write(rig.proxy.config(), text.replacen("http2 = false", &hsts, 1)).unwrap();
        }
        if round % 4 == 0 {
            rig.proxy.process().signal(libc::SIGHUP).unwrap();
        } else if round % 4 == 1 {
            rig.reload().await.unwrap();
        }
        let sent = load.progress().sent;
        assert_eq!(load.progress().lost, 0, "after {round} swaps");
        let shaken = good.load(Ordering::Relaxed);
        until("requests", async || load.progress().sent >= sent + 20).await;
        until("handshakes", async || {
            good.load(Ordering::Relaxed) >= shaken + 2
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(shaking.await.unwrap(), [""; 0]);
    let good = good.load(Ordering::Relaxed);
    let account = apps.clean_account(load).await;
    println!("{rounds} swaps, {good} handshakes, {account}");
}

/// Half-written files, a pair that doesn't match, nothing at all: the old pair stays in use.
#[lameduck_rig::test]
async fn bad_files_change_nothing_and_are_told_once() {
    let rig = Rig::new("").await;
    let cert = rig.dir().join("cert.pem");
    let good = rig.authority.sign(&["localhost"]);
    // Written in two pieces, slowly: never a bad handshake.
    let (begin, end) = good.cert.split_at(good.cert.len() / 2);
    std::fs::write(&cert, begin).unwrap();
    until("the warning", async || {
        rig.log().contains("the old ones stay in use")
    })
    .await;
    assert!(
        rig.log().contains("cert.pem: it ends in the middle"),
        "{}",
        rig.log()
    );
    assert!(fetch(&rig, rig.client()).await.is_ok());
    let refused = rig.reload().await.unwrap_err();
    assert!(refused.contains("it ends in the middle"), "{refused}");
    // The key is still the other one's.
    std::fs::write(&cert, format!("{begin}{end}")).unwrap();
    until("the next warning", async || {
        rig.log().contains("key.pem: it is not the key of")
    })
    .await;
    assert!(fetch(&rig, rig.client()).await.is_ok());
    // Time for it to be told again, which it must not be.
    let looked = std::time::Instant::now();
    std::fs::remove_file(&cert).unwrap();
    until("the third warning", async || {
        rig.log().contains("cert.pem: no such file")
    })
    .await;
    assert!(looked.elapsed() < super::rig::PATIENCE);
    assert_eq!(rig.log().matches("it is not the key of").count(), 1);
    let applied = "lameduck_certificate_reload_total{outcome=\"applied\"}";
    assert_eq!(rig.series(applied).await, Some(0.0));
    rig.swap(&good);
    until("the new pair", async || {
        rig.series(applied).await == Some(1.0)
    })
    .await;
    let refused = "lameduck_certificate_reload_total{outcome=\"refused\"}";
    assert_eq!(rig.series(refused).await, Some(3.0));
    assert!(rig.reload().await.is_ok());
    let served = connect(rig.address(), "localhost", rig.client())
        .await
        .unwrap();
    let certificate = served.get_ref().1.peer_certificates().unwrap()[0].clone();
    use rustls::pki_types::pem::PemObject;
    let wanted = rustls::pki_types::CertificateDer::from_pem_slice(good.cert.as_bytes()).unwrap();
    assert_eq!(certificate, wanted);
}
