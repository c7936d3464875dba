//! Supervisors that people use, for real, with the files of `deploy/`: they restart the instances under load, and
//! the oracle counts. What a file leaves to its user (paths, ports) is filled in by [`deployed`]; the rest is as
//! shipped.

mod advised;
mod docker_daemon;
mod kubernetes;
mod oxmgr;
mod processes;
mod systemd;
mod watched;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Output};
use std::time::Duration;

use lameduck::registry::view::PoolView;
use lameduck::rt::syscall::kill;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{Evidence, LoadAccount, Sent};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, POOL, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
use tokio::process::Command;

use crate::harness::{exe, proving, scale, until};
use lameduck_rig::oracle;
use lameduck_rig::ports::free_addresses;
use lameduck_rig::results::{Row, record};

/// The environment variable by which a fleet's processes are found.
const MARK: &str = "LAMEDUCK_FLEET";
/// Instances in each fleet.
const INSTANCES: usize = 3;
/// How long a command of a supervisor's may take: a drain with slow requests, a stop and a start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a fleet's proxy is, and where its apps write what reached them.
struct Fleet {
    socket: PathBuf,
    address: SocketAddr,
    /// Unless the supervisor under test runs it.
    _proxy: Option<DemoProxy>,
    scratch: ScratchDir,
}

impl Fleet {
    /// With a proxy of its own; `pool` is the rest of the pool's configuration.
    async fn start(pool: &str) -> Self {
        Self::start_in(Self::scratch(), pool).await
    }

    /// The same, with its files in this directory.
    async fn start_in(scratch: ScratchDir, pool: &str) -> Self {
        let settings = ProxySettings {
            pool: pool.to_owned(),
            ..ProxySettings::default()
        };
        let proxy = DemoProxy::start(exe(), "proxy", scratch.path(), &settings, &[])
            .await
            .unwrap();
        Self {
            socket: proxy.socket().to_owned(),
            address: proxy.address(),
            _proxy: Some(proxy),
            scratch,
        }
    }

    /// A shipped file with this machine's paths; the app is the built-in one.
    fn deployed(&self, file: &str) -> String {
        let exe = exe().display().to_string();
        let app = format!(
            "{exe} demo-app --journals {}",
            journals(&self.scratch).display()
        );
        let all = [
            ("/usr/bin/lameduck", exe.as_str()),
            ("/usr/bin/node /srv/app/app.mjs", app.as_str()),
        ];
        let text = deployed(file, &[]);
        let present = all
            .into_iter()
            .filter(|(shipped, _)| text.contains(shipped));
        deployed(file, &present.collect::<Vec<_>>())
    }

    /// A command that finds the proxy, whose processes end with this fleet at the latest.
    fn command(&self, program: &Path) -> StdCommand {
        let mut command = StdCommand::new(program);
        command
            .env("LAMEDUCK_ADMIN", &self.socket)
            .env(MARK, self.scratch.path());
        command
    }

    /// Starts a supervisor that stays in the foreground.
    fn supervise(&self, name: &str, command: StdCommand) -> ChildProcess {
        let log = self.scratch.path().join(format!("{name}.err"));
        let mut process = ChildProcess::start(name, command, &log).unwrap();
        process.ignore_output();
        process
    }

    /// A directory for one test's files, with the one for journals in it.
    fn scratch() -> ScratchDir {
        let scratch = ScratchDir::new("lameduck-fleet").unwrap();
        std::fs::create_dir(journals(&scratch)).unwrap();
        scratch
    }

    async fn pool(&self) -> Option<PoolView> {
        let path = format!("/v1/pools/{POOL}");
        let answer = admin::call(&self.socket, "GET", &path, None).await.ok()?;
        serde_json::from_value(answer).ok()
    }

    /// Waits until `count` instances take requests and nothing else is registered.
    async fn ready(&self, count: usize) {
        let mut seen = None;
        until("instances to be ready", PATIENCE, async || {
            seen = self.pool().await;
            let all_ready = |pool: &PoolView| {
                pool.backends.len() == count && pool.backends.iter().all(|b| b.state == "ready")
            };
            seen.as_ref().is_some_and(all_ready)
        })
        .await;
    }

    /// Lets `restart` restart everything, for as many rounds as are asked for, under load; nothing may be lost.
    async fn survives(&self, supervisor: &str, mut restart: impl AsyncFnMut()) {
        self.ready(INSTANCES).await;
        let slow = scale().slow;
        let load = Load::start(LoadPlan {
            slow,
            ..LoadPlan::new(self.address, 300)
        });
        // Until as many of the slow requests are in flight as ever.
        tokio::time::sleep(slow).await;
        let rounds = if proving() { 3 } else { 1 };
        let before = self.exited();
        for round in 1..=rounds {
            restart().await;
            until("all instances to be replaced", PATIENCE, async || {
                self.exited() >= before + round * INSTANCES
            })
            .await;
            self.ready(INSTANCES).await;
        }
        let account = account(load.stop().await, &self.scratch);
        assert!(account.is_clean(), "{supervisor}:\n{account}");
        assert_eq!(account.delivered_twice, 0, "{supervisor}:\n{account}");
        assert!(
            account.stops >= (rounds * INSTANCES) as u64,
            "{supervisor} stopped too few:\n{account}"
        );
        record(Row {
            test: "supervisor",
            proxy: "lameduck".to_owned(),
            app: supervisor.to_owned(),
            account,
            notes: Vec::new(),
        });
    }

    /// Processes of the app that have come to their end in order.
    fn exited(&self) -> usize {
        let lives = oracle::lives_in(&journals(&self.scratch));
        lives.iter().filter(|life| life.exited.is_some()).count()
    }

    /// What the apps' journals say of their ends, for a test that has failed.
    fn lives(&self) -> String {
        let lives = oracle::lives_in(&journals(&self.scratch)).into_iter();
        let told = lives.map(|life| {
            let requests = life.arrivals.len();
            let (signalled, exited) = (life.signalled, life.exited);
            format!(
                "{}: {requests} requests, signalled {signalled:?}, exited {exited:?}",
                life.name
            )
        });
        told.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Fleet {
    /// Supervisors detach their children; a failed test must not leave them behind.
    fn drop(&mut self) {
        let mark = format!("{MARK}={}", self.scratch.path().display());
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.split(|&b| b == 0).any(|v| v == mark.as_bytes())
                && let Some(pid) = process
                    .file_name()
                    .to_str()
                    .and_then(|pid| pid.parse().ok())
            {
                let _ = kill(pid, libc::SIGKILL);
            }
        }
    }
}

fn journals(scratch: &ScratchDir) -> PathBuf {
    scratch.path().join("journals")
}

fn evidence(sent: Vec<Sent>, scratch: &ScratchDir) -> Evidence {
    oracle::evidence(sent, oracle::lives_in(&journals(scratch)))
}

fn account(sent: Vec<Sent>, scratch: &ScratchDir) -> LoadAccount {
    LoadAccount::of(&evidence(sent, scratch))
}

/// A file of `deploy/` with its paths replaced by this machine's; each of them must occur.
fn deployed(file: &str, replaced: &[(&str, &str)]) -> String {
    let path = lameduck_rig::place::root().join("deploy").join(file);
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (shipped, here) in replaced {
        assert!(text.contains(shipped), "deploy/{file} has no {shipped:?}");
        text = text.replace(shipped, here);
    }
    text
}

/// Runs a command to its end, which must be a good one.
async fn run(command: &mut StdCommand) -> Output {
    let shown = format!("{command:?}");
    let command = std::mem::replace(command, StdCommand::new("true"));
    let mut command = Command::from(command);
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("{shown} still runs after {PATIENCE:?}"))
        .unwrap();
    assert!(
        output.status.success(),
        "{shown}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
