//! What readers make of a file, whatever its form: how each process is started, stopped and checked.

use std::ops::Range;
use std::time::Duration;

use super::words::{Call, Launch, Line, Role, base};

/// A place in one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
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
pub(super) struct Kill {
    /// `None`: never.
    pub(super) after: Option<Duration>,
    /// Whether the file says so; else it is the supervisor's default.
    pub(super) written: bool,
    pub(super) place: Place,
}

/// A command that the supervisor waits for before it sends the signal.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    pub(super) call: Call,
    pub(super) place: Place,
}

/// A check of the supervisor's that restarts the process when it fails.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// The path that is asked for.
    pub(super) path: String,
    pub(super) place: Place,
}

/// One process (or several alike).
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) supervisor: Supervisor,
    pub(super) name: String,
    /// Where it begins.
    pub(super) place: Place,
    pub(super) line: Line,
    /// Where its command stands.
    pub(super) command_place: Place,
    pub(super) env: Vec<(String, String)>,
    pub(super) kill: Kill,
    pub(super) signal: Option<(String, Place)>,
    pub(super) hooks: Vec<Hook>,
    pub(super) probes: Vec<Probe>,
    /// More than one under this name, with the same environment.
    pub(super) instances: Option<Place>,
}

impl Supervisor {
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

    /// The line that sets the time before SIGKILL.
    pub(super) fn kill_line(self, time: Duration) -> String {
        let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
        match self {
            Supervisor::Oxmgr => format!("stop_timeout_secs = {seconds}"),
            Supervisor::OldOxmgr => format!("stop_timeout_ms = {}", seconds * 1000),
            Supervisor::Pm2 => format!("kill_timeout: {}", seconds * 1000),
            Supervisor::Systemd => format!("TimeoutStopSec={seconds}"),
            Supervisor::Supervisord => format!("stopwaitsecs={seconds}"),
            Supervisor::Kubernetes => format!("terminationGracePeriodSeconds: {seconds}"),
            Supervisor::Compose => format!("stop_grace_period: {seconds}s"),
        }
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

/// Programs that serve HTTP.
const SERVERS: [&str; 14] = [
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "daphne",
    "waitress-serve",
    "puma",
    "unicorn",
    "falcon",
    "thin",
    "rackup",
    "http-server",
    "serve",
    "next",
    "granian",
];

impl Process {
    pub(super) fn role(&self) -> Role {
        self.line.role(&self.env)
    }

    pub(super) fn launch(&self) -> Option<Launch> {
        match self.role() {
            Role::Launcher(launch) => Some(launch),
            _ => None,
        }
    }

    /// The app's own command: behind the launcher, or all of it.
    pub(super) fn app(&self) -> Vec<String> {
        match self.launch() {
            Some(launch) => launch.app,
            None => self.line.commands.last().cloned().unwrap_or_default(),
        }
    }

    /// Whether it looks like something that takes requests, rather than a worker.
    pub(super) fn serves(&self) -> bool {
        let app = self.app();
        let words: Vec<&str> = app.iter().map(|word| base(word)).collect();
        let says = |hints: &[&str]| {
            let has = |text: &str| {
                let text = text.to_ascii_lowercase();
                let mut parts = text.split(|c: char| !c.is_ascii_alphabetic());
                parts.any(|part| hints.contains(&part))
            };
            has(&self.name) || words.iter().any(|word| has(word))
        };
        if says(&[
            "worker",
            "workers",
            "cron",
            "queue",
            "job",
            "jobs",
            "scheduler",
            "consumer",
            "mailer",
            "beat",
            "celery",
            "sidekiq",
        ]) {
            return false;
        }
        self.env.iter().any(|(key, _)| key == "PORT")
            || app
                .iter()
                .any(|word| SERVERS.contains(&base(word)) || word.starts_with("--port"))
            || says(&[
                "server", "serve", "api", "web", "app", "http", "site", "index", "main",
            ])
    }
}
