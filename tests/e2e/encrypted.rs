//! Apps behind TLS: rolled under load, drained and with a bare SIGTERM.

use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::ProxySettings;
use lameduck::tools::demo::roll;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::stops::Runs;
use crate::harness::{Bench, proving, skip, turn, turn_alone, until};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(10);

/// Makes an authority and a certificate for 127.0.0.1 and localhost: `ca.pem`, `cert.pem` and `key.pem`.
pub fn certificates(dir: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
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

/// Apps behind TLS, a proxy in front of them, and the directory of the certificates; `None`: this machine lacks Node.
async fn stand(http: Http) -> Option<(Bench, Front, TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let Some(program) = App::Node.program() else {
        skip("encrypted", "node (run tests/setup.sh)");
        return None;
    };
    let program = program.with(&["--cert", &file("cert.pem"), "--key", &file("key.pem")]);
    let program = match http {
        Http::One => program,
        Http::Two => program.with(&["--http2"]),
    };
    let bench = Bench::of(&program, 3).await;
    let settings = ProxySettings {
        pool: format!(
            "[pool.tls]\nca = {:?}\n[pool.upstream]\nhttp2 = {}",
            file("ca.pem"),
            http == Http::Two
        ),
        ..ProxySettings::default()
    };
    let front = Front::lameduck(&bench, &settings).await;
    Some((bench, front, dir))
}

async fn rolled(how: How, http: Http) {
    let _turn = match how {
        How::Drained => turn().await,
        How::SigtermOnly => turn_alone().await,
    };
    let Some((mut bench, front, _dir)) = stand(http).await else {
        return;
    };
    let proxy = front.proxy();
    let load = Load::start(LoadPlan {
        slow: Duration::from_millis(500),
        ..LoadPlan::new(front.address(), 150)
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

#[lameduck_rig::test]
async fn apps_behind_tls_are_drained_and_restarted() {
    rolled(How::Drained, Http::One).await;
}

#[lameduck_rig::test]
async fn apps_behind_tls_are_restarted_without_a_word() {
    rolled(How::SigtermOnly, Http::One).await;
}

#[lameduck_rig::test]
async fn apps_that_speak_http2_behind_tls_are_drained_and_restarted() {
    rolled(How::Drained, Http::Two).await;
}

#[lameduck_rig::test]
async fn apps_that_speak_http2_behind_tls_are_restarted_without_a_word() {
    rolled(How::SigtermOnly, Http::Two).await;
}

/// The file of the authorities changes under load, and is read by a reload, or without one. Each time it is another way to
/// the backends, so that their connections are opened anew.
async fn swapped(http: Http) {
    let _turn = turn().await;
    let Some((bench, front, dir)) = stand(http).await else {
        return;
    };
    let proxy = front.proxy();
    let ca = dir.path().join("ca.pem");
    let one = std::fs::read_to_string(&ca).unwrap();
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let both = one.clone() + &std::fs::read_to_string(other.path().join("ca.pem")).unwrap();
    let replace = |text: &str| {
        let new = ca.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &ca).unwrap();
    };
    let load = Load::start(LoadPlan {
        slow: Duration::from_millis(300),
        ..LoadPlan::new(front.address(), if proving() { 300 } else { 150 })
    });
    let (reloads, watched) = if proving() { (100, 10) } else { (10, 2) };
    let taken = async || {
        let (_, text) = admin::request(proxy.socket(), "GET", "/metrics", None)
            .await
            .unwrap();
        let name = "lameduck_certificate_reload_total{outcome=\"applied\"}";
        admin::metric(&String::from_utf8_lossy(&text), name).unwrap()
    };
    for round in 0..reloads + watched {
        let before = (load.progress().answered, taken().await);
        replace(if round % 2 == 0 { &both } else { &one });
        if round < reloads {
            admin::call(proxy.socket(), "POST", "/v1/config/reload", None)
                .await
                .unwrap();
        } else {
            until("the new file", PATIENCE, async || taken().await > before.1).await;
        }
        until("requests", PATIENCE, async || {
            load.progress().answered >= before.0 + 20
        })
        .await;
        assert_eq!(load.progress().lost, 0, "round {round}");
        assert_eq!(proxy.pool().await.unwrap().eligible, 3, "round {round}");
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{http:?}\n{account}"
    );
    record(Row {
        test: "encrypted, other authorities",
        proxy: "lameduck".to_owned(),
        app: format!("node, TLS, {http:?}"),
        account,
        notes: vec![format!("{reloads} by reloads, {watched} noticed")],
    });
}

#[lameduck_rig::test]
async fn change_of_the_authority_under_load_loses_nothing() {
    swapped(Http::One).await;
}

#[lameduck_rig::test]
async fn change_of_the_authority_under_load_loses_nothing_over_http2() {
    swapped(Http::Two).await;
}
