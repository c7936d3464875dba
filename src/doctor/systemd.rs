//! systemd services, with their drop-ins merged in.

use std::time::Duration;

use super::checks as check;
use super::finding::Findings;
use super::ini::{Key, Section};
use super::model::{Hook, Kill, Place, Process, Supervisor};
use super::oxfile::signal;
use super::words::{Line, Role};

/// A unit: the file itself and its drop-ins, in order.
#[derive(Debug)]
pub(super) struct Unit {
    /// `api@.service`.
    pub(super) name: String,
    /// Each part with its file.
    pub(super) parts: Vec<(usize, Vec<Section>)>,
}

/// `[Service]`'s values of a key, with the rule that an empty one forgets those before it.
fn values<'u>(unit: &'u Unit, name: &str) -> Vec<(usize, &'u Key)> {
    let mut values = Vec::new();
    for (file, sections) in &unit.parts {
        for section in sections.iter().filter(|section| section.name == "Service") {
            for key in section.keys.iter().filter(|key| key.name == name) {
                if key.value.is_empty() {
                    values.clear();
                } else {
                    values.push((*file, key));
                }
            }
        }
    }
    values
}

/// The service in a unit; `None`: it has none (a socket, a target).
pub(super) fn read(unit: &Unit, found: &mut Findings) -> Option<Process> {
    let service = unit.parts.iter().find_map(|(file, sections)| {
        let section = sections.iter().find(|section| section.name == "Service")?;
        Some(Place {
            file: *file,
            span: section.span.clone(),
        })
    })?;
    let last = |name: &str| values(unit, name).last().copied();
    let place = |key: Option<(usize, &Key)>| {
        key.map_or(service.clone(), |(file, key)| Place {
            file,
            span: key.span.clone(),
        })
    };
    let env = values(unit, "Environment");
    let env: Vec<(String, String)> = env
        .iter()
        .flat_map(|(_, key)| Line::parse(&key.value).commands.into_iter().flatten())
        .filter_map(|word| {
            word.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .collect();
    let start = last("ExecStart");
    let (stop, both) = (last("TimeoutStopSec"), last("TimeoutSec"));
    let written = stop.or(both);
    let name = unit
        .name
        .trim_end_matches(".service")
        .trim_end_matches('@')
        .to_owned();
    let mut process = Process {
        supervisor: Supervisor::Systemd,
        line: start.map_or(Line::default(), |(_, key)| command(&key.value).0),
        command_place: place(start),
        env: env.clone(),
        kill: Kill {
            after: match written {
                Some((_, key)) => timeout(&key.value),
                None => Some(Supervisor::Systemd.default_kill()),
            },
            written: written.is_some(),
            place: place(written),
        },
        signal: last("KillSignal").map(|key| (signal(&key.1.value), place(Some(key)))),
        hooks: Vec::new(),
        probes: Vec::new(),
        instances: None,
        place: service.clone(),
        name,
    };
    let mut reopened = values(unit, "ExecStopPost").iter().chain(&values(unit, "ExecStartPost")).any(|(_, key)| {
        matches!(command(&key.value).0.role(&env), Role::Hook(call) if ["resume", "register", "deregister"].contains(&call.verb.as_str()))
    });
    for (file, key) in values(unit, "ExecStop") {
        let (line, ignored) = command(&key.value);
        let Role::Hook(call) = line.role(&env) else {
            continue;
        };
        let at = Place {
            file,
            span: key.span.clone(),
        };
        reopened |= call.until_restarted || call.verb != "drain";
        if !ignored {
            let what = format!("a failing hook makes `{}` fail", process.name);
            found.warning(
                check::EXEC_STOP_DASH,
                &at,
                what,
                format!("ExecStop=-{}", key.value),
            );
        }
        process.hooks.push(Hook { call, place: at });
    }
    if let Some(hook) = process.hooks.first().filter(|_| !reopened) {
        let what = format!(
            "nothing lifts the drain of `{}` after its restart",
            process.name
        );
        found.error(
            check::NEVER_REOPENED,
            &hook.place,
            what,
            "add `--until restarted` to it, or an ExecStartPost= with `lameduck resume`",
        );
    }
    if process.launch().is_some_and(|launch| !launch.no_port) {
        let mode = last("KillMode");
        let value = mode.map_or("control-group", |(_, key)| key.value.as_str());
        if value == "control-group" {
            let default = if mode.is_none() { " (the default)" } else { "" };
            let what = format!(
                "KillMode=control-group{default} signals the app of `{}` together with its launcher",
                process.name
            );
            let at = if mode.is_some() {
                place(mode)
            } else {
                place(start)
            };
            found.error(check::GROUP_KILL, &at, what, "KillMode=mixed");
        }
        let kind = last("Type");
        let value = kind.map_or("simple", |(_, key)| key.value.as_str());
        if !value.starts_with("notify") {
            let what = format!(
                "systemd doesn't wait until `{}` is ready (Type={value})",
                process.name
            );
            let at = if kind.is_some() {
                place(kind)
            } else {
                place(start)
            };
            found.warning(check::TYPE_NOTIFY, &at, what, "Type=notify");
        }
    }
    Some(process)
}

/// A command without systemd's prefixes, and whether its failure is ignored.
fn command(value: &str) -> (Line, bool) {
    let rest = value.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let prefix = &value[..value.len() - rest.len()];
    (Line::parse(rest), prefix.contains('-'))
}

/// systemd.time(7); `None`: never, or not understood.
fn timeout(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "infinity" || text == "0" {
        return None;
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "us" | "usec" => 1e-6,
            "ms" | "msec" => 1e-3,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return None,
        };
        rest = rest[end..].trim_start();
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let seconds = |text: &str| timeout(text).map(|time| time.as_secs());
        assert_eq!(seconds("75"), Some(75));
        assert_eq!(seconds("1min 30s"), Some(90));
        assert_eq!(seconds("5min20s"), Some(320));
        assert_eq!(seconds("infinity"), None);
        assert_eq!(seconds("soon"), None);
    }
}
