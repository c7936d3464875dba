//! `[pool.supervisor]`.

use crate::config::declare::{section, words};
use crate::config::forms::{EmptyIsNone, KeyContext, custom, some_time};
use crate::config::print;
use crate::config::reader::ConfigFindings;
use crate::config::section_traits::StandInValue;
use crate::config::values::{ValueResult, quoted, text, wrong};
use std::time::Duration;
use toml::de::DeValue;

section! {
    /// The supervisor of the backends is [listened to](supervisors.md): its word that a process is stopping drains the
    /// backend at once, and its word that it runs again ends that. For apps that have neither the launcher nor hooks. Leave
    /// the section out and none is.
    [pool.supervisor]
    #[derive(Debug, Clone, PartialEq)]
    pub struct SupervisorConfig {
        /// Who supervises them.
        #[key = "type"]
        #[no_default(needed)]
        kind: SupervisorKind = "systemd";
        /// The supervisor's name for a backend's process. `{name}` is the backend's name, `{number}` the number at its end,
        /// and `{index}` one less. `""`: what is usual for the supervisor, `{name}.service` with systemd and `{name}` with
        /// the others.
        process: Option<String> = "", EmptyIsNone("app@{number}.service", custom("text", read_process, |name| print::text(name)).public());
        /// Where the supervisor is, if not in the usual place: a socket (`"unix:/run/dbus/system_bus_socket"`), a URL
        /// (`"http://127.0.0.1:9001"`), or the directory of the services (s6, runit). `""`: the usual place.
        address: Option<String> = "", EmptyIsNone("unix:/run/supervisor.sock", custom("text", read_place, |place| print::text(place)));
        /// How often supervisord is asked, which says nothing by itself. The others are not asked.
        poll_interval: Duration = "25ms", some_time();
    }
}

words! {
    /// Supervisors that can be followed.
    pub enum SupervisorKind {
        /// Over D-Bus.
        Systemd = "systemd",
        /// By its event socket.
        Oxmgr = "oxmgr",
        /// By its bus.
        Pm2 = "pm2",
        /// Over XML-RPC.
        Supervisord = "supervisord",
        /// By its event stream.
        Docker = "docker",
        /// By the files of `supervise/`.
        S6 = "s6",
        /// By the files of `supervise/`.
        Runit = "runit",
    }
}

impl SupervisorConfig {
    /// Returns the supervisor's name for the process of the backend with this name; `None`: the pattern contains a
    /// number, and the name has none at its end.
    pub fn process_of(&self, backend: &str) -> Option<String> {
        let usual = match self.kind {
            SupervisorKind::Systemd => "{name}.service",
            _ => "{name}",
        };
        let pattern = self.process.as_deref().unwrap_or(usual);
        let digits = backend.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number = backend[digits..].parse::<u64>().ok();
        let mut process = pattern.replace("{name}", backend);
        for (placeholder, number) in [
            ("{number}", number),
            ("{index}", number.map(|number| number.saturating_sub(1))),
        ] {
            if pattern.contains(placeholder) {
                process = process.replace(placeholder, &number?.to_string());
            }
        }
        Some(process)
    }
}

fn read_process(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let pattern = text(key.name, value, "app@{name}.service")?;
    let mut rest = pattern;
    let advice = "write it with {name}, {number} or {index}, such as \"app@{name}.service\"";
    while let Some((_, behind)) = rest.split_once('{') {
        let Some((placeholder, behind)) = behind.split_once('}') else {
            return Err(wrong(
                key.name,
                quoted(pattern),
                "a `{` in it has no `}`",
                advice,
            ));
        };
        if !["name", "number", "index"].contains(&placeholder) {
            return Err(wrong(
                key.name,
                quoted(pattern),
                "it has a placeholder that is none",
                advice,
            ));
        }
        rest = behind;
    }
    if pattern.chars().any(char::is_control) {
        return Err(wrong(
            key.name,
            quoted(pattern),
            "no process has such a name",
            advice,
        ));
    }
    Ok(pattern.to_owned())
}

fn read_place(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let place = text(key.name, value, "unix:/run/supervisor.sock")?;
    let known = ["/", "unix:", "http://", "tcp:"];
    match known.iter().any(|start| place.starts_with(start)) {
        true => Ok(place.to_owned()),
        false => Err(wrong(
            key.name,
            // It may contain a password.
            "…",
            "it is neither a path nor a URL",
            "write a path (\"/etc/service\"), a socket (\"unix:/run/supervisor.sock\") or a URL \
             (\"http://127.0.0.1:9001\")",
        )),
    }
}

/// Checks `[pool.supervisor]` of the pool at this path in combination.
pub(in crate::config) fn validate(
    pool: &str,
    supervisor: &SupervisorConfig,
    backends: &[String],
    f: &mut ConfigFindings,
) {
    let at = |key: &str| format!("{pool}.supervisor.{key}");
    let (kind, process, address) = (at("type"), at("process"), at("address"));
    if let Some(feature) = supervisor.kind.missing_feature()
        && f.sound(&[&kind])
    {
        f.error(
            f.place(&kind),
            format!("this lameduck was built without the feature `{feature}`: it can't watch that supervisor"),
            format!("build it with `--features {feature}`, or take the release's binary, which has it"),
        );
    }
    if !f.sound(&[&kind, &process, &address]) {
        return;
    }
    let without = backends
        .iter()
        .find(|name| supervisor.process_of(name).is_none());
    if let Some(name) = without {
        f.error(
            f.place(&process),
            format!("`process` asks for the number at the end of a backend's name, and `{name}` has none"),
            "name the backends with a number, such as \"app-1\", or write {name} in its place",
        );
    }
    let mut seen = std::collections::HashMap::new();
    for name in backends {
        if let Some(of) = supervisor.process_of(name)
            && let Some(other) = seen.insert(of.clone(), name)
        {
            f.error(
                f.place(&process),
                format!("`process` is `{of}` for `{other}` and for `{name}`: one of them would be drained with the other"),
                "write a name that differs from backend to backend, with {name}, {number} or {index}",
            );
            break;
        }
    }
    let takes = supervisor.kind.places();
    if let Some(place) = &supervisor.address
        && !takes.iter().any(|start| place.starts_with(start))
    {
        f.error(
            f.place(&address),
            format!(
                "`address` is not where {} can be",
                supervisor.kind.as_str()
            ),
            match supervisor.kind {
                SupervisorKind::S6 | SupervisorKind::Runit => {
                    "write the directory that holds the service directories, such as \"/etc/service\""
                }
                SupervisorKind::Pm2 => "write PM2's home, such as \"/home/app/.pm2\"",
                SupervisorKind::Supervisord => {
                    "write its socket (\"unix:/run/supervisor.sock\") or URL (\"http://127.0.0.1:9001\")"
                }
                SupervisorKind::Docker => {
                    "write its socket (\"unix:/var/run/docker.sock\") or URL (\"http://127.0.0.1:2375\")"
                }
                _ => "write its socket, such as \"unix:/run/dbus/system_bus_socket\"",
            },
        );
    }
}

impl StandInValue for SupervisorKind {
    fn stand_in() -> Self {
        Self::Systemd
    }
}

impl SupervisorKind {
    /// Returns the feature that this binary lacks for it, if any.
    fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Systemd if !cfg!(feature = "systemd") => Some("systemd"),
            Self::Docker if !cfg!(feature = "docker") => Some("docker"),
            _ => None,
        }
    }

    /// Returns the prefixes of its addresses.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::S6 | Self::Runit | Self::Pm2 => &["/"],
            Self::Supervisord => &["/", "unix:", "http://"],
            Self::Docker => &["/", "unix:", "http://", "tcp:"],
            Self::Systemd => &["/", "unix:", "tcp:"],
            Self::Oxmgr => &["/", "unix:"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_processes_are_made_of_names_of_backends() {
        let named = |kind, process: Option<&str>, backend: &str| {
            let config = SupervisorConfig {
                kind,
                process: process.map(str::to_owned),
                address: None,
                poll_interval: Duration::from_millis(25),
            };
            config.process_of(backend)
        };
        let systemd = SupervisorKind::Systemd;
        assert_eq!(
            named(systemd, None, "api-1").as_deref(),
            Some("api-1.service")
        );
        assert_eq!(
            named(systemd, Some("app@{number}.service"), "api-12").as_deref(),
            Some("app@12.service")
        );
        assert_eq!(
            named(SupervisorKind::Pm2, Some("api:{index}"), "api-1").as_deref(),
            Some("api:0")
        );
        assert_eq!(named(systemd, Some("app@{number}.service"), "blue"), None);
        assert_eq!(
            named(SupervisorKind::S6, None, "blue").as_deref(),
            Some("blue")
        );
    }
}
