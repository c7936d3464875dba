//! Chooses one of the three ways to drain a process before its stop (docs/supervisors.md), for a process without any.

use super::advice::Corrections;
use super::model::{CommandForm, SupervisedProcess, Supervisor};
use super::proxy::ProxySide;

/// Setting for a proxy that accepts requests until no new ones arrive.
const AUTO_LAME_DUCK: &str = "# and in lameduck.toml, below [server], so that it knows the traffic from before: lame_duck = \"auto\"";

/// The way that fits, with the reason, as comment lines that begin with `#`. `can_be_wrapped`: it is known how the
/// command would look under the launcher.
pub(super) fn fitting_way(process: &SupervisedProcess, can_be_wrapped: bool) -> Vec<String> {
    if process.has_hook_form() {
        return said(
            "a hook fits: with Type=forking the app leaves the process that starts it, so no launcher could keep it",
        );
    }
    if can_be_wrapped {
        return said(match process.form {
            CommandForm::Container { command: false } => {
                "the launcher fits if the image's own command can be repeated here; if not, a preStop hook does \
                 (deploy/kubernetes/sidecar-prestop.yaml)"
            }
            CommandForm::Service {
                command: false,
                entrypoint: false,
            } => {
                "the launcher fits if the image's own command can be repeated here; if not, [pool.supervisor] with type = \
                 \"docker\": Compose runs no hook when it replaces a container"
            }
            _ => {
                "the launcher fits: the command stands in this file, and the signal then waits for the drain, which is more \
                 than watching can do"
            }
        });
    }
    let Some(kind) = process.supervisor.watched_as() else {
        return Vec::new();
    };
    let mut lines = said(
        "watching fits: what starts several programs can't be put under one launcher; below the pool in lameduck.toml:",
    );
    lines.push("# [pool.supervisor]".to_owned());
    lines.push(format!("# type = \"{}\"", kind.as_str()));
    if let Some(name) = supervisors_name(process) {
        lines.push(format!("# process = \"{name}\""));
    }
    lines
}

/// Adds the settings that lameduck's own configuration needs.
pub(super) fn with_silence(help: String, fix: &Corrections, proxy: &ProxySide) -> String {
    let config = proxy.config();
    let is_told = config.is_some_and(|config| config.server.lame_duck.is_none());
    match fix.until_silence && !is_told {
        true => format!("{help}\n{AUTO_LAME_DUCK}"),
        false => help,
    }
}

fn said(text: &str) -> Vec<String> {
    vec![format!("# {text}")]
}

/// Name of the process at the supervisor; `None`: this file doesn't tell.
fn supervisors_name(process: &SupervisedProcess) -> Option<String> {
    let name = &process.name;
    match (process.supervisor, process.form) {
        (Supervisor::Systemd, CommandForm::Unit { template: true, .. }) => {
            Some(format!("{name}@{{number}}.service"))
        }
        (Supervisor::Systemd, _) => Some(format!("{name}.service")),
        (Supervisor::Supervisord | Supervisor::Pm2, _) if !process.several => Some(name.clone()),
        _ => None,
    }
}
