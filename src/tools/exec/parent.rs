//! The launcher's supervisor: its settings in the environment, and how it is notified that the app is ready.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use super::syscall;
use crate::net::sd_notify;
use crate::rt::output::complain;
use crate::rt::syscall::{adopt_descriptor, duplicate_descriptor};

/// Default of PM2's kill timeout.
const PM2_KILL: Duration = Duration::from_millis(1600);

/// Ways to notify the supervisor.
#[derive(Debug)]
pub struct ParentSupervisor {
    /// Notification socket of systemd, or of another supervisor with this protocol.
    socket: Option<OsString>,
    /// Notification descriptor of s6, and its number.
    descriptor: Option<(RawFd, OwnedFd)>,
    /// A copy of the descriptor of Node's IPC channel, which PM2 opens.
    channel: Option<OwnedFd>,
    /// Interval in which systemd's watchdog expects messages.
    pub watchdog: Option<Duration>,
}

impl ParentSupervisor {
    /// Takes variables for the launcher out of the environment, so that the app does not use them, too.
    ///
    /// # Errors
    /// The descriptor of `--notify-fd` is not open.
    pub fn take(descriptor: Option<RawFd>) -> Result<Self, String> {
        let socket = env::var_os(sd_notify::NOTIFY_SOCKET).filter(|socket| !socket.is_empty());
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        let descriptor = match descriptor {
            Some(number) => match adopt_descriptor(number) {
                Ok(descriptor) => Some((number, descriptor)),
                Err(_) => {
                    return Err(format!(
                        "--notify-fd {number}: that descriptor is not open; write the number that s6's \
                         notification-fd file has"
                    ));
                }
            },
            None => None,
        };
        let mut taken = vec![sd_notify::NOTIFY_SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID"];
        let channel = number("NODE_CHANNEL_FD").and_then(|number| RawFd::try_from(number).ok());
        let channel = match channel.map(duplicate_descriptor) {
            Some(Err(_)) => {
                // Node aborts if the variable is set and the descriptor is closed.
                taken.extend(["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE"]);
                None
            }
            channel => channel.and_then(Result::ok),
        };
        #[allow(unsafe_code, reason = "it changes the environment")]
        // SAFETY: the launcher's second thread, which holds the lease, is only started when the app listens.
        unsafe {
            for name in taken {
                syscall::set_variable(name, None);
            }
        }
        Ok(Self {
            socket,
            descriptor,
            channel,
            watchdog: watchdog.map(|usec| Duration::from_micros(usec) / 2),
        })
    }

    /// Reports that the app takes requests.
    pub fn ready(&mut self, status: &str) {
        self.notify(&format!("READY=1\nSTATUS={status}"));
        // Closed afterwards, so that the reader does not wait for more.
        if let Some((number, descriptor)) = self.descriptor.take()
            && let Err(error) = syscall::write_to(descriptor, b"\n")
        {
            complain(&format!(
                "exec: can't write to --notify-fd {number}: {error}"
            ));
        }
        if let Some(channel) = self.channel.take() {
            // For PM2's `wait_ready`. The app keeps the channel.
            let _ = syscall::write_to(channel, b"\"ready\"\n");
        }
    }

    /// Reports that the app is about to stop, which takes at most `within`.
    pub fn stopping(&self, status: &str, within: Duration) {
        let usec = within.as_micros();
        self.notify(&format!(
            "STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={usec}"
        ));
    }

    /// Sends a line for `systemctl status`, or a message for the watchdog.
    pub fn notify(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // A supervisor that does not listen must not stop the launcher.
            let _ = sd_notify::notify_at(socket, state);
        }
    }
}

/// Default name of the instance: its name at the supervisor.
pub fn name(pool: &str) -> Option<String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let first = std::process::id() == 1 || variable("KUBERNETES_SERVICE_HOST").is_some();
    find_name(pool, variable, &cgroup, first).map(|name| replace_forbidden(&name))
}

/// Finds the name. `container`: the host's name is that of the container.
fn find_name(
    pool: &str,
    variable: impl Fn(&str) -> Option<String>,
    cgroup: &str,
    container: bool,
) -> Option<String> {
    if let Some(name) = variable("OXMGR_PROCESS") {
        return Some(name);
    }
    if let (Some(id), Some(name)) = (variable("pm_id"), variable("name")) {
        let instance = variable("NODE_APP_INSTANCE").unwrap_or(id);
        return Some(format!("{name}-{instance}"));
    }
    if let Some(name) = variable("SUPERVISOR_PROCESS_NAME") {
        return Some(name);
    }
    // Instances of Oxmgr have this variable, too.
    if let Some(instance) = variable("NODE_APP_INSTANCE") {
        return Some(format!("{pool}-{instance}"));
    }
    if let (Some(task), Some(index)) = (variable("NOMAD_TASK_NAME"), variable("NOMAD_ALLOC_INDEX"))
    {
        return Some(format!("{task}-{index}"));
    }
    if variable("INVOCATION_ID").is_some()
        && let Some(name) = unit_instance(cgroup)
    {
        return Some(name);
    }
    variable("HOSTNAME").filter(|_| container)
}

/// Instance of `api@INSTANCE.service`, or the unit's name.
fn unit_instance(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    // A scope belongs to a login or a terminal, and is never restarted.
    if path.ends_with(".scope") {
        return None;
    }
    let unit = path
        .rsplit('/')
        .find_map(|part| part.strip_suffix(".service"))?;
    let name = unit.split_once('@').map_or(unit, |(_, instance)| instance);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Replaces characters that are not allowed in a name by `-`.
fn replace_forbidden(name: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = name.chars().take(63);
    name.map(|c| if kept(c) { c } else { '-' }).collect()
}

/// Warnings about the supervisor's settings, as far as they are known, that conflict with a drain.
pub fn warnings(stop: Duration) -> Vec<String> {
    let mut warnings = Vec::new();
    if env::var_os("pm_id").is_some() {
        let kill = env::var("kill_timeout")
            .ok()
            .and_then(|text| text.parse().ok());
        let kill = kill.map_or(PM2_KILL, Duration::from_millis);
        if kill <= stop {
            warnings.push(format!(
                "PM2 kills {kill:?} after its signal, and a drain may take {stop:?}: set kill_timeout in the \
                 ecosystem file above that"
            ));
        }
        if env::var("treekill").is_ok_and(|value| value == "true") {
            warnings.push(
                "PM2 signals the app before the launcher: set treekill: false in the ecosystem file".to_owned(),
            );
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)], cgroup: &str, container: bool) -> Option<String> {
        let variable = |wanted: &str| {
            let mut found = variables.iter().filter(|(name, _)| *name == wanted);
            found.next().map(|(_, value)| (*value).to_owned())
        };
        find_name("api", variable, cgroup, container)
    }

    #[test]
    fn each_supervisor_has_a_name_for_us() {
        let cgroup = "0::/system.slice/system-api.slice/api@7.service\n";
        for (variables, container, name) in [
            (
                &[("OXMGR_PROCESS", "api-0"), ("HOSTNAME", "h")][..],
                false,
                Some("api-0"),
            ),
            (&[("pm_id", "3"), ("name", "web")], false, Some("web-3")),
            (
                &[("pm_id", "3"), ("name", "web"), ("NODE_APP_INSTANCE", "0")],
                false,
                Some("web-0"),
            ),
            (
                &[("SUPERVISOR_PROCESS_NAME", "api_00")],
                false,
                Some("api_00"),
            ),
            (&[("NODE_APP_INSTANCE", "2")], false, Some("api-2")),
            (
                &[("NOMAD_TASK_NAME", "web"), ("NOMAD_ALLOC_INDEX", "1")],
                false,
                Some("web-1"),
            ),
            (
                &[("INVOCATION_ID", "x"), ("HOSTNAME", "h")],
                true,
                Some("7"),
            ),
            (&[("HOSTNAME", "api-5d9")], true, Some("api-5d9")),
            (&[("HOSTNAME", "laptop")], false, None),
        ] {
            assert_eq!(
                find(variables, cgroup, container).as_deref(),
                name,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn units_are_found_in_the_control_group() {
        assert_eq!(
            unit_instance("0::/system.slice/app.service"),
            Some("app".to_owned())
        );
        assert_eq!(
            unit_instance("0::/user.slice/user@0.service/app.slice/web@b.service/x"),
            Some("b".to_owned())
        );
        assert_eq!(
            unit_instance("0::/user.slice/user@0.service/app.slice/term.scope"),
            None
        );
        assert_eq!(unit_instance("0::/"), None);
    }

    #[test]
    fn forbidden_characters_of_names_are_replaced() {
        assert_eq!(replace_forbidden("web:1/é x"), "web-1---x");
    }
}
