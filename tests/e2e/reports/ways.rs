//! How instances are restarted, some of them so that requests are lost.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::instance::DemoInstance;
use lameduck::tools::demo::oracle::Life;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::DemoProxy;
use lameduck::tools::demo::roll;
use lameduck_rig::oracle;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;
use crate::harness::supervisor::Supervisor;
use crate::harness::{Bench, exe, until};
use crate::roll as rolls;

/// How an instance is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
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
    /// All of them, one after the other, by `lameduck roll`.
    Rolled,
    /// Another one, by its launcher: `lameduck exec`.
    Launched,
}

pub const WAYS: [Way; 8] = [
    Way::Cut,
    Way::Drained,
    Way::Killed,
    Way::Terminated,
    Way::Alone,
    Way::Supervised,
    Way::Rolled,
    Way::Launched,
];

impl Way {
    /// How many restarts that is with three instances.
    pub const fn restarts(self) -> usize {
        match self {
            Self::Alone | Self::Rolled => 3,
            Self::Launched => 2,
            _ => 1,
        }
    }
}

/// A client that has the head of a large answer, and has not read the rest: whoever cuts it loses it.
pub struct SlowReader {
    stream: TcpStream,
    pub app: String,
    left: usize,
}

impl SlowReader {
    pub async fn open(proxy: &DemoProxy) -> Self {
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
    pub async fn finish(mut self) -> bool {
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

pub async fn drain(proxy: &DemoProxy, name: &str, body: Value) -> Value {
    let path = format!("/v1/pools/app/backends/{name}/drain");
    admin::call(proxy.socket(), "POST", &path, Some(&body))
        .await
        .unwrap()
}

pub async fn resume(proxy: &DemoProxy, name: &str, body: Value) {
    let path = format!("/v1/pools/app/backends/{name}/resume");
    admin::call(proxy.socket(), "POST", &path, Some(&body))
        .await
        .unwrap();
}

pub async fn ready(proxy: &DemoProxy, count: usize) {
    until("all ready", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == count
    })
    .await;
}

/// Restarts the instance of this name, and others where the way does that; ends when all take requests. So many slow
/// `readers` have begun before.
pub async fn restart(
    way: Way,
    victim: &str,
    bench: &mut Bench,
    launched: &mut LaunchedApp,
    proxy: &DemoProxy,
    readers: usize,
) {
    let count = bench.instances.len();
    match way {
        Way::Rolled => roll_all(bench, proxy).await,
        Way::Launched => launched.restart(proxy).await,
        _ => restart_one(way, victim, bench, proxy, readers).await,
    }
    ready(proxy, count).await;
}

async fn in_flight(proxy: &DemoProxy, name: &str) -> usize {
    let backends = proxy.pool().await.unwrap().backends;
    let found = backends.iter().find(|one| one.name == name);
    found.map_or(0, |one| one.in_flight as usize)
}

async fn restart_one(way: Way, victim: &str, bench: &mut Bench, proxy: &DemoProxy, readers: usize) {
    let names = bench.instances.iter().map(|one| one.name().to_owned());
    let others: Vec<String> = names.filter(|name| name != victim).collect();
    let mut instances = bench.instances.iter_mut();
    let instance: &mut DemoInstance = instances.find(|one| one.name() == victim).unwrap();
    let name = victim;
    match way {
        Way::Drained => {
            let deadline = Duration::from_secs(10);
            roll::restart(instance, proxy, deadline, &|_, _| {})
                .await
                .unwrap();
        }
        Way::Cut => {
            let cut = drain(proxy, name, json!({"timeout": "300ms"})).await;
            assert!(cut["cut"].as_u64().unwrap() > 0, "{cut}");
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
            resume(proxy, name, json!({"wait": "20s"})).await;
        }
        Way::Terminated => roll::stop_and_start(instance, &|_, _| {}).await.unwrap(),
        Way::Killed => {
            // The readers' requests break when they read on; only others tell lameduck at once that it was killed.
            until(
                "a request that waits for its answer",
                PATIENCE,
                async || in_flight(proxy, name).await > readers,
            )
            .await;
            instance.signal_end(libc::SIGKILL).unwrap();
            instance.exited(PATIENCE).await.unwrap();
            instance.start_again().await.unwrap();
        }
        Way::Alone => {
            for other in &others {
                drain(proxy, other, json!({"wait": false, "timeout": "10s"})).await;
            }
            drain(proxy, name, json!({"timeout": "10s"})).await;
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
            resume(proxy, name, json!({"wait": "20s"})).await;
            for other in &others {
                resume(proxy, other, json!({"wait": "20s"})).await;
            }
        }
        Way::Supervised => {
            let body = json!({"actor": "supervisor", "until": "restarted", "timeout": "10s"});
            drain(proxy, name, body).await;
            roll::stop_and_start(instance, &|_, _| {}).await.unwrap();
        }
        Way::Rolled | Way::Launched => unreachable!("they concern others, too"),
    }
}

/// `lameduck roll`, with a supervisor of the test's own.
async fn roll_all(bench: &mut Bench, proxy: &DemoProxy) {
    let supervisor = Supervisor::start(bench);
    let command = supervisor.restart();
    let roll = rolls::start(proxy.socket(), &["--drain-timeout", "10s"], &command);
    let (code, lines, errors) = rolls::end(roll).await;
    supervisor.end(bench).await;
    assert_eq!(code, 0, "{lines}{errors}");
}

/// An app under `lameduck exec`, which is there only while it is restarted.
pub struct LaunchedApp {
    dir: PathBuf,
    socket: PathBuf,
    process: Option<ChildProcess>,
    journals: Vec<PathBuf>,
}

impl LaunchedApp {
    const NAME: &str = "exec-1";

    pub fn new(bench: &Bench, proxy: &DemoProxy) -> Self {
        Self {
            dir: bench.scratch.path().to_owned(),
            socket: proxy.socket().to_owned(),
            process: None,
            journals: Vec::new(),
        }
    }

    /// Starts it, and waits until it takes requests.
    pub async fn start(&mut self, proxy: &DemoProxy) {
        let of = |kind: &str| {
            let n = self.journals.len() + 1;
            self.dir.join(format!("{}.{n}.{kind}", Self::NAME))
        };
        let (journal, errors) = (of("journal"), of("err"));
        let app = format!(
            "exec \"$EXE\" demo-app --name {} --port $PORT --log \"$LOG\"",
            Self::NAME
        );
        let mut command = Command::new(exe());
        command
            .args(["exec", "--pool", "app", "--name", Self::NAME])
            .args(["--drain-timeout", "10s", "--", "sh", "-c", &app])
            .env("EXE", exe())
            .env("LOG", &journal)
            .env("LAMEDUCK_ADMIN", &self.socket);
        for name in ["NOTIFY_SOCKET", "INVOCATION_ID", "HOSTNAME", "LISTEN_PID"] {
            command.env_remove(name);
        }
        let mut process = ChildProcess::start("launcher", command, &errors).unwrap();
        process.ignore_output();
        self.process = Some(process);
        self.journals.push(journal);
        until("the launched one", PATIENCE, async || {
            self.is_in(proxy, &["ready"]).await
        })
        .await;
    }

    /// Its launcher is told to stop, and does.
    async fn stop(&mut self, proxy: &DemoProxy) {
        let mut process = self.process.take().unwrap();
        process.signal(libc::SIGTERM).unwrap();
        process.wait(PATIENCE).await.unwrap();
        let any = ["ready", "draining", "drained", "down", "unknown"];
        until("it to leave", PATIENCE, async || {
            !self.is_in(proxy, &any).await
        })
        .await;
    }

    async fn is_in(&self, proxy: &DemoProxy, states: &[&str]) -> bool {
        let backends = proxy.pool().await.unwrap().backends;
        let own = backends.iter().find(|one| one.name.starts_with(Self::NAME));
        own.is_some_and(|one| states.contains(&one.state.as_str()))
    }

    /// Joins, is restarted under load, and leaves.
    async fn restart(&mut self, proxy: &DemoProxy) {
        self.start(proxy).await;
        self.stop(proxy).await;
        self.start(proxy).await;
        self.stop(proxy).await;
    }

    /// The lives of its processes.
    pub fn lives(&self) -> impl Iterator<Item = Life> + '_ {
        let journals = self.journals.iter();
        journals.map(|journal| oracle::life_in(Self::NAME, journal))
    }
}
