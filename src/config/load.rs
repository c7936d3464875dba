//! Entry point: a file or a text in, a configuration and its warnings out.

use super::diagnostics::{ConfigError, ConfigReport};
use super::include::{INCLUDE, Includer, MAX_SIZE};
use super::merge::{merge, move_places};
use super::plain_file::read_file;
use super::reader::{ConfigFindings, ConfigTable, DocumentParts};
use super::section_traits::ConfigSection as _;
use super::sources::{SourceText, SourceTexts};
use super::variables::{self, VariableLookup};
use super::words::plain;
use super::{Config, ListenAddress, ListenerConfig};
use super::{dependent_defaults, size, validate};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// Paths at which a configuration is looked for without `-c`.
pub const DEFAULT_PATHS: [&str; 2] = ["./lameduck.toml", "/etc/lameduck/lameduck.toml"];

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Warnings: settings that work but are probably not intended.
    pub warnings: ConfigReport,
    /// Path of the file; `None`: from flags or a text.
    pub path: Option<PathBuf>,
    /// Addresses of the file's listeners that `--listen` replaces; else empty.
    pub unused_listeners: Vec<ListenAddress>,
    /// Whether `[admin] http` has its default, in which case another process may have that address.
    pub is_http_default: bool,
    /// Settings of the file that environment variables override, a sentence each; for the log.
    pub notes: Vec<String>,
}

/// Examines the files that a configuration names, and keeps the results. Provided by the edge, because the code here
/// does not know, for example, what a certificate is.
pub type FileChecks = fn(&mut Config, &mut ConfigFindings);

/// Reads and checks a file; `checks` examines the files that it names.
///
/// # Errors
/// The file can't be read, or has errors: all of them are in the report.
pub fn load(path: &Path, checks: FileChecks) -> Result<LoadedConfig, ConfigError> {
    load_with(path, None, checks)
}

/// As [`load`], but `listeners` (the flag `--listen`) replace the listeners of the file.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    listeners: Option<Vec<ListenerConfig>>,
    checks: FileChecks,
) -> Result<LoadedConfig, ConfigError> {
    let unreadable = |why: String, remedy: &str| ConfigError::Unreadable {
        path: path.to_path_buf(),
        why,
        remedy: remedy.into(),
    };
    let bytes = read_file(path, MAX_SIZE).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "name the right file with `-c FILE`",
            std::io::ErrorKind::PermissionDenied => "let lameduck's user read it",
            std::io::ErrorKind::IsADirectory => {
                "name the file in it, such as `-c DIR/lameduck.toml`"
            }
            std::io::ErrorKind::TimedOut => "see whether anybody writes to this pipe",
            _ => "see whether it is a plain file",
        };
        unreadable(plain(&error), remedy)
    })?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(unreadable(
            format!("it is larger than {}", size::format(MAX_SIZE)),
            "see whether it is the right file: a hundred thousand backends fit into less",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        unreadable(
            format!("line {line} is not UTF-8"),
            "save the file as UTF-8",
        )
    })?;
    let mut sources = SourceTexts::default();
    sources.add(path.display().to_string(), text.into());
    let mut loaded = read(sources, listeners, Some(checks), &variables::of_process)?;
    loaded.path = Some(path.to_path_buf());
    Ok(loaded)
}

/// Checks a text. `name` is shown in messages, and relative paths in the text are relative to its directory. Files
/// that the text names, including those of `include`, are not examined; [`load`] does that.
///
/// # Errors
/// The text has errors: all of them are in the report.
pub fn parse(name: &str, text: &str) -> Result<LoadedConfig, ConfigError> {
    parse_with(name, text, &variables::of_process)
}

/// As [`parse`], with a given environment.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<LoadedConfig, ConfigError> {
    read(SourceTexts::one(name, text), None, None, environment)
}

fn read(
    mut sources: SourceTexts,
    listeners: Option<Vec<ListenerConfig>>,
    checks: Option<FileChecks>,
    environment: VariableLookup<'_>,
) -> Result<LoadedConfig, ConfigError> {
    let mut found = ConfigFindings::default();
    if checks.is_some() {
        Includer::new(&mut sources, environment, &mut found).follow(0);
    }
    let texts: Vec<SourceText> = sources.iter().cloned().collect();
    let mut config = None;
    let mut unused_listeners = Vec::new();
    let mut is_http_default = true;
    if let Some(mut root) = parse_all(&texts, &sources, &mut found) {
        let expanded = variables::expand(&mut root, &sources, environment, &mut found);
        let parts = DocumentParts {
            sources: &sources,
            expanded: &expanded,
        };
        let section = Config::section();
        let root = ConfigTable::new(section, String::new(), Some(&root), &parts, &mut found);
        let mut read = Config::read(&root, &mut found);
        read.hidden = std::mem::take(&mut found.hidden);
        if let Some(listeners) = listeners {
            found.forget("listener");
            let written = std::mem::replace(&mut read.listeners, listeners);
            unused_listeners = written
                .into_iter()
                .map(|listener| listener.address)
                .collect();
        }
        is_http_default = !found.written("admin.http");
        dependent_defaults::settle_defaults(&mut read, &found);
        validate::config(&read, &mut found);
        if let Some(checks) = checks {
            checks(&mut read, &mut found);
        }
        config = Some(read);
    }
    let mut diagnostics = found.diagnostics;
    diagnostics.sort_by_key(|d| d.span.as_ref().map_or(usize::MAX, |span| span.start));
    let report = ConfigReport {
        sources,
        diagnostics,
    };
    match config {
        Some(config) if report.errors().next().is_none() => Ok(LoadedConfig {
            config,
            warnings: report,
            path: None,
            unused_listeners,
            is_http_default,
            notes: Vec::new(),
        }),
        _ => Err(ConfigError::Invalid(report)),
    }
}

/// Parses all texts as one table; `None`: one of them is not TOML.
fn parse_all<'t>(
    texts: &'t [SourceText],
    sources: &SourceTexts,
    found: &mut ConfigFindings,
) -> Option<DeTable<'t>> {
    let mut whole = Some(DeTable::new());
    for source in texts {
        let (root, errors) = DeTable::parse_recoverable(&source.text);
        if !errors.is_empty() {
            super::syntax::explain(source, &errors, found);
            whole = None;
        }
        let Some(whole) = &mut whole else {
            continue;
        };
        let mut root = root.into_inner();
        root.remove(INCLUDE);
        match source.start {
            0 => *whole = root,
            start => {
                move_places(&mut root, start);
                merge(whole, root, sources, found);
            }
        }
    }
    whole
}
