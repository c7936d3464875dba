//! The proxy and each command with standard streams that are closed, broken, full or never read.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, skip, until};
use lameduck_rig::broken_streams::{KINDS, Kind, Stream, fit};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process with these standard output and standard error.
fn start(arguments: &[&str], socket: &Path, out: &Stream, err: &Stream) -> Child {
    start_with(arguments, socket, out, err, &[])
}

fn start_with(
    arguments: &[&str],
    socket: &Path,
    out: &Stream,
    err: &Stream,
    variables: &[(&str, &str)],
) -> Child {
    let mut command = std::process::Command::new(exe());
    command
        .args(arguments)
        .env("LAMEDUCK_ADMIN", socket)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    fit(&mut command, out, err);
    Command::from(command).kill_on_drop(true).spawn().unwrap()
}

async fn ended(child: &mut Child, what: &str) -> ExitStatus {
    let status = timeout(PATIENCE, child.wait()).await;
    status
        .unwrap_or_else(|_| panic!("{what} still runs"))
        .unwrap()
}

/// Whether it has a handler for the signal, so that it does not just end by it.
fn catches(child: &Child, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap()));
    let caught = status.unwrap_or_default();
    let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

fn send(child: &Child, signal: i32) {
    lameduck::rt::syscall::kill(child.id().unwrap(), signal).unwrap();
}

fn kinds(test: &str) -> Vec<(Kind, Stream, Stream)> {
    let both = KINDS.map(|kind| (kind, Stream::new(kind).zip(Stream::new(kind))));
    let there = both.into_iter().filter_map(|(kind, both)| {
        if both.is_none() {
            skip(test, "the right to mount a small disk");
        }
        both.map(|(out, err)| (kind, out, err))
    });
    there.collect()
}

/// A running proxy.
struct Run {
    child: Child,
    socket: PathBuf,
    address: SocketAddr,
}

impl Run {
    async fn start(bench: &Bench, name: &str, out: &Stream, err: &Stream) -> Self {
        let dir = bench.scratch.path();
        let (socket, config) = (
            dir.join(format!("{name}.sock")),
            dir.join(format!("{name}.toml")),
        );
        let settings = ProxySettings {
            server: "lame_duck = \"0s\"\ndeadline = \"10s\"".into(),
            access_log: "stdout".into(),
            ..ProxySettings::default()
        };
        let instances = bench.instances.iter();
        let backends: Vec<_> = instances
            .map(|one| (one.name().to_owned(), one.address()))
            .collect();
        std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
        let arguments = ["run", "-c", config.to_str().unwrap()];
        let trace = [("LAMEDUCK_LOG", "trace")];
        let mut child = start_with(&arguments, &socket, out, err, &trace);
        until("the proxy is ready", PATIENCE, async || {
            assert_eq!(child.try_wait().unwrap(), None, "{name}");
            let answer = admin::request(&socket, "GET", "/-/ready?pool=app", None).await;
            matches!(answer, Ok((200, _)))
        })
        .await;
        let listeners = admin::call(&socket, "GET", "/v1/listeners", None).await;
        let address = listeners.unwrap()[0]["address"].as_str().unwrap().parse();
        Self {
            child,
            socket,
            address: address.unwrap(),
        }
    }

    async fn ask(&self, method: &str, path: &str) -> serde_json::Value {
        let body = (method == "POST").then(|| json!({}));
        let asked = admin::call(&self.socket, method, path, body.as_ref());
        timeout(PATIENCE, asked).await.unwrap().unwrap()
    }

    async fn metric(&self, name: &str) -> u64 {
        let (status, text) = admin::request(&self.socket, "GET", "/metrics", None)
            .await
            .unwrap();
        assert_eq!(status, 200);
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
        value.unwrap().parse().unwrap()
    }

    /// Has it log until lines are lost: a refused configuration is told with all that is wrong in it.
    async fn overflow_log(&self) {
        let config = self.socket.with_extension("toml");
        let wrong: String = (0..100).map(|n| format!("wrong_{n} = 1\n")).collect();
        std::fs::write(
            &config,
            format!("{wrong}{}", std::fs::read_to_string(&config).unwrap()),
        )
        .unwrap();
        until("lines of the log are dropped", PATIENCE, async || {
            for _ in 0..10 {
                let refused = admin::request(&self.socket, "POST", "/v1/config/reload", None).await;
                assert_eq!(refused.unwrap().0, 422);
            }
            self.metric("lameduck_log_dropped_total").await > 0
        })
        .await;
    }

    async fn request(&self) {
        let answered = timeout(PATIENCE, get(self.address, "/")).await;
        assert_eq!(answered.unwrap().unwrap().0, 200);
    }

    async fn stop(&mut self, what: &str) -> ExitStatus {
        send(&self.child, libc::SIGTERM);
        ended(&mut self.child, what).await
    }
}

/// Requests pass, a backend is drained and comes back, probes and metrics answer, a reload is taken, TERM ends it.
#[lameduck_rig::test]
async fn proxy_goes_on_whatever_its_streams_are() {
    let bench = Bench::start("streams", App::BuiltIn, 2).await.unwrap();
    let runs = kinds("streams").into_iter().map(|(kind, out, err)| {
        let bench = &bench;
        async move {
            let name = format!("{kind:?}");
            let mut run = Run::start(bench, &name, &out, &err).await;
            for _ in 0..20 {
                run.request().await;
            }
            let drained = run.ask("POST", "/v1/pools/app/backends/app-1/drain").await;
            assert_eq!(drained["outcome"], "drained", "{name}");
            send(&run.child, libc::SIGHUP);
            run.ask("POST", "/v1/pools/app/backends/app-1/resume").await;
            until("app-1 takes requests again", PATIENCE, async || {
                let pool = run.ask("GET", "/v1/pools/app").await;
                pool["eligible"] == 2
            })
            .await;
            until("the reload is counted", PATIENCE, async || {
                run.metric("lameduck_config_reload_total{outcome=\"applied\"}")
                    .await
                    == 1
            })
            .await;
            if kind.is_unread() || kind.fails() || kind == Kind::PipeGone {
                run.overflow_log().await;
            }
            let (live, _) = admin::request(&run.socket, "GET", "/-/live", None)
                .await
                .unwrap();
            assert_eq!(live, 200, "{name}");
            let begun = std::time::Instant::now();
            let status = run.stop(&name).await;
            assert!(status.success(), "{name}: {status}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
        }
    });
    join_all(runs).await;
}

#[lameduck_rig::test]
async fn log_that_is_read_again_says_how_much_was_lost() {
    let bench = Bench::start("streams", App::BuiltIn, 1).await.unwrap();
    let (out, mut err) = (
        Stream::new(Kind::Closed).unwrap(),
        Stream::new(Kind::PipeUnread).unwrap(),
    );
    let mut run = Run::start(&bench, "read-again", &out, &err).await;
    run.overflow_log().await;
    let other = err.other.take().unwrap();
    drop(err);
    let said = Arc::<Mutex<Vec<u8>>>::default();
    let of_reader = said.clone();
    let reader = std::thread::spawn(move || {
        let mut other = std::fs::File::from(other);
        let mut part = vec![0; 1 << 16];
        loop {
            let length = other.read(&mut part).unwrap();
            if length == 0 {
                break;
            }
            of_reader.lock().extend_from_slice(&part[..length]);
        }
    });
    let told = || -> u64 {
        let text = String::from_utf8_lossy(&said.lock()).into_owned();
        // The last line may be half read.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let told = whole.filter(|line| line.contains("lines of this log were dropped"));
        told.map(|line| {
            let (_, number) = line.rsplit_once("lost").unwrap();
            let digits: String = number.chars().filter(char::is_ascii_digit).collect();
            digits.parse::<u64>().unwrap()
        })
        .sum()
    };
    // The line comes when the queue has been written; the last words when the process ends.
    until("all that was lost to be told", PATIENCE, async || {
        told() == run.metric("lameduck_log_dropped_total").await
    })
    .await;
    let dropped = run.metric("lameduck_log_dropped_total").await;
    assert!(run.stop("read-again").await.success());
    reader.join().unwrap();
    assert_eq!(told(), dropped);
    let text = String::from_utf8_lossy(&said.lock()).into_owned();
    assert!(text.trim_end().lines().any(|line| line.contains("bye")));
}

/// What a command should come to where its streams fail or are gone.
struct Case {
    words: &'static [&'static str],
    /// What it prints is what it is for.
    product: bool,
    code: i32,
}

const CASES: [Case; 13] = [
    case(&["check", "-c", "@"], true, 0),
    case(&["check", "-c", "@", "--print"], true, 0),
    case(&["doctor", "tests/doctor/good/lameduck.service"], true, 0),
    case(&["--help"], true, 0),
    case(&["roll", "--help"], true, 0),
    case(&["status"], true, 0),
    case(&["status", "--json"], true, 0),
    case(&["health", "app"], false, 0),
    case(&["drain", "app/app-1"], false, 0),
    case(&["resume", "app/app-1", "--wait", "20s"], false, 0),
    case(&["reload"], false, 0),
    // The command fails, and the roll undoes its drain.
    case(&["roll", "app", "--", "false", "{name}"], false, 1),
    case(&["drain", "app/none"], false, 1),
];

const fn case(words: &'static [&'static str], product: bool, code: i32) -> Case {
    Case {
        words,
        product,
        code,
    }
}

async fn in_front_of(bench: &Bench, name: &str) -> DemoProxy {
    let settings = ProxySettings {
        server: "lame_duck = \"0s\"".into(),
        ..ProxySettings::default()
    };
    let dir = bench.scratch.path();
    let mut proxy = DemoProxy::start(exe(), name, dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    proxy
}

/// The words with the paths put in.
fn words(case: &Case, proxy: &DemoProxy) -> Vec<String> {
    let config = proxy.config();
    let word = |word: &&str| match *word {
        "@" => config.display().to_string(),
        other => other.to_owned(),
    };
    case.words.iter().map(word).collect()
}

#[lameduck_rig::test]
async fn commands_end_whatever_their_streams_are() {
    let bench = Bench::start("streams", App::BuiltIn, 2).await.unwrap();
    let all = kinds("streams").into_iter().map(|(kind, out, err)| {
        let bench = &bench;
        async move {
            let proxy = in_front_of(bench, &format!("{kind:?}")).await;
            for case in &CASES {
                let what = format!("{:?} with {kind:?}", case.words);
                let words = words(case, &proxy);
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                let mut child = start(&words, proxy.socket(), &out, &err);
                if case.product && kind.is_unread() {
                    // It waits for its reader, as everybody's does, and a signal ends it.
                    send(&child, libc::SIGTERM);
                    ended(&mut child, &what).await;
                    continue;
                }
                let status = ended(&mut child, &what).await;
                let fails = case.product && kind.fails();
                let code = if fails { 1 } else { case.code };
                assert_eq!(status.code(), Some(code), "{what}: {status}");
            }
            let pool = proxy.pool().await.unwrap();
            let left = pool.backends.iter().filter(|one| !one.drains.is_empty());
            assert_eq!(left.count(), 0, "{kind:?}: {pool:?}");
        }
    });
    join_all(all).await;
}

/// Whoever watches can always be interrupted; whoever rolls undoes its drain first.
#[lameduck_rig::test]
async fn long_commands_are_interrupted_whatever_their_streams_are() {
    let bench = Bench::start("streams", App::BuiltIn, 2).await.unwrap();
    let all = kinds("streams").into_iter().map(|(kind, out, err)| {
        let bench = &bench;
        async move {
            let proxy = in_front_of(bench, &format!("{kind:?}")).await;
            let marker = bench.scratch.path().join(format!("{kind:?}.running"));
            for words in [&["status", "--watch"][..], &["status", "--watch", "--json"]] {
                let mut child = start(words, proxy.socket(), &out, &err);
                if kind.is_unread() {
                    until("it catches signals", PATIENCE, async || {
                        catches(&child, libc::SIGINT)
                    })
                    .await;
                    send(&child, libc::SIGINT);
                    let status = ended(&mut child, "status --watch").await;
                    assert_eq!(status.code(), Some(130), "{words:?} with {kind:?}");
                } else if kind == Kind::Closed {
                    send(&child, libc::SIGTERM);
                    ended(&mut child, "status --watch").await;
                } else {
                    let status = ended(&mut child, "status --watch").await;
                    let code = i32::from(kind.fails());
                    assert_eq!(status.code(), Some(code), "{words:?} with {kind:?}");
                }
            }
            // One request for each: whichever is drained has something in flight. A shorter body would be received whole
            // before a backend is picked.
            let body = vec![b'x'; 512 << 10];
            let (begin, rest) = body.split_at(body.len() / 2);
            let slow = async || {
                let mut client = TcpStream::connect(proxy.address()).await.unwrap();
                let head = format!(
                    "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                client.write_all(head.as_bytes()).await.unwrap();
                client.write_all(begin).await.unwrap();
                client
            };
            // One after the other: of two at the same moment, each may see both backends free and take the same.
            let mut in_flight = Vec::new();
            for count in 1..=2 {
                in_flight.push(slow().await);
                until("it is on its way", PATIENCE, async || {
                    let pool = proxy.pool().await.unwrap();
                    pool.backends.iter().map(|one| one.in_flight).sum::<u32>() == count
                })
                .await;
            }
            let mut child = start(&["drain", "app/app-1"], proxy.socket(), &out, &err);
            until("the drain has begun", PATIENCE, async || {
                !proxy.pool().await.unwrap().backends[0].drains.is_empty()
            })
            .await;
            send(&child, libc::SIGTERM);
            let status = ended(&mut child, "drain").await;
            assert_eq!(status.code(), Some(130), "{kind:?}");
            proxy.resume("app-1", PATIENCE).await.unwrap();
            for mut slow in in_flight {
                slow.write_all(rest).await.unwrap();
                let mut answer = String::new();
                let read = timeout(PATIENCE, slow.read_to_string(&mut answer)).await;
                read.unwrap().unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
            let script = format!("touch {}; exec sleep 60", marker.display());
            for signal in [libc::SIGTERM, libc::SIGINT] {
                let _ = std::fs::remove_file(&marker);
                until("both take requests", PATIENCE, async || {
                    proxy.pool().await.unwrap().eligible == 2
                })
                .await;
                let roll = ["roll", "app", "--", "sh", "-c", &script, "{name}"];
                let mut child = start(&roll, proxy.socket(), &out, &err);
                until("the roll's command runs", PATIENCE, async || {
                    marker.exists()
                })
                .await;
                // Once leaves the command to its end, twice ends it.
                // Two that come before the first was read are one: so they go on.
                let mut status = None;
                until("the roll's end", PATIENCE, async || {
                    if child.id().is_some() {
                        send(&child, signal);
                    }
                    let ending = timeout(Duration::from_millis(50), child.wait()).await;
                    status = ending.ok().map(Result::unwrap);
                    status.is_some()
                })
                .await;
                assert_eq!(status.unwrap().code(), Some(130), "{kind:?}");
                let pool = proxy.pool().await.unwrap();
                let drained = pool.backends.iter().any(|one| !one.drains.is_empty());
                assert!(!drained, "{kind:?}: {pool:?}");
            }
        }
    });
    join_all(all).await;
}

/// Output that can't be written is a failure with its reason, but for a reader that has seen enough.
#[lameduck_rig::test]
async fn unwritten_product_is_a_failure_that_says_why() {
    let bench = Bench::start("streams", App::BuiltIn, 1).await.unwrap();
    let proxy = in_front_of(&bench, "product").await;
    let config = proxy.config().display().to_string();
    let lines: [&[&str]; 7] = [
        &["check", "-c", &config, "--print"],
        &["check", "-c", &config, "--json"],
        &["status"],
        &["status", "--json"],
        &["roll", "app", "--dry-run", "--allow-empty", "--", "true"],
        &["drain", "app/app-1", "--no-wait", "--json"],
        &["--version"],
    ];
    for words in lines {
        for (kind, code) in [(Kind::DeviceFull, 1), (Kind::PipeGone, 0)] {
            let out = Stream::new(kind).unwrap();
            let mut command = Command::new(exe());
            command
                .args(words)
                .env("LAMEDUCK_ADMIN", proxy.socket())
                .stdout(out.stdio())
                .stderr(Stdio::piped());
            // Not `output`, which would put a pipe in place of standard output.
            let child = command.spawn().unwrap();
            let output = timeout(PATIENCE, child.wait_with_output()).await;
            let output = output.unwrap().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
            let told = said.contains("can't write to standard output: No space left on device");
            assert_eq!(told, code == 1, "{words:?}: {said}");
        }
    }
}

/// The demo's load and its children depend on no reader.
#[lameduck_rig::test]
async fn demo_runs_and_ends_while_nobody_reads() {
    let socket = Path::new("/nonexistent");
    for kind in [Kind::PipeUnread, Kind::DeviceFull] {
        let (out, err) = (Stream::new(kind).unwrap(), Stream::new(kind).unwrap());
        let words = ["demo", "--rate", "20", "--rolls", "1", "--instances", "2"];
        let mut child = start(&words, socket, &out, &err);
        let status = ended(&mut child, "demo").await;
        assert!(status.success(), "{kind:?}: {status}");
    }
}
