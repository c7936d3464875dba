//! The checks that hold under every supervisor, over the neutral model. Each is decided here and nowhere else.

use std::path::Path;
use std::time::Duration;

use super::arithmetic::Sum;
use super::checks as check;
use super::finding::Findings;
use super::keep_alive;
use super::model::{Hook, Place, Process, Supervisor};
use super::proxy::Proxy;
use super::words::{Call, Launch, Role};
use crate::config::duration::format;
use crate::config::{Pool, Severity};

/// What Oxmgr waits at most after SIGTERM.
const SIGTERM_CAP: Duration = Duration::from_secs(15);

/// What is assumed where no file tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assumed {
    /// What the app takes from its signal to its end, when nothing is in flight.
    pub(super) app_stop: Duration,
}

/// Judges one process.
pub(super) fn process(process: &Process, proxy: &Proxy, assumed: Assumed, found: &mut Findings) {
    let launch = process.launch();
    let named = launch.as_ref().and_then(|launch| launch.pool.as_deref());
    let hooked = process
        .hooks
        .iter()
        .find_map(|hook| hook.call.pool.as_deref());
    let pool = match named.or(hooked) {
        Some(name) => proxy.pool(name),
        None => proxy.pool_of(&process.name),
    };
    signal(process, launch.is_some(), found);
    if let Some(launch) = &launch {
        launched(process, launch, pool, proxy, assumed, found);
    } else if process.role() == Role::Proxy {
        itself(process, proxy, found);
        return;
    }
    for hook in &process.hooks {
        hooked_by(process, hook, proxy, found);
    }
    coordinated(process, launch.as_ref(), pool, found);
    for probe in &process.probes {
        if proxy.says_503(pool, &probe.path) {
            let what = format!(
                "the health check of `{}` asks `{}`, which says 503 while the app drains",
                process.name, probe.path
            );
            let instance = launch
                .as_ref()
                .and_then(|launch| launch.name.as_deref())
                .unwrap_or(&process.name);
            let pool = named
                .or(pool.map(|pool| pool.name.as_str()))
                .unwrap_or("POOL");
            found.error(
                check::HEALTH_URL,
                &probe.place,
                what,
                health_line(process, pool, instance),
            );
        }
    }
    if let Some(place) = &process.instances {
        ports(process, launch.as_ref(), place, found);
    }
    idle_connections(process, launch.is_some(), pool, proxy, found);
}

/// The health check that is right.
fn health_line(process: &Process, pool: &str, name: &str) -> String {
    match process.supervisor {
        // It sets the variable where there are several, and runs the command without a shell.
        Supervisor::Oxmgr | Supervisor::OldOxmgr if process.instances.is_some() => {
            format!("health_cmd = \"sh -c 'lameduck health {pool}/{pool}-$NODE_APP_INSTANCE'\"")
        }
        Supervisor::Oxmgr | Supervisor::OldOxmgr => {
            format!("health_cmd = \"lameduck health {pool}/{name}\"")
        }
        _ => format!(
            "take a path that says whether the process lives (such as /live), or run `lameduck health {pool}`"
        ),
    }
}

/// The time between the signal and SIGKILL, in words.
fn killed(process: &Process, after: Duration) -> String {
    let default = if process.kill.written {
        ""
    } else {
        ", the default"
    };
    let from = match process.supervisor {
        Supervisor::Kubernetes => "its pod's deletion",
        _ => "its signal",
    };
    format!(
        "`{}` is killed {} after {from} ({}{default})",
        process.name,
        format(after),
        process.supervisor.kill_key(),
    )
}

fn launched(
    process: &Process,
    launch: &Launch,
    pool: Option<&Pool>,
    proxy: &Proxy,
    assumed: Assumed,
    found: &mut Findings,
) {
    let place = &process.command_place;
    if launch.behind_shell {
        let what = format!("`{}` runs the launcher below a shell", process.name);
        found.error(
            check::SHELL,
            place,
            what,
            "write `exec lameduck exec …`, or no shell at all",
        );
    }
    if launch.no_port {
        return;
    }
    let drain = launch.drains_for();
    let drains = if launch.drain.is_some() {
        "drain"
    } else {
        "drain (--drain-timeout's default)"
    };
    let must = Sum::default()
        .and(launch.lame_duck, "lame duck")
        .and(drain, drains);
    let kubernetes = process.supervisor == Supervisor::Kubernetes;
    let slack = Duration::from_secs(if kubernetes { 2 } else { 1 });
    let all = must
        .clone()
        .and(assumed.app_stop, "for the app to stop")
        .and(slack, "slack");
    kill_time(process, &must, &all, found);
    if let Some(pool) = pool
        && drain < pool.drain.deadline
    {
        let what = format!(
            "the launcher of `{}` drains for {}, its pool `{}` for {}",
            process.name,
            format(drain),
            pool.name,
            format(pool.drain.deadline)
        );
        let instead = format!(
            "--drain-timeout {} (and a kill timeout above it), or a lower `deadline` below [pool.drain]",
            format(pool.drain.deadline)
        );
        found.warning(check::SHORT_DRAIN, place, what, instead);
    }
    reached(
        launch.pool.as_deref(),
        launch.admin.as_deref(),
        process,
        place,
        proxy,
        found,
    );
}

/// One place decides whether a kill timeout is long enough.
fn kill_time(process: &Process, must: &Sum, all: &Sum, found: &mut Findings) {
    let supervisor = process.supervisor;
    let Some(written) = process.kill.after else {
        return;
    };
    let code = if supervisor == Supervisor::Kubernetes {
        check::GRACE
    } else {
        check::KILL_TIMEOUT
    };
    let term = process
        .signal
        .as_ref()
        .is_none_or(|(name, _)| name == "TERM");
    let capped = supervisor == Supervisor::Oxmgr && term && written > SIGTERM_CAP;
    let after = if capped { SIGTERM_CAP } else { written };
    if after >= all.total() {
        return;
    }
    let severity = if after < must.total() {
        Severity::Error
    } else {
        Severity::Warning
    };
    let kill_line = supervisor.kill_line(all.total());
    // Above the cap a longer timeout alone changes nothing.
    let needs_int = supervisor == Supervisor::Oxmgr && term && all.total() > SIGTERM_CAP;
    if capped {
        let what = format!(
            "{} waits at most 15s after SIGTERM for `{}`, and {all} are needed",
            supervisor.name(),
            process.name
        );
        let instead = match written < all.total() {
            true => format!("stop_signal = \"SIGINT\"   # and {kill_line}"),
            false => "stop_signal = \"SIGINT\"".into(),
        };
        found.add(
            severity,
            check::SIGTERM_CAP,
            &process.kill.place,
            what,
            instead,
        );
        return;
    }
    let what = format!("{}, and needs {all}", killed(process, after));
    let instead = match needs_int {
        true => format!(
            "{kill_line}   # and stop_signal = \"SIGINT\": after SIGTERM Oxmgr waits 15 s at most"
        ),
        false => kill_line,
    };
    found.add(severity, code, &process.kill.place, what, instead);
}

/// lameduck's own process.
fn itself(process: &Process, proxy: &Proxy, found: &mut Findings) {
    let must = Sum::default().and(proxy.deadline(), "of [server] deadline, lame duck included");
    let all = must.clone().and(Duration::from_secs(1), "slack");
    kill_time(process, &must, &all, found);
}

fn signal(process: &Process, launcher: bool, found: &mut Findings) {
    let Some((signal, place)) = &process.signal else {
        return;
    };
    let drains = ["TERM", "INT", "QUIT"].contains(&signal.as_str());
    if signal == "KILL" || (launcher && !drains) {
        let what = format!("`{}` is stopped with SIG{signal}", process.name);
        found.error(check::STOP_SIGNAL, place, what, "SIGTERM (or SIGINT)");
    }
}

/// A hook that is to drain before the signal.
fn hooked_by(process: &Process, hook: &Hook, proxy: &Proxy, found: &mut Findings) {
    let Call {
        verb,
        pool,
        timeout,
        no_wait,
        admin,
        ..
    } = &hook.call;
    reached(
        pool.as_deref(),
        admin.as_deref(),
        process,
        &hook.place,
        proxy,
        found,
    );
    if verb != "drain" && verb != "deregister" {
        return;
    }
    if *no_wait {
        let what = format!("the drain of `{}` doesn't wait", process.name);
        found.error(
            check::NO_WAIT,
            &hook.place,
            what,
            "the same without --no-wait",
        );
        return;
    }
    // Only systemd bounds its hooks by themselves; Kubernetes has one clock, which its reader sums up.
    if process.supervisor == Supervisor::Systemd {
        let pool = pool.as_deref().and_then(|pool| proxy.pool(pool));
        let must = Sum::default().and(timeout.unwrap_or(proxy.drain(pool)), "drain");
        let all = must.clone().and(Duration::from_secs(1), "slack");
        kill_time(process, &must, &all, found);
    }
}

/// The grace period of a pod whose preStop hook drains.
pub(super) fn grace_with_hook(
    process: &Process,
    call: &Call,
    proxy: &Proxy,
    assumed: Assumed,
    found: &mut Findings,
) {
    let pool = call.pool.as_deref().and_then(|pool| proxy.pool(pool));
    let must = Sum::default()
        .and(call.lame_duck, "lame duck")
        .and(call.timeout.unwrap_or(proxy.drain(pool)), "drain");
    let all = must
        .clone()
        .and(assumed.app_stop, "for the app to stop")
        .and(Duration::from_secs(2), "slack");
    kill_time(process, &must, &all, found);
}

/// Whether the proxy that is asked is there and knows the pool.
fn reached(
    pool: Option<&str>,
    admin: Option<&str>,
    process: &Process,
    place: &Place,
    proxy: &Proxy,
    found: &mut Findings,
) {
    let Some(config) = proxy.config() else { return };
    // Templates: `%i`, `${POOL}`.
    let literal = |text: &str| !text.contains(['%', '$', '{']);
    if let Some(name) = pool
        && literal(name)
        && proxy.pool(name).is_none()
    {
        let known: Vec<_> = proxy
            .pools()
            .iter()
            .map(|pool| format!("`{}`", pool.name))
            .collect();
        let what = format!(
            "`{}` names the pool `{name}`, which lameduck's configuration doesn't have",
            process.name
        );
        found.error(
            check::UNKNOWN_POOL,
            place,
            what,
            format!("one of its pools: {}", known.join(", ")),
        );
    }
    let default = Path::new("/run/lameduck/lameduck.sock");
    let bound = config.admin.socket.as_deref().unwrap_or(default);
    let admin = admin.filter(|admin| literal(admin) && !admin.starts_with("http"));
    let asked = admin.map_or(default, |admin| {
        Path::new(admin.trim_start_matches("unix:"))
    });
    let set_elsewhere =
        admin.is_none() && process.env.iter().any(|(key, _)| key == "LAMEDUCK_ADMIN");
    let by_default = config.admin.socket.is_none() && asked.ends_with("lameduck.sock");
    if asked != bound && !set_elsewhere && !by_default {
        // Containers may see one directory under two names, and variables may come from elsewhere.
        let mounted = matches!(
            process.supervisor,
            Supervisor::Kubernetes | Supervisor::Compose
        );
        let severity = if admin.is_none() || mounted {
            Severity::Warning
        } else {
            Severity::Error
        };
        let what = format!(
            "`{}` asks {}, and lameduck's configuration has {}",
            process.name,
            asked.display(),
            bound.display()
        );
        found.add(
            severity,
            check::ADMIN_SOCKET,
            place,
            what,
            format!("--admin {}", bound.display()),
        );
    }
}

/// Whether anything drains the process before its signal.
fn coordinated(
    process: &Process,
    launch: Option<&Launch>,
    pool: Option<&Pool>,
    found: &mut Findings,
) {
    if launch.is_some() || !process.hooks.is_empty() || process.line.commands.is_empty() {
        return;
    }
    // Kubernetes' reader knows better: it sees the pod.
    if process.supervisor == Supervisor::Kubernetes || !(pool.is_some() || process.serves()) {
        return;
    }
    let pool = pool.map_or("POOL", |pool| pool.name.as_str());
    let what = format!(
        "{} stops `{}` without a drain",
        process.supervisor.name(),
        process.name
    );
    found.warning(
        check::UNCOORDINATED,
        &process.command_place,
        what,
        launcher_line(process, pool),
    );
}

/// The same command under the launcher, in the form of the file.
fn launcher_line(process: &Process, pool: &str) -> String {
    let app = process.app().join(" ");
    let exec = format!("lameduck exec --pool {pool}");
    match process.supervisor {
        Supervisor::Oxmgr | Supervisor::OldOxmgr => format!(
            "command = \"{exec} --drain-timeout 30s -- {app}\"   # with stop_signal = \"SIGINT\" and stop_timeout_secs = 45"
        ),
        Supervisor::Pm2 => format!(
            "script: \"lameduck\", args: \"exec --pool {pool} --drain-timeout 30s -- {app}\", kill_timeout: 45000, treekill: false"
        ),
        Supervisor::Systemd => format!(
            "ExecStop=-/usr/bin/lameduck drain {pool}/%p --timeout 30s --until restarted, or ExecStart=/usr/bin/{exec} … with KillMode=mixed"
        ),
        Supervisor::Supervisord => format!("command={exec} --drain-timeout 30s -- {app}"),
        Supervisor::Kubernetes | Supervisor::Compose => format!(
            "[\"lameduck\", \"exec\", \"--pool\", \"{pool}\", \"--drain-timeout\", \"30s\", \"--\", …]"
        ),
    }
}

fn ports(process: &Process, launch: Option<&Launch>, place: &Place, found: &mut Findings) {
    let fixed = match launch {
        Some(launch) => {
            !launch.no_port && launch.port.as_deref().is_some_and(|port| port != "auto")
        }
        None => process.serves(),
    };
    if fixed {
        let what = format!(
            "several instances of `{}` would listen on one port",
            process.name
        );
        let instead = if launch.is_some() {
            "--port auto"
        } else {
            "start them under `lameduck exec --pool POOL -- …`: it gives each its own PORT"
        };
        found.error(check::SAME_PORT, place, what, instead);
    }
}

fn idle_connections(
    process: &Process,
    launched: bool,
    pool: Option<&Pool>,
    proxy: &Proxy,
    found: &mut Findings,
) {
    if !(launched || pool.is_some() || process.serves()) {
        return;
    }
    let Some(app) = keep_alive::of(&process.app(), &process.env) else {
        return;
    };
    let idle = proxy.idle(pool);
    if app.time > idle {
        return;
    }
    let default = if app.written { "" } else { " by default" };
    let what = format!(
        "{} closes idle connections after {}{default}; lameduck keeps them for {} (idle_timeout)",
        app.server,
        format(app.time),
        format(idle)
    );
    let ours = app
        .time
        .saturating_sub(Duration::from_secs(1))
        .max(Duration::from_millis(500));
    let more = idle.as_secs() + 1;
    let setting = match app.setting.strip_prefix("--") {
        Some(_) => format!("{} {more}", app.setting),
        None => format!("{} above {}", app.setting, format(idle)),
    };
    let instead = format!(
        "{setting}, or `idle_timeout = \"{}\"` below [pool.upstream]",
        format(ours)
    );
    found.warning(check::KEEP_ALIVE, &process.command_place, what, instead);
}
