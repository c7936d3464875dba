//! `lameduck report`: the last restarts, and what happened to requests.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::FalseyValueParser;
use serde_json::Value;

use super::exit::Exit;
use crate::client::admin_args::AdminArgs;
use crate::client::http::AdminClient;
use crate::config::duration;
use crate::registry::restart_view::RestartList;
use crate::rt::output;
use crate::tools::report::condition::{FailOn, broken_conditions};
use crate::tools::report::document::{LogOrigin, ReportScope, RestartReport};
use crate::tools::report::html::render_html;
use crate::tools::report::markdown::render_markdown;
use crate::tools::report::text::render_text;

/// Options of `lameduck report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The last restart; if it was part of a roll, the whole roll. This is the default
    #[arg(long, env = "LAMEDUCK_LAST_RESTART", value_parser = FalseyValueParser::new(), conflicts_with_all = ["since", "roll"])]
    pub last: bool,
    /// Restarts that have begun in this time
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_SINCE", value_parser = duration::parse, conflicts_with = "roll")]
    pub since: Option<Duration>,
    /// Restarts of this roll
    #[arg(long, value_name = "ID", env = "LAMEDUCK_ROLL")]
    pub roll: Option<String>,
    /// Print JSON: what `lameduck verify` reads
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new(), conflicts_with_all = ["html", "markdown"])]
    pub json: bool,
    /// Print a page of HTML
    #[arg(long, env = "LAMEDUCK_HTML", value_parser = FalseyValueParser::new(), conflicts_with = "markdown")]
    pub html: bool,
    /// Print Markdown, for a pull request
    #[arg(long, env = "LAMEDUCK_MARKDOWN", value_parser = FalseyValueParser::new())]
    pub markdown: bool,
    /// Write it to this file
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Exit 7 if this has happened; several with commas
    #[arg(
        long,
        value_name = "WHAT",
        env = "LAMEDUCK_FAIL_ON",
        value_enum,
        value_delimiter = ','
    )]
    pub fail_on: Vec<FailOn>,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_report(args: ReportArgs) -> Result<(), Exit> {
    let client = AdminClient::new(&args.connect)?;
    let list: RestartList = client.get("/v1/restarts").await?;
    let config: Value = client.get("/v1/config").await?;
    let scope = match (&args.roll, args.since) {
        (Some(id), _) => ReportScope::Roll(id.clone()),
        (None, Some(age)) => ReportScope::Since(age),
        (None, None) => ReportScope::Last,
    };
    let report = RestartReport::new(list, &scope, log_origin(&config), SystemTime::now());
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|error| Exit::failed(error.to_string()))?
    } else if args.html {
        render_html(&report)
    } else if args.markdown {
        render_markdown(&report)
    } else {
        render_text(&report)
    };
    let text = text.trim_end();
    match &args.output {
        Some(path) => std::fs::write(path, format!("{text}\n"))
            .map_err(|error| Exit::failed(format!("can't write {}: {error}", path.display())))?,
        None => Exit::answered(output::answer(text))?,
    }
    let broken = broken_conditions(&report, &args.fail_on);
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Exit::broken_report(format!(
            "--fail-on: {}",
            broken.join(", ")
        ))),
    }
}

fn log_origin(config: &Value) -> Option<LogOrigin> {
    let log = config.get("access_log")?;
    let text = |name: &str| Some(log.get(name)?.as_str()?.to_owned());
    Some(LogOrigin {
        path: text("path")?,
        format: text("format").unwrap_or_default(),
    })
}
