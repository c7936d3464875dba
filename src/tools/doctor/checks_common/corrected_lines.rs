//! Corrected lines in the syntax of each supervisor.

use super::super::model::{CommandForm, SupervisedProcess, Supervisor};
use super::Help;

/// Setting of another stop signal.
pub(super) fn signal_line(process: &SupervisedProcess, signal: &str) -> Help {
    let bare = signal.trim_start_matches("SIG");
    match process.supervisor {
        // This supervisor has one signal for all apps.
        Supervisor::Pm2 | Supervisor::Kubernetes => Help::Launcher,
        Supervisor::Oxmgr | Supervisor::OldOxmgr => {
            Help::Text(process.setting("stop_signal", signal))
        }
        Supervisor::Systemd => Help::Text(process.setting("KillSignal", signal)),
        Supervisor::Supervisord => Help::Text(process.setting("stopsignal", bare)),
        Supervisor::Compose => Help::Text(process.setting("stop_signal", signal)),
    }
}

/// Setting with which a single process listens.
pub(super) fn cluster_line(process: &SupervisedProcess) -> String {
    match process.supervisor {
        Supervisor::Pm2 => process.setting("exec_mode", "fork"),
        _ => process.setting("cluster_mode", "false"),
    }
}

/// Setting of a variable of the app.
pub(super) fn variable_line(process: &SupervisedProcess, name: &str, value: &str) -> String {
    match process.form {
        CommandForm::Toml => format!("{name} = \"{value}\""),
        CommandForm::Script { quoted: true } => format!("\"{name}\": \"{value}\","),
        CommandForm::Script { quoted: false } => format!("{name}: \"{value}\","),
        CommandForm::Yaml | CommandForm::Service { .. } => format!("{name}: \"{value}\""),
        CommandForm::Container { .. } => format!("{{ name: {name}, value: \"{value}\" }}"),
        CommandForm::Unit { .. } => format!("Environment={name}={value}"),
        CommandForm::Ini => format!("{name}=\"{value}\""),
    }
}

/// The corrected health check.
pub(super) fn health_line(
    process: &SupervisedProcess,
    pool: &str,
    name: &str,
    command: bool,
) -> String {
    match process.supervisor {
        // It sets the variable if there are several proxies, and runs the command without a shell.
        Supervisor::Oxmgr | Supervisor::OldOxmgr if process.instances.is_some() => {
            process.setting("health_cmd", &format!("sh -c 'lameduck health {pool}/{pool}-$NODE_APP_INSTANCE'"))
        }
        Supervisor::Oxmgr | Supervisor::OldOxmgr => {
            process.setting("health_cmd", &format!("lameduck health {pool}/{name}"))
        }
        _ if command => format!("command: [\"/usr/bin/lameduck\", \"health\", \"{pool}\"]"),
        _ => "path: /live   # one that says whether the process lives, and not whether it takes requests".into(),
    }
}
