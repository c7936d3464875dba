//! Neutral model of a supervisor's file: how each process is started, stopped and checked.

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

/// Supervisor of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervisor {
    Oxmgr,
    /// The older format before `[[apps]]`, with times in milliseconds.
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
    /// Time; `None`: no limit, or a placeholder whose value is not known here.
    pub(super) after: Option<Duration>,
    /// Whether the file sets it; otherwise it is the supervisor's default.
    pub(super) written: bool,
    pub(super) place: FindingPlace,
}

/// A command that the supervisor runs to its end before it sends the signal.
#[derive(Debug, Clone)]
pub(super) struct StopHook {
    pub(super) call: HookCall,
    /// Words of its command.
    pub(super) words: Vec<String>,
    /// Key that contains it.
    pub(super) key: &'static str,
    /// Whether its failure makes the process fail.
    pub(super) fails: bool,
    /// Whether something lifts its drain.
    pub(super) reopened: bool,
    pub(super) place: FindingPlace,
}

/// What a process without a launcher and without a hook should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpectedDrain {
    /// Something that drains it, if it takes requests.
    Drain,
    /// The same, with the proxy beside it in its pod.
    PodDrain,
    /// Nothing.
    Nothing,
}

/// A health check of the supervisor that restarts the process when it fails.
#[derive(Debug, Clone)]
pub(super) struct SupervisorProbe {
    /// Path of the request.
    pub(super) path: String,
    /// Whether a command makes the request, and not the supervisor itself.
    pub(super) command: bool,
    pub(super) place: FindingPlace,
}

/// Syntax of the command in the file, which advice must have, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandForm {
    Toml,
    /// Object in JavaScript, or in JSON (`quoted`).
    Script {
        quoted: bool,
    },
    /// YAML of PM2.
    Yaml,
    Unit {
        /// Whether it is a template unit (`api@.service`).
        template: bool,
        /// Whether it must not be wrapped, because it goes to the background or for another reason.
        hook: bool,
    },
    Ini,
    /// `entrypoint` and `command` of Compose.
    Service {
        command: bool,
        entrypoint: bool,
    },
    /// `command` and `args` of Kubernetes.
    Container {
        command: bool,
    },
}

/// A process, or several identical ones.
#[derive(Debug, Clone)]
pub(super) struct SupervisedProcess {
    pub(super) supervisor: Supervisor,
    pub(super) form: CommandForm,
    pub(super) name: String,
    /// Where it begins in the file.
    pub(super) place: FindingPlace,
    pub(super) line: CommandLine,
    /// Where its command is in the file.
    pub(super) command_place: FindingPlace,
    pub(super) env: Vec<(String, String)>,
    pub(super) kill: KillTimeout,
    pub(super) signal: Option<(String, FindingPlace)>,
    pub(super) hooks: Vec<StopHook>,
    pub(super) probes: Vec<SupervisorProbe>,
    /// Place of a setting for several processes of this name with the same environment.
    pub(super) instances: Option<FindingPlace>,
    /// Whether there are several processes of this name, with any environments.
    pub(super) several: bool,
    /// Place of a setting with which the instances share one port on purpose.
    pub(super) cluster: Option<FindingPlace>,
    pub(super) expected: ExpectedDrain,
    /// Image of the container.
    pub(super) image: String,
    /// Whether it publishes a port of its container.
    pub(super) publishes: bool,
    /// The published port, if it is known.
    pub(super) port: Option<u16>,
    /// Sleep of a preStop hook before the signal.
    pub(super) slept: Duration,
    /// Place of that sleep.
    pub(super) sleep_place: Option<FindingPlace>,
    /// Whether the proxy is beside it and ends with it, so that it is lame duck first.
    pub(super) sidecar: bool,
}

impl Supervisor {
    /// Kind for `[pool.supervisor]`; `None`: lameduck can't listen to it, or it reports too late.
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

    /// Default time before SIGKILL.
    pub(super) fn default_kill(self) -> Duration {
        Duration::from_millis(match self {
            Supervisor::Oxmgr | Supervisor::OldOxmgr => 5_000,
            Supervisor::Pm2 => 1_600,
            Supervisor::Systemd => 90_000,
            Supervisor::Supervisord | Supervisor::Compose => 10_000,
            Supervisor::Kubernetes => 30_000,
        })
    }

    /// Name of the setting for it.
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

    /// Command of the app: behind the launcher, or the whole line.
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

    /// Whether it looks like a server, and not like a worker.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.serves(), ServesRequests::Yes | ServesRequests::Perhaps)
    }

    /// Whether a hook has to drain it, because it can't run under the launcher.
    pub(super) fn has_hook_form(&self) -> bool {
        matches!(self.form, CommandForm::Unit { hook: true, .. })
    }

    /// Stop signal.
    pub(super) fn stop_signal(&self) -> &str {
        match &self.signal {
            Some((name, _)) => name,
            None if self.supervisor == Supervisor::Pm2 => "INT",
            None => "TERM",
        }
    }

    /// A setting of the process in the syntax of its file. `value` is text; numbers and booleans have no quotes.
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

    /// Line that sets the time before SIGKILL.
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

/// A time in a file, and whether the file sets it. For a placeholder (`${GRACE}`, `%(ENV_X)s`, or anything not
/// understood) the default must not be assumed.
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
