//! `lameduck check`: validates a configuration, and shows its effective values.

use crate::app::check::resolve;
use crate::config::{
    CommandLineFlags, Config, ConfigError, ConfigReport, LoadedConfig, print::print,
};
use crate::rt::output::answered;
use clap::builder::FalseyValueParser;
use std::io::Write;
use std::path::PathBuf;

/// Options of `lameduck check`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CheckArgs {
    /// The configuration [default: ./lameduck.toml, then /etc/lameduck/lameduck.toml]
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print every effective value, as a configuration that means the same
    #[arg(long, env = "LAMEDUCK_PRINT", value_parser = FalseyValueParser::new())]
    pub print: bool,
    /// Print the result as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new(), conflicts_with = "print")]
    pub json: bool,
    /// Whether messages have colours. The caller sets this, because it knows what `err` is.
    #[arg(skip)]
    pub colour: bool,
}

/// Checks a configuration. Its output goes to `out`, messages go to `err`.
///
/// Returns the exit code: 0 for a valid one; 1 if it is invalid or missing, or `out` can't be written; 2 for wrong
/// usage.
pub fn run_check(args: CheckArgs, out: &mut impl Write, err: &mut impl Write) -> u8 {
    let result = resolve(args.config.as_deref(), CommandLineFlags::default());
    let code = match &result {
        Ok(_) => 0,
        Err(error) if error.is_usage() => 2,
        Err(_) => 1,
    };
    let written = if args.json {
        writeln!(out, "{:#}", result_json(&result))
    } else {
        write_text(&args, &result, out, err)
    };
    // A reader that has closed the pipe does not matter; but an incomplete file does.
    match answered(written.and_then(|()| out.flush())) {
        Ok(()) => code,
        Err(why) => {
            let _ = writeln!(err, "lameduck: {why}");
            code.max(1)
        }
    }
}

fn write_text(
    args: &CheckArgs,
    result: &Result<LoadedConfig, ConfigError>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<()> {
    match result {
        Ok(loaded) => {
            let _ = write!(err, "{}", loaded.warnings.render(args.colour));
            let line = format!(
                "{}: ok ({})",
                loaded.warnings.name(),
                summary(&loaded.config)
            );
            if args.print {
                // The summary goes to `err`, so that `--print > file` writes a valid configuration.
                write!(out, "{}", print(&loaded.config))?;
                let _ = writeln!(err, "{line}");
                Ok(())
            } else {
                writeln!(out, "{line}")?;
                for included in loaded.warnings.sources.names().skip(1) {
                    writeln!(out, "  with {included}")?;
                }
                Ok(())
            }
        }
        Err(error) => {
            let _ = write!(err, "{}", error.render(args.colour));
            if let ConfigError::Invalid(report) = error {
                let errors = report.errors().count();
                let _ = writeln!(err, "\n{}: {}", report.name(), count(errors, "error"));
            }
            Ok(())
        }
    }
}

fn result_json(result: &Result<LoadedConfig, ConfigError>) -> serde_json::Value {
    let (report, config): (ConfigReport, Option<&Config>) = match result {
        Ok(loaded) => (loaded.warnings.clone(), Some(&loaded.config)),
        Err(error) => (error.report(), None),
    };
    serde_json::json!({
        "file": report.name(),
        "files": report.sources.names().collect::<Vec<_>>(),
        "ok": config.is_some(),
        "listeners": config.map(|c| c.listeners.len()),
        "pools": config.map(|c| c.pools.len()),
        "backends": config.map(count_backends),
        "diagnostics": report.json(),
        "more": report.unshown(),
    })
}

fn count_backends(config: &Config) -> usize {
    config.pools.iter().map(|pool| pool.backends.len()).sum()
}

/// `1 listener, 2 pools, 5 backends`.
fn summary(config: &Config) -> String {
    [
        count(config.listeners.len(), "listener"),
        count(config.pools.len(), "pool"),
        count(count_backends(config), "backend"),
    ]
    .join(", ")
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct CheckCli {
        #[command(flatten)]
        args: CheckArgs,
    }

    const GOOD: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"app\"\n\
         [[pool.backend]]\naddress = \"127.0.0.1:3000\"\n[[pool.backend]]\naddress = \"127.0.0.1:3001\"\n";

    /// Exit code, output and messages; the path of the temporary directory is removed from them.
    fn check(text: &str, options: &[&str]) -> (u8, String, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let line = ["check", "-c", path.to_str().unwrap()];
        let args = CheckCli::parse_from(line.iter().chain(options)).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run_check(args, &mut out, &mut err);
        let prefix = format!("{}/", dir.path().display());
        let shown = |bytes| String::from_utf8(bytes).unwrap().replace(&prefix, "");
        (code, shown(out), shown(err))
    }

    #[test]
    fn a_good_file_is_ok() {
        let expected = "x.toml: ok (1 listener, 1 pool, 2 backends)\n";
        assert_eq!(check(GOOD, &[]), (0, expected.into(), String::new()));
    }

    #[test]
    fn files_that_are_included_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(&path, format!("include = [\"d/*.toml\"]\n{GOOD}")).unwrap();
        for name in ["b", "a"] {
            let text = format!(
                "[[pool]]\nname = \"{name}\"\n[[route]]\nhost = \"{name}\"\npool = \"{name}\"\n"
            );
            std::fs::write(dir.path().join(format!("d/{name}.toml")), text).unwrap();
        }
        let route = "[[route]]\npool = \"app\"\n";
        std::fs::write(dir.path().join("d/c.toml"), route).unwrap();
        let ask = |json| {
            let args = CheckArgs {
                config: Some(path.clone()),
                json,
                ..CheckArgs::default()
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            assert_eq!(run_check(args, &mut out, &mut err), 0, "{err:?}");
            let out = String::from_utf8(out).unwrap();
            out.replace(&format!("{}/", dir.path().display()), "")
        };
        assert_eq!(
            ask(false),
            "x.toml: ok (1 listener, 3 pools, 2 backends)\n  with d/a.toml\n  with d/b.toml\n  with d/c.toml\n"
        );
        let json: serde_json::Value = serde_json::from_str(&ask(true)).unwrap();
        let files = ["x.toml", "d/a.toml", "d/b.toml", "d/c.toml"];
        assert_eq!(json["files"], serde_json::json!(files));
    }

    #[test]
    fn print_gives_a_configuration_and_nothing_else_on_stdout() {
        let (code, out, err) = check(GOOD, &["--print"]);
        assert_eq!(
            (code, err.as_str()),
            (0, "x.toml: ok (1 listener, 1 pool, 2 backends)\n")
        );
        assert_eq!(check(&out, &["--print"]).1, out);
    }

    #[test]
    fn a_broken_file_is_shown_and_counted() {
        let (code, out, err) = check(&GOOD.replace("3001", "0"), &[]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("--> x.toml:8:11"), "{err}");
        assert!(err.ends_with("\nx.toml: 1 error\n"), "{err}");
    }

    #[test]
    fn json_is_for_programs() {
        let (code, out, err) = check(&GOOD.replace("3001", "0"), &["--json"]);
        assert_eq!((code, err.as_str()), (1, ""));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["ok"], false);
        let first = &json["diagnostics"][0];
        assert_eq!(
            (&first["severity"], &first["line"], &first["column"]),
            (&"error".into(), &8.into(), &11.into())
        );
        let (code, out, _) = check(GOOD, &["--json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (code, &json["ok"], &json["backends"]),
            (0, &true.into(), &2.into())
        );
    }

    #[test]
    fn missing_file_is_reported_as_missing() {
        let args = CheckArgs {
            config: Some("/nowhere/x.toml".into()),
            ..CheckArgs::default()
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(run_check(args, &mut out, &mut err), 1);
        let err = String::from_utf8(err).unwrap();
        assert!(
            err.starts_with("error: can't read /nowhere/x.toml: no such file or directory\n"),
            "{err}"
        );
        assert!(
            err.contains("help: name the right file with `-c FILE`"),
            "{err}"
        );
    }

    #[test]
    fn colour_is_used_only_where_it_is_asked_for() {
        let error = ConfigError::NotFound {
            searched: vec!["a".into()],
        };
        assert!(error.render(true).contains('\u{1b}'));
        assert!(!error.render(false).contains('\u{1b}'));
    }
}
