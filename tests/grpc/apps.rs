//! Real gRPC apps behind the proxy, restarted under the calls of real clients.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use lameduck::demo::admin;
use lameduck::registry::view::PoolView;
use serde_json::{Value, json};

use super::client::soon;
use super::rig::Rig;

/// What a client of another language makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Node,
}

/// Python with grpcio, if it is there. In CI it has to be.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/grpc-venv/bin/python");
    found(python, "grpcio (tests/setup.sh fetches it)")
}

/// Where the apps are that use `@grpc/grpc-js`, if that is there.
fn node() -> Option<PathBuf> {
    let package = apps().join("node_modules/@grpc/grpc-js");
    found(package, "@grpc/grpc-js (tests/setup.sh fetches it)")
}

fn found(path: PathBuf, what: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "needs {what}"
    );
    println!("skipped: needs {what}");
    None
}

fn apps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps")
}

/// A running program of tests/apps; killed on drop.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(program: &Path, script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg(apps().join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        #[allow(unsafe_code)]
        // SAFETY: our own child, which has not been waited for.
        let sent = unsafe { libc::kill(pid, libc::SIGTERM) };
        assert_eq!(sent, 0);
    }

    /// Everything else that it says, once it is told that there is no more to do.
    fn finish(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One app; on a port of its own, which it keeps.
struct App {
    python: PathBuf,
    name: String,
    port: u16,
    program: Option<Program>,
}

impl App {
    fn new(python: &Path, index: usize) -> Self {
        let mut app = Self {
            python: python.to_owned(),
            name: format!("app-{index}"),
            port: 0,
            program: None,
        };
        app.start();
        app
    }

    fn start(&mut self) {
        let arguments = [self.name.as_str(), &self.port.to_string()];
        let mut program = Program::start(&self.python, "grpc_app.py", &arguments);
        let line = program.line();
        let port = line.strip_prefix("ready ").expect("it doesn't start");
        self.port = port.parse().unwrap();
        self.program = Some(program);
    }

    /// Stops it in its orderly way; says what it had.
    async fn stop(&mut self) -> Value {
        let program = self.program.take().unwrap();
        program.terminate();
        let rest = tokio::task::spawn_blocking(|| program.finish());
        let rest = soon(rest).await.unwrap();
        serde_json::from_str(rest.trim()).unwrap()
    }
}

/// A proxy in front of so many apps, probed by the standard health check.
async fn world(python: &Path, count: usize) -> (Rig, Vec<App>) {
    let apps: Vec<App> = (0..count).map(|index| App::new(python, index)).collect();
    let mut pool = String::new();
    for App { name, port, .. } in &apps {
        pool += &format!("[[pool.backend]]\nname = {name:?}\naddress = \"127.0.0.1:{port}\"\n");
    }
    pool += "[pool.health]\ntype = \"grpc\"\nrise = 1\ninterval = \"200ms\"\ntimeout = \"200ms\"\nfast_interval = \"10ms\"\n\
             [pool.upstream]\nhttp2 = true\n";
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, "", "http2 = true", &pool, Vec::new()).await;
    rig.until("all ready", |pool| {
        pool.backends.iter().all(|view| view.state == "ready")
    })
    .await;
    (rig, apps)
}

fn load(rig: &Rig, language: Language, python: &Path, width: usize) -> Program {
    let arguments = [rig.address.to_string(), width.to_string()];
    let arguments = [arguments[0].as_str(), arguments[1].as_str()];
    match language {
        Language::Python => Program::start(python, "grpc_load.py", &arguments),
        Language::Node => Program::start(Path::new("node"), "grpc_load.js", &arguments),
    }
}

/// Each app is restarted once, under the calls of this client. `coordinated`: drained first; else it is just signalled.
async fn restarts(language: Language, coordinated: bool) {
    let Some(python) = python() else { return };
    if language == Language::Node && node().is_none() {
        return;
    }
    let (rig, mut apps) = world(&python, 3).await;
    let client = load(&rig, language, &python, 4);
    let begun = |pool: &PoolView| pool.backends.iter().all(|view| view.requests > 20);
    rig.until("calls", begun).await;
    for app in &mut apps {
        let name = app.name.clone();
        let path = format!("/v1/pools/app/backends/{name}/drain");
        if coordinated {
            let body = json!({ "timeout": "10s", "until": "restarted" });
            let drained = admin::call(&rig.socket, "POST", &path, Some(&body))
                .await
                .unwrap();
            assert_eq!(drained["outcome"], "drained", "{drained}");
        }
        let before = rig.pool().await;
        let of = |pool: &PoolView| {
            pool.backends
                .iter()
                .find(|view| view.name == name)
                .cloned()
                .unwrap()
        };
        let had = app.stop().await;
        if coordinated {
            assert_eq!(had["late"], 0, "{had}");
        }
        app.start();
        let incarnation = of(&before).incarnation;
        rig.until("a new process", |pool| {
            let view = of(pool);
            view.state == "ready" && view.incarnation > incarnation
        })
        .await;
    }
    let end = tokio::task::spawn_blocking(|| client.finish());
    let end: Value = serde_json::from_str(soon(end).await.unwrap().trim()).unwrap();
    println!("{language:?}, coordinated: {coordinated}: {}", end["calls"]);
    assert_eq!(end["failed"], json!([]), "{end}\n{}", rig.log());
    for kind in ["unary", "client", "server", "both"] {
        assert!(end["calls"][kind].as_u64().unwrap() > 10, "{end}");
    }
}

#[tokio::test]
async fn drained_apps_lose_no_call_of_grpcio() {
    restarts(Language::Python, true).await;
}

#[tokio::test]
async fn drained_apps_lose_no_call_of_grpc_js() {
    restarts(Language::Node, true).await;
}

/// Nobody tells the proxy: NOT_SERVING, GOAWAY and refused connections have to do.
#[tokio::test]
async fn apps_that_stop_by_themselves_lose_no_call() {
    restarts(Language::Python, false).await;
}

#[tokio::test]
async fn everything_gets_through() {
    let Some(python) = python() else { return };
    let (rig, _apps) = world(&python, 1).await;
    let address = rig.address.to_string();
    let checks = Program::start(&python, "grpc_checks.py", &[&address]);
    let said = tokio::task::spawn_blocking(|| checks.finish());
    let said = tokio::time::timeout(Duration::from_secs(60), said).await;
    assert_eq!(said.unwrap().unwrap().matches("ok ").count(), 6);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}
