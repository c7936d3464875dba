//! Oxmgr's `oxfile.toml`: `[[apps]]` of version 0.5 with defaults and profiles, and the older `[processes.NAME]`.

use std::time::Duration;

use super::command_line::{CommandLine, CommandRole, seconds};
use super::finding::DoctorFindings;
use super::model::{
    CommandForm, FindingPlace, StopHook, SupervisedProcess, Supervisor, SupervisorProbe, kill,
};
use super::signal_name::signal_name;
use crate::tools::tree::{Node, TreeEntry};

/// Processes of an Oxfile.
pub(super) fn read(file: usize, root: &Node, found: &mut DoctorFindings) -> Vec<SupervisedProcess> {
    let _ = found;
    let mut all = Vec::new();
    let defaults = root.get("defaults");
    for app in root.get("apps").map_or(&[][..], Node::items) {
        let name = app.text_of("name").unwrap_or("app");
        let start = app.entry("name").map_or(app.span.clone(), TreeEntry::place);
        let place = FindingPlace { file, span: start };
        let layers: Vec<&Node> = std::iter::once(app).chain(defaults).collect();
        all.extend(layered(Supervisor::Oxmgr, name, &place, &layers));
        // A profile counts as another app: its changes are checked together with what it inherits.
        for profile in app.get("profiles").map_or(&[][..], Node::entries) {
            let layers: Vec<&Node> = std::iter::once(&profile.value)
                .chain(layers.clone())
                .collect();
            let name = format!("{name} ({})", profile.key);
            let place = FindingPlace {
                file,
                span: profile.key_span.clone(),
            };
            let profile = layered(Supervisor::Oxmgr, &name, &place, &layers);
            all.extend(profile.map(|mut process| {
                process.name = app.text_of("name").unwrap_or("app").to_owned();
                process
            }));
        }
    }
    for entry in root.get("processes").map_or(&[][..], Node::entries) {
        let place = FindingPlace {
            file,
            span: entry.key_span.clone(),
        };
        let layers: Vec<&Node> = std::iter::once(&entry.value).chain(defaults).collect();
        all.extend(layered(Supervisor::OldOxmgr, &entry.key, &place, &layers));
    }
    all
}

/// A process made from layers: the first layer with a key decides. `None`: it is disabled.
fn layered(
    supervisor: Supervisor,
    name: &str,
    here: &FindingPlace,
    layers: &[&Node],
) -> Option<SupervisedProcess> {
    let entry = |key: &str| layers.iter().find_map(|layer| layer.entry(key));
    let at = |key: &str| {
        entry(key).map_or(here.clone(), |e| FindingPlace {
            file: here.file,
            span: e.place(),
        })
    };
    let text = |key: &str| entry(key).and_then(|entry| entry.value.text());
    let is = |key: &str| text(key) == Some("true");
    if is("disabled") {
        return None;
    }
    let key = |names: &[&'static str]| names.iter().copied().find(|key| entry(key).is_some());
    let stop = key(&["stop_timeout_secs", "stop_timeout_ms", "stop_timeout"]);
    let millis = |text: &str| Some(Duration::from_millis(text.parse().ok()?));
    let command = key(&["command", "cmd"]);
    let mut process = SupervisedProcess::new(supervisor, CommandForm::Toml, name, here.clone());
    process.line = CommandLine::parse(command.and_then(text).unwrap_or_default());
    process.command_place = command.map_or(here.clone(), at);
    for layer in layers {
        for entry in layer.get("env").map_or(&[][..], Node::entries) {
            if let Some(value) = entry.value.text()
                && !process.env.iter().any(|(key, _)| *key == entry.key)
            {
                process.env.push((entry.key.clone(), value.to_owned()));
            }
        }
    }
    process.kill = kill(
        supervisor,
        stop.and_then(text),
        |text| match stop {
            // Both forms occur with either unit.
            Some("stop_timeout_ms") => millis(text),
            _ => seconds(text),
        },
        stop.map_or(here.clone(), at),
    );
    process.signal = text("stop_signal").map(|name| (signal_name(name), at("stop_signal")));
    let many = |key: &str| {
        text(key)
            .and_then(|n| n.parse::<u32>().ok())
            .is_some_and(|n| n > 1)
    };
    process.several = many("instances");
    process.instances = many("instances").then(|| at("instances"));
    process.cluster = is("cluster_mode").then(|| at("cluster_mode"));
    if let Some(command) = text("pre_reload_cmd")
        && let CommandRole::Hook(call) = CommandLine::script(command).role(&process.env)
    {
        process.hooks.push(StopHook {
            words: hook_words(command),
            key: "pre_reload_cmd",
            fails: false,
            reopened: call.until_restarted || call.verb != "drain",
            call,
            place: at("pre_reload_cmd"),
        });
    }
    if let Some(path) = text("health_cmd").and_then(url_path) {
        process.probes.push(SupervisorProbe {
            path,
            command: true,
            place: at("health_cmd"),
        });
    }
    Some(process)
}

/// Words of a hook's command.
pub(super) fn hook_words(command: &str) -> Vec<String> {
    CommandLine::parse(command).argv
}

/// Path of the first URL in a command, such as `curl -f http://localhost:3000/health || exit 1`.
pub(super) fn url_path(command: &str) -> Option<String> {
    url_in(CommandLine::script(command).commands.iter().flatten())
}

/// Path of the first URL among words.
pub(super) fn url_in<'w>(mut words: impl Iterator<Item = &'w String>) -> Option<String> {
    words.find_map(|word| {
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
