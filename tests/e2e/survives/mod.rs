//! `kill -9` of the proxy, at any moment and again and again: whoever keeps its sockets (systemd's store, or its own
//! keeper) starts it again, nobody is refused, those who waited are served, and nothing that was acknowledged is lost.
//!
//! The instants come from a seed, which is printed; `SURVIVE_SEED` takes another one.

mod fake_systemd;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lameduck::registry::view::PoolView;
use lameduck::rt::syscall::kill;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::ProxySettings;
use parking_lot::Mutex;
use serde_json::json;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, proving, turn_alone, until};
use fake_systemd::FakeSystemd;
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{children, descriptors, status_kib};
use lameduck_rig::setting::say;

const PATIENCE: Duration = Duration::from_secs(20);
/// After the next start's listeners serve, everything is as it was within this time; others load the machine in CI.
const BACK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// Instances that are in the configuration; the first is never drained, so that there is always one that answers.
const INSTANCES: usize = 3;

/// Who keeps the sockets.
enum Watcher {
    Systemd(FakeSystemd),
    /// `lameduck run --keeper`; the proxy is its child.
    Keeper,
}

/// A proxy that is killed and comes back.
struct Stage {
    watcher: Watcher,
    /// Under systemd, the proxy itself; else its keeper.
    process: ChildProcess,
    files: Files,
}

#[derive(Clone)]
struct Files {
    config: PathBuf,
    admin: PathBuf,
    web: PathBuf,
    state: PathBuf,
    address: SocketAddr,
    /// What a reload adds and takes away.
    extra: SocketAddr,
    text: String,
}

impl Files {
    fn targets(&self) -> [Target; 2] {
        [Target::Tcp(self.address), Target::Path(self.web.clone())]
    }

    fn write(&self, with_extra: bool) {
        let extra = match with_extra {
            true => format!("[[listener]]\naddress = \"{}\"\n", self.extra),
            false => String::new(),
        };
        // As an editor does it: the proxy may be started at any moment.
        let new = self.config.with_extension("new");
        std::fs::write(&new, format!("{extra}{}", self.text)).unwrap();
        std::fs::rename(&new, &self.config).unwrap();
    }
}

/// What has been acknowledged; `None`: asked for, and not answered.
#[derive(Default, Clone)]
struct Acknowledged {
    drained: BTreeMap<String, Option<bool>>,
    registered: BTreeMap<String, Option<bool>>,
    with_extra: bool,
}

fn files(bench: &Bench) -> Files {
    let dir = bench.scratch.path();
    let path = |name: &str| dir.join(name);
    let (address, extra) = (free_address(), free_address());
    let settings = ProxySettings {
        listen: address,
        server: format!("lame_duck = \"0s\"\nstate_dir = {:?}", path("state")),
        listener: format!(
            "[[listener]]\naddress = \"unix:{}\"",
            path("web.sock").display()
        ),
        pool: "[pool.health]\nrise = 1\ninterval = \"200ms\"\nfast_interval = \"20ms\"".to_owned(),
        // Its default address is there for one proxy of this machine only.
        admin: "http = \"\"".to_owned(),
        ..ProxySettings::default()
    };
    let instances = bench.instances.iter();
    let backends: Vec<_> = instances
        .map(|one| (one.name().to_owned(), one.address()))
        .collect();
    Files {
        config: path("proxy.toml"),
        admin: path("admin.sock"),
        web: path("web.sock"),
        state: path("state/state.json"),
        address,
        extra,
        text: settings.toml(&path("admin.sock"), &backends),
    }
}

/// The proxy, started by hand.
fn run(words: &[&str], config: &Path) -> Command {
    let mut command = Command::new(exe());
    command.arg("run").args(words).arg("-c").arg(config);
    command.env_remove("LAMEDUCK_ADMIN");
    command
}

impl Stage {
    async fn start(bench: &Bench, watcher: Watcher, files: Files) -> Self {
        files.write(false);
        let log = bench.scratch.path().join("proxy.log");
        let command = match &watcher {
            Watcher::Systemd(systemd) => systemd.command(&files.config),
            Watcher::Keeper => run(&["--keeper"], &files.config),
        };
        let process = ChildProcess::start("proxy", command, &log).unwrap();
        let mut stage = Self {
            watcher,
            process,
            files,
        };
        stage.process.ignore_output();
        stage.ready().await;
        stage
    }

    async fn ready(&mut self) {
        until("the proxy to be ready", PATIENCE, async || {
            self.process.check().unwrap();
            let answer = admin::request(&self.files.admin, "GET", "/-/ready?pool=app", None);
            let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
            matches!(answer, Ok(Ok((200, _))))
        })
        .await;
    }

    /// The process that is the proxy.
    async fn pid(&self) -> u32 {
        if let Watcher::Systemd(_) = self.watcher {
            return self.process.pid();
        }
        let mut found = None;
        until("the keeper's child", PATIENCE, async || {
            found = children(self.process.pid()).first().copied();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Kills the proxy. Nobody serves when this returns, unless its keeper has been that quick.
    async fn kill(&mut self) {
        kill(self.pid().await, libc::SIGKILL).unwrap();
        if let Watcher::Systemd(_) = self.watcher {
            self.process.wait(PATIENCE).await.unwrap();
        }
    }

    /// What its watcher does then.
    async fn start_again(&mut self, bench: &Bench) {
        if let Watcher::Systemd(systemd) = &mut self.watcher {
            systemd.settle();
            let log = bench.scratch.path().join("proxy.log");
            let old = std::fs::read_to_string(&log).unwrap_or_default();
            std::fs::write(bench.scratch.path().join("before.log"), old).unwrap();
            let command = systemd.command(&self.files.config);
            self.process = ChildProcess::start("proxy", command, &log).unwrap();
            self.process.ignore_output();
        }
    }

    async fn pool(&self) -> PoolView {
        let call = admin::call(&self.files.admin, "GET", "/v1/pools/app", None);
        let answer = tokio::time::timeout(PATIENCE, call)
            .await
            .expect("an answer");
        serde_json::from_value(answer.unwrap()).unwrap()
    }
}

/// Where clients connect.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Path(PathBuf),
}

impl Target {
    /// One request on a connection of its own. The first error is of the connect, the second of what came then.
    fn ask(&self, patience: Duration) -> std::io::Result<std::io::Result<String>> {
        let patience = Some(patience);
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                ask(stream)
            }
            Self::Path(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                ask(stream)
            }
        })
    }
}

/// One request on a connection of its own; the connect is an error of its own kind.
fn ask(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Somebody who connects now, and whether the answer was a good one.
pub fn client(target: &Target) -> tokio::task::JoinHandle<Result<(), String>> {
    let target = target.clone();
    tokio::task::spawn_blocking(move || {
        let answer = target
            .ask(PATIENCE)
            .map_err(|error| format!("{target:?}: {error}"))?;
        let answer = answer.map_err(|error| format!("cut: {error}"))?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(answer),
        }
    })
}

/// Connects all the time. A request may be cut with its process; a connect must never fail.
pub struct Callers {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Callers {
    pub fn start(targets: Vec<Target>) -> Self {
        let mut callers = Self {
            stop: Arc::default(),
            made: Arc::default(),
            refused: Arc::default(),
            threads: Vec::new(),
        };
        for target in targets {
            let (stop, made) = (callers.stop.clone(), callers.made.clone());
            let refused = callers.refused.clone();
            callers.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = target.ask(Duration::from_secs(2)) {
                        refused.lock().push(format!("{target:?}: {error}"));
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        callers
    }

    /// How many connects there were, and those that failed.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (
            self.made.load(Ordering::Relaxed),
            std::mem::take(&mut self.refused.lock()),
        )
    }
}

/// Drains, resumes, registers, deregisters and reloads, one after the other, until it is aborted.
async fn change(files: Files, known: Arc<Mutex<Acknowledged>>, seed: u64, address: String) {
    let mut random = fastrand::Rng::with_seed(seed);
    let call = async |method: &str, path: String, body: serde_json::Value| {
        let answer = admin::call(&files.admin, method, &path, Some(&body))
            .await
            .ok()?;
        // "In force, but not saved" is an answer, too.
        answer["warning"].is_null().then_some(())
    };
    loop {
        match random.u8(..10) {
            drain @ 0..6 => {
                let name = format!("app-{}", random.usize(2..=INSTANCES));
                let drain = drain < 3;
                known.lock().drained.insert(name.clone(), None);
                let (verb, body) = match drain {
                    true => ("drain", json!({ "wait": false, "timeout": "5s" })),
                    false => ("resume", json!({ "all": true })),
                };
                let path = format!("/v1/pools/app/backends/{name}/{verb}");
                if call("POST", path, body).await.is_some() {
                    known.lock().drained.insert(name, Some(drain));
                }
            }
            registers @ 6..9 => {
                let name = format!("reg-{}", random.u8(1..=3));
                let path = format!("/v1/pools/app/backends/{name}");
                let here = registers < 8;
                known.lock().registered.insert(name.clone(), None);
                let done = match here {
                    true => call("PUT", path, json!({ "address": address })).await,
                    false => {
                        let there = known.lock().registered.contains_key(&name);
                        match there {
                            true => call("DELETE", path, json!({ "timeout": "1s" })).await,
                            false => None,
                        }
                    }
                };
                if done.is_some() {
                    known.lock().registered.insert(name, Some(here));
                }
            }
            _ => {
                let with_extra = !known.lock().with_extra;
                known.lock().with_extra = with_extra;
                files.write(with_extra);
                let _ = call("POST", "/v1/config/reload".to_owned(), json!({})).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..5))).await;
    }
}

/// What differs from what was acknowledged, if anything does.
fn difference(pool: &PoolView, known: &Acknowledged) -> Option<String> {
    let find = |name: &str| pool.backends.iter().find(|one| one.name == name);
    for (name, drained) in &known.drained {
        // These are in the configuration.
        let is = find(name)
            .unwrap()
            .drains
            .iter()
            .any(|drain| drain.actor == "operator");
        if drained.is_some_and(|drained| drained != is) {
            return Some(format!("{name} should be drained: {drained:?}, is: {is}"));
        }
    }
    for (name, registered) in &known.registered {
        let is = find(name).is_some();
        if registered.is_some_and(|registered| registered != is) {
            return Some(format!(
                "{name} should be registered: {registered:?}, is: {is}"
            ));
        }
    }
    None
}

fn seed() -> u64 {
    let given = std::env::var("SURVIVE_SEED").ok();
    given
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 32))
}

async fn survives_kills(with_keeper: bool) {
    let _turn = turn_alone().await;
    let rounds = if proving() { 200 } else { 10 };
    let seed = seed();
    say(&format!(
        "SURVIVE_SEED={seed}, keeper: {with_keeper}, {rounds} kills"
    ));
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::start("survive", App::BuiltIn, INSTANCES)
        .await
        .unwrap();
    let files = files(&bench);
    let watcher = match with_keeper {
        true => Watcher::Keeper,
        false => Watcher::Systemd(FakeSystemd::start(bench.scratch.path())),
    };
    let mut stage = Stage::start(&bench, watcher, files.clone()).await;
    let mut launcher = Command::new(exe());
    launcher.args([
        "exec",
        "--pool",
        "app",
        "--name",
        "leased",
        "--drain-timeout",
        "2s",
        "--",
    ]);
    launcher
        .arg(exe())
        .arg("demo-app")
        .arg("--journals")
        .arg(bench.scratch.path());
    launcher.env("LAMEDUCK_ADMIN", &files.admin);
    let log = bench.scratch.path().join("launcher.log");
    let mut launcher = ChildProcess::start("launcher", launcher, &log).unwrap();
    launcher.ignore_output();
    let is_back = |pool: &PoolView| {
        let ready = |name: &str| {
            pool.backends.iter().any(|one| {
                one.state == "ready"
                    && (one.name == name || one.name.starts_with(&format!("{name}~")))
            })
        };
        ready("leased") && ready("app-1")
    };
    until("the lease", PATIENCE, async || is_back(&stage.pool().await)).await;

    let known = Arc::new(Mutex::new(Acknowledged::default()));
    let callers = Callers::start(files.targets().into());
    let address = bench.instances[0].address().to_string();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        let changes = change(
            files.clone(),
            known.clone(),
            random.u64(..),
            address.clone(),
        );
        let changes = tokio::spawn(changes);
        tokio::time::sleep(Duration::from_millis(random.u64(..300))).await;
        stage.kill().await;
        changes.abort();
        let _ = changes.await;
        // Whatever was under way, the file is whole.
        if let Ok(text) = std::fs::read(&files.state) {
            let read: Result<serde_json::Value, _> = serde_json::from_slice(&text);
            assert!(
                read.is_ok(),
                "round {round}: {}",
                String::from_utf8_lossy(&text)
            );
        }
        // Nobody is there, and they come all the same.
        let waiting: Vec<_> = (0..4).map(|n| client(&files.targets()[n % 2])).collect();
        tokio::time::sleep(Duration::from_millis(random.u64(..50))).await;
        stage.start_again(&bench).await;
        for client in waiting {
            client
                .await
                .unwrap()
                .unwrap_or_else(|why| panic!("round {round}: {why}"));
        }
        let serves = Instant::now();
        let first = stage.pool().await;
        let lost = difference(&first, &known.lock());
        assert_eq!(lost, None, "round {round}: {first:#?}");
        while !is_back(&stage.pool().await) {
            assert!(
                serves.elapsed() < PATIENCE,
                "round {round}: {:#?}\n{}\n{}",
                stage.pool().await,
                launcher.last_words(),
                stage.process.last_words()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(serves.elapsed());
        stage.process.check().unwrap();
    }
    let (made, refused) = callers.stop();
    say(&format!(
        "keeper: {with_keeper}: {rounds} kills, {made} connects, {} refused, all back after {slowest:?} at most",
        refused.len()
    ));
    assert!(refused.is_empty(), "{refused:?}");
    assert!(made > rounds * 10, "{made}");
    assert!(slowest <= BACK, "{slowest:?}");
    let known = known.lock().clone();
    finish(stage, &bench, &known, launcher).await;
}

/// An end in order: systemd goes on keeping the sockets for the next process, a keeper doesn't.
async fn finish(mut stage: Stage, bench: &Bench, known: &Acknowledged, mut launcher: ChildProcess) {
    let files = stage.files.clone();
    launcher.signal(libc::SIGTERM).unwrap();
    launcher.wait(PATIENCE).await.unwrap();
    // What was last asked for is in force.
    files.write(known.with_extra);
    admin::call(&files.admin, "POST", "/v1/config/reload", None)
        .await
        .unwrap();
    if let Watcher::Systemd(systemd) = &mut stage.watcher {
        systemd.settle();
        let expected = 3 + usize::from(known.with_extra);
        let names = systemd.names();
        assert_eq!(names.len(), expected, "{names:?}");
        // Only ASCII that systemd takes.
        assert!(
            names
                .iter()
                .all(|name| name.len() <= 255 && !name.contains(':')),
            "{names:?}"
        );
    } else {
        let keeper = stage.process.pid();
        let memory = status_kib(keeper, "VmRSS");
        let open = descriptors(keeper);
        say(&format!(
            "the keeper has {memory:?} KiB and {open:?} descriptors"
        ));
        assert!(open.unwrap() <= 24, "{open:?}");
    }
    stage.process.signal(libc::SIGTERM).unwrap();
    assert!(stage.process.wait(PATIENCE).await.unwrap().0.success());
    match stage.watcher {
        Watcher::Keeper => {
            let refused = TcpStream::connect(files.address).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            assert!(!files.admin.exists() && !files.web.exists());
        }
        Watcher::Systemd(_) => {
            // As `systemctl restart` has it.
            let waiting = client(&files.targets()[0]);
            let by_path = client(&files.targets()[1]);
            stage.start_again(bench).await;
            waiting.await.unwrap().unwrap();
            by_path.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_proxy_refuses_nobody_where_systemd_keeps_its_sockets() {
    survives_kills(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_proxy_refuses_nobody_where_its_keeper_keeps_its_sockets() {
    survives_kills(true).await;
}

/// Without a store and a keeper, the same clients are refused: the tests above can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_proxy_that_nobody_keeps_refuses_its_clients() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    let mut process = ChildProcess::start("proxy", run(&[], &files.config), &log).unwrap();
    process.ignore_output();
    until("it to serve", PATIENCE, async || {
        client(&files.targets()[0]).await.unwrap().is_ok()
    })
    .await;
    process.signal(libc::SIGKILL).unwrap();
    process.wait(PATIENCE).await.unwrap();
    for target in files.targets() {
        let why = client(&target).await.unwrap().unwrap_err();
        assert!(why.contains("refused"), "{why}");
    }
}

/// A bad configuration is no reason to try for ever, nor is a taken address; their exit codes are the keeper's.
#[tokio::test]
async fn keeper_of_a_proxy_that_can_not_start_ends_as_it_does() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let taken = std::net::TcpListener::bind(files.address).unwrap();
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    for bad in [false, true] {
        if bad {
            std::fs::write(&files.config, "nonsense = 1").unwrap();
        }
        let alone = run(&[], &files.config).output().unwrap();
        let mut kept =
            ChildProcess::start("proxy", run(&["--keeper"], &files.config), &log).unwrap();
        let (status, _) = kept.wait(PATIENCE).await.unwrap();
        assert_eq!(status.code(), alone.status.code());
        assert_eq!(status.code(), Some(1));
        let said = std::fs::read_to_string(&log).unwrap();
        let what = if bad { "nonsense" } else { "can't listen on" };
        assert!(said.contains(what), "{said}");
    }
    drop(taken);
}

/// A supervisor that kills the keeper must find the address free when it starts the next one.
#[tokio::test]
async fn killed_keeper_takes_its_proxy_with_it() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let mut stage = Stage::start(&bench, Watcher::Keeper, files.clone()).await;
    let proxy = stage.pid().await;
    stage.process.signal(libc::SIGKILL).unwrap();
    stage.process.wait(PATIENCE).await.unwrap();
    until("the proxy to end", PATIENCE, async || {
        !lameduck_rig::process::is_running(proxy)
    })
    .await;
    let refused = TcpStream::connect(files.address).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

/// HUP and USR1 reach the proxy, and what it says reaches the supervisor above the keeper.
#[tokio::test]
async fn keeper_passes_on_signals_and_what_the_proxy_says() {
    let bench = Bench::start("survive", App::BuiltIn, 1).await.unwrap();
    let files = files(&bench);
    let above = FakeSystemd::start(bench.scratch.path());
    let mut command = run(&["--keeper"], &files.config);
    command.env("NOTIFY_SOCKET", above.path());
    files.write(false);
    let log = bench.scratch.path().join("proxy.log");
    let mut process = ChildProcess::start("proxy", command, &log).unwrap();
    process.ignore_output();
    until("READY=1", PATIENCE, async || above.has_heard("READY=1")).await;
    files.write(true);
    process.signal(libc::SIGHUP).unwrap();
    until("the reload", PATIENCE, async || {
        TcpStream::connect(files.extra).is_ok()
    })
    .await;
    until("RELOADING=1", PATIENCE, async || {
        above.has_heard("RELOADING=1")
    })
    .await;
    assert!(above.names().is_empty(), "{:?}", above.names());
    process.signal(libc::SIGINT).unwrap();
    assert!(process.wait(PATIENCE).await.unwrap().0.success());
    assert!(above.has_heard("STOPPING=1"));
}

/// A drain that ends with the end of a process is watched by the next proxy, too, whether that process ends before it
/// starts or after.
#[tokio::test]
async fn drain_until_exit_is_watched_again_after_a_kill() {
    for ends_meanwhile in [true, false] {
        let mut bench = Bench::start("survive", App::BuiltIn, 2).await.unwrap();
        let files = files(&bench);
        let mut stage = Stage::start(&bench, Watcher::Keeper, files.clone()).await;
        let body = json!({
            "actor": "supervisor", "until": "restarted", "restarted_when": "exit", "wait": false, "timeout": "60s"
        });
        let path = "/v1/pools/app/backends/app-1/drain";
        admin::call(&files.admin, "POST", path, Some(&body))
            .await
            .unwrap();
        let keeper = stage.process.pid();
        let before = stage.pid().await;
        if ends_meanwhile {
            // The keeper can start nobody until it goes on.
            kill(keeper, libc::SIGSTOP).unwrap();
        }
        kill(before, libc::SIGKILL).unwrap();
        let restart = async |bench: &mut Bench| {
            let app = &mut bench.instances[0];
            app.terminate().unwrap();
            app.exited(PATIENCE).await.unwrap();
            app.start_again().await.unwrap();
        };
        if ends_meanwhile {
            restart(&mut bench).await;
            kill(keeper, libc::SIGCONT).unwrap();
        }
        until("the next proxy", PATIENCE, async || {
            children(keeper).first().is_some_and(|pid| *pid != before)
        })
        .await;
        stage.ready().await;
        if !ends_meanwhile {
            // The same process passes its probes, and that is no restart.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let pool = stage.pool().await;
            assert_eq!(pool.backends[0].state, "drained", "{pool:#?}");
            restart(&mut bench).await;
        }
        until("the drain to end", PATIENCE, async || {
            let pool = stage.pool().await;
            pool.backends[0].state == "ready" && pool.backends[0].drains.is_empty()
        })
        .await;
    }
}
