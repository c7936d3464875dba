//! The values of `[route.files]`: its root, the steps of `try`, and the rules of `cache`.

use super::forms::{CustomForm, KeyContext, SpannedProblems, ValueForm, custom};
use super::print;
use super::reader::{ValueError, describe};
use super::values::{ValueResult, path_of, quoted, text, wrong};
use super::{Config, duration};
use crate::config::reader::ConfigFindings;
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

/// A step of `try`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TryStep {
    /// A file with this path below the root.
    File(PathPattern),
    /// A directory with this path that has an index.
    Directory(PathPattern),
    /// The search ends with this status code.
    Status(u16),
}

/// A path below the root, which may contain the request's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// The text before it, or the whole text.
    pub before: String,
    /// Whether the request's path is inserted.
    pub has_path: bool,
    /// The text after it.
    pub after: String,
}

/// Placeholder for the request's path in a step.
const PATH: &str = "{path}";

/// Returns the form of a root, which must be given.
pub(super) fn root_directory() -> CustomForm<PathBuf> {
    custom(
        "path",
        |key, value| {
            path_of(key.name, value, key.base)?.ok_or_else(|| {
                let remedy = "write the directory with the files, such as `root = \"/srv/www\"`";
                wrong(key.name, "\"\"", "it names no directory", remedy)
            })
        },
        |path| print::text(&path.display().to_string()),
    )
}

/// Reads the name of a file in a directory.
pub(super) fn read_index(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let name = text(key.name, value, "index.html")?;
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(ValueError::new(
            format!(
                "`{}` has {}: it is not the name of a file",
                key.name,
                quoted(name)
            ),
            "write a name without a slash, such as \"index.html\"",
        ));
    }
    Ok(name.to_owned())
}

/// Form of the steps of `try`.
pub(super) struct TryList;

impl TryList {
    fn step(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<TryStep> {
        let step = text(key.name, value, "{path}")?;
        let problem = |why: &str, remedy: &str| {
            ValueError::new(
                format!("`{}` has {}: {why}", key.name, quoted(step)),
                remedy,
            )
        };
        if let Some(status) = step.strip_prefix('=') {
            return match status.parse() {
                Ok(status @ 400..=599) => Ok(TryStep::Status(status)),
                _ => Err(problem(
                    "it is not a status from 400 to 599",
                    "write \"=404\", or leave it out: 404 is answered anyway",
                )),
            };
        }
        if step.contains("$uri") || step.contains('$') {
            return Err(problem(
                "variables are written in braces",
                "write \"{path}\" where nginx has $uri",
            ));
        }
        if step.starts_with('@') {
            return Err(problem(
                "there are no named locations",
                "make the app's pool another route, for the paths that it answers",
            ));
        }
        let (before, after) = match step.split_once(PATH) {
            Some((before, after)) => (before, Some(after)),
            None => (step, None),
        };
        let rest = after.unwrap_or_default();
        if before.contains(['{', '}']) || rest.contains(['{', '}']) {
            return Err(problem(
                "only `{path}` can stand in it, and once",
                "write a path below the root with it, such as \"{path}.html\"",
            ));
        }
        if !(before.starts_with('/') || before.is_empty() && after.is_some()) {
            return Err(problem(
                "it must begin with a slash, or with `{path}`",
                "write a path below the root, such as \"/index.html\"",
            ));
        }
        let dotted = |text: &str| text.split('/').any(|part| part == "." || part == "..");
        if dotted(before) || dotted(rest) || step.contains(['\0', '%']) {
            return Err(problem(
                "it is not a plain path below the root",
                "write it without `..`, and as the file is called: nothing is decoded in it",
            ));
        }
        let pattern = |before: &str, after: &str, has_path: bool| PathPattern {
            before: before
                .trim_end_matches(if has_path { '\0' } else { '/' })
                .into(),
            has_path,
            after: after.trim_end_matches('/').into(),
        };
        let pattern = pattern(before, rest, after.is_some());
        Ok(match step.ends_with('/') {
            true => TryStep::Directory(pattern),
            false => TryStep::File(pattern),
        })
    }

    fn shown(step: &TryStep) -> String {
        let pattern = |pattern: &PathPattern| {
            let path = if pattern.has_path { PATH } else { "" };
            format!("{}{path}{}", pattern.before, pattern.after)
        };
        print::text(&match step {
            TryStep::File(path) => pattern(path),
            TryStep::Directory(path) => format!("{}/", pattern(path)),
            TryStep::Status(status) => format!("={status}"),
        })
    }
}

impl ValueForm<Vec<TryStep>> for TryList {
    fn name(&self) -> String {
        "list of paths".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<TryStep>> {
        let name = key.name;
        Err(ValueError::new(
            format!("`{name}` is {}, but must be a list", describe(value)),
            format!(
                "write it in brackets, such as `{name} = [\"{PATH}\", \"{PATH}/\", \"/index.html\"]`"
            ),
        ))
    }

    fn print(&self, steps: &Vec<TryStep>) -> String {
        print::texts_of(steps.iter().map(Self::shown))
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<TryStep>> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        if items.is_empty() {
            let problem = ValueError::new(
                format!("`{}` is empty: no file could ever be found", key.name),
                format!(
                    "write `{} = [\"{PATH}\", \"{PATH}/\"]`, or remove it",
                    key.name
                ),
            );
            problems.push((value.span(), problem));
            return None;
        }
        let mut steps = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match Self::step(key, item.get_ref()) {
                Err(problem) => problems.push((item.span(), problem)),
                Ok(TryStep::Status(status)) if place + 1 < items.len() => {
                    let problem = ValueError::new(
                        format!(
                            "`{}` has \"={status}\" before its end: what follows is never tried",
                            key.name
                        ),
                        "make it the last one",
                    );
                    problems.push((item.span(), problem));
                }
                Ok(step) => steps.push(step),
            }
        }
        Some(steps)
    }
}

/// How clients may cache a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePolicy {
    /// `Cache-Control` is not sent.
    Unsaid,
    /// Clients may use it for this time.
    Age(Duration),
    /// Clients may use it for a year without revalidation: another version has another name.
    Immutable,
    /// Clients may store it, and revalidate it each time.
    Ask,
    /// Clients may not store it.
    Never,
}

/// A pattern of files, and their cache policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRule {
    /// `*` stands for any text. A pattern that begins with a slash is compared with the path below the root, any
    /// other with the file's name.
    pub pattern: String,
    /// The policy.
    pub policy: CachePolicy,
    /// Value of `Cache-Control`; empty: the field is not sent.
    pub field: String,
}

impl CacheRule {
    fn new(pattern: &str, policy: CachePolicy) -> Self {
        let field = match policy {
            CachePolicy::Unsaid => String::new(),
            CachePolicy::Age(age) => format!("max-age={}", age.as_secs()),
            CachePolicy::Immutable => "max-age=31536000, immutable".into(),
            CachePolicy::Ask => "no-cache".into(),
            CachePolicy::Never => "no-store".into(),
        };
        Self {
            pattern: pattern.into(),
            policy,
            field,
        }
    }
}

/// Form of a single policy, or of policies by pattern. The longest pattern comes first.
pub(super) struct CacheRules;

impl CacheRules {
    fn policy(key: &str, value: &DeValue<'_>) -> ValueResult<CachePolicy> {
        let text = text(key, value, "1h")?;
        Ok(match text {
            "" => CachePolicy::Unsaid,
            "immutable" => CachePolicy::Immutable,
            "no-cache" => CachePolicy::Ask,
            "no-store" => CachePolicy::Never,
            "1y" => CachePolicy::Age(duration::MAX),
            text => {
                let age = duration::parse(text).map_err(|why| {
                    let remedy = "write a duration such as \"1h\" or \"30d\", or \"no-cache\", \"no-store\" or \"immutable\"";
                    wrong(key, quoted(text), why, remedy)
                })?;
                if age.subsec_nanos() != 0 {
                    let why = "caches count whole seconds";
                    return Err(wrong(key, quoted(text), why, "write whole seconds"));
                }
                CachePolicy::Age(age)
            }
        })
    }

    fn shown(policy: &CachePolicy) -> String {
        print::text(&match policy {
            CachePolicy::Unsaid => String::new(),
            CachePolicy::Age(age) => duration::format(*age),
            CachePolicy::Immutable => "immutable".into(),
            CachePolicy::Ask => "no-cache".into(),
            CachePolicy::Never => "no-store".into(),
        })
    }
}

impl ValueForm<Vec<CacheRule>> for CacheRules {
    fn name(&self) -> String {
        "duration, word, or table of them".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<CacheRule>> {
        let policy = Self::policy(key.name, value)?;
        Ok(match policy {
            CachePolicy::Unsaid => Vec::new(),
            policy => vec![CacheRule::new("*", policy)],
        })
    }

    fn print(&self, rules: &Vec<CacheRule>) -> String {
        match &rules[..] {
            [] => print::text(""),
            [rule] if rule.pattern == "*" => Self::shown(&rule.policy),
            rules => {
                let rule =
                    |rule: &CacheRule| (print::text(&rule.pattern), Self::shown(&rule.policy));
                print::table_of(rules.iter().map(rule))
            }
        }
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<CacheRule>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let mut rules = Vec::new();
        for (pattern, policy) in table.iter() {
            let text: &str = pattern.get_ref();
            if text.is_empty() || (text.contains('/') && !text.starts_with('/')) {
                let why = "with a slash in it, it is about the path, and begins with one";
                let why = if text.is_empty() { "it is empty" } else { why };
                let problem = ValueError::new(
                    format!("`{}` has the pattern {}: {why}", key.name, quoted(text)),
                    "write \"*.css\" for a name, or \"/assets/*\" for a path",
                );
                problems.push((pattern.span(), problem));
                continue;
            }
            match Self::policy(key.name, policy.get_ref()) {
                Ok(policy) => rules.push(CacheRule::new(text, policy)),
                Err(problem) => problems.push((policy.span(), problem)),
            }
        }
        // Of equal length, in alphabetical order: the order in the file is not kept.
        rules.sort_by(|one, other| {
            let length = |rule: &CacheRule| std::cmp::Reverse(rule.pattern.len());
            (length(one), &one.pattern).cmp(&(length(other), &other.pattern))
        });
        Some(rules)
    }
}

/// Checks the steps of `try` against the other settings.
pub(super) fn validate(config: &Config, f: &mut ConfigFindings) {
    for (i, route) in config.routes.iter().enumerate() {
        let Some(files) = &route.files else {
            continue;
        };
        let at = |key: &str| format!("route[{i}].files.{key}");
        let wants_index = |step: &TryStep| matches!(step, TryStep::Directory(_));
        if files.index.is_empty()
            && files.steps.iter().any(wants_index)
            && f.written(&at("try"))
            && f.sound(&[&at("index"), &at("try")])
        {
            f.warning(
                f.place(&at("try")),
                "`try` looks for directories, and `index` is empty: none is ever found",
                "name the files that a directory is answered with, or remove what ends in a slash",
            );
        }
    }
}
