//! PM2's ecosystem file, as JSON, YAML, or what Node printed for a `.js` one.

use std::time::Duration;

use super::checks as check;
use super::finding::Findings;
use super::model::{Kill, Place, Process, Supervisor};
use super::oxfile::signal;
use super::tree::{Entry, Kind, Node};
use super::words::{Line, Role, base, seconds};

/// Below this, an app that loads a framework is taken for ready before it is.
const LISTEN: Duration = Duration::from_secs(10);
const LISTEN_DEFAULT: Duration = Duration::from_secs(3);

/// The apps of an ecosystem file.
pub(super) fn read(file: usize, root: &Node, found: &mut Findings) -> Vec<Process> {
    let apps = match (root.get("apps"), &root.kind) {
        (Some(apps), _) => apps,
        (None, _) => root,
    };
    let apps: &[Node] = match &apps.kind {
        Kind::List(apps) => apps,
        _ => std::slice::from_ref(apps),
    };
    apps.iter().map(|app| process(file, app, found)).collect()
}

/// Milliseconds, or with a unit.
fn millis(text: &str) -> Option<Duration> {
    match text.trim().parse::<u64>() {
        Ok(ms) => Some(Duration::from_millis(ms)),
        Err(_) => seconds(text),
    }
}

fn process(file: usize, app: &Node, found: &mut Findings) -> Process {
    let name = app
        .text_of("name")
        .or(app.text_of("script"))
        .unwrap_or("app")
        .to_owned();
    let here = Place {
        file,
        span: app
            .entry("name")
            .or(app.entry("script"))
            .map_or(app.span.clone(), Entry::place),
    };
    let at = |key: &str| {
        app.entry(key).map_or(here.clone(), |e| Place {
            file,
            span: e.place(),
        })
    };
    let script = app.text_of("script").unwrap_or_default();
    let mut words: Vec<String> = Line::parse(script).commands.into_iter().flatten().collect();
    match app.get("args").map(|args| &args.kind) {
        Some(Kind::List(args)) => {
            words.extend(args.iter().filter_map(Node::text).map(str::to_owned))
        }
        Some(Kind::Scalar(args)) => words.extend(Line::parse(args).commands.into_iter().flatten()),
        _ => {}
    }
    let env = app.get("env").map_or(&[][..], Node::entries);
    let kill = app.text_of("kill_timeout").and_then(millis);
    let count = app.text_of("instances");
    let many = count.is_some_and(|n| n == "max" || n.parse::<i64>().is_ok_and(|n| n > 1 || n <= 0));
    let process = Process {
        supervisor: Supervisor::Pm2,
        line: Line::from_words(words),
        command_place: at(if app.get("args").is_some() {
            "args"
        } else {
            "script"
        }),
        env: env
            .iter()
            .filter_map(|e| Some((e.key.clone(), e.value.text()?.to_owned())))
            .collect(),
        kill: Kill {
            after: Some(kill.unwrap_or(Supervisor::Pm2.default_kill())),
            written: kill.is_some(),
            place: at("kill_timeout"),
        },
        signal: app
            .text_of("kill_signal")
            .map(|name| (signal(name), at("kill_signal"))),
        hooks: Vec::new(),
        probes: Vec::new(),
        instances: (many && app.get("increment_var").is_none()).then(|| at("instances")),
        place: here.clone(),
        name,
    };
    let Process { name, .. } = &process;
    let launcher = process.launch();
    if launcher.as_ref().is_none_or(|launch| !launch.no_port) && cluster(app, script) {
        let instead = match &launcher {
            Some(_) => "exec_mode: \"fork\"".to_owned(),
            None => "exec_mode: \"fork\", and the app under `lameduck exec`, which gives each instance its own port".to_owned(),
        };
        let place = if app.get("exec_mode").is_some() {
            at("exec_mode")
        } else {
            at("instances")
        };
        found.error(
            check::CLUSTER,
            &place,
            format!("`{name}` runs in cluster mode"),
            instead,
        );
    }
    if app.flag("shutdown_with_message") == Some(true)
        && (launcher.is_some() || process.role() == Role::Proxy)
    {
        let what = format!("PM2 tells `{name}` to stop by a message, not a signal");
        found.error(
            check::MESSAGE,
            &at("shutdown_with_message"),
            what,
            "shutdown_with_message: false",
        );
    }
    if let Some(launch) = launcher.filter(|launch| !launch.no_port) {
        if app.flag("treekill") != Some(false) {
            let what = format!(
                "PM2 signals the app of `{name}` before its launcher{}",
                if app.get("treekill").is_none() {
                    " (treekill is on by default)"
                } else {
                    ""
                }
            );
            found.error(check::GROUP_KILL, &at("treekill"), what, "treekill: false");
        }
        if app.flag("wait_ready") != Some(true) {
            let what = format!("PM2 doesn't wait until `{name}` is ready");
            found.warning(
                check::WAIT_READY,
                &at("wait_ready"),
                what,
                "wait_ready: true, listen_timeout: 30000",
            );
        } else {
            let listen = app.text_of("listen_timeout").and_then(millis);
            let time = listen.unwrap_or(LISTEN_DEFAULT);
            if time < LISTEN {
                let default = if listen.is_none() {
                    " (the default)"
                } else {
                    ""
                };
                let what = format!(
                    "PM2 waits {}{default} until `{name}` is ready",
                    crate::config::duration::format(time)
                );
                found.warning(
                    check::LISTEN_TIMEOUT,
                    &at("listen_timeout"),
                    what,
                    "listen_timeout: 30000",
                );
            }
        }
        let _ = launch;
    }
    process
}

/// As PM2 decides: what `exec_mode` says, else `instances` with an interpreter that is Node.
fn cluster(app: &Node, script: &str) -> bool {
    if let Some(mode) = app.text_of("exec_mode") {
        return mode.starts_with("cluster");
    }
    let node = match app
        .text_of("interpreter")
        .or(app.text_of("exec_interpreter"))
    {
        Some(interpreter) => base(interpreter).contains("node"),
        None => [".js", ".cjs", ".mjs"]
            .iter()
            .any(|end| script.ends_with(end)),
    };
    node && app.get("instances").is_some()
}
