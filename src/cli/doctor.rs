//! `lameduck doctor`: finds settings of supervisors that will cut requests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;

use crate::app::check;
use crate::config::{self, Config, Diagnostic, Severity, duration};
use crate::rt::output::{answered, count};
use crate::tools::doctor::checks::BROKEN_CODE as BROKEN;
use crate::tools::doctor::{DoctorOptions, Examination, discover, examine};

/// Options of `lameduck doctor`.
#[derive(Debug, Clone, clap::Args)]
pub struct DoctorArgs {
    /// Oxfile, PM2 ecosystem file, systemd units, supervisord.conf, Kubernetes manifest, Compose file; `-` for standard
    /// input [default: those in the current directory]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// lameduck's own configuration [default: ./lameduck.toml, then /etc/lameduck/lameduck.toml, if there is one]
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_CONFIG")]
    pub config: Option<PathBuf>,
    /// What the app needs from its signal to its end, once nothing is in flight
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_APP_STOP", default_value = "5s", value_parser = duration::parse)]
    pub app_stop: Duration,
    /// Exit 1 for warnings too
    #[arg(long, env = "LAMEDUCK_STRICT", value_parser = FalseyValueParser::new())]
    pub strict: bool,
    /// Print the findings as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Whether findings have colours. The caller sets this, because it knows what `out` is.
    #[arg(skip)]
    pub colour: bool,
}

/// Examines the files. Findings go to `out`, and files that could not be read are reported to `err`.
///
/// Returns the exit code: 0 without a finding; 1 if something will cut requests (with `--strict`: or may), or `out`
/// can't be written; 2 for wrong usage or a file that can't be read.
pub fn run_doctor(args: DoctorArgs, out: &mut impl Write, err: &mut impl Write) -> u8 {
    let config = match load_own_config(args.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            let _ = write!(err, "{}", error.render(false));
            return 2;
        }
    };
    let paths = match args.files.is_empty() {
        true => discover::here(Path::new(".")),
        false => args.files.clone(),
    };
    if paths.is_empty() {
        let _ = writeln!(
            err,
            "lameduck: nothing to examine here: looked for {}; name the files: `lameduck doctor FILE...`",
            discover::LOOKED_FOR
        );
        return 2;
    }
    let (files, errors) = discover::read(&paths);
    for error in &errors {
        let _ = writeln!(err, "lameduck: {error}");
    }
    let examined = examine(
        &files,
        config,
        DoctorOptions {
            app_stop: args.app_stop,
        },
    );
    let written = if args.json {
        writeln!(out, "{:#}", findings_json(&examined))
    } else {
        write_text(&examined, args.colour, out)
    };
    // A reader that has closed the pipe does not change the result.
    let unwritten = answered(written.and_then(|()| out.flush())).err();
    if let Some(why) = &unwritten {
        let _ = writeln!(err, "lameduck: {why}");
    }
    let bad = |severity| severity == Severity::Error || args.strict;
    let all = || {
        examined
            .reports
            .iter()
            .flat_map(|report| &report.diagnostics)
    };
    match all().any(|diagnostic| bad(diagnostic.severity)) {
        // A file that can't be read can't be judged.
        _ if !errors.is_empty() || all().any(is_unreadable) => 2,
        found => u8::from(found || unwritten.is_some()),
    }
}

/// Whether a finding says only that a file can't be read.
fn is_unreadable(diagnostic: &Diagnostic) -> bool {
    diagnostic.code == BROKEN
}

/// Loads lameduck's own configuration: a named file must be valid; a default one may be missing.
fn load_own_config(named: Option<&Path>) -> Result<Option<Config>, config::ConfigError> {
    let path = named.or_else(|| {
        let mut defaults = config::load::DEFAULT_PATHS.iter().map(Path::new);
        defaults.find(|path| path.exists())
    });
    path.map(|path| Ok(check::load(path)?.config)).transpose()
}

fn write_text(examined: &Examination, colour: bool, out: &mut impl Write) -> std::io::Result<()> {
    let (mut errors, mut warnings, mut broken) = (0, 0, 0);
    for report in &examined.reports {
        let shown = report.render(colour);
        if !shown.is_empty() {
            writeln!(out, "{shown}")?;
        }
        let judged = report
            .diagnostics
            .iter()
            .filter(|found| !is_unreadable(found));
        let bad = judged
            .clone()
            .filter(|found| found.severity == Severity::Error)
            .count() as u64;
        errors += bad;
        warnings += judged.count() as u64 - bad;
        broken += u64::from(report.diagnostics.iter().any(is_unreadable));
    }
    for ((report, kind), passed) in examined
        .reports
        .iter()
        .zip(&examined.kinds)
        .zip(&examined.passed)
    {
        let of = match report
            .diagnostics
            .iter()
            .filter(|found| !is_unreadable(found))
            .count()
        {
            _ if *passed => "passed over: nothing in it is judged".to_owned(),
            0 if report.diagnostics.iter().any(is_unreadable) => "can't be read".to_owned(),
            0 => "nothing found".to_owned(),
            n => count(n as u64, "finding"),
        };
        writeln!(out, "{} ({kind}): {of}", report.name())?;
    }
    if broken > 0 {
        writeln!(
            out,
            "{} can't be read, or not all of it",
            count(broken, "file")
        )?;
    }
    if errors + warnings > 0 {
        writeln!(
            out,
            "{} (will cut requests), {} (may)",
            count(errors, "error"),
            count(warnings, "warning")
        )?;
    }
    Ok(())
}

fn findings_json(examined: &Examination) -> serde_json::Value {
    let files = examined.reports.iter().zip(&examined.kinds);
    let files: Vec<_> = files
        .map(|(report, kind)| serde_json::json!({ "file": report.name(), "kind": kind, "findings": report.json() }))
        .collect();
    serde_json::json!({ "files": files })
}
