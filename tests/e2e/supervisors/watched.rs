//! `[pool.supervisor]`: apps that know nothing of lameduck, go on accepting for 3 s after their signal, and are restarted
//! by real supervisors under load. Nothing may be lost, and the last request after a signal must come within milliseconds
//! of it; without the section it may come up to a probe's interval later, which is tried, too.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck::registry::view::PoolView;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::oracle::{LoadAccount, Sent};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::scratch::ScratchDir;
use lameduck_rig::place::in_venv;

use super::docker_daemon::DockerDaemon;
use super::processes::{Pm2, installed};
use super::{Fleet, INSTANCES, PATIENCE, evidence, free_addresses, journals, run};
use crate::harness::{exe, proving, skip, turn_alone, until};
use lameduck_rig::results::{Row, record};

/// Median time from the signal to the last request, in ms. The long form has the machine for itself; the short one tells
/// a watcher that has heard of a stop from an app that goes on accepting for 3 s.
fn promised() -> f64 {
    if proving() { 20.0 } else { 500.0 }
}

/// How the supervisor goes away, and comes back.
pub(super) struct Away<G, C> {
    pub go: G,
    pub come: C,
}

/// One that stays.
fn stays() -> Option<Away<impl AsyncFn(), impl AsyncFn()>> {
    let away = Away {
        go: async || (),
        come: async || (),
    };
    Some(away).filter(|_| false)
}

/// The pool's configuration: an instance at each address, and who supervises them.
fn pool(addresses: &[SocketAddr], supervisor: &str) -> String {
    let mut text = String::new();
    for (n, address) in addresses.iter().enumerate() {
        let name = format!("app-{}", n + 1);
        text += &format!("[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    text + supervisor
}

/// The command line of the app's instance `n`, from 1.
fn app(scratch: &ScratchDir, n: usize, address: SocketAddr) -> String {
    format!(
        "{} demo-app --name app-{n} --stop linger --port {} --journals {}",
        exe().display(),
        address.port(),
        journals(scratch).display()
    )
}

/// Times from each signal to the last request that came after it, in ms.
fn lasts(sent: Vec<Sent>, fleet: &Fleet) -> (Vec<f64>, LoadAccount) {
    let evidence = evidence(sent, &fleet.scratch);
    let stopped = evidence.lives.iter();
    let stopped = stopped.filter_map(|life| Some((life, life.signalled?)));
    let mut lasts: Vec<f64> = stopped
        .map(|(life, signalled)| {
            let last = life.arrivals.iter().map(|(_, at)| *at).max();
            last.unwrap_or(0).saturating_sub(signalled) as f64 / 1e6
        })
        .collect();
    lasts.sort_by(f64::total_cmp);
    (lasts, LoadAccount::of(&evidence))
}

async fn restarted_under_load(
    fleet: &Fleet,
    title: &str,
    mut restart: impl AsyncFnMut(usize),
) -> Vec<f64> {
    let load = Load::start(LoadPlan::new(fleet.address, 300));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..if proving() { 3 } else { 1 } {
        for n in 1..=INSTANCES {
            let before = fleet.exited();
            restart(n).await;
            until("the instance to be replaced", PATIENCE, async || {
                fleet.exited() > before
            })
            .await;
            fleet.ready(INSTANCES).await;
        }
    }
    let (lasts, account) = lasts(load.stop().await, fleet);
    assert_eq!(
        (account.lost, account.unexplained),
        (0, 0),
        "{title}:\n{account}"
    );
    assert!(lasts.len() >= INSTANCES, "{title}: {lasts:?}\n{account}");
    let shown: Vec<_> = lasts.iter().map(|last| format!("{last:.1}")).collect();
    println!(
        "{title}: last request after the signal, ms: {}",
        shown.join(" ")
    );
    record(Row {
        test: "watched supervisor",
        proxy: "lameduck".to_owned(),
        app: title.to_owned(),
        account,
        notes: vec![format!(
            "last request after the signal, ms: {}",
            shown.join(" ")
        )],
    });
    lasts
}

async fn heard(fleet: &Fleet, state: &str) {
    let mut seen: Option<PoolView> = None;
    until("the supervisor to be heard, or not", PATIENCE, async || {
        seen = fleet.pool().await;
        let supervisor = seen.as_ref().and_then(|pool| pool.supervisor.as_ref());
        supervisor.is_some_and(|supervisor| supervisor.state == state)
    })
    .await;
}

/// Each instance is restarted under load; then the supervisor goes away and comes back, and nothing is drained by that.
pub(super) async fn loses_nothing<G: AsyncFn(), C: AsyncFn()>(
    fleet: &Fleet,
    title: &str,
    away: Option<Away<G, C>>,
    restart: impl AsyncFnMut(usize),
) {
    fleet.ready(INSTANCES).await;
    heard(fleet, "listening").await;
    let lasts = restarted_under_load(fleet, title, restart).await;
    let median = lasts[lasts.len() / 2];
    assert!(median <= promised(), "{title}: {lasts:?}");
    let Some(away) = away else { return };
    let load = Load::start(LoadPlan::new(fleet.address, 100));
    (away.go)().await;
    heard(fleet, "away").await;
    stays_ready(fleet, title).await;
    (away.come)().await;
    heard(fleet, "listening").await;
    stays_ready(fleet, title).await;
    let (_, account) = self::lasts(load.stop().await, fleet);
    assert_eq!(
        (account.lost, account.unexplained),
        (0, 0),
        "{title}:\n{account}"
    );
}

async fn stays_ready(fleet: &Fleet, title: &str) {
    for _ in 0..20 {
        let pool = fleet.pool().await.unwrap();
        assert_eq!(pool.eligible, INSTANCES, "{title}: {pool:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn script(path: &Path, command: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, format!("#!/bin/sh\nexec {command}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A fleet whose services are directories, each with `run`.
async fn services(kind: &str) -> (Fleet, PathBuf) {
    let (scratch, addresses) = (Fleet::scratch(), free_addresses(INSTANCES));
    let services = scratch.path().join("services");
    for (n, address) in addresses.iter().enumerate() {
        let run = services.join(format!("app-{}/run", n + 1));
        script(&run, &app(&scratch, n + 1, *address));
    }
    let supervisor = match kind {
        "" => String::new(),
        kind => format!(
            "[pool.supervisor]\ntype = \"{kind}\"\naddress = \"{}\"\n",
            services.display()
        ),
    };
    (
        Fleet::start_in(scratch, &pool(&addresses, &supervisor)).await,
        services,
    )
}

async fn end(mut scanner: ChildProcess, signal: i32) {
    scanner.signal(signal).unwrap();
    scanner.wait(PATIENCE).await.unwrap();
}

async fn sv_restart(fleet: &Fleet, service: &Path) {
    let mut command = fleet.command(Path::new("sv"));
    run(command.args(["-w", "20", "restart"]).arg(service)).await;
}

#[lameduck_rig::test]
async fn runit() {
    let _turn = turn_alone().await;
    if installed("runsvdir").is_none() {
        return skip("watched runit", "runit");
    }
    let (fleet, dir) = services("runit").await;
    let mut command = fleet.command(Path::new("runsvdir"));
    let scanner = fleet.supervise("runsvdir", {
        command.arg(&dir);
        command
    });
    loses_nothing(&fleet, "runit, watched", stays(), async |n| {
        sv_restart(&fleet, &dir.join(format!("app-{n}"))).await;
    })
    .await;
    end(scanner, libc::SIGHUP).await;
}

/// What the section is for: the same restarts, and nobody says anything.
#[lameduck_rig::test]
async fn nobody_watched_means_that_requests_come_until_a_probe_does() {
    let _turn = turn_alone().await;
    if installed("runsvdir").is_none() {
        return skip("unwatched runit", "runit");
    }
    let (fleet, dir) = services("").await;
    let mut command = fleet.command(Path::new("runsvdir"));
    let scanner = fleet.supervise("runsvdir", {
        command.arg(&dir);
        command
    });
    fleet.ready(INSTANCES).await;
    // A signal may come just before its instance's probe, and three in a row have.
    let mut lasts = Vec::new();
    for _ in 0..3 {
        lasts = restarted_under_load(&fleet, "runit, not watched", async |n| {
            sv_restart(&fleet, &dir.join(format!("app-{n}"))).await;
        })
        .await;
        if lasts[lasts.len() - 1] > 100.0 {
            break;
        }
    }
    assert!(lasts[lasts.len() - 1] > 100.0, "{lasts:?}");
    end(scanner, libc::SIGHUP).await;
}

#[lameduck_rig::test]
async fn s6() {
    let _turn = turn_alone().await;
    if installed("s6-svscan").is_none() {
        return skip("watched s6", "s6");
    }
    let (fleet, dir) = services("s6").await;
    let mut command = fleet.command(Path::new("s6-svscan"));
    let scanner = fleet.supervise("s6-svscan", {
        command.arg(&dir);
        command
    });
    loses_nothing(&fleet, "s6, watched", stays(), async |n| {
        let service = dir.join(format!("app-{n}"));
        for words in [["-wd", "-d"], ["-wu", "-u"]] {
            let mut command = fleet.command(Path::new("s6-svc"));
            run(command.args(words).args(["-T", "20000"]).arg(&service)).await;
        }
    })
    .await;
    end(scanner, libc::SIGTERM).await;
}

#[lameduck_rig::test]
async fn supervisord() {
    let _turn = turn_alone().await;
    let programs = in_venv("supervisors-venv", "supervisord")
        .zip(in_venv("supervisors-venv", "supervisorctl"));
    let Some((daemon, ctl)) = programs else {
        return skip("watched supervisord", "supervisord (run tests/setup.sh)");
    };
    let (scratch, addresses) = (Fleet::scratch(), free_addresses(INSTANCES));
    let mut programs = String::new();
    for (n, address) in addresses.iter().enumerate() {
        let command = app(&scratch, n + 1, *address);
        programs += &format!(
            "[program:app-{}]\ncommand={command}\nautorestart=true\n",
            n + 1
        );
    }
    let config = scratch.path().join("supervisord.conf");
    let text = super::processes::supervisord_text(scratch.path(), &programs);
    std::fs::write(&config, text).unwrap();
    let supervisor = format!(
        "[pool.supervisor]\ntype = \"supervisord\"\naddress = \"unix:{}/supervisor.sock\"\n",
        scratch.path().display()
    );
    let fleet = Fleet::start_in(scratch, &pool(&addresses, &supervisor)).await;
    let start = || {
        let mut command = fleet.command(&daemon);
        command.arg("-n").arg("-c").arg(&config);
        RefCell::new(fleet.supervise("supervisord", command))
    };
    let running = start();
    let again = RefCell::new(None);
    let away = Away {
        go: async || {
            // Its processes stay behind, and serve on.
            running.borrow_mut().signal(libc::SIGKILL).unwrap();
        },
        come: async || {
            *again.borrow_mut() = Some(start());
        },
    };
    loses_nothing(&fleet, "supervisord, watched", Some(away), async |n| {
        let mut command = fleet.command(&ctl);
        command.arg("-c").arg(&config);
        run(command.args(["restart", &format!("app-{n}")])).await;
    })
    .await;
}

#[lameduck_rig::test]
async fn pm2() {
    let _turn = turn_alone().await;
    let Some(pm2) = Pm2::found("watched pm2") else {
        return;
    };
    let (scratch, addresses) = (Fleet::scratch(), free_addresses(INSTANCES));
    let mut apps = String::new();
    for (n, address) in addresses.iter().enumerate() {
        let command = app(&scratch, n + 1, *address);
        let (program, words) = command.split_once(' ').unwrap();
        apps += &format!(
            "{{name: 'app-{}', script: '{program}', args: '{words}', interpreter: 'none', kill_timeout: 20000}},",
            n + 1
        );
    }
    let config = scratch.path().join("ecosystem.config.cjs");
    std::fs::write(&config, format!("module.exports = {{apps: [{apps}]}};")).unwrap();
    let supervisor = format!(
        "[pool.supervisor]\ntype = \"pm2\"\naddress = \"{}/pm2\"\n",
        scratch.path().display()
    );
    let fleet = Fleet::start_in(scratch, &pool(&addresses, &supervisor)).await;
    pm2.run(&fleet, &["start", config.to_str().unwrap()]).await;
    let ways = std::cell::Cell::new(0);
    loses_nothing(&fleet, "PM2, watched", stays(), async |n| {
        ways.set(ways.get() + 1);
        let way = ["restart", "reload"][ways.get() % 2];
        pm2.run(&fleet, &[way, &format!("app-{n}")]).await;
    })
    .await;
    pm2.run(&fleet, &["kill"]).await;
}

/// Processes of the test's in the place of containers, and a daemon that tells of them.
async fn containers(title: &str, section: impl Fn(&[SocketAddr], &Path) -> String) {
    let (scratch, addresses) = (Fleet::scratch(), free_addresses(INSTANCES));
    let commands: Vec<_> = (addresses.iter().enumerate())
        .map(|(n, address)| app(&scratch, n + 1, *address))
        .collect();
    let socket = scratch.path().join("docker.sock");
    let named = (addresses.iter().enumerate())
        .map(|(n, address)| (format!("shop-app-{}", n + 1), address.port()));
    let daemon = RefCell::new(DockerDaemon::start(&socket, named));
    let pool = section(&addresses, &socket);
    let fleet = Fleet::start_in(scratch, &pool).await;
    let start = |n: usize| {
        let mut words = commands[n - 1].split(' ');
        let mut command = fleet.command(Path::new(words.next().unwrap()));
        command.args(words);
        fleet.supervise(&format!("shop-app-{n}"), command)
    };
    let mut running: Vec<_> = (1..=INSTANCES).map(start).collect();
    let restart = async |n: usize| {
        let name = format!("shop-app-{n}");
        let tell = |what, signal| daemon.borrow().tell(&name, what, signal);
        tell("kill", Some("1"));
        running[n - 1].signal(libc::SIGTERM).unwrap();
        tell("kill", Some("15"));
        running[n - 1].wait(PATIENCE).await.unwrap();
        tell("die", None);
        tell("stop", None);
        running[n - 1] = start(n);
        tell("start", None);
        tell("restart", None);
    };
    if pool.contains("discovery") {
        fleet.ready(INSTANCES).await;
        let lasts = restarted_under_load(&fleet, title, restart).await;
        assert!(lasts[lasts.len() / 2] <= promised(), "{title}: {lasts:?}");
        return;
    }
    let away = Away {
        go: async || daemon.borrow().go(),
        come: async || daemon.borrow_mut().come(),
    };
    loses_nothing(&fleet, title, Some(away), restart).await;
}

#[lameduck_rig::test]
async fn docker() {
    let _turn = turn_alone().await;
    containers("Docker's API, watched", |addresses, socket| {
        let supervisor = format!(
            "[pool.supervisor]\ntype = \"docker\"\nprocess = \"shop-app-{{number}}\"\naddress = \"unix:{}\"\n",
            socket.display()
        );
        pool(addresses, &supervisor)
    })
    .await;
}

/// The containers themselves are found by their label, and drained by the same events.
#[lameduck_rig::test]
async fn docker_by_labels() {
    let _turn = turn_alone().await;
    containers("Docker's API, discovered", |_, socket| {
        format!(
            "[[pool.discovery]]\ntype = \"docker\"\nsocket = \"{}\"\n",
            socket.display()
        )
    })
    .await;
}
