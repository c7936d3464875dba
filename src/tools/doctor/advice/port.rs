//! The port of an app under the launcher: the launcher's to choose, or the app's that it must know.

use super::super::model::{CommandForm, SupervisedProcess, Supervisor};
use super::super::programs::{self, Value};

/// The text for a shell needs `$PORT` as its own.
fn port_variable(process: &SupervisedProcess) -> &'static str {
    match process.supervisor {
        Supervisor::Systemd | Supervisor::Compose => "$$PORT",
        _ => "$PORT",
    }
}

/// The launcher's option for the port, and what in the app's command must be replaced.
pub(super) fn port(
    process: &SupervisedProcess,
    argv: &[String],
) -> (Option<String>, Option<(String, String)>) {
    let variable = port_variable(process);
    let template = matches!(process.form, CommandForm::Unit { template: true, .. });
    let several = process.several || template;
    let Some(port) = programs::port(argv) else {
        return match several {
            true => (by_variable(argv), None),
            false => (fixed_port(process, argv), None),
        };
    };
    let old = argv.get(port.at).cloned().unwrap_or_default();
    let new = match port.value {
        // A placeholder that differs from instance to instance, or whose value only the host knows.
        Value::Placeholder(text) => return (Some(format!("--port {text}")), None),
        Value::Number(number) if !several => return (Some(format!("--port {number}")), None),
        Value::Number(_) => format!("{}{variable}", port.before),
        // A launcher's app listens on a port.
        Value::Socket if port.before == "--uds=" => format!("--port={variable}"),
        Value::Socket if port.at > 0 && argv[port.at - 1] == "--uds" => variable.to_owned(),
        Value::Socket => format!("{}127.0.0.1:{variable}", port.before),
    };
    (None, Some((old, new)))
}

/// The port of a single process whose command names none.
fn fixed_port(process: &SupervisedProcess, argv: &[String]) -> Option<String> {
    let mut told = process
        .env
        .iter()
        .filter(|(key, _)| key == "PORT")
        .map(|(_, port)| port.parse::<u16>().ok());
    // With several environments, several ports: the launcher finds its own.
    let first = told.next();
    let told = match first {
        Some(port) if told.all(|other| other == port) => port,
        Some(_) => None,
        None => process.port,
    };
    let fixed = told
        .filter(|port| *port > 0)
        .map(|port| format!("--port {port}"));
    fixed
        .or_else(|| by_variable(argv))
        .or_else(|| by_default(argv))
}

/// Servers that read another variable than `PORT`.
fn by_variable(argv: &[String]) -> Option<String> {
    let (_, program) = programs::main(argv)?;
    let name = match program {
        "uvicorn" => "UVICORN_PORT",
        "flask" => "FLASK_RUN_PORT",
        "streamlit" => "STREAMLIT_SERVER_PORT",
        _ => return None,
    };
    Some(format!("--port-env {name}"))
}

/// Servers that read none.
fn by_default(argv: &[String]) -> Option<String> {
    let (_, program) = programs::main(argv)?;
    let port = match program {
        "hypercorn" | "daphne" | "http.server" | "granian" => 8000,
        _ => return None,
    };
    Some(format!("--port {port}"))
}
