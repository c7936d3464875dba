//! Upgrades under every protocol at once.

use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use super::{PATIENCE, goes_on, upgraded, view};
use crate::harness::apps::App;
use crate::harness::streams::Streams;
use crate::harness::{Bench, exe, proving, scale, turn_beside_one, until, usual_load};
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{children, status_kib};

/// What each client of a mix of protocols has seen.
#[derive(Default)]
pub struct Seen {
    pub answered: u64,
    pub failed: Vec<String>,
}

/// Requests over HTTP/2 on TLS, on one connection after the other: each is used until its server says that it goes.
pub async fn ask_over_http2(
    address: std::net::SocketAddr,
    config: std::sync::Arc<rustls::ClientConfig>,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Seen {
    let mut seen = Seen::default();
    'connections: while !*stop.borrow() {
        let tcp = match tokio::net::TcpStream::connect(address).await {
            Ok(tcp) => tcp,
            Err(error) => {
                seen.failed.push(error.to_string());
                return seen;
            }
        };
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let tls = match connector.connect(name, tcp).await {
            Ok(tls) => tls,
            Err(error) => {
                seen.failed.push(error.to_string());
                continue;
            }
        };
        let (mut client, connection) = h2::client::handshake(tls).await.unwrap();
        let driver = tokio::spawn(connection);
        while !*stop.borrow_and_update() {
            client = match client.ready().await {
                Ok(client) => client,
                // GOAWAY: nothing was sent.
                Err(_) => continue 'connections,
            };
            let request = http::Request::get("https://localhost/").body(()).unwrap();
            let answer = match client.send_request(request, true) {
                Ok((answer, _)) => answer.await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) if answer.status() == 200 => seen.answered += 1,
                Ok(answer) => seen.failed.push(answer.status().to_string()),
                // A stream above GOAWAY's last one was not served: it can be sent again (RFC 9113, section 6.8).
                Err(error) if error.is_go_away() => continue 'connections,
                Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                    continue 'connections;
                }
                Err(error) => seen.failed.push(error.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        driver.abort();
    }
    seen
}

/// A client that trusts the authority in this directory.
pub fn trusting(dir: &Path, protocol: &[u8]) -> std::sync::Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let file = dir.join("ca.pem");
    let authority = rustls::pki_types::CertificateDer::from_pem_file(file).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    std::sync::Arc::new(config)
}

/// HTTP/1 with and without TLS, HTTP/2, WebSockets and event streams, while one process takes over from the other, again and
/// again: nothing is lost, no WebSocket and no event stream in cleartext ends, and no process grows.
#[lameduck_rig::test]
async fn mixed_protocols_do_not_notice_upgrades_in_a_row() {
    let _turn = turn_beside_one().await;
    let bench = Bench::start("upgrade-mixed", App::BuiltIn, 3)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    crate::encrypted::certificates(&dir);
    let (plain, encrypted) = (free_address(), free_address());
    let settings = ProxySettings {
        listen: plain,
        listener: format!(
            "[[listener]]\naddress = \"{encrypted}\"\n[listener.tls]\ncert = {:?}\nkey = {:?}",
            dir.join("cert.pem"),
            dir.join("key.pem")
        ),
        server: "lame_duck = \"1s\"\ndeadline = \"6s\"".into(),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    let streams = Streams::open(plain, scale().streams).await;
    let load = Load::start(usual_load(plain));
    let rate = scale().rate / 4;
    let over_tls = Load::start(LoadPlan {
        tls: Some(trusting(&dir, b"http/1.1")),
        // Others' ids are others' requests.
        post_percent: 0,
        slow_percent: 0,
        ..LoadPlan::new(encrypted, rate)
    });
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let config = trusting(&dir, b"h2");
    let over_http2 = tokio::spawn(ask_over_http2(encrypted, config, stopped));

    let rounds = if proving() { 20 } else { 4 };
    let mut sizes = Vec::new();
    for _ in 0..rounds {
        goes_on(&load, 100).await;
        assert_eq!(over_tls.progress().lost, 0);
        let report = upgraded(&socket).await;
        let moved = report["moved"].as_u64().unwrap();
        assert!(moved >= 2 * scale().streams as u64, "{report}");
        assert_eq!(streams.ends(), [], "{report}");
        let pid = report["pid"].as_u64().unwrap() as u32;
        let open = lameduck_rig::process::descriptors(pid).unwrap();
        sizes.push((open, status_kib(pid, "RssAnon").unwrap()));
    }
    goes_on(&load, 100).await;
    until("the old ones to finish", PATIENCE, async || {
        view(&socket).await.predecessor.is_none() && children(first).len() == 1
    })
    .await;
    stop.send_replace(true);
    let seen = over_http2.await.unwrap();
    assert_eq!(seen.failed, Vec::<String>::new());
    assert!(seen.answered > 20);
    let tls = over_tls.stop().await;
    let lost: Vec<_> = tls.iter().filter(|sent| sent.outcome.is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let ends = streams.close();
    assert_eq!(ends, [], "streams ended");
    let sent = load.stop().await;
    let lost: Vec<_> = sent.iter().filter(|sent| sent.outcome.is_err()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let (from, to) = (sizes[0], sizes[rounds - 1]);
    // What differs from one to the next is who happens to be connected.
    assert!(to.0 < from.0 * 2 + 100, "descriptors: {sizes:?}");
    assert!(to.1 < from.1 * 2 + (16 << 10), "KiB: {sizes:?}");
}
