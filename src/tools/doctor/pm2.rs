//! PM2's ecosystem file, as JSON, YAML, or the output of Node for a `.js` file.

use std::time::Duration;

use super::checks as check;
use super::command_line::{CommandLine, CommandRole, base, seconds};
use super::finding::DoctorFindings;
use super::model::{CommandForm, FindingPlace, SupervisedProcess, Supervisor, kill};
use crate::tools::tree::{Node, TreeEntry, ValueKind};

/// With less than this, an app that loads a framework counts as ready before it is.
const MIN_LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_LISTEN_TIMEOUT: Duration = Duration::from_secs(3);

/// Apps of an ecosystem file; `form` is its syntax.
pub(super) fn read(
    file: usize,
    root: &Node,
    form: CommandForm,
    found: &mut DoctorFindings,
) -> Vec<SupervisedProcess> {
    let apps = match (root.get("apps"), &root.kind) {
        (Some(apps), _) => apps,
        (None, _) => root,
    };
    let apps: &[Node] = match &apps.kind {
        ValueKind::List(apps) => apps,
        _ => std::slice::from_ref(apps),
    };
    apps.iter()
        .map(|app| process(file, app, form, found))
        .collect()
}

/// Parses milliseconds, or a time with a unit (`1h`, which PM2 accepts, or `5s`).
fn millis(text: &str) -> Option<Duration> {
    match text.trim().parse::<u64>() {
        Ok(ms) => Some(Duration::from_millis(ms)),
        Err(_) => seconds(text),
    }
}

/// Words of a list or a text.
fn words(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.kind) {
        Some(ValueKind::Scalar(text)) => CommandLine::parse(text).argv,
        _ => node.map_or_else(Vec::new, Node::texts),
    }
}

/// The command as PM2 starts it: interpreter, its arguments, script, its arguments.
fn command(app: &Node) -> CommandLine {
    let script = app
        .text_of("script")
        .or(app.text_of("cmd"))
        .unwrap_or_default();
    // bash runs a script of several words.
    if script.trim().contains(' ') {
        return match CommandLine::parse(script) {
            line if line.shell => line,
            _ => CommandLine::from_words(vec!["bash".into(), "-c".into(), script.to_owned()]),
        };
    }
    let args = match app.get("args").map(|args| &args.kind) {
        // Shell operators would be arguments, because PM2 runs no shell.
        Some(ValueKind::Scalar(text)) => super::shell::split(text, false)
            .into_iter()
            .flat_map(|p| p.words)
            .collect(),
        _ => words(app.get("args")),
    };
    let interpreter = interpreter(app, script);
    let mut line: Vec<String> = Vec::new();
    if let Some(interpreter) = interpreter {
        line.push(interpreter);
        let keys = ["node_args", "interpreter_args", "interpreterArgs"];
        line.extend(words(keys.iter().find_map(|key| app.get(key))));
    }
    line.extend((!script.is_empty()).then(|| script.to_owned()));
    line.extend(args);
    CommandLine::from_words(line)
}

/// Interpreter of the script; `None`: it runs itself.
fn interpreter(app: &Node, script: &str) -> Option<String> {
    let named = ["interpreter", "exec_interpreter"]
        .iter()
        .find_map(|key| app.text_of(key));
    if let Some(named) = named {
        return (named != "none" && !named.is_empty()).then(|| named.to_owned());
    }
    let end = script.rsplit_once('.').map_or("", |(_, end)| end);
    let known = match end {
        "js" | "cjs" | "mjs" => "node",
        "py" => "python3",
        "rb" => "ruby",
        "php" => "php",
        "sh" => "bash",
        "pl" => "perl",
        "ts" | "tsx" => "bun",
        // For a file without a suffix PM2 reads its content; what npm installs is JavaScript.
        _ if script.contains("node_modules/") => "node",
        _ => return None,
    };
    Some(known.to_owned())
}

fn process(
    file: usize,
    app: &Node,
    form: CommandForm,
    found: &mut DoctorFindings,
) -> SupervisedProcess {
    let script = app.text_of("script").unwrap_or_default();
    let name = app.text_of("name").unwrap_or(if script.is_empty() {
        "app"
    } else {
        base(script)
    });
    let here = FindingPlace {
        file,
        span: app
            .entry("name")
            .or(app.entry("script"))
            .map_or(app.span.clone(), TreeEntry::place),
    };
    let at = |key: &str| {
        app.entry(key).map_or(here.clone(), |e| FindingPlace {
            file,
            span: e.place(),
        })
    };
    let mut process = SupervisedProcess::new(Supervisor::Pm2, form, name, here.clone());
    process.line = command(app);
    process.command_place = at(if app.get("args").is_some() {
        "args"
    } else {
        "script"
    });
    // `env` first, because `env_production` overrides it with `--env production`.
    let envs = app
        .entries()
        .iter()
        .filter(|entry| entry.key == "env" || entry.key.starts_with("env_"));
    for entry in envs.flat_map(|env| env.value.entries()) {
        if let Some(value) = entry.value.text() {
            process.env.push((entry.key.clone(), value.to_owned()));
        }
    }
    process.kill = kill(
        Supervisor::Pm2,
        app.text_of("kill_timeout"),
        millis,
        at("kill_timeout"),
    );
    let count = app.text_of("instances");
    let many = count.is_some_and(|n| n == "max" || n.parse::<i64>().is_ok_and(|n| n > 1 || n <= 0));
    process.several = many;
    process.instances = (many && app.get("increment_var").is_none()).then(|| at("instances"));
    let launcher = process.launch();
    if cluster(app, script) && launcher.as_ref().is_none_or(|launch| !launch.no_port) {
        process.cluster = Some(at(if app.get("exec_mode").is_some() {
            "exec_mode"
        } else {
            "instances"
        }));
    }
    let ours = launcher.is_some() || process.role() == CommandRole::Proxy;
    if app.flag("shutdown_with_message") == Some(true) && ours {
        let what = format!("PM2 tells `{name}` to stop by a message, not a signal");
        let right = process.setting("shutdown_with_message", "false");
        found.error(
            check::SHUTDOWN_MESSAGE,
            &at("shutdown_with_message"),
            what,
            right,
        );
    }
    if launcher.is_some_and(|launch| !launch.no_port) {
        check_launched(&process, app, &at, found);
    }
    process
}

/// Settings that PM2 needs for an app under the launcher.
fn check_launched(
    process: &SupervisedProcess,
    app: &Node,
    at: &impl Fn(&str) -> FindingPlace,
    found: &mut DoctorFindings,
) {
    let name = &process.name;
    let listen_long = process.setting("listen_timeout", "30000");
    if app.flag("treekill") != Some(false) {
        let default = match app.get("treekill") {
            None => " (treekill is on by default)",
            Some(_) => "",
        };
        let what = format!("PM2 signals the app of `{name}` before its launcher{default}");
        found.error(
            check::GROUP_KILL,
            &at("treekill"),
            what,
            process.setting("treekill", "false"),
        );
    }
    if app.flag("wait_ready") != Some(true) {
        let what = format!("PM2 doesn't wait until `{name}` is ready");
        let right = format!("{}\n{listen_long}", process.setting("wait_ready", "true"));
        found.warning(check::WAIT_READY, &at("wait_ready"), what, right);
        return;
    }
    let listen = match app.text_of("listen_timeout") {
        Some(text) => millis(text),
        None => Some(DEFAULT_LISTEN_TIMEOUT),
    };
    if let Some(time) = listen.filter(|time| *time < MIN_LISTEN_TIMEOUT) {
        let default = match app.get("listen_timeout") {
            None => " (the default)",
            Some(_) => "",
        };
        let what = format!(
            "PM2 waits {}{default} until `{name}` is ready",
            crate::config::duration::format(time)
        );
        found.warning(
            check::LISTEN_TIMEOUT,
            &at("listen_timeout"),
            what,
            listen_long,
        );
    }
}

/// Whether PM2 uses cluster mode: by `exec_mode`, or else by `instances` with Node as the interpreter.
fn cluster(app: &Node, script: &str) -> bool {
    if let Some(mode) = app.text_of("exec_mode") {
        return mode.starts_with("cluster");
    }
    let node = interpreter(app, script).is_some_and(|name| {
        let name = base(&name).to_owned();
        name.ends_with("node") || name.ends_with("bun")
    });
    let count = app.text_of("instances");
    node && count.is_some_and(|n| n == "max" || n.parse::<i64>().is_ok_and(|n| n >= -1))
}
