//! Compose files.

use super::checks as check;
use super::finding::Findings;
use super::kubernetes::image_is_ours;
use super::model::{Kill, Place, Process, Supervisor};
use super::oxfile::signal;
use super::tree::{Entry, Kind, Node};
use super::words::{Line, Role, seconds};

/// The services of a file.
pub(super) fn read(file: usize, root: &Node, found: &mut Findings) -> Vec<Process> {
    let services = root.get("services").map_or(&[][..], Node::entries);
    services
        .iter()
        .map(|entry| service(file, entry, found))
        .collect()
}

/// A command in either form: a list, or text that Compose splits.
fn words(node: Option<&Node>) -> Line {
    match node.map(|node| &node.kind) {
        Some(Kind::List(items)) => Line::from_words(
            items
                .iter()
                .filter_map(Node::text)
                .map(str::to_owned)
                .collect(),
        ),
        Some(Kind::Scalar(text)) => Line::parse(text),
        _ => Line::default(),
    }
}

fn service(file: usize, entry: &Entry, found: &mut Findings) -> Process {
    let (name, service) = (&entry.key, &entry.value);
    let here = Place {
        file,
        span: entry.key_span.clone(),
    };
    let at = |key: &str| {
        service.entry(key).map_or(here.clone(), |e| Place {
            file,
            span: e.place(),
        })
    };
    let mut all: Vec<String> = words(service.get("entrypoint"))
        .commands
        .into_iter()
        .flatten()
        .collect();
    if all.is_empty() && service.text_of("image").is_some_and(image_is_ours) {
        all.push("lameduck".into());
    }
    let command = words(service.get("command"));
    let line = if all.is_empty() {
        command
    } else {
        all.extend(command.commands.into_iter().flatten());
        Line::from_words(all)
    };
    let env = match service.get("environment").map(|env| &env.kind) {
        Some(Kind::Map(entries)) => entries
            .iter()
            .filter_map(|e| Some((e.key.clone(), e.value.text()?.to_owned())))
            .collect(),
        Some(Kind::List(items)) => items
            .iter()
            .filter_map(|i| i.text()?.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
        _ => Vec::new(),
    };
    let written = service.text_of("stop_grace_period").and_then(seconds);
    for hook in service.get("pre_stop").map_or(&[][..], Node::items) {
        if matches!(words(hook.get("command")).role(&env), Role::Hook(_)) {
            let what = format!("the drain of `{name}` is not run when `up` replaces the container");
            let place = hook.entry("command").map_or(at("pre_stop"), |e| Place {
                file,
                span: e.place(),
            });
            found.error(check::COMPOSE_PRE_STOP, &place, what, "entrypoint: [\"lameduck\", \"exec\", \"--pool\", \"POOL\", \"--drain-timeout\", \"30s\", \"--\"]");
        }
    }
    Process {
        supervisor: Supervisor::Compose,
        name: name.clone(),
        line,
        command_place: at(if service.get("command").is_some() {
            "command"
        } else {
            "entrypoint"
        }),
        env,
        kill: Kill {
            after: Some(written.unwrap_or(Supervisor::Compose.default_kill())),
            written: written.is_some(),
            place: at("stop_grace_period"),
        },
        signal: service
            .text_of("stop_signal")
            .map(|name| (signal(name), at("stop_signal"))),
        hooks: Vec::new(),
        probes: Vec::new(),
        instances: None,
        place: here.clone(),
    }
}
