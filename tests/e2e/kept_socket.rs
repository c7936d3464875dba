//! Restarts that keep the listening socket: gunicorn's HUP, and a socket that is kept for the app, as systemd's socket
//! activation does. No probe meets another socket or a refusal: a hook's drain ends by the sign that it names, and one
//! that names none says soon that it sees no restart.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lameduck::registry::view::BackendView;
use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck::tools::demo::journal;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{Evidence, Life, LoadAccount};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
use tokio::io::AsyncBufReadExt;

use crate::harness::{exe, skip, turn, until};
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{children, is_running};

const PATIENCE: Duration = Duration::from_secs(30);
const GUNICORN: &str = "target/apps-venv/bin/gunicorn";

/// An app that keeps its socket, alone behind a proxy: what is lost while it restarts can't go elsewhere.
struct Alone {
    proxy: DemoProxy,
    journals: PathBuf,
    // Last: whoever still runs writes into it.
    scratch: ScratchDir,
}

impl Alone {
    async fn before(address: SocketAddr, scratch: ScratchDir) -> Self {
        let settings = ProxySettings {
            pool: "[pool.health]\npath = \"/health\"".into(),
            access_log: scratch.path().join("access.log").display().to_string(),
            ..ProxySettings::default()
        };
        let backends = [("app-1".to_owned(), address)];
        let mut proxy = DemoProxy::start_with(exe(), "proxy", scratch.path(), &settings, &backends)
            .await
            .unwrap();
        proxy.eligible().await.unwrap();
        Self {
            proxy,
            journals: journals(&scratch),
            scratch,
        }
    }

    async fn view(&self) -> BackendView {
        self.proxy.pool().await.unwrap().backends.remove(0)
    }

    async fn until_ready_by_itself(&self) {
        until("the drain's end", PATIENCE, async || {
            let view = self.view().await;
            view.drains.is_empty() && view.state == "ready"
        })
        .await;
    }

    /// The commands of a hook; exit code and what they wrote to standard error.
    async fn hook(&self, sign: &str) -> (i32, String) {
        let line =
            format!("drain app/app-1 --actor supervisor --until restarted --timeout 10s {sign}");
        let mut command = tokio::process::Command::new(exe());
        command
            .args(line.split_whitespace())
            .env("LAMEDUCK_ADMIN", self.proxy.socket())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), said)
    }

    /// The old process goes on answering probes for a while, and nothing ends the drain.
    async fn stays_drained(&self) {
        let probes = async || {
            let (_, text) = admin::request(self.proxy.socket(), "GET", "/metrics", None)
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            admin::metric(&text, "lameduck_probe_total").unwrap_or_default()
        };
        let enough = probes().await + 10;
        until("ten probes", PATIENCE, async || probes().await >= enough).await;
        assert_eq!(self.view().await.state, "drained");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("proxy.log")).unwrap()
    }

    /// What the oracle says. `signalled`: the processes that were told to stop, and when.
    async fn account(&self, load: Load, signalled: &[(u32, u64)]) -> LoadAccount {
        let sent = load.stop().await;
        let mut lives = Vec::new();
        for entry in std::fs::read_dir(&self.journals).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let told = signalled.iter().find(|(pid, _)| pid.to_string() == name);
            lives.push(Life {
                signalled: told.map(|(_, at)| *at),
                exited: None,
                arrivals: arrivals(&path),
                name,
            });
        }
        let (held, retried) = self.proxy.counts().await.unwrap();
        let account = LoadAccount::of(&Evidence {
            sent,
            lives,
            held,
            retried,
        });
        assert!(
            account.is_clean(),
            "{account}\n{}",
            crate::harness::failures(&self.scratch.path().join("access.log"))
        );
        account
    }
}

fn journals(scratch: &ScratchDir) -> PathBuf {
    let dir = scratch.path().join("journals");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn arrivals(path: &Path) -> Vec<(u64, u64)> {
    let lines = journal::read(path).unwrap().into_iter();
    let lines = lines.filter(|line| line.event == "arrival");
    lines
        .filter_map(|line| Some((line.id?.parse().ok()?, line.t)))
        .collect()
}

/// A mix that few workers serve.
fn plan(address: SocketAddr) -> LoadPlan {
    LoadPlan {
        slow: Duration::from_millis(100),
        ..LoadPlan::new(address, 60)
    }
}

async fn sent(load: &Load, more: u64) {
    let enough = load.progress().sent + more;
    until("requests to be sent", PATIENCE, async || {
        load.progress().sent >= enough
    })
    .await;
}

/// Gunicorn with such workers; `None` where it isn't installed.
async fn gunicorn(workers: &str) -> Option<(ChildProcess, Alone)> {
    if !Path::new(GUNICORN).exists() {
        skip("kept_socket", "gunicorn (run tests/setup.sh)");
        return None;
    }
    let scratch = ScratchDir::new("lameduck-kept").unwrap();
    let address = free_address();
    let mut command = Command::new(GUNICORN);
    let line = format!("{workers} -b {address} --chdir tests/apps workers:app");
    command
        .args(line.split(' '))
        .env("JOURNALS", journals(&scratch));
    let mut master =
        ChildProcess::start("gunicorn", command, &scratch.path().join("gunicorn.log")).unwrap();
    master.ignore_output();
    let alone = Alone::before(address, scratch).await;
    Some((master, alone))
}

/// One reload of gunicorn's, behind a hook with this sign.
async fn reloaded(workers: &str, sign: &str) {
    let _turn = turn().await;
    let Some((mut master, alone)) = gunicorn(workers).await else {
        return;
    };
    let load = Load::start(plan(alone.proxy.address()));
    sent(&load, 60).await;
    let old = children(master.pid());
    assert!(!old.is_empty());
    let (code, said) = alone.hook(sign).await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("new process"), "{said}");
    alone.stays_drained().await;
    let told = syscall::monotonic_ns();
    master.signal(libc::SIGHUP).unwrap();
    alone.until_ready_by_itself().await;
    let took = Duration::from_nanos(syscall::monotonic_ns() - told);
    // By its exit; a probe's time of 5 s has run before the signal, too.
    assert!(took < Duration::from_secs(10), "{took:?}");
    if sign.ends_with("exit") {
        // They have let go of the socket, and end in a moment. What would have reached them, the account shows.
        until("the old workers to end", PATIENCE, async || {
            !old.iter().any(|pid| is_running(*pid))
        })
        .await;
    }
    assert_eq!(alone.view().await.incarnation, 2);
    sent(&load, 60).await;
    let signalled: Vec<_> = old.iter().map(|pid| (*pid, told)).collect();
    let account = alone.account(load, &signalled).await;
    assert!(account.held.unwrap_or_default() > 0, "{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
}

#[lameduck_rig::test]
async fn gunicorn_s_hup_with_sync_workers_ends_the_drain_when_they_are_replaced() {
    reloaded("-w 4", "--restarted-when exit").await;
}

#[lameduck_rig::test]
async fn gunicorn_s_hup_with_threads_ends_the_drain_when_they_are_replaced() {
    reloaded("-w 2 -k gthread --threads 8", "--restarted-when exit").await;
}

#[lameduck_rig::test]
async fn gunicorn_s_hup_ends_a_drain_that_goes_by_probes() {
    reloaded("-w 4", "--restarted-when probe").await;
}

/// As a hook from before this was known: nothing ends its drain, and it is said at once, and again after 5 s.
#[lameduck_rig::test]
async fn drain_that_waits_for_a_new_process_in_vain_says_why() {
    let _turn = turn().await;
    let Some((mut master, alone)) = gunicorn("-w 1").await else {
        return;
    };
    let (code, said) = alone.hook("").await;
    assert_eq!(code, 0);
    assert!(
        said.contains("no backend of app is ready until a new process is seen behind app-1"),
        "{said}"
    );
    assert!(said.contains("--restarted-when probe or exit"), "{said}");
    master.signal(libc::SIGHUP).unwrap();
    until("the warning", Duration::from_secs(30), async || {
        alone.view().await.drains[0].warning.is_some()
    })
    .await;
    let warning = alone.view().await.drains[0].warning.clone().unwrap();
    for words in [
        "no new one is seen",
        "gunicorn's HUP",
        "--restarted-when probe or exit",
        "it stays closed until 2",
        "`lameduck resume app/app-1 --actor supervisor` opens it now",
    ] {
        assert!(warning.contains(words), "{warning}");
    }
    // Its log has a queue.
    until("the warning in the log", PATIENCE, async || {
        alone.log().contains("drained until it restarts")
    })
    .await;
    let log = alone.log();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("drained until it restarts"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN"), "{}", lines[0]);
    // Whoever waits for it is told the same.
    let mut command = tokio::process::Command::new(exe());
    command
        .args(["resume", "app/app-1", "--wait", "20s"])
        .env("LAMEDUCK_ADMIN", alone.proxy.socket())
        .kill_on_drop(true)
        .stderr(Stdio::piped());
    let mut resumed = command.spawn().unwrap();
    let mut said = tokio::io::BufReader::new(resumed.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, said.next_line()).await;
    let line = line.unwrap().unwrap().unwrap_or_default();
    assert!(line.contains("app/app-1 is drained"), "{line}");
    assert!(line.contains("no new one is seen"), "{line}");
    let mut lifted = tokio::process::Command::new(exe());
    lifted
        .args(["resume", "app/app-1", "--actor", "supervisor"])
        .env("LAMEDUCK_ADMIN", alone.proxy.socket());
    assert!(lifted.status().await.unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, resumed.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

/// An app on a socket that this test keeps, as systemd does.
fn activated(listener: &TcpListener, scratch: &ScratchDir) -> tokio::process::Child {
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let mut command = Command::new("python3");
    command
        .arg("tests/apps/workers.py")
        .env("JOURNALS", journals(scratch))
        .stdin(Stdio::from(socket));
    syscall::die_with_parent(&mut command);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).spawn().unwrap()
}

async fn restarted_on_a_kept_socket(sign: &str) {
    let _turn = turn().await;
    let scratch = ScratchDir::new("lameduck-kept").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut old = activated(&listener, &scratch);
    let alone = Alone::before(address, scratch).await;
    let load = Load::start(plan(alone.proxy.address()));
    sent(&load, 60).await;
    let (code, said) = alone.hook(sign).await;
    assert_eq!(code, 0, "{said}");
    alone.stays_drained().await;
    let told = (old.id().unwrap(), syscall::monotonic_ns());
    old.kill().await.unwrap();
    let _new = activated(&listener, &alone.scratch);
    alone.until_ready_by_itself().await;
    sent(&load, 60).await;
    let account = alone.account(load, &[told]).await;
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
}

#[lameduck_rig::test]
async fn a_restart_on_a_kept_socket_ends_the_drain_when_the_old_process_is_gone() {
    restarted_on_a_kept_socket("--restarted-when exit").await;
}

#[lameduck_rig::test]
async fn a_restart_on_a_kept_socket_ends_a_drain_that_goes_by_probes() {
    restarted_on_a_kept_socket("--restarted-when probe").await;
}
