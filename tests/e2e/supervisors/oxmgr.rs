//! Oxmgr: the real one if it is on the PATH, and a stand-in that starts, checks, reloads and stops as Oxmgr 0.5 does.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lameduck::rt::syscall::kill_group;
use lameduck::tools::demo::process::ChildProcess;
use serde::Deserialize;

use super::processes::installed;
use super::{Fleet, INSTANCES, run};
use crate::harness::turn_alone;
use lameduck_rig::setting::say;

/// What the stand-in reads of an Oxfile.
#[derive(Deserialize)]
struct Oxfile {
    apps: Vec<App>,
}

#[derive(Deserialize)]
struct App {
    name: String,
    command: String,
    instances: usize,
    stop_signal: String,
    stop_timeout_secs: u64,
    #[serde(default)]
    wait_ready: bool,
    #[serde(default)]
    ready_timeout_secs: u64,
    /// As a shell's line; without one, a process that runs is healthy.
    health_cmd: Option<String>,
}

impl App {
    /// The wait before SIGKILL: capped after SIGTERM, whatever the file says.
    fn patience(&self) -> Duration {
        let asked = Duration::from_secs(self.stop_timeout_secs);
        match self.stop_signal.as_str() {
            "SIGTERM" => asked.min(Duration::from_secs(15)),
            _ => asked,
        }
    }

    fn signal(&self) -> i32 {
        match self.stop_signal.as_str() {
            "SIGINT" => libc::SIGINT,
            "SIGTERM" => libc::SIGTERM,
            other => panic!("the stand-in doesn't know {other}"),
        }
    }
}

/// One daemon; like Oxmgr's, it does one thing at a time.
pub(super) struct StandIn<'a> {
    fleet: &'a Fleet,
    app: App,
    running: Vec<ChildProcess>,
}

impl<'a> StandIn<'a> {
    async fn start(fleet: &'a Fleet) -> Self {
        Self::start_file(fleet, &fleet.deployed("oxmgr/oxfile.toml")).await
    }

    /// Starts what an Oxfile says.
    pub(super) async fn start_file(fleet: &'a Fleet, text: &str) -> Self {
        let oxfile: Oxfile = toml::from_str(text).unwrap();
        let app = oxfile.apps.into_iter().next().unwrap();
        assert_eq!(app.instances, INSTANCES);
        let mut daemon = Self {
            fleet,
            app,
            running: Vec::new(),
        };
        for n in 0..INSTANCES {
            let process = daemon.spawn(n).await;
            daemon.running.push(process);
        }
        daemon
    }

    /// The command's words without a shell, in a process group of its own; then the check, every 250 ms.
    async fn spawn(&self, n: usize) -> ChildProcess {
        // If these tests run in a shell's background, SIGINT is ignored, and what is sent before the launcher listens to it
        // is lost.
        let mut command = self.fleet.command("env".as_ref());
        command.arg("--default-signal=INT");
        command
            .args(self.app.command.split_whitespace())
            .env("NODE_APP_INSTANCE", n.to_string());
        let name = format!("{}-{n}", self.app.name);
        let mut process = self.fleet.supervise(&name, command);
        let end = Instant::now() + Duration::from_secs(self.app.ready_timeout_secs);
        while self.app.wait_ready && !self.healthy(n) {
            process.check().unwrap();
            assert!(
                Instant::now() < end,
                "{name} isn't ready{}",
                process.last_words()
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        process
    }

    fn healthy(&self, n: usize) -> bool {
        let Some(health_cmd) = &self.app.health_cmd else {
            return true;
        };
        let (sh, script) = health_cmd.split_once(" -c ").unwrap();
        let mut command = self.fleet.command(sh.as_ref());
        command
            .arg("-c")
            .arg(script.trim_matches('\''))
            .env("NODE_APP_INSTANCE", n.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// The signal to the whole process group, a look every 200 ms, SIGKILL at the end.
    async fn terminate(&self, mut process: ChildProcess) {
        kill_group(process.pid(), self.app.signal()).unwrap();
        let end = Instant::now() + self.app.patience();
        while process.check().is_ok() {
            if Instant::now() >= end {
                panic!(
                    "SIGKILL would have come{}\nthe proxy says {:#?}\nlives: {}",
                    process.last_words(),
                    self.fleet.pool().await,
                    self.fleet.lives(),
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn restart(&mut self, n: usize) {
        let old = self.running.remove(n);
        self.terminate(old).await;
        let new = self.spawn(n).await;
        self.running.insert(n, new);
    }

    /// The replacement first, the old one's end after it: for a while both have the same name.
    pub(super) async fn reload(&mut self, n: usize) {
        let new = self.spawn(n).await;
        let old = std::mem::replace(&mut self.running[n], new);
        self.terminate(old).await;
    }
}

#[lameduck_rig::test]
async fn oxmgr_stand_in_restarts() {
    let _turn = turn_alone().await;
    let fleet = Fleet::start("").await;
    let mut daemon = StandIn::start(&fleet).await;
    fleet
        .survives("Oxmgr's stand-in, restart", async || {
            for n in 0..INSTANCES {
                daemon.restart(n).await;
            }
        })
        .await;
}

/// The overlap: the new process starts and becomes ready, then the old one gets its signal.
#[lameduck_rig::test]
async fn oxmgr_stand_in_reloads() {
    let _turn = turn_alone().await;
    let fleet = Fleet::start("").await;
    let mut daemon = StandIn::start(&fleet).await;
    fleet
        .survives("Oxmgr's stand-in, reload", async || {
            for n in 0..INSTANCES {
                daemon.reload(n).await;
            }
        })
        .await;
}

#[lameduck_rig::test]
async fn oxmgr() {
    let _turn = turn_alone().await;
    let Some(oxmgr) = installed("oxmgr") else {
        // Not to be had from a registry: no failure even in CI.
        say("oxmgr: skipped: needs oxmgr on the PATH; its stand-in was tested");
        return;
    };
    let fleet = Fleet::start("").await;
    let oxfile: PathBuf = fleet.scratch.path().join("oxfile.toml");
    std::fs::write(&oxfile, fleet.deployed("oxmgr/oxfile.toml")).unwrap();
    let ports = super::free_addresses(2);
    let command = |words: &[&str]| -> Command {
        let mut command = fleet.command(&oxmgr);
        command
            .args(words)
            .env("OXMGR_HOME", fleet.scratch.path().join("oxmgr"))
            .env("OXMGR_DAEMON_ADDR", ports[0].to_string())
            .env("OXMGR_API_ADDR", ports[1].to_string());
        command
    };
    run(command(&["apply"]).arg(&oxfile)).await;
    fleet
        .survives("Oxmgr", async || {
            for verb in ["restart", "reload"] {
                for n in 0..INSTANCES {
                    run(&mut command(&[verb, &format!("app-{n}")])).await;
                }
            }
        })
        .await;
    run(&mut command(&["daemon", "stop"])).await;
}
