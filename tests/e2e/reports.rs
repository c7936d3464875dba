//! Restart reports: their figures are the oracle's, `lameduck verify` finds the same in the access log, and finds out what
//! was changed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lameduck::registry::restart_view::{RestartCounts, RestartView};
use lameduck::tools::demo::admin;
use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;
use lameduck::tools::report::document::{self, RestartReport};
use lameduck::tools::report::ledger::{LinePlace, LogLedger};
use lameduck::tools::report::log_file::read_lines;
use lameduck::tools::report::verify::{Verdict, compare};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, proving, turn, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// The last bound of the histogram that percentiles are told in, in milliseconds: nothing here takes so long.
const LAST_BOUND: f64 = 60_000.0;

/// How an instance is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Drained through the API, with time enough.
    Drained,
    /// Drained through the API, cut at the deadline.
    Cut,
    /// SIGTERM, and its health check answers 503.
    Terminated,
    /// SIGKILL.
    Killed,
    /// Drained, and nothing else takes requests meanwhile.
    Alone,
    /// By a supervisor's word: with the actor `supervisor`.
    Supervised,
}

const WAYS: [Way; 6] = [
    Way::Cut,
    Way::Drained,
    Way::Killed,
    Way::Terminated,
    Way::Alone,
    Way::Supervised,
];

/// A client that has the head of a large answer, and has not read the rest: whoever cuts it loses it.
struct SlowReader {
    stream: TcpStream,
    app: String,
    left: usize,
}

impl SlowReader {
    async fn open(proxy: &DemoProxy) -> Self {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let request = "GET /large?kib=8192 HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        Self {
            app: field("x-demo-app:"),
            left: field("content-length:").parse().unwrap(),
            stream,
        }
    }

    /// Reads the rest; says whether it was lost.
    async fn finish(mut self) -> bool {
        let mut room = vec![0; 1 << 16];
        while self.left > 0 {
            match self.stream.read(&mut room).await {
                Ok(0) | Err(_) => return true,
                Ok(read) => self.left -= read,
            }
        }
        false
    }
}

async fn drain(proxy: &DemoProxy, name: &str, body: Value) -> Value {
    let path = format!("/v1/pools/app/backends/{name}/drain");
    admin::call(proxy.socket(), "POST", &path, Some(&body))
        .await
        .unwrap()
}

async fn resume(proxy: &DemoProxy, name: &str, body: Value) {
    let path = format!("/v1/pools/app/backends/{name}/resume");
    admin::call(proxy.socket(), "POST", &path, Some(&body))
        .await
        .unwrap();
}

async fn ready(proxy: &DemoProxy, count: usize) {
    until("all ready", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == count
    })
    .await;
}

async fn restart(way: Way, instance: &mut DemoInstance, others: &[String], proxy: &DemoProxy) {
    let name = instance.name().to_owned();
    match way {
        Way::Drained => {
            let deadline = Duration::from_secs(10);
            roll::restart(instance, proxy, deadline, &|_, _| {})
                .await
                .unwrap();
        }
        Way::Cut => {
            let cut = drain(proxy, &name, json!({"timeout": "300ms"})).await;
            assert!(cut["cut"].as_u64().unwrap() > 0, "{cut}");
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
            resume(proxy, &name, json!({"wait": "20s"})).await;
        }
        Way::Terminated => roll::stop_and_start(instance, &|_, _| {}).await.unwrap(),
        Way::Killed => {
            instance.signal_end(libc::SIGKILL).unwrap();
            instance.exited(PATIENCE).await.unwrap();
            instance.start_again().await.unwrap();
        }
        Way::Alone => {
            for other in others {
                drain(proxy, other, json!({"wait": false, "timeout": "10s"})).await;
            }
            drain(proxy, &name, json!({"timeout": "10s"})).await;
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
            resume(proxy, &name, json!({"wait": "20s"})).await;
            for other in others {
                resume(proxy, other, json!({"wait": "20s"})).await;
            }
        }
        Way::Supervised => {
            let body = json!({"actor": "supervisor", "until": "restarted", "timeout": "10s"});
            drain(proxy, &name, body).await;
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
        }
    }
    ready(proxy, others.len() + 1).await;
}

/// What a command printed, and its exit code.
async fn lameduck(words: &[&str]) -> (i32, String) {
    let mut command = Command::new(exe());
    command
        .args(words)
        .stdin(Stdio::null())
        .env_remove("LAMEDUCK_ADMIN");
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap_or(-1), text + &errors)
}

/// The report on everything.
async fn report(proxy: &DemoProxy, path: &Path) -> RestartReport {
    let socket = proxy.socket().to_str().unwrap();
    let path = path.to_str().unwrap();
    let (code, said) = lameduck(&[
        "report", "--since", "1h", "--json", "--admin", socket, "--output", path,
    ])
    .await;
    assert_eq!(code, 0, "{said}");
    RestartReport::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn verify(report: &RestartReport, log: &Path) -> Verdict {
    let mut ledger = LogLedger::new(report);
    read_lines(log, |line, text, end| {
        ledger.take(LinePlace { file: 0, line }, text, end)
    })
    .unwrap();
    compare(report, &ledger, &[log.display().to_string()])
}

/// Changes one thing of a report, and adds it up again as whoever lies would; says of what.
fn change(report: &mut RestartReport, random: &mut fastrand::Rng) -> String {
    let place = random.usize(..report.restarts.len());
    let bump = |requests: &mut RestartCounts, random: &mut fastrand::Rng| {
        let (name, before) = requests.figures()[random.usize(..8)];
        let by = random.u64(1..9);
        *requests.figure_mut(name).unwrap() = match random.bool() && before > 0 {
            true => before - by.min(before),
            false => before + by,
        };
        name
    };
    match random.u8(..6) {
        0..3 => {
            let one = &mut report.restarts[place];
            let name = bump(&mut one.requests, random);
            let changed = format!("{} {name}", one.id);
            report.total = document::total(&report.restarts);
            report.rolls = document::rolls(&report.restarts);
            changed
        }
        3 => format!("total {}", bump(&mut report.total, random)),
        4 => {
            let one = &mut report.restarts[place];
            let Some(window) = one
                .latency
                .during
                .as_mut()
                .filter(|window| window.requests > 0)
            else {
                one.requests.lost += 1;
                return format!("{} lost", one.id);
            };
            match random.bool() {
                true => window.requests += 1_000_000,
                // One that is near may be right, by the requests at the edges of a short span.
                false => window.p50_ms = Some(LAST_BOUND),
            }
            format!("{} latency", one.id)
        }
        _ => {
            let one = &mut report.restarts[place];
            one.id.insert(0, 'x');
            format!("{} id", one.id)
        }
    }
}

/// Loses on purpose what it can, and counts by itself.
#[tokio::test]
async fn report_has_the_oracles_figures_and_verify_agrees_and_names_each_change() {
    let _turn = turn().await;
    let mut bench = Bench::start("report", App::BuiltIn, 3).await.unwrap();
    let log: PathBuf = bench.scratch.path().join("access.log");
    let settings = ProxySettings {
        access_log: log.display().to_string(),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path().to_owned();
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    ready(&proxy, 3).await;
    let rounds = if proving() { 48 } else { 12 };
    let load = Load::start(LoadPlan {
        slow: Duration::from_millis(700),
        post_percent: 30,
        slow_percent: 40,
        ..LoadPlan::new(proxy.address(), 60)
    });
    let mut lost = 0;
    let mut restarts = 0;
    for round in 0..rounds {
        let way = WAYS[round % WAYS.len()];
        let readers = match way {
            Way::Cut | Way::Killed => 1 + round / WAYS.len() % 3,
            _ => 0,
        };
        let mut slow = Vec::new();
        for _ in 0..readers {
            slow.push(SlowReader::open(&proxy).await);
        }
        let victim = slow
            .first()
            .map_or_else(|| format!("app-{}", round % 3 + 1), |one| one.app.clone());
        let all = bench.instances.iter().map(|one| one.name().to_owned());
        let others: Vec<String> = all.filter(|name| *name != victim).collect();
        let instance = bench
            .instances
            .iter_mut()
            .find(|one| one.name() == victim)
            .unwrap();
        restart(way, instance, &others, &proxy).await;
        restarts += if way == Way::Alone { 3 } else { 1 };
        for reader in slow {
            lost += u64::from(reader.finish().await);
        }
    }
    let account = lameduck_rig::oracle::account(
        load.stop().await,
        lameduck_rig::oracle::lives_of(&bench.instances),
    );
    lost += account.lost;
    let path = dir.join("report.json");
    until("the log", PATIENCE, async || {
        let report = report(&proxy, &path).await;
        verify(&report, &log).agrees
    })
    .await;
    let made = report(&proxy, &path).await;
    let found = verify(&made, &log);
    assert!(found.agrees, "{:#?}", found.differences);
    assert_eq!(
        found
            .notes
            .iter()
            .find(|note| note.contains("no restart is blamed")),
        None
    );
    assert!(
        made.restarts.len() >= restarts,
        "{:#?}",
        causes(&made.restarts)
    );
    assert_eq!(
        made.total.lost,
        lost,
        "{account}\n{:#?}",
        causes(&made.restarts)
    );
    assert!(
        lost as usize >= rounds / 3,
        "{lost} lost of {rounds} restarts"
    );
    assert!(
        made.restarts.iter().all(|one| one.ready.is_some()),
        "{:#?}",
        causes(&made.restarts)
    );
    compare_with_the_log(&made, &log);
    let seen = |cause: &str| {
        made.restarts
            .iter()
            .filter(|one| one.cause == cause)
            .count()
    };
    assert_eq!(seen("supervisor"), rounds / WAYS.len());
    assert!(
        seen("unavailable") + seen("stopped") + seen("killed") >= 2 * rounds / WAYS.len(),
        "{:?}",
        causes(&made.restarts)
    );
    assert!(seen("killed") >= 1, "{:?}", causes(&made.restarts));
    assert!(
        made.total.held > 0 && made.total.cut > 0 && made.total.retried > 0,
        "{:?}",
        made.total
    );
    println!(
        "{restarts} restarts, {:?}, {} figures, {} lines",
        made.total, found.figures, found.lines
    );
    let changes = if proving() { 100 } else { 20 };
    let mut random = fastrand::Rng::with_seed(17);
    for _ in 0..changes {
        let mut lie = made.clone();
        let what = change(&mut lie, &mut random);
        let found = verify(&lie, &log);
        assert!(!found.agrees, "{what} was not found out");
        let named = |one: &lameduck::tools::report::verify::Difference| {
            what.starts_with(&one.of)
                && (what.ends_with(" id")
                    || what.split(' ').any(|word| one.figure.starts_with(word)))
        };
        assert!(
            found.differences.iter().any(named),
            "{what}: {:#?}",
            found.differences
        );
    }
    commands(&proxy, &made, &path, &log).await;
}

fn causes(restarts: &[RestartView]) -> Vec<String> {
    let shown = |one: &RestartView| {
        format!(
            "{} {} {} {:?} {:?}",
            one.id, one.backend, one.cause, one.drain, one.requests
        )
    };
    restarts.iter().map(shown).collect()
}

/// What the log says without its field `restarts`.
fn compare_with_the_log(made: &RestartReport, log: &Path) {
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let held = lines
        .iter()
        .filter(|line| line["held_ms"].as_f64() > Some(0.0))
        .count() as u64;
    assert_eq!(made.total.held, held);
    let again = lines
        .iter()
        .filter_map(|line| line["attempts"].as_u64())
        .filter(|n| *n > 1);
    let (requests, attempts) = (
        again.clone().count() as u64,
        again.map(|n| n - 1).sum::<u64>(),
    );
    assert!(
        (requests..=attempts).contains(&made.total.retried),
        "{requests} {attempts} {:?}",
        made.total
    );
    let cut = lines.iter().filter(|line| line["end"] == "cut").count() as u64;
    assert_eq!(made.total.cut, cut);
}

/// The commands: exit codes, forms, and a log in parts that are compressed.
async fn commands(proxy: &DemoProxy, made: &RestartReport, path: &Path, log: &Path) {
    let socket = proxy.socket().to_str().unwrap().to_owned();
    let run = async |words: &[&str]| {
        let mut all = vec!["report", "--since", "1h", "--admin", &socket];
        all.extend(words);
        lameduck(&all).await
    };
    let (code, said) = run(&["--fail-on", "lost,unfinished"]).await;
    assert_eq!(code, 7, "{said}");
    assert!(
        said.contains(&format!("--fail-on: lost: {}", made.total.lost)),
        "{said}"
    );
    assert_eq!(run(&["--fail-on", "unfinished,empty"]).await.0, 0);
    let (code, page) = run(&["--html"]).await;
    assert!(code == 0 && page.starts_with("<!doctype html>"), "{page}");
    let (code, table) = run(&["--markdown"]).await;
    assert!(code == 0 && table.contains("| backend |"), "{table}");

    // Rotated: the first half compressed by gzip, the rest by zstd.
    let text = std::fs::read(log).unwrap();
    let half = text.len() / 2
        + text[text.len() / 2..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap()
        + 1;
    let (old, new) = (
        log.with_extension("log.1.gz"),
        log.with_extension("log.zst"),
    );
    let mut packed = flate2::write::GzEncoder::new(
        std::fs::File::create(&old).unwrap(),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut packed, &text[..half]).unwrap();
    packed.finish().unwrap();
    std::fs::write(&new, zstd::encode_all(&text[half..], 1).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let (code, said) = lameduck(&["verify", path, "--log", old, new]).await;
    assert!(code == 0 && said.contains("agrees: "), "{code} {said}");
    let (code, said) = lameduck(&["verify", path, "--log", old]).await;
    assert!(
        code == 7 && said.contains("later lines may be missing"),
        "{code} {said}"
    );
    let (code, said) = lameduck(&["verify", path, "--log", old, old]).await;
    assert!(
        code == 1 && said.contains("begin with the same line"),
        "{code} {said}"
    );
    let (code, said) = lameduck(&["verify", path, "--log", path]).await;
    assert!(
        code == 1 && said.contains("no line of lameduck's access log"),
        "{code} {said}"
    );
}

/// Requests that are in flight when the drain begins are served in it, as many as the app's journal has.
#[tokio::test]
async fn requests_in_flight_are_served_while_draining_and_counted() {
    let _turn = turn().await;
    let bench = Bench::start("report-served", App::BuiltIn, 2)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    let settings = ProxySettings::default();
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    ready(&proxy, 2).await;
    let mut requests = tokio::task::JoinSet::new();
    let address = proxy.address();
    for id in 1..=9 {
        requests.spawn(async move {
            let mut connection = LoadConnection::open(address).await.unwrap();
            let request =
                format!("GET /slow?ms=1500 HTTP/1.1\r\nHost: app\r\nx-demo-id: {id}\r\n\r\n");
            connection
                .exchange(request.as_bytes())
                .await
                .unwrap()
                .status
        });
    }
    let arrived = |instance: &DemoInstance| instance.lives().unwrap()[0].arrivals.len();
    until("all nine", PATIENCE, async || {
        bench.instances.iter().map(arrived).sum::<usize>() == 9
    })
    .await;
    let name = bench.instances[0].name();
    let own = arrived(&bench.instances[0]) as u64;
    drain(&proxy, name, json!({"timeout": "20s"})).await;
    while let Some(status) = requests.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    resume(&proxy, name, json!({"wait": "20s"})).await;
    let list = admin::call(proxy.socket(), "GET", "/v1/restarts?limit=5", None)
        .await
        .unwrap();
    let restarts = list["restarts"].as_array().unwrap();
    assert_eq!(restarts.len(), 1, "{list:#}");
    let one = &restarts[0];
    assert!(own > 0);
    assert_eq!(one["requests"]["served"], own, "{one:#}");
    assert_eq!(
        (&one["requests"]["lost"], &one["cause"], &one["outcome"]),
        (&json!(0), &json!("api"), &json!("resumed"))
    );
    assert_eq!(one["capacity_percent"], 50.0);
    let path = format!("/v1/restarts/{}", one["id"].as_str().unwrap());
    let same = admin::call(proxy.socket(), "GET", &path, None)
        .await
        .unwrap();
    assert_eq!(same["id"], one["id"]);
    let none = admin::request(proxy.socket(), "GET", "/v1/restarts/nothing", None)
        .await
        .unwrap();
    assert_eq!(none.0, 404);
}
