use std::collections::BTreeSet;

use super::*;
use crate::config::{self, CertificateFiles, ClientAuth, Config, ListenerTls, TlsVersion};
use crate::core::backend::{BackendEvent, ProbeResult};
use crate::core::retry::RetryReason;
use crate::registry::saves::SaveLedger;
use crate::registry::unattended::NoProbes;
use crate::registry::view::{DrainRequest, InFlight, RegisterRequest};
use crate::registry::{RegistryObserver, persist};
use crate::tls::managed::{ManagedState, ManagedStatus};
use crate::tls::server::ServerTls;
use crate::tls::server_files::ServerFiles;

const SOON: Duration = Duration::from_secs(10);

struct Silent;

impl RegistryObserver for Silent {
    fn first_round_finished(&self, _ready: usize, _all: usize) {}
    fn registered(&self) {}
    fn persist(&self, _: persist::KeptState) {}
    fn saves(&self) -> Option<Arc<SaveLedger>> {
        Some(Arc::default())
    }
    fn drain_ended(&self, _: &str, _: &DrainResponse) {}
}

const POOL: &str = r#"
    [[listener]]
    address = "127.0.0.1:0"
    [[pool]]
    name = "api"
    backend = [{ name = "api-0", address = "127.0.0.1:1" }]
"#;

const ROUTE: &str = r#"
    [[route]]
    name = "shared"
    split = { api = 1 }
    mirror = { pool = "shadow" }
    [[pool]]
    name = "shadow"
    backend = [{ address = "127.0.0.1:2" }]
"#;

fn registry() -> RegistryHandle {
    registry_of(config::parse("test.toml", POOL).unwrap().config)
}

fn registry_of(config: Config) -> RegistryHandle {
    crate::registry::spawn(
        Arc::new(config),
        persist::KeptState::default(),
        persist::OwnKeySource::default(),
        |_| Box::new(NoProbes),
        Box::new(Silent),
    )
}

/// One sample: name, labels, value.
type Sample = (String, BTreeSet<(String, String)>, f64);

/// Parses the text format strictly, as a scraper would.
fn parse(text: &str) -> Vec<Sample> {
    assert!(text.ends_with('\n'));
    let mut typed = BTreeSet::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some((name, kind)) = comment
                .strip_prefix("TYPE ")
                .and_then(|rest| rest.split_once(' '))
            {
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(typed.insert(name.to_owned()), "{name} has two types");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
        };
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| {
                name.strip_suffix(suffix)
                    .filter(|name| typed.contains(*name))
            })
            .unwrap_or(name);
        assert!(typed.contains(family), "{line} has no type");
        let labels: BTreeSet<_> = labels
            .split_terminator("\",")
            .map(|pair| {
                let (name, value) = pair.split_once("=\"").unwrap();
                (name.to_owned(), value.trim_end_matches('"').to_owned())
            })
            .collect();
        let value = value.parse().unwrap();
        assert!(
            !samples
                .iter()
                .any(|(other, its, _): &Sample| other == name && *its == labels),
            "{line} is there twice"
        );
        samples.push((name.to_owned(), labels, value));
    }
    samples
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels: BTreeSet<_> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    samples
        .iter()
        .find(|(other, its, _)| other == name && *its == labels)
        .map(|(_, _, value)| *value)
}

#[tokio::test]
async fn counts_arrive_with_their_labels() {
    let registry = registry();
    let metrics = Metrics::new(registry.clone());
    metrics.attach(AccessLog::off(), || 3);
    {
        let snapshot = registry.snapshot();
        let (pool, endpoint) = (&snapshot.pools[0], &snapshot.pools[0].backends[0]);
        endpoint.counters.sent();
        endpoint.counters.answered(200);
        endpoint.counters.answered(503);
        endpoint
            .counters
            .probes
            .ended(ProbeResult::Status(500), Duration::from_millis(2));
        let counters = &pool.shared.counters;
        counters.finished(Duration::from_millis(30), None);
        counters.finished(Duration::from_millis(30), Some(503));
        counters.held(Duration::from_secs(2));
        counters.retried(RetryReason::ConnectFailed, true);
        counters.retried(RetryReason::ConnectFailed, true);
        counters.retried(RetryReason::ConnectionDied, false);
    }
    metrics.plane().refused("header_timeout");
    metrics
        .plane()
        .limited(crate::metrics::ServerLimit::HeaderTimeout);
    metrics.reloaded(true);
    metrics.reloaded(false);
    metrics.drain_ended("api", &ended("timed_out", 4));
    metrics.drain_ended("api", &ended("invented", 0));

    let samples = parse(&metrics.encode());
    let of = |name, labels: &[(&str, &str)]| value(&samples, name, labels);
    let (pool, backend) = (("pool", "api"), ("backend", "api-0"));
    assert_eq!(
        of("lameduck_requests_total", &[pool, backend, ("code", "200")]),
        Some(1.0)
    );
    assert_eq!(
        of("lameduck_backend_requests_total", &[pool, backend]),
        Some(1.0)
    );
    assert_eq!(
        of("lameduck_local_responses_total", &[pool, ("code", "503")]),
        Some(1.0)
    );
    assert_eq!(
        of("lameduck_request_duration_seconds_count", &[pool]),
        Some(2.0)
    );
    assert_eq!(
        of(
            "lameduck_request_duration_seconds_bucket",
            &[pool, ("le", "0.025")]
        ),
        Some(0.0)
    );
    assert_eq!(
        of(
            "lameduck_request_duration_seconds_bucket",
            &[pool, ("le", "0.05")]
        ),
        Some(2.0)
    );
    assert_eq!(
        of(
            "lameduck_request_duration_seconds_bucket",
            &[pool, ("le", "+Inf")]
        ),
        Some(2.0)
    );
    assert_eq!(of("lameduck_hold_duration_seconds_sum", &[pool]), Some(2.0));
    let retries = |reason, outcome| {
        of(
            "lameduck_retries_total",
            &[pool, ("reason", reason), ("outcome", outcome)],
        )
    };
    assert_eq!(retries("connect_failed", "retried"), Some(2.0));
    assert_eq!(retries("connection_died", "denied"), Some(1.0));
    assert_eq!(
        of(
            "lameduck_probe_total",
            &[pool, backend, ("result", "status")]
        ),
        Some(1.0)
    );
    assert_eq!(
        of("lameduck_probe_total", &[pool, backend, ("result", "pass")]),
        Some(0.0)
    );
    assert_eq!(
        of("lameduck_drain_total", &[pool, ("outcome", "timed_out")]),
        Some(1.0)
    );
    assert_eq!(
        of("lameduck_drain_total", &[pool, ("outcome", "other")]),
        Some(1.0)
    );
    assert_eq!(of("lameduck_drain_cut_total", &[pool]), Some(4.0));
    assert_eq!(
        of("lameduck_refused_total", &[("reason", "header_timeout")]),
        Some(1.0)
    );
    for (limit, count) in [("header_timeout", 1.0), ("max_body", 0.0)] {
        let found = of("lameduck_limited_total", &[("limit", limit)]);
        assert_eq!(found, Some(count), "{limit}");
    }
    assert_eq!(
        of("lameduck_config_reload_total", &[("outcome", "refused")]),
        Some(1.0)
    );
    assert_eq!(of("lameduck_connections", &[("side", "client")]), Some(3.0));
    assert_eq!(of("lameduck_access_log_dropped_total", &[]), Some(0.0));
    assert_eq!(
        of(
            "lameduck_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))]
        ),
        Some(1.0)
    );
    assert!(of("process_resident_memory_bytes", &[]).unwrap() > 0.0);
}

fn ended(outcome: &str, cut: u32) -> DrainResponse {
    DrainResponse {
        outcome: outcome.to_owned(),
        in_flight: 0,
        cut,
        cut_by_kind: InFlight::default(),
        sessions: None,
        lost: 0,
        waited_ms: 5,
        warning: None,
    }
}

#[tokio::test]
async fn states_follow_and_series_of_a_removed_backend_vanish() {
    let registry = registry();
    let metrics = Metrics::new(registry.clone());
    let request = RegisterRequest {
        address: "127.0.0.1:2".to_owned(),
        ..RegisterRequest::default()
    };
    registry.register("api", "extra", request).await.unwrap();
    let key = {
        let snapshot = registry.snapshot();
        let extra = snapshot.pools[0]
            .backends
            .iter()
            .find(|endpoint| &*endpoint.name == "extra");
        extra.unwrap().key
    };
    let state = |wanted: &'static str| {
        let metrics = metrics.clone();
        async move {
            loop {
                let samples = parse(&metrics.encode());
                let labels = [("pool", "api"), ("backend", "extra"), ("state", wanted)];
                if value(&samples, "lameduck_backend_state", &labels) == Some(1.0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(SOON, state("starting")).await.unwrap();
    for _ in 0..2 {
        let event = BackendEvent::Probed {
            probe: ProbeResult::Pass,
            began: crate::rt::clock::now(),
            listener: None,
        };
        registry.report(key, event, "200".to_owned());
    }
    tokio::time::timeout(SOON, state("ready")).await.unwrap();
    let response = registry
        .deregister("api", "extra", DrainRequest::default())
        .await
        .unwrap();
    assert_eq!(response.outcome, "drained");
    tokio::time::timeout(SOON, async {
        while metrics.encode().contains("extra") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(metrics.encode().contains("api-0"));
}

/// TLS of a listener, with its own files in this directory.
fn tls_in(directory: &std::path::Path) -> ServerTls {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = CertificateFiles {
        cert: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    };
    std::fs::write(&files.cert, identity.cert.pem()).unwrap();
    std::fs::write(&files.key, identity.signing_key.serialize_pem()).unwrap();
    let settings = ListenerTls {
        certificates: vec![files],
        managed: Vec::new(),
        client_auth: ClientAuth::Off,
        client_ca: None,
        client_crl: None,
        min_version: TlsVersion::Tls12,
    };
    let material = ServerFiles::load(&settings, true, None).unwrap();
    ServerTls::new(settings, true, material)
}

#[tokio::test]
async fn documented_are_exactly_those_that_exist() {
    let directory = tempfile::tempdir().unwrap();
    let server = Arc::new(tls_in(directory.path()));
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let tls = format!("tls = {{ ca = {cert:?}, cert = {cert:?}, key = {key:?} }}");
    let path = directory.path().join("lameduck.toml");
    std::fs::write(
        &path,
        format!("[compression]\n{POOL}{tls}\nsticky = {{}}\noutlier = {{}}\n{ROUTE}"),
    )
    .unwrap();
    let registry = registry_of(crate::app::check::load(&path).unwrap().config);
    let metrics = Metrics::new(registry.clone());
    metrics.attach(AccessLog::off(), || 0);
    // Families without a series are left out, so each of these gets one.
    metrics.plane().refused("reason");
    (metrics.plane()).route_refused("", crate::metrics::RouteRefusal::Rate);
    (metrics.plane()).route_requests("shared").answered(200);
    metrics.drain_ended("api", &ended("drained", 0));
    let word = crate::core::supervisor_word::ProcessWord::Running;
    (registry.supervisors()).note("api", "systemd", |record| record.count(word));
    let address = "127.0.0.1:443".parse().unwrap();
    metrics.certificates().set(vec![(address, server)]);
    metrics.certificates().managed.set(vec![ManagedStatus {
        file: directory.path().join("managed.pem"),
        names: vec!["example.org".to_owned()],
        directory: "https://ca.example/directory".to_owned(),
        state: ManagedState::Good,
        next_order: Some(1_800_000_000),
        last_error: None,
        failures: 0,
        orders: (1, 0),
    }]);
    (registry.live_figures()).note_source("api", &"file backends.json".into(), |source| {
        source.answered = Some(crate::rt::clock::now());
    });
    metrics.plan_ended("reached");
    {
        let snapshot = registry.snapshot();
        snapshot.pools[0].backends[0].counters.answered(200);
        let counters = &snapshot.pools[0].shared.counters;
        counters.finished(Duration::ZERO, Some(503));
        counters.retried(RetryReason::GoAway, true);
        counters.sessions.add("moved");
        let shadow = &snapshot.pools[1].shared.counters;
        shadow
            .mirror
            .ended(Err(crate::metrics::MirrorDrop::Connect));
        counters.connect_failed(crate::net::connect_fault::ConnectFault::NoPort);
    }
    let tracing = config::TracingConfig::default();
    metrics.trace(Tracer::start(Some(&tracing)).unwrap());
    let text = metrics.encode();
    let exist: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("lameduck_"))
        .collect();
    let document = include_str!("../../../docs/metrics.md");
    let documented: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `lameduck_")?.split('`').next())
        .map(|name| format!("lameduck_{name}"))
        .collect();
    let documented: BTreeSet<_> = documented.iter().map(String::as_str).collect();
    let apart: Vec<_> = exist.symmetric_difference(&documented).collect();
    assert!(apart.is_empty(), "{apart:?}");
    // The labels must be those that are documented.
    let bounded = [
        "pool",
        "backend",
        "code",
        "state",
        "result",
        "outcome",
        "reason",
        "side",
        "limit",
        "version",
        "le",
        "kind",
        "listener",
        "name",
        "file",
        "thread",
        "route",
        "coding",
        "session",
        "supervisor",
        "word",
        "source",
    ];
    for (name, labels, _) in parse(&text) {
        for (label, _) in labels {
            assert!(
                bounded.contains(&label.as_str()),
                "{name} has a label {label}"
            );
        }
    }
}
