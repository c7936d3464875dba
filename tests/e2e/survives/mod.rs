//! `kill -9` of the proxy, at any moment and again and again: whoever keeps its sockets (systemd's store, or its own
//! keeper) starts it again, nobody is refused, those who waited are served, and nothing that was acknowledged is lost.
//!
//! The instants come from a seed, which is printed; `SURVIVE_SEED` takes another one.

mod callers;
mod fake_systemd;
mod keeper;
mod kills;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lameduck::registry::view::PoolView;
use lameduck::rt::syscall::kill;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::ProxySettings;

pub use callers::{Callers, Target, client};

use crate::harness::{Bench, exe, until};
use fake_systemd::FakeSystemd;
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{children, is_running};

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
    /// Nobody serves, and nobody but systemd starts another one.
    ended: bool,
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
            ended: false,
        };
        stage.process.ignore_output();
        stage.ready().await;
        stage
    }

    async fn ready(&mut self) {
        until("the proxy to be ready", PATIENCE, async || {
            self.check();
            let answer = admin::request(&self.files.admin, "GET", "/-/ready?pool=app", None);
            let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
            matches!(answer, Ok(Ok((200, _))))
        })
        .await;
    }

    /// The process that is the proxy.
    async fn pid(&self) -> u32 {
        if let Watcher::Systemd(systemd) = &self.watcher {
            return systemd.main().unwrap_or_else(|| self.process.pid());
        }
        let mut found = None;
        until("the keeper's child", PATIENCE, async || {
            found = children(self.process.pid()).first().copied();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// All processes of the service, those of an upgrade too, but for the keeper: they speak to the same supervisor.
    fn processes(&self) -> Vec<u32> {
        let address = match &self.watcher {
            Watcher::Systemd(systemd) => systemd.path().display().to_string(),
            Watcher::Keeper => format!("@lameduck-keeper-{}-", self.process.pid()),
        };
        let speaks = format!("NOTIFY_SOCKET={address}");
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_one = |pid: &u32| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = variables.split(|byte| *byte == 0);
            variables.any(|one| one.starts_with(speaks.as_bytes())) && is_running(*pid)
        };
        all.filter(is_one).collect()
    }

    /// Kills one of the service's processes, the proxy more often than another; says how many there were.
    ///
    /// Under systemd, the others are killed with the main one (`KillMode=control-group`). One that it has been told of, and
    /// whose parent is another, it does not see: then the others have to end by themselves.
    async fn kill_any(&mut self, random: &mut fastrand::Rng) -> usize {
        let all = self.processes();
        let main = match &self.watcher {
            Watcher::Systemd(_) => Some(self.pid().await),
            Watcher::Keeper => all.first().copied(),
        };
        // Its keeper is just starting it.
        if all.is_empty() {
            return 0;
        }
        let victim = match main.filter(|_| random.u8(..10) < 6) {
            Some(main) => main,
            None => all[random.usize(..all.len())],
        };
        // It may have ended meanwhile.
        let _ = kill(victim, libc::SIGKILL);
        if let Watcher::Systemd(systemd) = &mut self.watcher {
            systemd.settle();
            let now = systemd.main().unwrap_or_else(|| self.process.pid());
            if now == self.process.pid() && victim == now {
                self.process.wait(PATIENCE).await.unwrap();
            }
            until("the kill", PATIENCE, async || !is_running(victim)).await;
            self.ended = !is_running(now);
            if self.ended && Some(now) == main {
                for pid in self.processes() {
                    let _ = kill(pid, libc::SIGKILL);
                }
            }
            if self.ended {
                until("the others to end", PATIENCE, async || {
                    self.processes().is_empty()
                })
                .await;
            }
        }
        all.len()
    }

    /// Nothing has ended that should be there.
    fn check(&mut self) {
        if let Watcher::Keeper = self.watcher {
            self.process.check().unwrap();
        }
    }

    /// Stops it in order.
    async fn end(&mut self) {
        let pid = self.pid().await;
        if let Watcher::Systemd(_) = self.watcher
            && pid != self.process.pid()
        {
            kill(pid, libc::SIGTERM).unwrap();
        } else {
            self.process.signal(libc::SIGTERM).unwrap();
            assert!(self.process.wait(PATIENCE).await.unwrap().0.success());
        }
        until("its end", PATIENCE, async || self.processes().is_empty()).await;
        self.ended = true;
    }

    /// What its watcher does then.
    async fn start_again(&mut self, bench: &Bench) {
        if let Watcher::Systemd(systemd) = &mut self.watcher
            && std::mem::take(&mut self.ended)
        {
            systemd.settle();
            systemd.forget_main();
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
