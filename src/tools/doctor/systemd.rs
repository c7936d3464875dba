//! systemd services, merged with their drop-ins.

use std::time::Duration;

use super::checks as check;
use super::command_line::{CommandLine, CommandRole, base};
use super::finding::DoctorFindings;
use super::ini::{IniKey, IniSection};
use super::model::{
    CommandForm, ExpectedDrain, FindingPlace, StopHook, SupervisedProcess, Supervisor,
};
use super::programs;
use super::signal_name::signal_name;
use super::wrappers;

/// A unit: its file and drop-ins, in order.
#[derive(Debug)]
pub(super) struct SystemdUnit {
    /// Name, such as `api@.service`.
    pub(super) name: String,
    /// Sections of each part, with the index of its file.
    pub(super) parts: Vec<(usize, Vec<IniSection>)>,
}

/// Values of a key in `[Service]`; an empty value removes the earlier ones.
fn values<'u>(unit: &'u SystemdUnit, name: &str) -> Vec<(usize, &'u IniKey)> {
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

/// The service of a unit; `None`: it has none (a socket, a target).
pub(super) fn read(unit: &SystemdUnit, found: &mut DoctorFindings) -> Option<SupervisedProcess> {
    let service = unit.parts.iter().find_map(|(file, sections)| {
        let section = sections.iter().find(|section| section.name == "Service")?;
        Some(FindingPlace {
            file: *file,
            span: section.span.clone(),
        })
    })?;
    let last = |name: &str| values(unit, name).last().copied();
    let place = |key: Option<(usize, &IniKey)>| {
        key.map_or(service.clone(), |(file, key)| FindingPlace {
            file,
            span: key.span.clone(),
        })
    };
    let start = last("ExecStart");
    let kind = last("Type").map_or("simple", |(_, key)| key.value.as_str());
    let written = last("TimeoutStopSec").or(last("TimeoutSec"));
    let template = unit.name.contains("@.");
    let name = unit.name.trim_end_matches(".service").trim_end_matches('@');
    let form = CommandForm::Unit {
        template,
        hook: kind == "forking",
    };
    let mut process = SupervisedProcess::new(Supervisor::Systemd, form, name, service.clone());
    process.line = start.map_or(CommandLine::default(), |(_, key)| command(&key.value).0);
    process.command_place = place(start);
    process.env = values(unit, "Environment")
        .iter()
        .flat_map(|(_, key)| CommandLine::parse(&key.value).argv)
        .filter_map(|word| {
            word.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        })
        .collect();
    process.kill.written = written.is_some();
    process.kill.place = place(written);
    if let Some((_, key)) = written {
        process.kill.after = timeout(&key.value);
    }
    if last("SendSIGKILL")
        .is_some_and(|(_, key)| ["no", "false", "off", "0"].contains(&key.value.as_str()))
    {
        process.kill.after = None;
    }
    process.signal = last("KillSignal").map(|key| (signal_name(&key.1.value), place(Some(key))));
    if ["oneshot", "dbus"].contains(&kind) {
        process.expected = ExpectedDrain::Nothing;
    }
    process.instances = template.then(|| one_port(&process)).flatten();
    let env = process.env.clone();
    let calls = |key: &IniKey| match command(&key.value).0.role(&env) {
        CommandRole::Hook(call) => Some(call),
        _ => None,
    };
    let reopened = values(unit, "ExecStopPost")
        .iter()
        .chain(&values(unit, "ExecStartPost"))
        .any(|(_, key)| {
            calls(key).is_some_and(|call| {
                ["resume", "register", "deregister"].contains(&call.verb.as_str())
            })
        });
    let stops: Vec<_> = values(unit, "ExecStop")
        .iter()
        .filter_map(|(file, key)| Some((*file, *key, calls(key)?)))
        .collect();
    let reopened = reopened
        || stops
            .iter()
            .any(|(.., call)| call.until_restarted || call.verb != "drain");
    for (file, key, call) in stops {
        let (line, ignored) = command(&key.value);
        process.hooks.push(StopHook {
            call,
            words: line.argv,
            key: "ExecStop",
            fails: !ignored,
            // Reported only once.
            reopened: reopened || !process.hooks.is_empty(),
            place: FindingPlace {
                file,
                span: key.span.clone(),
            },
        });
    }
    let ours = !process.hooks.is_empty() || process.role() != CommandRole::Other;
    if ours || process.is_server() && process.expected == ExpectedDrain::Drain {
        check_killers(unit, &process, found);
    }
    if process.launch().is_some_and(|launch| !launch.no_port) {
        check_launched(unit, &process, found);
    }
    if process.role() == CommandRole::Proxy {
        kept_sockets(unit, &process, found);
    }
    Some(process)
}

/// Place of a port that all instances of a template would share.
fn one_port(process: &SupervisedProcess) -> Option<FindingPlace> {
    let fixed = |text: &str| text.parse::<u16>().is_ok();
    let told = process
        .env
        .iter()
        .any(|(key, value)| key == "PORT" && fixed(value));
    let argv = process
        .launch()
        .map_or(process.line.argv.clone(), |launch| launch.app);
    let named = programs::port(&argv).is_some_and(|port| {
        matches!(port.value, programs::Value::Number(_))
            && !argv[port.at].contains('%')
            && process.is_server()
    });
    let launched = process.launch().is_some();
    (launched || told || named).then(|| process.command_place.clone())
}

/// Settings that end the process before it can stop in order, or never end it.
fn check_killers(unit: &SystemdUnit, process: &SupervisedProcess, found: &mut DoctorFindings) {
    let last = |name: &str| values(unit, name).last().copied();
    let at = |(file, key): (usize, &IniKey)| FindingPlace {
        file,
        span: key.span.clone(),
    };
    let name = &process.name;
    for (file, key) in values(unit, "ExecStop") {
        let words = command(&key.value).0.commands;
        if words.iter().any(|words| is_kill_command(words)) {
            let what = format!("ExecStop= kills `{name}` with SIGKILL");
            found.error(check::STOP_SIGNAL, &at((file, key)), what, "ExecStop=");
        }
    }
    if let Some(found_at) = last("RestartKillSignal") {
        let signal = signal_name(&found_at.1.value);
        let drains = ["TERM", "INT", "QUIT"].contains(&signal.as_str());
        if signal == "KILL" || (process.launch().is_some() && !drains) {
            let what = format!("`{name}` is stopped with SIG{signal} when it is restarted");
            found.error(
                check::STOP_SIGNAL,
                &at(found_at),
                what,
                "RestartKillSignal=SIGTERM",
            );
        }
    }
    if let Some(mode) = last("KillMode")
        && mode.1.value == "none"
    {
        let what = format!("systemd sends `{name}` no signal at all (KillMode=none)");
        let right = match process.launch() {
            Some(_) => "KillMode=mixed",
            None => "KillMode=control-group",
        };
        found.error(check::STOP_SIGNAL, &at(mode), what, right);
    }
}

/// Whether a command is `kill -9 …`, `kill -s KILL …`, `pkill --signal 9 …` or the like.
fn is_kill_command(words: &[String]) -> bool {
    let words = words.get(wrappers::skip(words)..).unwrap_or_default();
    let Some((program, rest)) = words.split_first() else {
        return false;
    };
    if !["kill", "pkill", "killall"].contains(&base(program)) {
        return false;
    }
    let options = rest
        .iter()
        .map(|word| word.trim_start_matches("--signal=").trim_start_matches('-'));
    options
        .take_while(|word| !word.contains('$'))
        .any(|word| signal_name(word.trim_start_matches('s')) == "KILL")
}

/// Checks what systemd needs for an app under the launcher.
fn check_launched(unit: &SystemdUnit, process: &SupervisedProcess, found: &mut DoctorFindings) {
    let last = |name: &str| values(unit, name).last().copied();
    let at = |key: Option<(usize, &IniKey)>| {
        key.map_or(process.command_place.clone(), |(file, key)| FindingPlace {
            file,
            span: key.span.clone(),
        })
    };
    let name = &process.name;
    let mode = last("KillMode");
    let value = mode.map_or("control-group", |(_, key)| key.value.as_str());
    if value == "control-group" {
        let default = if mode.is_none() { " (the default)" } else { "" };
        let what = format!(
            "KillMode=control-group{default} signals the app of `{name}` together with its launcher"
        );
        found.error(check::GROUP_KILL, &at(mode), what, "KillMode=mixed");
    }
    let kind = last("Type");
    let value = kind.map_or("simple", |(_, key)| key.value.as_str());
    if !value.starts_with("notify") {
        let what = format!("systemd doesn't wait until `{name}` is ready (Type={value})");
        found.warning(check::TYPE_NOTIFY, &at(kind), what, "Type=notify");
    }
}

/// Checks whether systemd keeps the proxy's listening sockets between two processes.
fn kept_sockets(unit: &SystemdUnit, process: &SupervisedProcess, found: &mut DoctorFindings) {
    let last = |name: &str| values(unit, name).last().copied();
    let at = |key: Option<(usize, &IniKey)>| {
        key.map_or(process.command_place.clone(), |(file, key)| FindingPlace {
            file,
            span: key.span.clone(),
        })
    };
    let is_keeper = process.line.argv.iter().any(|word| word == "--keeper");
    if is_keeper || !values(unit, "Sockets").is_empty() {
        return;
    }
    let name = &process.name;
    let check = check::DESCRIPTOR_STORE;
    let most = last("FileDescriptorStoreMax");
    if most.is_none_or(|(_, key)| key.value.trim() == "0") {
        let what = format!(
            "systemd keeps no listening sockets for `{name}`: clients are refused from a crash, a kill or a restart of it \
             until it listens again"
        );
        let before_254 = match values(unit, "Environment").is_empty() {
            true => "Environment=FDSTORE=64",
            false => {
                "# before systemd 254, beside the other lines of that name: Environment=FDSTORE=64"
            }
        };
        let help = format!("FileDescriptorStoreMax=64\n{before_254}");
        found.warning(check, &at(most), what, help);
    } else if let Some(mode) = last("FileDescriptorStorePreserve")
        && ["no", "false", "off", "0"].contains(&mode.1.value.as_str())
    {
        let what = format!(
            "systemd forgets the listening sockets of `{name}` when it is restarted (FileDescriptorStorePreserve={})",
            mode.1.value
        );
        found.warning(
            check,
            &at(Some(mode)),
            what,
            "FileDescriptorStorePreserve=restart",
        );
    }
    if let Some(directory) = last("RuntimeDirectory")
        && last("RuntimeDirectoryPreserve").is_none_or(|(_, key)| key.value == "no")
    {
        let what = format!(
            "the socket files of `{name}` in /run/{} are removed at its end, and kept sockets can't be reached without them",
            directory.1.value
        );
        let place = at(last("RuntimeDirectoryPreserve").or(Some(directory)));
        found.warning(check, &place, what, "RuntimeDirectoryPreserve=restart");
    }
}

/// A command without systemd's prefixes, and whether its failure is ignored.
fn command(value: &str) -> (CommandLine, bool) {
    let rest = value.trim_start_matches(['-', '@', ':', '+', '!', '|']);
    let prefix = &value[..value.len() - rest.len()];
    (CommandLine::parse(rest), prefix.contains('-'))
}

/// Parses a time: systemd.time(7); `None`: infinite, or not understood.
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
