//! Port of an app under the launcher: the launcher chooses it, or has to know the app's.

use super::super::model::{CommandForm, SupervisedProcess, Supervisor};
use super::super::programs::{self, Value};

/// How the file writes the variable of the port so that the shell expands it, not the supervisor.
fn port_variable(process: &SupervisedProcess) -> &'static str {
    match process.supervisor {
        Supervisor::Systemd | Supervisor::Compose => "$$PORT",
        _ => "$PORT",
    }
}

/// Option of the launcher for the port, and the part of the app's command that has to be replaced.
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
        // A placeholder that differs between instances, or whose value is only known on the host.
        Value::Placeholder(text) => return (Some(format!("--port {text}")), None),
        Value::Number(number) if !several => return (Some(format!("--port {number}")), None),
        Value::Number(_) => format!("{}{variable}", port.before),
        // An app under the launcher listens on a port.
        Value::Socket if port.before == "--uds=" => format!("--port={variable}"),
        Value::Socket if port.at > 0 && argv[port.at - 1] == "--uds" => variable.to_owned(),
        Value::Socket => format!("{}127.0.0.1:{variable}", port.before),
    };
    (None, Some((old, new)))
}

/// Port of a single process whose command names none.
fn fixed_port(process: &SupervisedProcess, argv: &[String]) -> Option<String> {
    let mut told = process
        .env
        .iter()
        .filter(|(key, _)| key == "PORT")
        .map(|(_, port)| port.parse::<u16>().ok());
    // Several environments may have several ports, which the launcher finds itself.
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

/// Variable of servers that do not read `PORT`.
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

/// Option of servers that read no variable.
fn by_default(argv: &[String]) -> Option<String> {
    let (_, program) = programs::main(argv)?;
    let port = match program {
        "hypercorn" | "daphne" | "http.server" | "granian" => 8000,
        _ => return None,
    };
    Some(format!("--port {port}"))
}
