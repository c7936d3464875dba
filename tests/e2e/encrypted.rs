//! Apps behind TLS: rolled under load, drained and with a bare SIGTERM.

use std::path::Path;
use std::time::Duration;

use lameduck::demo::load::{Load, Plan};
use lameduck::demo::proxy::Settings;
use lameduck::demo::roll;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::results::{Row, record};
use crate::harness::stops::Runs;
use crate::harness::{Bench, proving, skip, turn, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// Makes an authority and a certificate for 127.0.0.1: `ca.pem`, `cert.pem` and `key.pem`.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (name, text) in [
        ("ca.pem", issuer.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Drained,
    SigtermOnly,
}

/// What the apps speak behind TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

async fn rolled(how: How, http: Http) {
    let _turn = turn().await;
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let Some(program) = App::Node.program() else {
        return skip("encrypted", "node (run tests/setup.sh)");
    };
    let program = program.with(&["--cert", &file("cert.pem"), "--key", &file("key.pem")]);
    let program = match http {
        Http::One => program,
        Http::Two => program.with(&["--http2"]),
    };
    let mut bench = Bench::of(&program, 3).await;
    let settings = Settings {
        pool: format!(
            "[pool.tls]\nca = {:?}\n[pool.upstream]\nhttp2 = {}",
            file("ca.pem"),
            http == Http::Two
        ),
        ..Settings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    let Front::Lameduck(proxy) = &front else {
        unreachable!()
    };
    let load = Load::start(Plan {
        slow: Duration::from_millis(500),
        ..Plan::new(front.address(), 150)
    });
    for _ in 0..if proving() { 10 } else { 1 } {
        for instance in &mut bench.instances {
            match how {
                How::Drained => roll::restart(instance, proxy, PATIENCE, &|_, _| ())
                    .await
                    .unwrap(),
                How::SigtermOnly => {
                    roll::stop_and_start(instance, &|_, _| ()).await.unwrap();
                    until("it to be ready", PATIENCE, async || {
                        proxy.pool().await.unwrap().eligible == 3
                    })
                    .await;
                }
            }
        }
    }
    let evidence = bench.evidence(load.stop().await, &front).await;
    let mut runs = Runs::default();
    runs.add(evidence);
    let (account, stops) = (runs.account(), runs.stops());
    assert_eq!(account.lost, 0, "{how:?}, {http:?}\n{account}\n{stops:?}");
    assert_eq!(account.delivered_twice, 0, "{how:?}\n{account}");
    if how == How::Drained {
        assert!(account.is_clean(), "{account}");
    }
    record(Row {
        test: "encrypted",
        proxy: format!("lameduck, {how:?}"),
        app: match http {
            Http::One => "node:https".to_owned(),
            Http::Two => "node:http2, TLS".to_owned(),
        },
        account,
        notes: stops.notes(),
    });
}

#[tokio::test]
async fn apps_behind_tls_are_drained_and_restarted() {
    rolled(How::Drained, Http::One).await;
}

#[tokio::test]
async fn apps_behind_tls_are_restarted_without_a_word() {
    rolled(How::SigtermOnly, Http::One).await;
}

#[tokio::test]
async fn apps_that_speak_http2_behind_tls_are_drained_and_restarted() {
    rolled(How::Drained, Http::Two).await;
}

#[tokio::test]
async fn apps_that_speak_http2_behind_tls_are_restarted_without_a_word() {
    rolled(How::SigtermOnly, Http::Two).await;
}
