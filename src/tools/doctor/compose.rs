//! Compose files.

use std::time::Duration;

use super::checks as check;
use super::command_line::{CommandLine, CommandRole, seconds};
use super::finding::DoctorFindings;
use super::kubernetes::container_words;
use super::model::{CommandForm, FindingPlace, SupervisedProcess, Supervisor, kill};
use super::programs;
use super::proxy::ProxySide;
use super::shell;
use super::signal_name::signal_name;
use crate::tools::tree::{Node, TreeEntry, ValueKind};

/// Services of a file.
pub(super) fn read(
    file: usize,
    root: &Node,
    proxy: &ProxySide,
    found: &mut DoctorFindings,
) -> Vec<SupervisedProcess> {
    let services = root.get("services").map_or(&[][..], Node::entries);
    services
        .iter()
        .map(|entry| service(file, entry, proxy, found))
        .collect()
}

/// Words of a command in either form: a list, or a text that Compose splits. No shell runs it.
fn words(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.kind) {
        Some(ValueKind::Scalar(text)) => shell::split(text, false)
            .into_iter()
            .flat_map(|piece| piece.words)
            .collect(),
        _ => node.map_or_else(Vec::new, Node::texts),
    }
}

/// Text with the defaults of its variables, such as `${GRACE:-60s}`.
fn filled(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else {
        return text.to_owned();
    };
    let Some((inside, after)) = rest.split_once('}') else {
        return text.to_owned();
    };
    let default = inside.split_once(":-").or_else(|| inside.split_once('-'));
    match default {
        Some((_, default)) => format!("{before}{default}{}", filled(after)),
        None => text.to_owned(),
    }
}

/// Parses a time such as `1m30s`, or a number of seconds.
fn time(text: &str) -> Option<Duration> {
    seconds(&filled(text))
}

/// Port in the container, of `8080:3000`, `127.0.0.1:80:3000/tcp`, `3000`, or `target: 3000`.
fn port(node: &Node) -> Option<u16> {
    let text = node.text().or(node.text_of("target"))?;
    let text = filled(text);
    let text = text.split('/').next().unwrap_or_default();
    text.rsplit(':').next()?.parse().ok()
}

/// Whether the port may be for HTTP.
fn is_http(node: &Node) -> bool {
    let udp = node.text().is_some_and(|text| text.ends_with("/udp"))
        || node.text_of("protocol") == Some("udp");
    !udp && port(node).is_none_or(|port| !programs::is_foreign(port))
}

fn service(
    file: usize,
    entry: &TreeEntry,
    proxy: &ProxySide,
    found: &mut DoctorFindings,
) -> SupervisedProcess {
    let (name, service) = (&entry.key, &entry.value);
    let here = FindingPlace {
        file,
        span: entry.key_span.clone(),
    };
    let at = |key: &str| {
        service.entry(key).map_or(here.clone(), |e| FindingPlace {
            file,
            span: e.place(),
        })
    };
    let form = CommandForm::Service {
        command: service.get("command").is_some(),
        entrypoint: service.get("entrypoint").is_some(),
    };
    let mut process = SupervisedProcess::new(Supervisor::Compose, form, name, here.clone());
    process.image = service.text_of("image").unwrap_or_default().to_owned();
    let entry_point = words(service.get("entrypoint"));
    let command = words(service.get("command"));
    process.line = CommandLine::from_words(container_words(&process.image, entry_point, command));
    process.command_place = at(match form {
        CommandForm::Service { command: false, .. } => "entrypoint",
        _ => "command",
    });
    process.env = match service.get("environment").map(|env| &env.kind) {
        Some(ValueKind::Map(entries)) => entries
            .iter()
            .filter_map(|e| Some((e.key.clone(), filled(e.value.text()?))))
            .collect(),
        Some(ValueKind::List(items)) => items
            .iter()
            .filter_map(|i| i.text()?.split_once('='))
            .map(|(k, v)| (k.to_owned(), filled(v)))
            .collect(),
        _ => Vec::new(),
    };
    let ports = ["ports", "expose"]
        .iter()
        .filter_map(|key| service.get(key))
        .flat_map(Node::items);
    process.port = ports.clone().find_map(port);
    process.publishes = ports.clone().any(is_http);
    process.kill = kill(
        Supervisor::Compose,
        service.text_of("stop_grace_period"),
        time,
        at("stop_grace_period"),
    );
    process.signal = service
        .text_of("stop_signal")
        .filter(|text| !filled(text).contains('$'))
        .map(|text| (signal_name(&filled(text)), at("stop_signal")));
    for hook in service.get("pre_stop").map_or(&[][..], Node::items) {
        let command = CommandLine::from_words(words(hook.get("command")));
        if matches!(command.role(&process.env), CommandRole::Hook(_)) {
            let what = format!("the drain of `{name}` is not run when `up` replaces the container");
            let place = hook
                .entry("command")
                .map_or(at("pre_stop"), |e| FindingPlace {
                    file,
                    span: e.place(),
                });
            found.error(check::COMPOSE_PRE_STOP, &place, what, pre_stop(name, proxy));
        }
    }
    process
}

/// Replacement of a hook that was there: none, because the launcher drains.
fn pre_stop(name: &str, proxy: &ProxySide) -> String {
    let pool = proxy
        .pool_of(name)
        .or(proxy.pools().first())
        .map_or("app", |pool| pool.name.as_str());
    format!(
        "# no pre_stop; instead:\nentrypoint: [\"/usr/bin/lameduck\", \"exec\", \"--pool\", \"{pool}\", \"--drain-timeout\", \"30s\", \"--\"]"
    )
}
