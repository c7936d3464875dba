//! Oxmgr's `oxfile.toml`: `[[apps]]` of 0.5, and the older `[processes.NAME]`.

use std::time::Duration;

use super::checks as check;
use super::finding::Findings;
use super::model::{Hook, Kill, Place, Probe, Process, Supervisor};
use super::tree::{Entry, Node};
use super::words::{Line, Role, seconds};

/// The processes of an Oxfile.
pub(super) fn read(file: usize, root: &Node, found: &mut Findings) -> Vec<Process> {
    let mut all = Vec::new();
    let defaults = root.get("defaults");
    for app in root.get("apps").map_or(&[][..], Node::items) {
        let name = app.text_of("name").unwrap_or("app");
        let start = app.entry("name").map_or(app.span.clone(), Entry::place);
        all.push(process(
            file,
            Supervisor::Oxmgr,
            name,
            start,
            app,
            defaults,
            found,
        ));
    }
    for entry in root.get("processes").map_or(&[][..], Node::entries) {
        let place = entry.key_span.clone();
        all.push(process(
            file,
            Supervisor::OldOxmgr,
            &entry.key,
            place,
            &entry.value,
            defaults,
            found,
        ));
    }
    all
}

fn process(
    file: usize,
    supervisor: Supervisor,
    name: &str,
    start: std::ops::Range<usize>,
    app: &Node,
    defaults: Option<&Node>,
    found: &mut Findings,
) -> Process {
    let here = Place { file, span: start };
    let entry = |key: &str| {
        app.entry(key)
            .or_else(|| defaults.and_then(|d| d.entry(key)))
    };
    let at = |key: &str| {
        entry(key).map_or(here.clone(), |e| Place {
            file,
            span: e.place(),
        })
    };
    let text = |key: &str| entry(key).and_then(|entry| entry.value.text());
    let line = Line::parse(text("command").or(text("cmd")).unwrap_or_default());
    // Both forms have been seen with either unit.
    let millis = text("stop_timeout_ms")
        .and_then(|ms| ms.parse().ok())
        .map(Duration::from_millis);
    let written = text("stop_timeout_secs")
        .or(text("stop_timeout"))
        .and_then(seconds)
        .or(millis);
    let keys = ["stop_timeout_secs", "stop_timeout_ms", "stop_timeout"];
    let kill_at = keys
        .iter()
        .find(|key| entry(key).is_some())
        .map_or(here.clone(), |key| at(key));
    let env = app.get("env").map_or(&[][..], Node::entries);
    let many = text("instances")
        .and_then(|n| n.parse::<u32>().ok())
        .unwrap_or(1)
        > 1;
    let mut process = Process {
        supervisor,
        name: name.to_owned(),
        command_place: if entry("command").is_some() {
            at("command")
        } else {
            at("cmd")
        },
        line,
        env: env
            .iter()
            .filter_map(|e| Some((e.key.clone(), e.value.text()?.to_owned())))
            .collect(),
        kill: Kill {
            after: Some(written.unwrap_or(supervisor.default_kill())),
            written: written.is_some(),
            place: kill_at,
        },
        signal: text("stop_signal").map(|name| (signal(name), at("stop_signal"))),
        hooks: Vec::new(),
        probes: Vec::new(),
        instances: many.then(|| at("instances")),
        place: here.clone(),
    };
    let env = process.env.clone();
    if let Some(command) = text("pre_reload_cmd")
        && let Role::Hook(call) = Line::script(command).role(&env)
    {
        let reopens = call.until_restarted || call.verb != "drain";
        if !reopens && process.launch().is_none() {
            let what = format!("nothing lifts the drain of `{name}` after its reload");
            let instead = format!("pre_reload_cmd = \"{} --until restarted\"", command.trim());
            found.error(check::NEVER_REOPENED, &at("pre_reload_cmd"), what, instead);
        }
        process.hooks.push(Hook {
            call,
            place: at("pre_reload_cmd"),
        });
    }
    if let Some(path) = text("health_cmd").and_then(url_path) {
        process.probes.push(Probe {
            path,
            place: at("health_cmd"),
        });
    }
    process
}

/// A signal's name without `SIG`.
pub(super) fn signal(name: &str) -> String {
    let name = name.trim().to_ascii_uppercase();
    match name.as_str() {
        "15" => "TERM".into(),
        "2" => "INT".into(),
        "3" => "QUIT".into(),
        "9" => "KILL".into(),
        name => name.strip_prefix("SIG").unwrap_or(name).to_owned(),
    }
}

/// The path of the first URL in a command (`curl -f http://localhost:3000/health || exit 1`).
pub(super) fn url_path(command: &str) -> Option<String> {
    let line = Line::script(command);
    line.commands.iter().flatten().find_map(|word| {
        let url = word.split_once("://").map(|(_, rest)| rest).or_else(|| {
            let host = word.split(['/', ':']).next().unwrap_or_default();
            (["localhost", "127.0.0.1", "[::1]", "0.0.0.0"].contains(&host))
                .then_some(word.as_str())
        })?;
        let path = url.find('/').map_or("/", |at| &url[at..]);
        let end = path.find(['\'', '"', ')', ' ']).unwrap_or(path.len());
        Some(path[..end].to_owned())
    })
}
