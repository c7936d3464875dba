//! Apps and clients of gRPC in other languages, from tests/apps.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use lameduck_rig::ports::free_address;
use lameduck_rig::setting::skip;

/// How long a program of another language may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a client of another language makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
}

/// Python with grpcio, if it is there. In CI it has to be.
pub fn python() -> Option<PathBuf> {
    let python = lameduck_rig::place::venvs().join("grpc-venv/bin/python");
    found(python, "grpcio (tests/setup.sh fetches it)")
}

impl Language {
    /// Whether its clients can run here, besides [`python`].
    pub fn is_there(self) -> bool {
        let package = apps().join("node_modules/@grpc/grpc-js");
        self == Self::Python
            || found(package, "@grpc/grpc-js (tests/setup.sh fetches it)").is_some()
    }

    /// Starts a client: `grpc_NAME` with these arguments.
    pub fn client(self, name: &str, python: &Path, arguments: &[&str]) -> Program {
        match self {
            Self::Python => Program::start(python, &format!("grpc_{name}.py"), arguments),
            Self::Node => Program::start(Path::new("node"), &format!("grpc_{name}.js"), arguments),
        }
    }
}

fn found(path: PathBuf, what: &str) -> Option<PathBuf> {
    let found = path.exists().then_some(path);
    if found.is_none() {
        skip("gRPC", what);
    }
    found
}

fn apps() -> PathBuf {
    lameduck_rig::place::root().join("tests/apps")
}

/// A running program of tests/apps; killed on drop.
pub struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    pub fn start(program: &Path, script: &str, arguments: &[&str]) -> Self {
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

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn terminate(&self) {
        lameduck::rt::syscall::kill(self.child.id(), libc::SIGTERM).unwrap();
    }

    /// Everything else that it says, once it is told that there is no more to do.
    pub fn finish(mut self) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

/// What a program says at its end, which it is told to come to.
pub async fn ended(program: Program) -> String {
    let end = tokio::task::spawn_blocking(|| program.finish());
    tokio::time::timeout(PATIENCE, end)
        .await
        .expect("it doesn't end")
        .unwrap()
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One app; on a port of its own, which it keeps.
pub struct App {
    python: PathBuf,
    pub name: String,
    pub port: u16,
    program: Option<Program>,
}

impl App {
    pub fn new(python: &Path, index: usize) -> Self {
        let mut app = Self {
            python: python.to_owned(),
            name: format!("app-{index}"),
            // None that the kernel gives to somebody else while the app is down.
            port: free_address().port(),
            program: None,
        };
        app.start();
        app
    }

    pub fn start(&mut self) {
        let arguments = [self.name.as_str(), &self.port.to_string()];
        let mut program = Program::start(&self.python, "grpc_app.py", &arguments);
        let line = program.line();
        assert_eq!(line, format!("ready {}", self.port), "it doesn't start");
        self.program = Some(program);
    }

    /// Stops it in its orderly way; says what it had.
    pub async fn stop(&mut self) -> Value {
        let program = self.program.take().unwrap();
        program.terminate();
        serde_json::from_str(ended(program).await.trim()).unwrap()
    }
}

/// What a pool of such apps needs: the standard health check, and HTTP/2.
pub const POOL: &str = "[pool.health]\ntype = \"grpc\"\nrise = 1\ninterval = \"200ms\"\ntimeout = \"2s\"\nfast_interval = \"10ms\"\n\
    [pool.upstream]\nhttp2 = true\n";

/// Four calls of each kind at a time, until it is told to finish.
pub fn load(address: SocketAddr, language: Language, python: &Path, more: &[&str]) -> Program {
    let address = address.to_string();
    let arguments = [&[address.as_str(), "4"], more].concat();
    language.client("load", python, &arguments)
}

/// What the load says at its end: no call has failed, and of each kind there were at least `least`. Returns how many
/// there were.
pub async fn none_failed(load: Program, least: u64, log: impl FnOnce() -> String) -> u64 {
    let end: Value = serde_json::from_str(ended(load).await.trim()).unwrap();
    if end["failed"] != Value::Array(Vec::new()) {
        panic!("{end}\n{}", log());
    }
    let kinds = ["unary", "client", "server", "both"];
    let counts = kinds.map(|kind| end["calls"][kind].as_u64().unwrap_or(0));
    assert!(counts.iter().all(|count| *count >= least), "{end}");
    counts.iter().sum()
}
