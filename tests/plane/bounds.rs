//! Every key of the configuration that has a number in it, at the least and the most that `check` accepts, in a running
//! proxy: nothing may panic, and each request is answered or refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lameduck::config::schema::{KeySchema, SECTIONS};
use lameduck::tools::demo::admin;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use lameduck_rig::proxy::Rig;

/// What may be written for a key, from the least to the most.
fn candidates(key: &KeySchema) -> Vec<String> {
    let quoted = |list: &[&str]| list.iter().map(|text| format!("\"{text}\"")).collect();
    let form = key.form;
    if form == "duration" {
        return quoted(&["0s", "1us", "1ms", "4s", "29s", "15m1s", "364d", "365d"]);
    }
    if form.starts_with("size") {
        let most = i64::MAX.to_string();
        return quoted(&["0", "1", "1KiB", "64KiB", "1MiB", "1TiB", &most]);
    }
    if form.starts_with("integer") || form.contains("port") && !form.contains("address") {
        let most = [
            "0",
            "1",
            "2",
            "100",
            "1000",
            "1024",
            "10000",
            "65535",
            "1000000000",
        ];
        let most = most.map(str::to_owned).into_iter();
        return most
            .chain([u32::MAX.to_string(), i64::MAX.to_string()])
            .collect();
    }
    if form.starts_with("number") {
        return ["0", "0.000000001", "1"].map(str::to_owned).into();
    }
    Vec::new()
}

/// Forms without a number, and numbers that nothing is counted or timed by. A key of any other form is tried here, or
/// `every_key_with_a_number_is_tried` fails.
const WITHOUT_NUMBER: [&str; 20] = [
    "\"1.2\" or \"1.3\"",
    "\"hold\", \"fail\" or \"fail_open\"",
    "\"http\", \"tcp\" or \"grpc\"",
    "\"json\" or \"combined\"",
    "\"least_requests\", \"round_robin\" or \"random\"",
    "\"off\", \"optional\" or \"required\"",
    "\"off\", \"v1\" or \"v2\"",
    "\"stdout\", \"off\" or path",
    "IP address and port",
    "address",
    "directory",
    "list",
    "list of host names",
    "list of networks",
    "list of pools",
    "path",
    "table of texts",
    "text",
    // The bits of a file's mode.
    "text, octal",
    "true or false",
];

/// A key at one of its bounds.
#[derive(Debug, Clone)]
struct Bound {
    section: &'static str,
    line: String,
    is_most: bool,
}

/// Whether `check` accepts it.
fn is_accepted(section: &str, line: &str) -> bool {
    let (server, listener, pool) = match section.strip_prefix("pool") {
        Some(sub) => ("", String::new(), pool_keys(sub, line)),
        None if section == "listener" => ("", listener_keys(line), String::new()),
        None => (line, String::new(), String::new()),
    };
    let text = format!(
        "[server]\n{server}\n[[listener]]\naddress = \"127.0.0.1:4\"\n{listener}\n[[pool]]\nname = \"app\"\n{}",
        backend_and_tables(SocketAddr::from(([127, 0, 0, 1], 2)), &pool)
    );
    lameduck::config::parse("x.toml", &text).is_ok()
}

/// One key of a listener, which is one for TLS where the key is.
fn listener_keys(line: &str) -> String {
    match needs_tls(line) {
        true => format!("{line}\ntls = {{ cert = \"c\", key = \"k\" }}"),
        false => line.to_owned(),
    }
}

fn needs_tls(line: &str) -> bool {
    line.starts_with("hsts")
}

/// One key of a pool's sub-table (`.health`), or of its backend.
fn pool_keys(sub: &str, line: &str) -> String {
    format!("{sub}\u{0}{line}")
}

/// A pool's backend and tables, quick ones, with one key changed.
fn backend_and_tables(backend: SocketAddr, changed: &str) -> String {
    let (sub, line) = changed.split_once('\u{0}').unwrap_or(("", ""));
    let mut tables = BTreeMap::from([
        (".backend", vec![format!("address = \"{backend}\"")]),
        (".health", vec!["rise = 1".to_owned()]),
        (".hold", vec!["timeout = \"300ms\"".to_owned()]),
    ]);
    if !sub.is_empty() {
        let key = line.split(' ').next().unwrap_or_default();
        let lines = tables.entry(sub).or_default();
        lines.retain(|other| other.split(' ').next() != Some(key));
        lines.push(line.to_owned());
    }
    let mut text = String::new();
    for (sub, lines) in tables {
        let header = match sub {
            ".backend" => "[[pool.backend]]".to_owned(),
            sub => format!("[pool{sub}]"),
        };
        let _ = writeln!(text, "{header}\n{}", lines.join("\n"));
    }
    text
}

/// Where each bound has a test of its own below.
fn is_tried(section: &str) -> bool {
    matches!(section, "server" | "listener") || section.starts_with("pool.")
}

/// The least and the most of every key of `[server]`, of listeners and of pools.
fn bounds() -> Vec<Bound> {
    let mut bounds = Vec::new();
    for section in SECTIONS.iter() {
        if !is_tried(section.name) {
            continue;
        }
        for key in section.keys {
            let lines = candidates(key).into_iter();
            let lines = lines.map(|value| format!("{} = {value}", key.name));
            let good: Vec<_> = lines
                .filter(|line| is_accepted(section.name, line))
                .collect();
            let number = !candidates(key).is_empty();
            assert!(!number || good.len() > 1, "{}.{}", section.name, key.name);
            for (line, is_most) in [(good.first(), false), (good.last(), true)] {
                bounds.extend(line.map(|line| Bound {
                    section: section.name,
                    line: line.clone(),
                    is_most,
                }));
            }
        }
    }
    bounds
}

#[test]
fn every_key_with_a_number_is_tried() {
    for section in SECTIONS.iter() {
        for key in section.keys {
            let (place, form) = (format!("{}.{}", section.name, key.name), key.form);
            let has_candidates = !candidates(key).is_empty();
            assert_ne!(
                has_candidates,
                WITHOUT_NUMBER.contains(&form),
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

/// An app that answers everything, upgrades, and has a stream of events.
pub async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    });
    address
}

async fn converse(mut stream: TcpStream) {
    let mut seen = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
        // The one body that is sent here.
        let body = if head.starts_with("POST") { 10 } else { 0 };
        while seen.len() < end + body {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.drain(..end + body);
        let answer = match head.split(' ').nth(1) {
            Some("/ws") => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            }
            Some("/events") => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if !answer.ends_with("ok") {
            // Until whoever is at the other end has had enough.
            let _ = stream.read_to_end(&mut seen).await;
            return;
        }
    }
}

/// What came of a request: the status, or that the connection was closed without one.
async fn ask(address: SocketAddr, request: &[u8]) -> Option<u16> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut seen = Vec::new();
        while seen.len() < 12 {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        std::str::from_utf8(&seen[9..12]).ok()?.parse().ok()
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered.expect("a request was neither answered nor refused")
}

/// A request over HTTP/2 with prior knowledge: whether a HEADERS frame came back.
async fn ask_h2(address: SocketAddr, host: &str) -> bool {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut block = vec![0x82, 0x86, 0x84, 0x41, u8::try_from(host.len()).ok()?];
        block.extend(host.as_bytes());
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        sent.extend([0, 0, u8::try_from(block.len()).ok()?, 1, 5, 0, 0, 0, 1]);
        sent.extend(block);
        stream.write_all(&sent).await.ok()?;
        let mut seen = Vec::new();
        loop {
            let mut rest = &seen[..];
            while let [a, b, c, kind, ..] = *rest {
                if kind == 1 {
                    return Some(());
                }
                let length = u32::from_be_bytes([0, a, b, c]) as usize + 9;
                let Some(next) = rest.get(length..) else {
                    break;
                };
                rest = next;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered
        .expect("an HTTP/2 request was neither answered nor refused")
        .is_some()
}

/// All kinds of requests to one host. Says what the plain one got.
async fn use_it(addresses: &[SocketAddr], host: &str) -> Option<u16> {
    let request = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes()
    };
    let mut post = request("POST /", "Content-Length: 10\r\n");
    post.extend(b"0123456789");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let plain = ask(addresses[0], &request("GET /", "")).await;
    let (upgrade, events) = (request("GET /ws", upgrade), request("GET /events", ""));
    let (slow, ended, upgraded, streamed, _) = tokio::join!(
        ask(
            addresses[0],
            b"GET / HTTP/1.1\r\nConnection: close\r\nX: y\r\n\r\n"
        ),
        ask(addresses[0], &post),
        ask(addresses[0], &upgrade),
        ask(addresses[0], &events),
        ask_h2(addresses[1], host),
    );
    for status in [plain, slow, ended, upgraded, streamed] {
        assert_ne!(status, Some(500), "{host}");
    }
    plain
}

async fn addresses(rig: &Rig) -> Vec<SocketAddr> {
    let listeners = admin::call(&rig.socket, "GET", "/v1/listeners", None).await;
    let listeners = listeners.unwrap();
    let each = listeners.as_array().unwrap().iter();
    each.map(|listener| listener["address"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// Drains a backend, and resumes it.
async fn drain(rig: &Rig, pool: &str) {
    let path = format!("/v1/pools/{pool}/backends/{pool}-1");
    for (verb, body) in [("drain", json!({"timeout": "20ms"})), ("resume", json!({}))] {
        let path = format!("{path}/{verb}");
        let done = admin::request(&rig.socket, "POST", &path, Some(&body)).await;
        assert_eq!(done.unwrap().0, 200, "{pool}: {verb}");
    }
}

async fn has_no_panic(rig: &Rig, what: &str) {
    for role in ["data", "accept", "control", "other"] {
        let series = format!("lameduck_panics_total{{thread=\"{role}\"}}");
        assert_eq!(
            rig.metric(&series).await,
            Some(0),
            "{what}: {series}\n{}",
            rig.log()
        );
    }
}

const H2_LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = true\n";

/// Keys that make it useless at their most, as they say: probes of a port where nobody listens, a thousand passes in a row.
const USELESS: [&str; 2] = ["rise", "port"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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
#[tokio::test]
async fn very_many_backends_of_the_greatest_weight_are_balanced() {
    let app = app().await;
    for balance in ["least_requests", "round_robin", "random"] {
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
