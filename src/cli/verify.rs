//! `lameduck verify`: compares a restart report with access logs, on any machine.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::FalseyValueParser;

use super::exit::Exit;
use crate::rt::output;
use crate::tools::report::document::RestartReport;
use crate::tools::report::ledger::{LinePlace, LogLedger};
use crate::tools::report::log_file::read_lines;
use crate::tools::report::verify::{compare, render_verdict};

/// Options of `lameduck verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// A report, as `lameduck report --json` writes it
    #[arg(value_name = "REPORT")]
    pub report: PathBuf,
    /// The access log, or parts of it: plain, gzip or zstd, json or combined; `-` for standard input
    #[arg(long, value_name = "FILE", env = "LAMEDUCK_LOG", required = true, num_args = 1..)]
    pub log: Vec<PathBuf>,
    /// Print JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
}

/// Runs it; returns the exit code.
pub fn run_verify(args: &VerifyArgs) -> u8 {
    match verify(args) {
        Ok(()) => 0,
        Err(exit) => exit.report(),
    }
}

fn verify(args: &VerifyArgs) -> Result<(), Exit> {
    let report = read_report(&args.report)?;
    let mut ledger = LogLedger::new(&report);
    let names: Vec<String> = args
        .log
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut heads: Vec<Vec<u8>> = Vec::new();
    for (file, path) in args.log.iter().enumerate() {
        let mut head = Vec::new();
        let read = read_lines(path, |line, text, end| {
            if line == 1 {
                head = text.to_vec();
            }
            ledger.add_line(LinePlace { file, line }, text, end);
        });
        read.map_err(|error| Exit::failed(format!("can't read {}: {error}", path.display())))?;
        if let Some(twin) = heads
            .iter()
            .position(|other| *other == head && !head.is_empty())
        {
            return Err(Exit::failed(format!(
                "{} and {} begin with the same line: they are the same log; name each part once",
                names[twin], names[file]
            )));
        }
        heads.push(head);
    }
    if ledger.lines == 0 {
        return Err(Exit::failed(format!(
            "there is no line of lameduck's access log in {}: nothing can be checked. It has to be in the format `json` or \
             `combined`",
            names.join(", ")
        )));
    }
    let verdict = compare(&report, &ledger, &names);
    let written = match args.json {
        true => output::answer_json(&verdict),
        false => output::answer(&render_verdict(&report, &verdict)),
    };
    Exit::answered(written)?;
    match verdict.agrees {
        true => Ok(()),
        false => Err(Exit::broken_report(String::new())),
    }
}

fn read_report(path: &Path) -> Result<RestartReport, Exit> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Exit::failed(format!("can't read {shown}: {error}")))?;
    RestartReport::read(&text).map_err(|error| Exit::failed(format!("{shown}: {error}")))
}
