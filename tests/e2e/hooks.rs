//! The hooks of supervisors that drain before they stop: the drain must end by itself when the new process is
//! ready, although the restart is over long before the next probe (one a second, at any pace).

use std::path::Path;
use std::time::{Duration, Instant};

use lameduck::registry::view::BackendView;
use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use tokio::process::Command;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{Bench, exe, proving, turn, until, usual_load};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(30);

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    /// `ExecStop=`, which systemd waits for, and `ExecStartPost=`.
    Systemd,
    /// `pre_reload_cmd`: the name is in the environment, and the replacement is started before the stop.
    Oxmgr,
    /// `control/t`: what it returns says whether TERM is sent.
    Runit,
    /// `preStop` with `exec`, then TERM; the kubelet starts the container again.
    Kubernetes,
}

/// Slow probes: a restart happens between two of them. One pass is enough.
fn settings() -> ProxySettings {
    let pool =
        "[pool.health]\npath = \"/health\"\ninterval = \"1s\"\nfast_interval = \"1s\"\nrise = 1";
    ProxySettings {
        pool: pool.into(),
        ..ProxySettings::default()
    }
}

/// Runs a shell script in which `lameduck` is the command, `$1` the instance; returns its exit code.
async fn shell(socket: &Path, script: &str, name: &str) -> i32 {
    let mut command = Command::new("sh");
    let function = format!("lameduck() {{ \"{}\" \"$@\"; }}\n{script}", exe().display());
    command
        .args(["-c", &function, "hook", name])
        .env("LAMEDUCK_ADMIN", socket)
        .env("OXMGR_PROCESS", name)
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true);
    let status = tokio::time::timeout(PATIENCE, command.status()).await;
    status.unwrap().unwrap().code().unwrap_or(-1)
}

async fn view(proxy: &DemoProxy, name: &str) -> BackendView {
    let pool = proxy.pool().await.unwrap();
    let mut backends = pool.backends.into_iter();
    backends.find(|backend| backend.name == name).unwrap()
}

async fn ready(proxy: &DemoProxy, name: &str) {
    until("ready by itself", PATIENCE, async || {
        let view = view(proxy, name).await;
        view.state == "ready" && view.drains.is_empty()
    })
    .await;
}

async fn rolled_by(hook: Hook) {
    let _turn = turn().await;
    let mut bench = Bench::start("hooks", App::BuiltIn, 2).await.unwrap();
    let front = Front::lameduck(&bench, &settings()).await;
    let proxy = front.proxy();
    for instance in &bench.instances {
        ready(proxy, instance.name()).await;
    }
    let load = Load::start(usual_load(front.address()));
    // A short run is one restart; a long one is three rounds.
    let turns: &[usize] = if proving() { &[0, 1, 0, 1, 0, 1] } else { &[0] };
    for turn in turns {
        let instance = &mut bench.instances[*turn];
        let name = instance.name().to_owned();
        let before = view(proxy, &name).await.incarnation;
        let drain = match hook {
            Hook::Systemd | Hook::Kubernetes => {
                "lameduck drain app/$1 --actor supervisor --until restarted --timeout 10s"
            }
            Hook::Oxmgr => "lameduck drain app --actor supervisor --until restarted --timeout 10s",
            Hook::Runit => {
                "lameduck drain app/$1 --actor supervisor --until restarted --timeout 10s; exit 1"
            }
        };
        let expected = i32::from(hook == Hook::Runit);
        assert_eq!(shell(proxy.socket(), drain, &name).await, expected);
        assert_eq!(view(proxy, &name).await.state, "drained");
        match hook {
            Hook::Kubernetes => {
                instance.terminate().unwrap();
                instance.exited(PATIENCE).await.unwrap();
                instance.start_again().await.unwrap();
            }
            // Some 20 ms without a process, between two probes.
            _ => drop(instance.replace(PATIENCE).await.unwrap()),
        }
        if hook == Hook::Systemd {
            let post = "lameduck resume app/$1 --actor supervisor --wait-ready";
            assert_eq!(shell(proxy.socket(), post, &name).await, 0);
        }
        ready(proxy, &name).await;
        assert!(view(proxy, &name).await.incarnation > before);
    }
    let account = bench.account(load.stop().await, &front).await;
    assert!(account.is_clean(), "{hook:?}: {account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    record(Row {
        test: "hooks",
        proxy: "lameduck".to_owned(),
        app: format!("{hook:?}"),
        account,
        notes: vec![format!("{} restarts", turns.len())],
    });
}

#[lameduck_rig::test]
async fn systemd() {
    rolled_by(Hook::Systemd).await;
}

#[lameduck_rig::test]
async fn oxmgr() {
    rolled_by(Hook::Oxmgr).await;
}

#[lameduck_rig::test]
async fn runit() {
    rolled_by(Hook::Runit).await;
}

#[lameduck_rig::test]
async fn kubernetes() {
    rolled_by(Hook::Kubernetes).await;
}

/// `ExecStartPost=register`, `ExecStop=drain`, `ExecStopPost=deregister`: the proxy knows no such backend else.
#[lameduck_rig::test]
async fn a_unit_that_registers_itself() {
    let mut bench = Bench::start("hooks", App::BuiltIn, 2).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let mut guest = bench.instances.remove(1);
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings(), &bench.instances)
        .await
        .unwrap();
    let socket = proxy.socket().to_owned();
    for _ in 0..2 {
        let register = format!("lameduck register app/$1 {} --wait-ready", guest.address());
        assert_eq!(shell(&socket, &register, "guest").await, 0);
        assert_eq!(view(&proxy, "guest").await.state, "ready");
        let stop = "lameduck drain app/$1 --actor supervisor --until restarted --timeout 10s";
        assert_eq!(shell(&socket, stop, "guest").await, 0);
        guest.terminate().unwrap();
        guest.exited(PATIENCE).await.unwrap();
        let post = "lameduck deregister app/$1 --timeout 1s";
        assert_eq!(shell(&socket, post, "guest").await, 0);
        assert_eq!(proxy.pool().await.unwrap().backends.len(), 1);
        guest.start_again().await.unwrap();
    }
}

/// What a person has closed stays closed over restarts, and the hook's own drain does not.
#[lameduck_rig::test]
async fn a_person_s_drain_survives_a_hook_s() {
    let mut bench = Bench::start("hooks", App::BuiltIn, 1).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let proxy = DemoProxy::start(exe(), "proxy", &dir, &settings(), &bench.instances)
        .await
        .unwrap();
    let name = bench.instances[0].name().to_owned();
    ready(&proxy, &name).await;
    let socket = proxy.socket().to_owned();
    let person = "lameduck drain app/$1 --reason maintenance";
    assert_eq!(shell(&socket, person, &name).await, 0);
    for hook in [
        "lameduck drain app/$1 --actor supervisor --until restarted",
        "lameduck drain app/$1 --until restarted",
    ] {
        assert_eq!(shell(&socket, hook, &name).await, 0);
        assert_eq!(view(&proxy, &name).await.drains.len(), 2);
        bench.instances[0].replace(PATIENCE).await.unwrap();
        until("the hook's drain to end", PATIENCE, async || {
            view(&proxy, &name).await.drains.len() == 1
        })
        .await;
        let post = "lameduck resume app/$1 --actor supervisor";
        assert_eq!(shell(&socket, post, &name).await, 0);
        let view = view(&proxy, &name).await;
        assert_eq!(view.drains[0].reason, "maintenance");
    }
    assert_eq!(shell(&socket, "lameduck resume app/$1", &name).await, 0);
    ready(&proxy, &name).await;
}

/// A hook must not hold up its supervisor when the proxy is gone or stands still.
#[lameduck_rig::test]
async fn a_proxy_that_does_not_answer_is_5_soon() {
    let bench = Bench::start("hooks", App::BuiltIn, 1).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings(), &bench.instances)
        .await
        .unwrap();
    let hook = "lameduck drain app/$1 --actor supervisor --until restarted --timeout 60s";
    proxy.process().signal(libc::SIGSTOP).unwrap();
    let begun = Instant::now();
    assert_eq!(shell(proxy.socket(), hook, "app-1").await, 5);
    assert!(
        begun.elapsed() < Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    proxy.process().signal(libc::SIGKILL).unwrap();
    proxy.process().wait(PATIENCE).await.unwrap();
    assert_eq!(shell(proxy.socket(), hook, "app-1").await, 5);
}
