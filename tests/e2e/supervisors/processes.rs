//! Process managers that run in this machine's own namespaces: PM2, supervisord, runit, s6, honcho.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{LoadAccount, Loss};
use lameduck::tools::demo::proxy::POOL;

use super::{Fleet, INSTANCES, PATIENCE, evidence, run};
use crate::harness::{exe, skip, turn};

/// PM2 with a home of its own, as tests/setup.sh has fetched it.
pub(super) struct Pm2(PathBuf);

impl Pm2 {
    /// `None`, aloud, without it.
    pub fn found(test: &str) -> Option<Self> {
        let pm2 = lameduck_rig::place::root().join("tests/apps/node_modules/.bin/pm2");
        if !pm2.is_file() {
            skip(test, "node and PM2 (run tests/setup.sh)");
            return None;
        }
        Some(Self(pm2))
    }

    /// One command.
    pub async fn run(&self, fleet: &Fleet, words: &[&str]) {
        let mut command = fleet.command(&self.0);
        command
            .args(words)
            .env("PM2_HOME", fleet.scratch.path().join("pm2"))
            .env("CI", "true");
        run(&mut command).await;
    }

    /// Starts the apps of a file of this name, and restarts them under load in one way after the other.
    pub async fn survives(&self, title: &str, fleet: &Fleet, file: (&str, &str), ways: &[&str]) {
        let config = fleet.scratch.path().join(file.0);
        std::fs::write(&config, file.1).unwrap();
        self.run(fleet, &["start", config.to_str().unwrap()]).await;
        fleet
            .survives(title, async || {
                for way in ways {
                    self.run(fleet, &[way, "app"]).await;
                    fleet.ready(INSTANCES).await;
                }
            })
            .await;
        self.run(fleet, &["kill"]).await;
    }
}

/// supervisord and its `supervisorctl`.
pub(super) struct Supervisord {
    daemon: PathBuf,
    ctl: PathBuf,
}

impl Supervisord {
    /// `None`, aloud, without it.
    pub fn found(test: &str) -> Option<Self> {
        let found = python("supervisord").zip(python("supervisorctl"));
        if found.is_none() {
            skip(test, "supervisord (run tests/setup.sh)");
        }
        let (daemon, ctl) = found?;
        Some(Self { daemon, ctl })
    }

    /// Starts these programs, and rolls the app under load.
    pub async fn survives(&self, title: &str, fleet: &Fleet, programs: &str) {
        let config = fleet.scratch.path().join("supervisord.conf");
        std::fs::write(&config, supervisord_text(fleet.scratch.path(), programs)).unwrap();
        let mut command = fleet.command(&self.daemon);
        command.arg("-n").arg("-c").arg(&config);
        let mut daemon = fleet.supervise("supervisord", command);
        fleet
            .survives(title, async || {
                // As deploy/README.md has it: a roll drains, and the launcher finds that done.
                let mut roll = fleet.command(exe());
                roll.args(["roll", POOL, "--"]).arg(&self.ctl).arg("-c");
                run(roll.arg(&config).args(["restart", "app:{name}"])).await;
            })
            .await;
        daemon.signal(libc::SIGTERM).unwrap();
        daemon.wait(PATIENCE).await.unwrap();
    }
}

/// A whole configuration of supervisord's in this directory, around its programs.
pub(super) fn supervisord_text(dir: &Path, programs: &str) -> String {
    let dir = dir.display();
    format!(
        "[supervisord]\nnodaemon=true\nuser=root\nlogfile={dir}/supervisord.log\npidfile={dir}/supervisord.pid\n\
         childlogdir={dir}\n\n[unix_http_server]\nfile={dir}/supervisor.sock\n\n\
         [supervisorctl]\nserverurl=unix://{dir}/supervisor.sock\n\n[rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n{programs}"
    )
}

/// What tests/setup.sh has fetched from PyPI.
fn python(program: &str) -> Option<PathBuf> {
    lameduck_rig::place::in_venv("supervisors-venv", program)
}

/// A program on the PATH.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Writes a service directory from the shipped one.
fn service(fleet: &Fleet, shipped: &str, name: &str, files: &[&str]) -> PathBuf {
    let dir = fleet.scratch.path().join("services").join(name);
    for file in files {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, fleet.deployed(&format!("{shipped}/{file}"))).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

#[lameduck_rig::test]
async fn pm2() {
    let _turn = turn().await;
    let Some(pm2) = Pm2::found("pm2") else {
        return;
    };
    let fleet = Fleet::start("").await;
    let file = fleet.deployed("pm2/ecosystem.config.cjs");
    let file = ("ecosystem.config.cjs", file.as_str());
    pm2.survives("PM2", &fleet, file, &["restart", "reload"])
        .await;
}

#[lameduck_rig::test]
async fn supervisord() {
    let _turn = turn().await;
    let Some(supervisord) = Supervisord::found("supervisord") else {
        return;
    };
    let fleet = Fleet::start("").await;
    // Its own expansions know `%`, and none of our paths has one.
    let programs = fleet.deployed("supervisord/app.conf");
    supervisord.survives("supervisord", &fleet, &programs).await;
}

async fn runit(title: &str, fleet: Fleet, directories: Vec<PathBuf>) {
    let services = fleet.scratch.path().join("services");
    let mut command = fleet.command(Path::new("runsvdir"));
    command.arg(&services);
    let mut scanner = fleet.supervise("runsvdir", command);
    fleet
        .survives(title, async || {
            for dir in &directories {
                let mut command = fleet.command(Path::new("sv"));
                run(command.args(["-w", "75", "restart"]).arg(dir)).await;
                fleet.ready(INSTANCES).await;
            }
        })
        .await;
    // SIGHUP tells it to stop everything first (runsvdir(8)).
    scanner.signal(libc::SIGHUP).unwrap();
    scanner.wait(PATIENCE).await.unwrap();
}

#[lameduck_rig::test]
async fn runit_with_the_launcher() {
    let _turn = turn().await;
    if installed("runsvdir").is_none() {
        return skip("runit_with_the_launcher", "runit");
    }
    let fleet = Fleet::start("").await;
    let directories = (1..=INSTANCES)
        .map(|n| service(&fleet, "runit/app-exec", &format!("app-{n}"), &["run"]))
        .collect();
    runit("runit, launcher", fleet, directories).await;
}

#[lameduck_rig::test]
async fn runit_with_a_drain_in_control_t() {
    let _turn = turn().await;
    if installed("runsvdir").is_none() {
        return skip("runit_with_a_drain_in_control_t", "runit");
    }
    let addresses = super::free_addresses(INSTANCES);
    let backends: String = (1..=INSTANCES)
        .map(|n| {
            let address = addresses[n - 1];
            format!("[[pool.backend]]\nname = \"app-{n}\"\naddress = \"{address}\"\n")
        })
        .collect();
    let fleet = Fleet::start(&backends).await;
    let directories = (1..=INSTANCES)
        .map(|n| {
            let name = format!("app-{n}");
            let dir = service(&fleet, "runit/app", &name, &["run", "control/t"]);
            std::fs::create_dir(dir.join("env")).unwrap();
            std::fs::write(dir.join("env/PORT"), addresses[n - 1].port().to_string()).unwrap();
            dir
        })
        .collect();
    runit("runit, drain in control/t", fleet, directories).await;
}

#[lameduck_rig::test]
async fn s6() {
    let _turn = turn().await;
    if installed("s6-svscan").is_none() {
        return skip("s6", "s6");
    }
    let fleet = Fleet::start("").await;
    let files = ["run", "notification-fd", "timeout-kill"];
    let directories: Vec<_> = (1..=INSTANCES)
        .map(|n| service(&fleet, "s6/app-1", &format!("app-{n}"), &files))
        .collect();
    let mut command = fleet.command(Path::new("s6-svscan"));
    command.arg(fleet.scratch.path().join("services"));
    let mut scanner = fleet.supervise("s6-svscan", command);
    fleet
        .survives("s6", async || {
            for dir in &directories {
                let mut command = fleet.command(Path::new("s6-svc"));
                // Returns when the new process has said that it is ready.
                run(command.args(["-wR", "-T", "75000", "-r"]).arg(dir)).await;
                fleet.ready(INSTANCES).await;
            }
        })
        .await;
    scanner.signal(libc::SIGTERM).unwrap();
    scanner.wait(PATIENCE).await.unwrap();
}

/// honcho stops all at once. What was sent before is answered; what comes after is told to come again.
#[lameduck_rig::test]
async fn honcho() {
    let _turn = turn().await;
    let Some(honcho) = python("honcho") else {
        return skip("honcho", "honcho (run tests/setup.sh)");
    };
    let fleet = Fleet::start("[pool.hold]\ntimeout = \"1s\"").await;
    let procfile = fleet.scratch.path().join("Procfile");
    std::fs::write(&procfile, fleet.deployed("foreman/Procfile")).unwrap();
    let mut command = fleet.command(&honcho);
    command
        .arg("start")
        .arg("-f")
        .arg(&procfile)
        .arg("-d")
        .arg(fleet.scratch.path());
    let mut manager = fleet.supervise("honcho", command);
    fleet.ready(INSTANCES).await;
    let load = Load::start(LoadPlan::new(fleet.address, 300));
    // Until slow requests are in flight on all instances.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let stopped = monotonic_ns();
    manager.signal(libc::SIGTERM).unwrap();
    manager.wait(PATIENCE).await.unwrap();
    let evidence = evidence(load.stop().await, &fleet.scratch);
    let arrivals = evidence.lives.iter().flat_map(|life| &life.arrivals);
    let arrived: HashSet<u64> = arrivals.map(|(id, _)| *id).collect();
    for request in &evidence.sent {
        match request.outcome {
            Ok(_) => {}
            Err(Loss::ProxyError(503)) if request.retry_after.is_some() => assert!(
                request.at + request.latency >= stopped,
                "refused before the stop: {request:?}"
            ),
            Err(_) => panic!("{request:?}"),
        }
        assert!(
            request.outcome.is_ok() || !arrived.contains(&request.id),
            "was in flight: {request:?}"
        );
    }
    let account = LoadAccount::of(&evidence);
    assert_eq!(
        (
            account.reached_stopping,
            account.unexplained,
            account.stops,
            account.delivered_twice
        ),
        (0, 0, INSTANCES as u64, 0),
        "{account}"
    );
}
