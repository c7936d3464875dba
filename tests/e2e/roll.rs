//! `lameduck roll` with real processes: under load, interrupted, failing, killed, twice at once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use lameduck::rt::syscall;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::supervisor::Supervisor;
use crate::harness::{Bench, exe, proving, turn, until, usual_load};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(30);
const INTERRUPTED: &str =
    "interrupted: running commands are left to their end; once more ends them";

pub(super) fn start(socket: &Path, options: &[&str], command: &[String]) -> Child {
    let mut roll = Command::new(exe());
    roll.args(["roll", "app"]).args(options).arg("--");
    roll.args(command)
        .env("LAMEDUCK_ADMIN", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    roll.spawn().unwrap()
}

/// Exit code, standard output, standard error.
pub(super) async fn end(roll: Child) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, roll.wait_with_output());
    let output = output.await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap_or(-1);
    (code, text(output.stdout), text(output.stderr))
}

/// Waits until these words are on its standard error; the rest of that is left for [`end`].
async fn told(roll: &mut Child, words: &str) {
    let errors = roll.stderr.as_mut().unwrap();
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, async {
        while !text.ends_with(words.as_bytes()) {
            text.push(errors.read_u8().await.unwrap());
        }
    });
    read.await.unwrap();
}

/// Some instances behind a proxy, and who restarts them.
struct Stage {
    bench: Bench,
    proxy: DemoProxy,
    supervisor: Supervisor,
}

impl Stage {
    async fn new(count: usize) -> Self {
        let mut bench = Bench::start("roll", App::BuiltIn, count).await.unwrap();
        let settings = ProxySettings::default();
        let dir = bench.scratch.path().to_owned();
        let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
            .await
            .unwrap();
        proxy.eligible().await.unwrap();
        let supervisor = Supervisor::start(&mut bench);
        let stage = Self {
            bench,
            proxy,
            supervisor,
        };
        stage.states("ready").await;
        stage
    }

    fn socket(&self) -> PathBuf {
        self.proxy.socket().to_owned()
    }

    /// Waits until all are in this state, with no drain left.
    async fn states(&self, state: &str) {
        until(state, PATIENCE, async || {
            let pool = self.proxy.pool().await.unwrap();
            let mut backends = pool.backends.iter();
            backends.all(|backend| backend.state == state && backend.drains.is_empty())
        })
        .await;
    }

    /// Operators' drains.
    async fn drains(&self) -> usize {
        let pool = self.proxy.pool().await.unwrap();
        let drains = pool.backends.iter().flat_map(|one| &one.drains);
        drains.filter(|drain| drain.actor == "operator").count()
    }

    /// How many processes each instance has had.
    async fn generations(mut self) -> Vec<usize> {
        self.supervisor.end(&mut self.bench).await;
        let instances = self.bench.instances.iter();
        instances.map(|instance| instance.generation()).collect()
    }
}

#[lameduck_rig::test]
async fn a_roll_under_load_costs_no_request() {
    let _turn = turn().await;
    let mut bench = Bench::start("roll", App::BuiltIn, 3).await.unwrap();
    let front = Front::lameduck(&bench, &ProxySettings::default()).await;
    let proxy = front.proxy();
    let socket = proxy.socket().to_owned();
    let supervisor = Supervisor::start(&mut bench);
    let command = supervisor.restart();
    until("three ready", PATIENCE, async || {
        proxy.pool().await.unwrap().eligible == 3
    })
    .await;
    let load = Load::start(usual_load(front.address()));
    let rounds = if proving() { 3 } else { 1 };
    for _ in 0..rounds {
        let (code, lines, errors) =
            end(start(&socket, &["--drain-timeout", "10s"], &command)).await;
        assert_eq!(code, 0, "{lines}{errors}");
        let at = |text: &str| {
            lines
                .find(text)
                .unwrap_or_else(|| panic!("no {text:?} in {lines}"))
        };
        assert!(
            at("app/app-1: ready") < at("app/app-2: draining"),
            "{lines}"
        );
        assert!(lines.contains("rolled app: 3 backends in"), "{lines}");
    }
    let sent = load.stop().await;
    supervisor.end(&mut bench).await;
    for instance in &bench.instances {
        assert_eq!(instance.generation(), 1 + rounds);
    }
    let account = bench.account(sent, &front).await;
    assert!(account.is_clean(), "{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    record(Row {
        test: "roll",
        proxy: "lameduck".to_owned(),
        app: "built-in".to_owned(),
        account,
        notes: vec![format!("{rounds} rolls of 3")],
    });
}

#[lameduck_rig::test]
async fn the_last_one_is_not_taken_out_unless_told_to() {
    let stage = Stage::new(1).await;
    let command = stage.supervisor.restart();
    let (code, _, errors) = end(start(&stage.socket(), &[], &command)).await;
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("1 now, and with 1 out none would be left"),
        "{errors}"
    );
    assert!(
        errors.contains("--allow-empty: requests then wait in the proxy for up to 10s"),
        "{errors}"
    );

    let plan = start(&stage.socket(), &["--allow-empty", "--dry-run"], &command);
    let (code, lines, _) = end(plan).await;
    assert_eq!(code, 0);
    assert!(lines.contains("1. app-1 at 127.0.0.1:"), "{lines}");
    assert_eq!(stage.drains().await, 0);

    // The load goes on: its requests wait.
    let load = Load::start(LoadPlan::new(stage.proxy.address(), 50));
    let rolled = start(&stage.socket(), &["--allow-empty", "--json"], &command);
    let (code, lines, errors) = end(rolled).await;
    assert_eq!(code, 0, "{errors}");
    let steps: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "begin", "draining", "drained", "running", "ran", "ready", "end"
        ]
    );
    assert_eq!(steps[1]["backend"], "app-1");
    assert_eq!(steps[6]["exit_code"], 0);
    let lost = load.stop().await;
    let lost: Vec<_> = lost.iter().filter(|sent| sent.outcome != Ok(200)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(stage.generations().await, [2]);
}

#[lameduck_rig::test]
async fn a_second_roll_is_told_who_holds_the_first() {
    let stage = Stage::new(2).await;
    let first = start(&stage.socket(), &[], &stage.supervisor.held_restart());
    stage.supervisor.begun("app-1").await;
    let second = start(&stage.socket(), &[], &stage.supervisor.restart());
    let (code, _, errors) = end(second).await;
    assert_eq!(code, 1, "{errors}");
    let holder = format!("(pid {})", first.id().unwrap());
    assert!(
        errors.contains("is being rolled by") && errors.contains(&holder),
        "{errors}"
    );
    stage.supervisor.go();
    let (code, lines, errors) = end(first).await;
    assert_eq!(code, 0, "{lines}{errors}");
    assert_eq!(stage.drains().await, 0);
    assert_eq!(stage.generations().await, [2, 2]);
}

#[lameduck_rig::test]
async fn a_failing_command_stops_it_and_shows_why() {
    let stage = Stage::new(3).await;
    let script = "echo about to fail; echo no unit >&2; exit 4".to_owned();
    let command = [
        "sh".to_owned(),
        "-c".to_owned(),
        script,
        "{name}".to_owned(),
    ];
    let (code, lines, errors) = end(start(&stage.socket(), &[], &command)).await;
    assert_eq!(code, 1, "{lines}{errors}");
    assert!(
        errors.contains("app/app-1: the command failed (exit status: 4)"),
        "{errors}"
    );
    assert!(
        errors.contains("\n  | about to fail\n  | no unit"),
        "{errors}"
    );
    assert_eq!(stage.drains().await, 0);
    stage.states("ready").await;
    assert_eq!(stage.generations().await, [1, 1, 1]);
}

#[lameduck_rig::test]
async fn a_command_that_restarts_nothing_is_noticed() {
    let stage = Stage::new(2).await;
    let command = ["true".to_owned(), "{name}".to_owned()];
    let roll = start(&stage.socket(), &["--ready-timeout", "500ms"], &command);
    let (code, lines, errors) = end(roll).await;
    assert_eq!(code, 3, "{lines}{errors}");
    assert!(
        errors.contains("nothing showed that a new process is behind it"),
        "{errors}"
    );
    assert_eq!(stage.drains().await, 0);
    stage.states("ready").await;

    let same = start(&stage.socket(), &[], &["true".to_owned()]);
    assert_eq!(end(same).await.0, 2, "the same command for each of two");
}

#[lameduck_rig::test]
async fn an_interrupted_roll_leaves_nothing_drained() {
    let stage = Stage::new(2).await;
    let mut roll = start(&stage.socket(), &[], &stage.supervisor.held_restart());
    stage.supervisor.begun("app-1").await;
    syscall::kill(roll.id().unwrap(), libc::SIGINT).unwrap();
    told(&mut roll, INTERRUPTED).await;
    stage.supervisor.go();
    let (code, lines, errors) = end(roll).await;
    assert_eq!(code, 130, "{lines}{errors}");
    assert!(errors.contains("nothing is left drained"), "{errors}");
    // The command was left to its end.
    assert!(lines.contains("restarted in"), "{lines}");
    assert_eq!(stage.drains().await, 0);
    stage.states("ready").await;

    // Twice: the command goes, too.
    let mut roll = start(&stage.socket(), &[], &stage.supervisor.endless());
    stage.supervisor.begun("app-1").await;
    let pid = roll.id().unwrap();
    syscall::kill(pid, libc::SIGTERM).unwrap();
    told(&mut roll, INTERRUPTED).await;
    syscall::kill(pid, libc::SIGINT).unwrap();
    let (code, _, errors) = end(roll).await;
    assert_eq!(code, 130, "{errors}");
    assert_eq!(stage.drains().await, 0);
    assert_eq!(stage.generations().await, [2, 1]);
}

#[lameduck_rig::test]
async fn drains_of_a_killed_roll_are_lifted() {
    let stage = Stage::new(2).await;
    let mut first = start(&stage.socket(), &[], &stage.supervisor.held_restart());
    stage.supervisor.begun("app-1").await;
    first.start_kill().unwrap();
    first.wait().await.unwrap();
    // Its command still runs, and restarts app-1: the drain waits for that.
    until("the right to roll", PATIENCE, async || {
        let skip = ["--skip-drained", "--dry-run"];
        let plan = start(&stage.socket(), &skip, &stage.supervisor.restart());
        end(plan).await.0 == 1
    })
    .await;
    stage.supervisor.go();
    stage.states("ready").await;
    let (code, lines, errors) = end(start(&stage.socket(), &[], &stage.supervisor.restart())).await;
    assert_eq!(code, 0, "{lines}{errors}");
    assert_eq!(stage.generations().await, [3, 2]);

    // One that was killed before it had restarted anything: its drain ends by itself.
    let stage = Stage::new(2).await;
    let mut first = start(&stage.socket(), &[], &stage.supervisor.endless());
    stage.supervisor.begun("app-1").await;
    let begun = Instant::now();
    first.start_kill().unwrap();
    first.wait().await.unwrap();
    stage.states("ready").await;
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
}

#[lameduck_rig::test]
async fn what_somebody_else_has_drained_is_left_alone() {
    let stage = Stage::new(3).await;
    stage
        .proxy
        .drain("app-2", Duration::from_secs(5))
        .await
        .unwrap();
    let command = stage.supervisor.restart();
    let (code, _, errors) = end(start(&stage.socket(), &[], &command)).await;
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("app/app-2 is drained by operator"),
        "{errors}"
    );
    let (code, lines, errors) = end(start(&stage.socket(), &["--skip-drained"], &command)).await;
    assert_eq!(code, 0, "{lines}{errors}");
    assert_eq!(stage.drains().await, 1, "the other's drain is still there");
    assert_eq!(stage.generations().await, [2, 1, 2]);
}

#[lameduck_rig::test]
async fn without_a_proxy_it_is_5() {
    let temp = tempfile::tempdir().unwrap();
    let roll = start(&temp.path().join("nobody.sock"), &[], &["true".to_owned()]);
    let (code, _, errors) = end(roll).await;
    assert_eq!(code, 5, "{errors}");

    // It goes in the middle: nothing more is restarted.
    let mut stage = Stage::new(2).await;
    let roll = start(&stage.socket(), &[], &stage.supervisor.held_restart());
    stage.supervisor.begun("app-1").await;
    stage.proxy.process().signal(libc::SIGKILL).unwrap();
    stage.supervisor.go();
    let (code, lines, errors) = end(roll).await;
    assert_eq!(code, 5, "{lines}{errors}");
    assert!(
        errors.contains("gone in the middle of the roll"),
        "{errors}"
    );
    assert_eq!(stage.generations().await, [2, 1]);
}
