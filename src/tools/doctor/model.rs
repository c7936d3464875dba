//! What readers make of a file, whatever its form: how each process is started, stopped and checked.

use std::ops::Range;
use std::time::Duration;

use super::command_line::{CommandLine, CommandRole, ExecLaunch, HookCall};
use super::programs::{self, KnownCommand, ServesRequests};
use crate::config::{PoolConfig, SupervisorKind};

/// A place in one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FindingPlace {
    pub(super) file: usize,
    pub(super) span: Range<usize>,
}

/// Who starts and stops the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervisor {
    Oxmgr,
    /// The form before `[[apps]]`, with milliseconds.
    OldOxmgr,
    Pm2,
    Systemd,
    Supervisord,
    Kubernetes,
    Compose,
}

/// The time between the signal and SIGKILL.
#[derive(Debug, Clone)]
pub(super) struct KillTimeout {
    /// `None`: never, or a placeholder that can't be read here.
    pub(super) after: Option<Duration>,
    /// Whether the file says so; else it is the supervisor's default.
    pub(super) written: bool,
    pub(super) place: FindingPlace,
}

/// A command that the supervisor waits for before it sends the signal.
#[derive(Debug, Clone)]
pub(super) struct StopHook {
    pub(super) call: HookCall,
    /// Its command's words.
    pub(super) words: Vec<String>,
    /// The key that holds it.
    pub(super) key: &'static str,
    /// Its failure is the process's.
    pub(super) fails: bool,
    /// Something lifts its drain.
    pub(super) reopened: bool,
    pub(super) place: FindingPlace,
}

/// What is expected of a process that is under no launcher and has no hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedDrain {
    /// Something that drains it, if it serves.
    Drain,
    /// That, for the proxy is beside it in its pod.
    PodDrain,
    /// Nothing.
    Nothing,
}

/// A check of the supervisor's that restarts the process when it fails.
#[derive(Debug, Clone)]
pub(super) struct SupervisorProbe {
    /// The path that is asked for.
    pub(super) path: String,
    /// A command asks, not the supervisor itself.
    pub(super) command: bool,
    pub(super) place: FindingPlace,
}

/// How the file says what is to be run: what advice has to be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandForm {
    Toml,
    /// JavaScript's object, or JSON (`quoted`).
    Script {
        quoted: bool,
    },
    /// PM2's YAML.
    Yaml,
    Unit {
        /// `api@.service`.
        template: bool,
        /// It puts itself into the background, or is not to be wrapped for another reason.
        hook: bool,
    },
    Ini,
    /// Compose's `entrypoint` and `command`.
    Service {
        command: bool,
        entrypoint: bool,
    },
    /// Kubernetes' `command` and `args`.
    Container {
        command: bool,
    },
}

/// One process (or several alike).
#[derive(Debug, Clone)]
pub(super) struct SupervisedProcess {
    pub(super) supervisor: Supervisor,
    pub(super) form: CommandForm,
    pub(super) name: String,
    /// Where it begins.
    pub(super) place: FindingPlace,
    pub(super) line: CommandLine,
    /// Where its command stands.
    pub(super) command_place: FindingPlace,
    pub(super) env: Vec<(String, String)>,
    pub(super) kill: KillTimeout,
    pub(super) signal: Option<(String, FindingPlace)>,
    pub(super) hooks: Vec<StopHook>,
    pub(super) probes: Vec<SupervisorProbe>,
    /// More than one under this name, with the same environment.
    pub(super) instances: Option<FindingPlace>,
    /// More than one under this name, whatever their environment.
    pub(super) several: bool,
    /// Its instances share one port by design: where that is said.
    pub(super) cluster: Option<FindingPlace>,
    pub(super) expected: ExpectedDrain,
    /// The image of a container.
    pub(super) image: String,
    /// It publishes a port of its container.
    pub(super) publishes: bool,
    /// Which, if that is known.
    pub(super) port: Option<u16>,
    /// What a preStop hook sleeps before the signal.
    pub(super) slept: Duration,
    /// Where that stands.
    pub(super) sleep_place: Option<FindingPlace>,
    /// The proxy stands beside it and ends with it: it is lame duck first.
    pub(super) sidecar: bool,
}

impl Supervisor {
    /// What `[pool.supervisor]` calls it; `None`: it can't be watched, or says too late what it does.
    pub(super) fn watched_as(self) -> Option<SupervisorKind> {
        match self {
            Self::Systemd => Some(SupervisorKind::Systemd),
            Self::Pm2 => Some(SupervisorKind::Pm2),
            Self::Supervisord => Some(SupervisorKind::Supervisord),
            Self::Compose => Some(SupervisorKind::Docker),
            Self::Oxmgr | Self::OldOxmgr | Self::Kubernetes => None,
        }
    }

    /// Whether lameduck's own configuration listens to it for this pool.
    pub(super) fn is_watched(self, pool: Option<&PoolConfig>) -> bool {
        let watched = pool.and_then(|pool| pool.supervisor.as_ref());
        watched.is_some_and(|watched| Some(watched.kind) == self.watched_as())
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Supervisor::Oxmgr | Supervisor::OldOxmgr => "Oxmgr",
            Supervisor::Pm2 => "PM2",
            Supervisor::Systemd => "systemd",
            Supervisor::Supervisord => "supervisord",
            Supervisor::Kubernetes => "Kubernetes",
            Supervisor::Compose => "Docker",
        }
    }

    /// The default time before SIGKILL.
    pub(super) fn default_kill(self) -> Duration {
        Duration::from_millis(match self {
            Supervisor::Oxmgr | Supervisor::OldOxmgr => 5_000,
            Supervisor::Pm2 => 1_600,
            Supervisor::Systemd => 90_000,
            Supervisor::Supervisord | Supervisor::Compose => 10_000,
            Supervisor::Kubernetes => 30_000,
        })
    }

    /// The name of that setting.
    pub(super) fn kill_key(self) -> &'static str {
        match self {
            Supervisor::Oxmgr => "stop_timeout_secs",
            Supervisor::OldOxmgr => "stop_timeout_ms",
            Supervisor::Pm2 => "kill_timeout",
            Supervisor::Systemd => "TimeoutStopSec",
            Supervisor::Supervisord => "stopwaitsecs",
            Supervisor::Kubernetes => "terminationGracePeriodSeconds",
            Supervisor::Compose => "stop_grace_period",
        }
    }
}

impl SupervisedProcess {
    /// A process of which little is known yet.
    pub(super) fn new(
        supervisor: Supervisor,
        form: CommandForm,
        name: &str,
        place: FindingPlace,
    ) -> Self {
        SupervisedProcess {
            supervisor,
            form,
            name: name.to_owned(),
            line: CommandLine::default(),
            command_place: place.clone(),
            env: Vec::new(),
            kill: KillTimeout {
                after: Some(supervisor.default_kill()),
                written: false,
                place: place.clone(),
            },
            signal: None,
            hooks: Vec::new(),
            probes: Vec::new(),
            instances: None,
            several: false,
            cluster: None,
            expected: ExpectedDrain::Drain,
            image: String::new(),
            publishes: false,
            port: None,
            slept: Duration::ZERO,
            sleep_place: None,
            sidecar: false,
            place,
        }
    }

    pub(super) fn role(&self) -> CommandRole {
        self.line.role(&self.env)
    }

    pub(super) fn launch(&self) -> Option<ExecLaunch> {
        match self.role() {
            CommandRole::Launcher(launch) => Some(launch),
            _ => None,
        }
    }

    /// The app's own command: behind the launcher, or all of it.
    pub(super) fn app(&self) -> Vec<String> {
        let app = match self.launch() {
            Some(launch) => launch.app,
            None => self.line.argv.clone(),
        };
        let line = CommandLine::from_words(app);
        line.main()
            .map(|(_, words)| words.to_vec())
            .unwrap_or_default()
    }

    /// Whether it takes requests.
    pub(super) fn serves(&self) -> ServesRequests {
        programs::serves(&KnownCommand {
            name: &self.name,
            argv: &self.app(),
            image: &self.image,
            env: &self.env,
            publishes: self.publishes,
        })
    }

    /// Whether it looks like something that takes requests, rather than a worker.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.serves(), ServesRequests::Yes | ServesRequests::Perhaps)
    }

    /// Whether it is drained by a hook rather than by the launcher, because it can't be under one.
    pub(super) fn has_hook_form(&self) -> bool {
        matches!(self.form, CommandForm::Unit { hook: true, .. })
    }

    /// The signal that it is stopped with.
    pub(super) fn stop_signal(&self) -> &str {
        match &self.signal {
            Some((name, _)) => name,
            None if self.supervisor == Supervisor::Pm2 => "INT",
            None => "TERM",
        }
    }

    /// A setting of the process, as its file writes it. `value` is text; numbers and booleans stay bare.
    pub(super) fn setting(&self, key: &str, value: &str) -> String {
        let bare = value.parse::<f64>().is_ok()
            || ["true", "false"].contains(&value)
            || value.starts_with(['[', '{']);
        let quoted = match bare {
            true => value.to_owned(),
            false => serde_json::Value::from(value).to_string(),
        };
        match self.form {
            CommandForm::Toml => format!("{key} = {quoted}"),
            CommandForm::Script { quoted: true } => format!("\"{key}\": {quoted},"),
            CommandForm::Script { quoted: false } => format!("{key}: {quoted},"),
            CommandForm::Yaml => format!("{key}: {quoted}"),
            CommandForm::Unit { .. } | CommandForm::Ini => format!("{key}={value}"),
            CommandForm::Service { .. } | CommandForm::Container { .. } => {
                format!("{key}: {value}")
            }
        }
    }

    /// The line that sets the time before SIGKILL.
    pub(super) fn kill_line(&self, time: Duration) -> String {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        let key = self.supervisor.kill_key();
        match self.supervisor {
            Supervisor::OldOxmgr | Supervisor::Pm2 => {
                self.setting(key, &(seconds * 1000).to_string())
            }
            Supervisor::Compose => self.setting(key, &format!("{seconds}s")),
            _ => self.setting(key, &seconds.to_string()),
        }
    }
}

/// A time that a file sets: what it says, and whether it says something. A placeholder (`${GRACE}`, `%(ENV_X)s`, what is
/// not understood) is no reason to take the default.
pub(super) fn kill(
    supervisor: Supervisor,
    written: Option<&str>,
    parse: impl Fn(&str) -> Option<Duration>,
    place: FindingPlace,
) -> KillTimeout {
    let after = match written {
        None => Some(supervisor.default_kill()),
        Some(text) => parse(text),
    };
    KillTimeout {
        after,
        written: written.is_some(),
        place,
    }
}
