//! The dashboard and the rules of `deploy/` in a real Prometheus that scrapes a real proxy: every panel's query has data, no
//! alert fires in a rolling restart, and those of an incident fire in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;
use lameduck_rig::certificates::{Authority, Pair};
use lameduck_rig::place;
use lameduck_rig::ports::free_address;
use serde_json::{Value, json};

use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, skip, turn, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// What takes half an hour or more by design; all others fire after a second here.
const PATIENT: [&str; 3] = [
    "LameduckDrainLasts",
    "LameduckBackendLeftDrained",
    "LameduckPoolPaused",
];

/// A Prometheus that looks at the proxy four times a second.
struct Prometheus {
    _process: ChildProcess,
    address: SocketAddr,
    /// When it had the proxy's figures: before, `LameduckAbsent` is right.
    since: Instant,
}

impl Prometheus {
    async fn start(program: &Path, dir: &Path, target: SocketAddr) -> Self {
        std::fs::write(dir.join("rules.yaml"), impatient_rules()).unwrap();
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs: [{{job_name: lameduck, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        let path = dir.join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        let process = ChildProcess::start("prometheus", command, &dir.join("prometheus.log"));
        let mut process = process.unwrap();
        process.ignore_output();
        let mut prometheus = Self {
            _process: process,
            address,
            since: Instant::now(),
        };
        until("Prometheus", PATIENCE, async || {
            matches!(get(address, "/-/ready").await, Ok((200, _)))
        })
        .await;
        until("the proxy's figures", PATIENCE, async || {
            !prometheus.query("lameduck_build_info").await.is_empty()
                && prometheus.query("ALERTS").await.is_empty()
        })
        .await;
        prometheus.since = Instant::now();
        prometheus
    }

    async fn api(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The series that a query gives now.
    async fn query(&self, expr: &str) -> Vec<Value> {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.api(&format!("/api/v1/query?query={encoded}")).await;
        answer["data"]["result"].as_array().unwrap().clone()
    }

    /// Alerts that have fired.
    async fn fired(&self) -> BTreeSet<String> {
        // Whole seconds, rounded down: nothing from before.
        let seconds = self.since.elapsed().as_secs().max(1);
        let firing = format!("ALERTS{{alertstate=\"firing\"}}[{seconds}s]");
        let expr = format!("count by (alertname) (count_over_time({firing}))");
        let series = self.query(&expr).await.into_iter();
        series
            .map(|one| one["metric"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }

    async fn until_fires(&self, alert: &str) {
        let fires = tokio::time::timeout(PATIENCE, async {
            while !self.fired().await.contains(alert) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        assert!(
            fires.await.is_ok(),
            "{alert} does not fire; {:?}",
            self.fired().await
        );
    }
}

/// The rules with the times for which something has to last cut to a second.
fn impatient_rules() -> String {
    let rules = place::root().join("deploy/prometheus/lameduck-rules.yaml");
    let rules = std::fs::read_to_string(rules).unwrap();
    let mut alert = "";
    let lines = rules.lines().map(|line| {
        alert = line.trim().strip_prefix("- alert: ").unwrap_or(alert);
        match line.trim().starts_with("for: ") && !PATIENT.contains(&alert) {
            true => "        for: 1s\n".to_owned(),
            false => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Every query of the dashboard, with its panel.
fn panels() -> Vec<(String, String)> {
    let text = place::root().join("deploy/grafana/lameduck-overview.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(text).unwrap()).unwrap();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().unwrap();
            let variables = [
                ("$__rate_interval", "10s"),
                ("$__range", "1m"),
                ("$job", ".*"),
                ("$instance", ".*"),
                ("$pool", ".*"),
            ];
            let expr = variables
                .iter()
                .fold(expr.to_owned(), |expr, (name, value)| {
                    expr.replace(name, value)
                });
            all.push((panel["title"].as_str().unwrap().to_owned(), expr));
        }
    }
    all
}

fn write_pair(dir: &Path, pair: &Pair) {
    for (name, text) in [("cert.pem", &pair.cert), ("key.pem", &pair.key)] {
        let new = dir.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, dir.join(name)).unwrap();
    }
}

/// A certificate with two days left, or three at most.
fn nearly_expired(authority: &Authority) -> Pair {
    let soon = std::time::SystemTime::now() + Duration::from_secs(3 * 86_400 - 3600);
    let soon = humantime::format_rfc3339_seconds(soon).to_string();
    let number = |range| {
        soon.get::<std::ops::Range<usize>>(range)
            .unwrap()
            .parse::<u16>()
            .unwrap()
    };
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    authority.sign_as(&["localhost"], |params| {
        params.not_after = rcgen::date_time_ymd(year.into(), month as u8, day as u8);
    })
}

#[lameduck_rig::test]
async fn panels_have_data_a_clean_roll_fires_nothing_and_incidents_fire_their_alerts() {
    let Some(program) = place::prometheus("prometheus") else {
        skip("monitoring", "prometheus (run tests/setup.sh)");
        return;
    };
    let _turn = turn().await;
    let mut bench = Bench::start("monitoring", App::BuiltIn, 4).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let authority = Authority::new("test");
    write_pair(&dir, &authority.sign(&["localhost"]));
    let target = free_address();
    let next = bench.instances.pop().unwrap();
    let settings = ProxySettings {
        admin: format!("probes = \"{target}\""),
        pool: format!(
            "[pool.drain]\ndeadline = \"5s\"\n[pool.hold]\ntimeout = \"1s\"\n[pool.health]\nabsent_after = \"2s\"\n[pool.sticky]\n[pool.outlier]\nlatency_factor = 0\n\
             [[pool]]\nname = \"next\"\nbackend = [{{ address = \"{}\" }}]\n\
             [[route]]\nname = \"shop\"\nsplit = {{ app = 3, next = 1 }}\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = {:?}, key = {:?} }}\n",
            next.address(),
            dir.join("cert.pem"),
            dir.join("key.pem"),
        ),
        ..ProxySettings::default()
    };
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let prometheus = Prometheus::start(&program, &dir, target).await;
    let load = Load::start(LoadPlan::new(proxy.address(), 100));

    // A clean roll.
    for instance in &mut bench.instances {
        roll::restart(instance, &proxy, Duration::from_secs(5), &|_, _| {})
            .await
            .unwrap();
    }
    until("the roll is in the figures", PATIENCE, async || {
        let drains = prometheus.query("sum(lameduck_drain_total) >= 3").await;
        !drains.is_empty()
    })
    .await;
    // Whatever is to fire has had its second, and some evaluations.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(prometheus.fired().await, BTreeSet::new());
    let rules = prometheus.api("/api/v1/rules").await;
    let groups = rules["data"]["groups"].as_array().unwrap();
    for rule in groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let panels = panels();
    assert!(panels.len() > 60, "{}", panels.len());
    for (panel, expr) in panels {
        let series = prometheus.query(&expr).await;
        assert!(!series.is_empty(), "{panel} has no data: {expr}");
    }

    // A drain whose deadline cuts.
    let path = "/v1/pools/app/backends/app-1/drain";
    let body = json!({ "timeout": "50ms" });
    admin::call(proxy.socket(), "POST", path, Some(&body))
        .await
        .unwrap();
    proxy.resume("app-1", PATIENCE).await.unwrap();
    prometheus.until_fires("LameduckDrainCut").await;
    // A certificate that nobody renews, and a reload that is refused.
    write_pair(&dir, &nearly_expired(&authority));
    let config = std::fs::read_to_string(proxy.config()).unwrap();
    std::fs::write(proxy.config(), "nonsense").unwrap();
    let refused = admin::request(proxy.socket(), "POST", "/v1/config/reload", None).await;
    assert_eq!(refused.unwrap().0, 422);
    std::fs::write(proxy.config(), config).unwrap();
    prometheus.until_fires("LameduckConfigReloadRefused").await;
    // One backend dies, then all of them.
    bench.instances[0].signal_end(libc::SIGKILL).unwrap();
    prometheus.until_fires("LameduckBackendDown").await;
    assert!(
        !prometheus
            .fired()
            .await
            .contains("LameduckNoEligibleBackend")
    );
    for instance in &mut bench.instances[1..] {
        instance.signal_end(libc::SIGKILL).unwrap();
    }
    for alert in [
        "LameduckNoEligibleBackend",
        "LameduckRequestsLost",
        "LameduckErrorRatio",
    ] {
        prometheus.until_fires(alert).await;
    }
    for alert in [
        "LameduckCertificateExpiresSoon",
        "LameduckCertificateExpiresNow",
    ] {
        prometheus.until_fires(alert).await;
    }
    let alerts = prometheus.api("/api/v1/alerts").await;
    for alert in alerts["data"]["alerts"].as_array().unwrap() {
        let words = alert["annotations"].to_string();
        assert!(
            !words.contains("{{") && !words.contains("<error") && !words.contains("<no value>"),
            "{words}"
        );
    }
    load.stop().await;
    // The proxy itself.
    proxy.process().signal(libc::SIGKILL).unwrap();
    for alert in ["LameduckDown", "LameduckAbsent"] {
        prometheus.until_fires(alert).await;
    }
}
