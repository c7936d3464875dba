//! `lameduck upgrade`: has another lameduck process take over from the running one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;

use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use crate::admin::upgrade::{UpgradeReport, UpgradeRequest, UpgradeView};
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AnswerWait};
use crate::core::upgrade::{TIME_TO_ACCEPT, TIME_TO_BUILD, TIME_TO_CHECK};
use crate::rt::output::{count, printable};

/// Options of `lameduck upgrade`.
#[derive(Debug, Clone, Args)]
pub struct UpgradeArgs {
    /// The program that takes over; by default the file that the running one was started from, as it is now
    #[arg(long, value_name = "FILE", env = "LAMEDUCK_BINARY")]
    pub binary: Option<PathBuf>,
    /// Its configuration file; by default the running one's
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_UPGRADE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Only where the program's file is another than the running one: else read the configuration again
    #[arg(long, env = "LAMEDUCK_IF_CHANGED", value_parser = FalseyValueParser::new())]
    pub if_changed: bool,
    /// How long each step of the new process may take at most; by default 30s, and 10s to begin to accept
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_TIMEOUT", value_parser = crate::config::duration::parse)]
    pub timeout: Option<Duration>,
    /// Print what was handed over as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The upgrade failed, and the running proxy goes on: exit code and message.
pub async fn run_upgrade(args: UpgradeArgs) -> Result<(), Exit> {
    let request = UpgradeRequest {
        binary: args.binary.as_deref().map(whole).transpose()?,
        config: args.config.as_deref().map(whole).transpose()?,
        if_changed: args.if_changed,
        timeout_ms: args.timeout.map(|timeout| timeout.as_millis() as u64),
    };
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| upgrade(client, voice, &request, args.json).await,
    )
    .await
}

async fn upgrade(
    client: &AdminClient,
    voice: &ProxyVoice,
    request: &UpgradeRequest,
    json: bool,
) -> Result<(), Exit> {
    let longest = AnswerWait::For(TIME_TO_CHECK + TIME_TO_BUILD + TIME_TO_ACCEPT);
    let report: UpgradeReport = client
        .call(Method::POST, "/v1/upgrade", Some(request), longest)
        .await?;
    if json {
        voice.print_json(&report);
    } else {
        voice.print(&shown(&report));
    }
    Ok(())
}

/// For `lameduck status`: an upgrade in progress, and what the previous process still serves.
pub(super) fn describe_upgrade(view: &UpgradeView) -> String {
    let mut text = String::new();
    if view.under_way {
        text.push_str("\n\nan upgrade is under way");
    }
    if let Some(old) = &view.predecessor {
        let connections = count(old.connections.into(), "connection");
        let (pid, version) = (old.pid, printable(&old.version));
        let _ = write!(
            text,
            "\n\nupgraded: process {pid} (lameduck {version}) finishes {connections}, until {} at the latest",
            printable(&old.until)
        );
    }
    text
}

/// Makes a path absolute, because the proxy has a working directory of its own.
fn whole(path: &Path) -> Result<PathBuf, Exit> {
    std::path::absolute(path)
        .map_err(|error| Exit::usage(format!("{} is no path: {error}", path.display())))
}

fn shown(report: &UpgradeReport) -> String {
    if report.outcome == "reloaded" {
        let lines = report.changes.iter().map(|line| printable(line));
        let lines: Vec<_> = lines.collect();
        return match lines.as_slice() {
            [] => "the program is the same: reloaded, and nothing changed".to_owned(),
            lines => format!("the program is the same: reloaded\n{}", lines.join("\n")),
        };
    }
    let (pid, old_pid) = (report.pid, report.old_pid);
    let version = printable(&report.version);
    let mut text = format!("upgraded: lameduck {version} serves (process {pid})\n");
    let listeners = count(report.listeners as u64, "listener");
    let admin = count(report.admin_sockets as u64, "admin socket");
    let _ = write!(text, "handed over: {listeners}, {admin}");
    if report.moved > 0 {
        let _ = write!(text, ", {}", count(report.moved.into(), "connection"));
    }
    text.push('\n');
    match report.left {
        0 => {
            let _ = writeln!(text, "left to process {old_pid}: nothing");
        }
        left => {
            let left = count(left.into(), "connection");
            let until = printable(&report.until);
            let _ = writeln!(
                text,
                "left to process {old_pid}: {left} to finish, until {until} at the latest"
            );
        }
    }
    text.push_str(&match report.parent.as_str() {
        "systemd" => format!("systemd follows process {pid}"),
        _ => format!(
            "process {old_pid} stays, small, for whoever started it: it passes signals on to process {pid} and ends with it"
        ),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_says_what_went_and_what_is_left() {
        let report = UpgradeReport {
            outcome: "upgraded".into(),
            version: "9.1".into(),
            pid: 12,
            old_pid: 7,
            listeners: 2,
            admin_sockets: 1,
            left: 3,
            until: "2026-01-01T00:00:00Z".into(),
            parent: "stand_in".into(),
            ..UpgradeReport::default()
        };
        let text = shown(&report);
        for words in [
            "lameduck 9.1 serves (process 12)",
            "2 listeners, 1 admin socket",
            "left to process 7: 3 connections to finish, until 2026-01-01",
            "process 7 stays",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let systemd = UpgradeReport {
            left: 0,
            parent: "systemd".into(),
            ..report
        };
        let text = shown(&systemd);
        assert!(text.contains("nothing") && text.ends_with("systemd follows process 12"));
    }
}
