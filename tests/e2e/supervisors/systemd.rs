//! systemd as PID 1 of namespaces of its own, with the shipped units of the proxy and of the app.

use std::path::PathBuf;
use std::process::Command as StdCommand;
use std::time::Duration;

use lameduck::tools::demo::process::ChildProcess;
use tokio::process::Command;

use super::advised::{advice, clean};
use lameduck_rig::process::child_named;

use super::{Fleet, INSTANCES, deployed, free_addresses, journals};
use crate::harness::{exe, proving, skip, turn, turn_alone, until};
use crate::survives::{Callers, Target, client};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/e2e/supervisors/systemd-container.sh"
);

/// The system bus, as Debian has it, without what else Debian starts.
const DBUS_SOCKET: &str =
    "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n";
const DBUS_SERVICE: &str = "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\n\
     ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation\n\
     ExecReload=/bin/true\n";

/// A running systemd, with the proxy and three instances under it.
struct Systemd {
    fleet: Fleet,
    /// In whose namespaces the commands run.
    init: u32,
    container: ChildProcess,
}

impl Systemd {
    /// `template` is the unit for instances, and `text` makes it of the app's command; `backends`: whether the proxy's
    /// config names them; `pool` is more of its configuration.
    async fn boot(
        template: &str,
        text: impl Fn(&str) -> String,
        backends: bool,
        pool: &str,
    ) -> Option<Self> {
        if !able() {
            skip("systemd", "root, namespaces, and /lib/systemd/systemd");
            return None;
        }
        let scratch = Fleet::scratch();
        let dir = scratch.path();
        let app = format!(
            "/usr/bin/lameduck demo-app --name %i --journals {}",
            journals(&scratch).display()
        );
        let (units, etc) = (dir.join("units"), dir.join("etc"));
        let file = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        // The units that others lean on, empty: what a whole Debian starts is not the question here.
        for target in [
            "sysinit",
            "basic",
            "shutdown",
            "umount",
            "final",
            "network-online",
            "multi-user",
        ] {
            file(
                units.join(format!("{target}.target")),
                "[Unit]\nDefaultDependencies=no\n",
            );
        }
        file(
            units.join("lameduck.service"),
            &deployed("systemd/lameduck.service", &[]),
        );
        file(
            units.join("app.target"),
            &deployed("systemd/app.target", &[]),
        );
        file(units.join(template), &text(&app));
        let addresses = free_addresses(INSTANCES + 1);
        let mut config = format!(
            "[[listener]]\naddress = \"{}\"\n\n[[pool]]\nname = \"app\"\n",
            addresses[0]
        );
        for (n, address) in addresses[1..].iter().enumerate() {
            let name = format!("app-{}", n + 1);
            if backends {
                config +=
                    &format!("\n[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n");
            }
            file(
                etc.join(format!("app/{name}.env")),
                &format!("PORT={}\n", address.port()),
            );
        }
        config += pool;
        file(etc.join("lameduck/lameduck.toml"), &config);
        file(units.join("dbus.socket"), DBUS_SOCKET);
        file(units.join("dbus.service"), DBUS_SERVICE);

        let mut command = StdCommand::new(SCRIPT);
        command.arg(dir).arg(exe());
        let mut container =
            ChildProcess::start("systemd", command, &dir.join("systemd.log")).unwrap();
        container.ignore_output();
        let mut init = None;
        until(
            "systemd to be PID 1 of its namespace",
            Duration::from_secs(20),
            async || {
                container.check().unwrap();
                init = child_named(container.pid(), "systemd");
                init.is_some()
            },
        )
        .await;
        let init = init.unwrap();
        let fleet = Fleet {
            socket: format!("/proc/{init}/root/run/lameduck/lameduck.sock").into(),
            address: addresses[0],
            _proxy: None,
            scratch,
        };
        let booted = Self {
            fleet,
            init,
            container,
        };
        until(
            "systemd to take commands",
            Duration::from_secs(20),
            async || {
                let mut answer = booted.systemctl();
                answer
                    .arg("show-environment")
                    .output()
                    .await
                    .is_ok_and(|o| o.status.success())
            },
        )
        .await;
        Some(booted)
    }

    fn systemctl(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--mount",
                "--pid",
                "--ipc",
                "--cgroup",
                "--target",
                &self.init.to_string(),
            ])
            .arg("systemctl");
        command
    }

    /// The process that is the proxy.
    async fn main_pid(&self) -> String {
        let mut command = self.systemctl();
        command.args(["show", "--property=MainPID", "lameduck.service"]);
        let output = command.output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// `systemctl VERB UNIT`, with what the unit said last if it fails.
    async fn tell(&self, verb: &str, unit: &str) {
        let mut command = self.systemctl();
        let output = command
            .args([verb, unit])
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        if !output.status.success() {
            let mut status = self.systemctl();
            let status = status.args(["status", "--no-pager", unit]).output().await;
            panic!(
                "systemctl {verb} {unit}: {}\n{}{}",
                String::from_utf8_lossy(&output.stderr),
                status.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout)
                    .into_owned()),
                self.container.last_words()
            );
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Its namespace's PID 1 takes everything with it; then the cgroups are empty.
        let _ = lameduck::rt::syscall::kill(self.init, libc::SIGKILL);
        let name = self.fleet.scratch.path().file_name().unwrap();
        for hierarchy in ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"] {
            let _ = StdCommand::new("find")
                .arg(PathBuf::from(hierarchy).join(name))
                .args(["-depth", "-type", "d", "-delete"])
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

/// `kill -9` of the proxy, and `systemctl restart`: with the unit's store of descriptors, nobody is refused.
#[lameduck_rig::test(threads = 2)]
async fn killed_and_restarted_proxy_refuses_nobody() {
    let _turn = turn_alone().await;
    let template = "app@.service";
    let Some(systemd) = Systemd::boot(template, |app| shipped(template, app), true, "").await
    else {
        return;
    };
    systemd.tell("start", "lameduck.service").await;
    for n in 1..=INSTANCES {
        systemd.tell("start", &format!("app@app-{n}.service")).await;
    }
    systemd.fleet.ready(INSTANCES).await;
    let target = Target::Tcp(systemd.fleet.address);
    let callers = Callers::start(vec![target.clone()]);
    for round in 0..if proving() { 10 } else { 2 } {
        let before = systemd.main_pid().await;
        let mut kill = systemd.systemctl();
        kill.args(["kill", "--signal=KILL", "lameduck.service"]);
        assert!(kill.status().await.unwrap().success());
        let waiting = [client(&target), client(&target)];
        for client in waiting {
            client
                .await
                .unwrap()
                .unwrap_or_else(|why| panic!("round {round}: {why}"));
        }
        assert_ne!(systemd.main_pid().await, before);
        // The admin socket, too: its file stays where it was.
        systemd.fleet.ready(INSTANCES).await;
        systemd.tell("restart", "lameduck.service").await;
        client(&target).await.unwrap().unwrap();
        systemd.fleet.ready(INSTANCES).await;
    }
    let (made, refused) = callers.stop();
    assert!(refused.is_empty(), "of {made}: {refused:?}");
    assert!(made > 20, "{made}");
}

/// Whether this machine can run it.
fn able() -> bool {
    let unshare = StdCommand::new("unshare")
        .args(["--mount", "--pid", "--cgroup", "--fork", "true"])
        .stderr(std::process::Stdio::null())
        .status();
    unshare.is_ok_and(|status| status.success())
        && std::path::Path::new("/lib/systemd/systemd").exists()
}

/// One of the shipped units.
fn shipped(template: &str, app: &str) -> String {
    deployed(
        &format!("systemd/{template}"),
        &[("/usr/bin/node /srv/app/app.mjs", app)],
    )
}

async fn rolling_restart(
    template: &str,
    text: impl Fn(&str) -> String,
    title: &str,
    backends: bool,
) {
    let _turn = turn().await;
    let Some(systemd) = Systemd::boot(template, text, backends, "").await else {
        return;
    };
    let unit = |n: usize| template.replace("@.", &format!("@app-{n}."));
    systemd.tell("start", "lameduck.service").await;
    for n in 1..=INSTANCES {
        systemd.tell("start", &unit(n)).await;
    }
    systemd
        .fleet
        .survives(title, async || {
            for n in 1..=INSTANCES {
                systemd.tell("restart", &unit(n)).await;
            }
        })
        .await;
}

#[lameduck_rig::test]
async fn hooks() {
    let template = "app@.service";
    rolling_restart(
        template,
        |app| shipped(template, app),
        "systemd, drain hooks",
        true,
    )
    .await;
}

#[lameduck_rig::test]
async fn launcher() {
    let template = "app-exec@.service";
    rolling_restart(
        template,
        |app| shipped(template, app),
        "systemd, launcher",
        false,
    )
    .await;
}

/// What `lameduck doctor` says about a unit that knows nothing of lameduck.
#[lameduck_rig::test]
async fn pasted_advice_loses_nothing() {
    let template = "app-plain@.service";
    let text = |app: &str| {
        let unit =
            format!("[Unit]\nDescription=app %i\n\n[Service]\nExecStart={app}\nRestart=always\n");
        let mut lines: Vec<String> = unit.lines().map(str::to_owned).collect();
        for setting in advice(template, &unit) {
            let key = format!("{}=", setting.split('=').next().unwrap());
            lines.retain(|line| !line.starts_with(&key));
            lines.push(setting);
        }
        let unit = lines.join("\n") + "\n";
        clean(template, &unit);
        unit
    };
    rolling_restart(template, text, "systemd, advice", false).await;
}

/// Neither launcher nor hook: systemd itself says what it stops. Its bus goes away and comes back, too.
#[lameduck_rig::test]
async fn watched() {
    let _turn = turn_alone().await;
    if super::processes::installed("dbus-daemon").is_none() {
        return skip("systemd, watched", "dbus-daemon");
    }
    let template = "app-plain@.service";
    let text = |app: &str| {
        format!(
            "[Unit]\nDescription=app %i\n\n[Service]\nEnvironmentFile=/etc/app/%i.env\nExecStart={app} --stop linger\n\
             Restart=always\n"
        )
    };
    let pool = "\n[pool.supervisor]\ntype = \"systemd\"\nprocess = \"app-plain@{name}.service\"\n";
    let Some(systemd) = Systemd::boot(template, text, true, pool).await else {
        return;
    };
    systemd.tell("start", "dbus.service").await;
    systemd.tell("start", "lameduck.service").await;
    for n in 1..=INSTANCES {
        systemd
            .tell("start", &format!("app-plain@app-{n}.service"))
            .await;
    }
    let fleet = &systemd.fleet;
    let title = "systemd, watched";
    let away = super::watched::Away {
        go: async || {
            systemd.tell("kill", "dbus.service").await;
            systemd.tell("stop", "dbus.socket").await;
        },
        come: async || systemd.tell("start", "dbus.service").await,
    };
    super::watched::loses_nothing(fleet, title, Some(away), async |n| {
        systemd
            .tell("restart", &format!("app-plain@app-{n}.service"))
            .await;
    })
    .await;
}
