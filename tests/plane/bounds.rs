//! Every key of the configuration that has a number in it, at the least and the most that `check` accepts, in a running
//! proxy: nothing may panic, and each request is answered or refused.

mod keys;
mod traffic;
mod unread;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lameduck::config::BalanceConfig;
use lameduck::config::schema::SECTIONS;
use lameduck::telemetry::access_log::{AccessLog, AccessRecord};
use lameduck_rig::proxy::Rig;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use keys::{
    Bound, backend_and_tables, bounds, candidates, has_no_number, is_tried, needs_tls, pool_keys,
    route_with,
};
pub use traffic::app;
use traffic::{addresses, ask, drain, has_no_panic, use_it};

#[test]
fn every_key_with_a_number_is_tried() {
    for section in SECTIONS.iter() {
        for key in section.keys {
            let (place, form) = (format!("{}.{}", section.name, key.name), key.form);
            let has_candidates = !candidates(key).is_empty();
            assert_ne!(
                has_candidates,
                has_no_number(form),
                "{place} is `{form}`: give it candidates, or name its form among those without a number"
            );
            assert!(
                !has_candidates || is_tried(section.name),
                "{place} has a number, and [{}] has no test at its bounds",
                section.name
            );
        }
    }
    let tried = bounds();
    for (section, key) in [
        ("server", "tcp_keepalive"),
        ("pool.upstream", "tunnel_timeout"),
        ("listener", "hsts"),
        ("listener", "redirect_https"),
    ] {
        let of_key = tried
            .iter()
            .filter(|bound| bound.section == section && bound.line.starts_with(key));
        assert_eq!(of_key.count(), 2, "{section}.{key}");
    }
}

const H2_LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = true\n";

/// Keys that make it useless at their most, as they say: probes of a port where nobody listens, a thousand passes in a row.
const USELESS: [&str; 2] = ["rise", "port"];

#[lameduck_rig::test(threads = 2)]
async fn server_keys_at_their_bounds_run_without_a_panic() {
    let app = app().await;
    let bounds = bounds()
        .into_iter()
        .filter(|bound| bound.section == "server");
    let mut tried = 0;
    for bound in bounds.chain([
        Bound {
            section: "server",
            line: "deadline = \"365d\"\nlame_duck = \"364d\"".into(),
            is_most: true,
        },
        Bound {
            section: "server",
            line: "min_body_rate = 9223372036854775807\nmin_response_rate = 9223372036854775807\nrate_grace = \"365d\"".into(),
            is_most: true,
        },
        Bound {
            section: "server",
            line: "min_body_rate = 9223372036854775807\nmin_response_rate = 9223372036854775807\nrate_grace = \"1us\"".into(),
            is_most: false,
        },
    ]) {
        let dir = tempfile::tempdir().unwrap();
        let pool = backend_and_tables(app, "");
        let rig = Rig::start(dir, &bound.line, H2_LISTENER, &pool, Vec::new()).await;
        let got = use_it(&addresses(&rig).await, "a").await;
        if bound.is_most {
            assert_eq!(got, Some(200), "{bound:?}\n{}", rig.log());
        }
        drain(&rig, "app").await;
        has_no_panic(&rig, &bound.line).await;
        tried += 1;
    }
    assert!(tried > 30, "{tried}");
}

/// All in one process: each bound has a pool of its own.
#[lameduck_rig::test(threads = 2)]
async fn pool_keys_at_their_bounds_run_without_a_panic() {
    let app = app().await;
    let bounds = bounds()
        .into_iter()
        .filter(|bound| bound.section.starts_with("pool."));
    let bounds: Vec<_> = bounds.collect();
    assert!(bounds.len() > 40, "{bounds:#?}");
    let mut text = backend_and_tables(app, "");
    let mut routes = "[[route]]\npool = \"app\"\n".to_owned();
    for (n, Bound { section, line, .. }) in bounds.iter().enumerate() {
        let sub = section.strip_prefix("pool").unwrap();
        let tables = backend_and_tables(app, &pool_keys(sub, line));
        let _ = writeln!(text, "[[pool]]\nname = \"p{n}\"\n{tables}");
        let _ = writeln!(routes, "[[route]]\nhost = \"p{n}\"\npool = \"p{n}\"");
    }
    text.push_str(&routes);
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, "", H2_LISTENER, &text, Vec::new()).await;
    let addresses = addresses(&rig).await;
    assert_eq!(use_it(&addresses, "a").await, Some(200), "{}", rig.log());
    for (n, bound) in bounds.iter().enumerate() {
        let got = use_it(&addresses, &format!("p{n}")).await;
        let useless = USELESS.iter().any(|key| bound.line.starts_with(key));
        if bound.is_most && !useless {
            assert_eq!(got, Some(200), "{bound:?}\n{}", rig.log());
        }
        drain(&rig, &format!("p{n}")).await;
    }
    has_no_panic(&rig, "pools").await;
}

/// All in one process: each bound has a route of its own.
#[lameduck_rig::test(threads = 2)]
async fn route_and_compression_keys_at_their_bounds_run_without_a_panic() {
    let app = app().await;
    let is_of_route = |bound: &Bound| bound.section.starts_with("route");
    let (routed, compressed): (Vec<_>, Vec<_>) = bounds()
        .into_iter()
        .filter(|bound| is_of_route(bound) || bound.section == "compression")
        .partition(is_of_route);
    assert!(
        routed.len() > 25 && compressed.len() > 8,
        "{routed:#?} {compressed:#?}"
    );
    let pools = backend_and_tables(app, "");
    let mut text = format!("{pools}[[pool]]\nname = \"other\"\n{pools}");
    for (n, Bound { section, line, .. }) in routed.iter().enumerate() {
        text.push_str(&route_with(&format!("r{n}"), section, line));
    }
    text.push_str("[[route]]\npool = \"app\"\n");
    let traced = bounds().into_iter();
    let traced: Vec<_> = traced.filter(|bound| bound.section == "tracing").collect();
    assert!(
        (6..=compressed.len()).contains(&traced.len()),
        "{traced:#?}"
    );
    let traced = traced
        .iter()
        .map(|bound| &*bound.line)
        .chain(["", "", "", "", "", "", "", ""]);
    for (compression, tracing) in compressed.into_iter().zip(traced) {
        let more = format!(
            "{H2_LISTENER}[compression]\n{}\n[tracing]\n{tracing}\n",
            compression.line
        );
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir, "", &more, &text, Vec::new()).await;
        let addresses = addresses(&rig).await;
        assert_eq!(use_it(&addresses, "a").await, Some(200), "{}", rig.log());
        for (n, bound) in routed.iter().enumerate() {
            let got = use_it(&addresses, &format!("r{n}")).await;
            // The other routes answer by themselves, or ask somebody who isn't there.
            let is_passed_on = matches!(bound.section, "route" | "route.retry" | "route.hold")
                && !bound.line.starts_with("redirect_https");
            if bound.is_most && is_passed_on {
                assert_eq!(got, Some(200), "{bound:?}\n{}", rig.log());
            }
        }
        has_no_panic(&rig, &compression.line).await;
    }
}

#[test]
fn access_log_keys_at_their_bounds_write_lines_or_none() {
    let bounds = bounds().into_iter();
    let bounds: Vec<_> = bounds
        .filter(|bound| bound.section == "access_log")
        .collect();
    assert!(bounds.len() >= 4, "{bounds:#?}");
    for bound in bounds {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access");
        let text = format!(
            "[access_log]\npath = {path:?}\n{}\n[[listener]]\naddress = \"127.0.0.1:4\"\n\
             [[pool]]\nname = \"app\"\n[[pool.backend]]\naddress = \"127.0.0.1:3\"\n",
            bound.line
        );
        let config = lameduck::config::parse("x.toml", &text).unwrap().config;
        let log = AccessLog::open(&config.access_log).unwrap();
        for status in [200, 503] {
            log.record(&AccessRecord {
                status,
                ..AccessRecord::default()
            });
        }
        assert!(log.flush(Duration::from_secs(10)));
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!((1..=2).contains(&lines), "{bound:?}: {lines}");
    }
}

/// A request over TLS, to its answer's end.
async fn ask_tls(address: SocketAddr, authority: &CertificateDer<'static>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let client = ClientConfig::builder_with_provider(lameduck::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let answered = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, stream).await?;
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered.expect("no answer over TLS").unwrap()
}

#[lameduck_rig::test(threads = 2)]
async fn listener_keys_at_their_bounds_run_without_a_panic() {
    let app = app().await;
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let bounds: Vec<_> = bounds()
        .into_iter()
        .filter(|bound| bound.section == "listener")
        .collect();
    assert!(bounds.len() >= 4, "{bounds:#?}");
    let mut tables = H2_LISTENER.to_owned();
    for bound in &bounds {
        let _ = writeln!(
            tables,
            "[[listener]]\naddress = \"127.0.0.1:0\"\n{}",
            bound.line
        );
        if needs_tls(&bound.line) {
            let _ = writeln!(tables, "tls = {{ cert = {cert:?}, key = {key:?} }}");
        }
    }
    let pool = backend_and_tables(app, "");
    let rig = Rig::start(dir, "", &tables, &pool, Vec::new()).await;
    let addresses = addresses(&rig).await;
    assert_eq!(use_it(&addresses, "a").await, Some(200), "{}", rig.log());
    for (bound, address) in bounds.iter().zip(&addresses[2..]) {
        if needs_tls(&bound.line) {
            let answer = ask_tls(*address, signed.cert.der()).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{bound:?}: {answer}");
            let is_sent = answer
                .to_ascii_lowercase()
                .contains("strict-transport-security");
            assert_eq!(is_sent, bound.is_most, "{bound:?}: {answer}");
        } else {
            for (line, status) in [("GET", 301), ("POST", 308)] {
                let request = format!("{line} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                let got = ask(*address, request.as_bytes()).await;
                assert_eq!(got, Some(status), "{bound:?}");
            }
        }
    }
    has_no_panic(&rig, "listeners").await;
}

/// Sums over weights, and numbers of threads.
#[lameduck_rig::test]
async fn very_many_backends_of_the_greatest_weight_are_balanced() {
    let app = app().await;
    for (balance, _) in BalanceConfig::WORDS {
        let mut pool = format!("balance = \"{balance}\"\n");
        for _ in 0..300 {
            let _ = writeln!(pool, "[[pool.backend]]\naddress = \"{app}\"\nweight = 1000");
        }
        pool.push_str("[pool.health]\nrise = 1\n");
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir, "", H2_LISTENER, &pool, Vec::new()).await;
        let addresses = addresses(&rig).await;
        for _ in 0..20 {
            assert_eq!(use_it(&addresses, "a").await, Some(200));
        }
        has_no_panic(&rig, balance).await;
    }
}
