//! Reads one table of the TOML, key by key, and records every problem instead of stopping at the first.

use super::HiddenTexts;
use super::diagnostics::{Diagnostic, Severity};
use super::forms::{KeyContext, SpannedProblems, ValueForm};
use super::include::INCLUDE;
use super::schema::{self, SectionSchema};
use super::sources::SourceTexts;
use super::variables::ExpandedTexts;
use super::{expanded_value, suggest, unsupported};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Findings so far: problems, and the position of each value, keyed by path (`pool[0].health.rise`).
#[derive(Default)]
pub struct ConfigFindings {
    pub(super) diagnostics: Vec<Diagnostic>,
    places: HashMap<String, Range<usize>>,
    bad: HashSet<String>,
    /// Texts that must not be shown in the configuration.
    pub(super) hidden: HiddenTexts,
}

impl ConfigFindings {
    /// Records an error.
    pub(crate) fn error(
        &mut self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Error, span, message.into(), remedy.into())
    }

    /// Records a warning.
    pub(crate) fn warning(
        &mut self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Severity::Warning, span, message.into(), remedy.into())
    }

    fn push(
        &mut self,
        severity: Severity,
        span: Option<Range<usize>>,
        message: String,
        remedy: String,
    ) -> &mut Diagnostic {
        let at = self.diagnostics.len();
        self.diagnostics
            .push(Diagnostic::new(severity, span, message, remedy));
        &mut self.diagnostics[at]
    }

    /// Returns the position of the value at this path; if it is not written, that of its section's header.
    pub(crate) fn place(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(span) = self.places.get(path) {
                return Some(span.clone());
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// Whether the user has written a value at this path.
    pub(crate) fn written(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// Whether the values at all of these paths are valid: checking a default that replaces an invalid value would
    /// only repeat the first error.
    pub(crate) fn sound(&self, paths: &[&str]) -> bool {
        !paths.iter().any(|path| self.bad.contains(*path))
    }

    /// Drops the findings about a part of the file that is replaced.
    pub(super) fn forget(&mut self, path: &str) {
        let below = |other: &str| other.starts_with(path);
        self.places.retain(|other, _| !below(other));
        self.bad.retain(|other| !below(other));
    }

    pub(super) fn mark_bad(&mut self, path: String) {
        self.bad.insert(path);
    }
}

/// Why a value is not valid.
pub(super) struct ValueError {
    /// What is wrong.
    pub(super) message: String,
    /// What to do.
    pub(super) remedy: String,
    /// Whether it has the wrong type, such as a text instead of a number.
    pub(super) is_of_wrong_type: bool,
}

impl ValueError {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        ValueError {
            message: message.into(),
            remedy: remedy.into(),
            is_of_wrong_type: false,
        }
    }
}

/// One table, with its section of the schema.
pub(super) struct ConfigTable<'t> {
    section: &'static SectionSchema,
    /// Path, such as `pool[0].health`; empty at the top.
    pub(super) path: String,
    table: Option<&'t DeTable<'t>>,
    parts: &'t DocumentParts<'t>,
}

/// The parts from which a document was composed.
pub(super) struct DocumentParts<'t> {
    pub(super) sources: &'t SourceTexts,
    pub(super) expanded: &'t ExpandedTexts,
}

impl<'t> ConfigTable<'t> {
    /// Creates a reader of a table; `None` if the user did not write it: every key then has its default.
    pub(super) fn new(
        section: &'static SectionSchema,
        path: String,
        table: Option<&'t DeTable<'t>>,
        parts: &'t DocumentParts<'t>,
        found: &mut ConfigFindings,
    ) -> Self {
        let table = ConfigTable {
            section,
            path,
            table,
            parts,
        };
        table.refuse_unknown(found);
        table
    }

    /// Returns the path of a key.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether the user has written the table.
    pub(super) fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Returns the value of a key, if written, and records its position.
    fn get(&self, key: &str, found: &mut ConfigFindings) -> Option<&'t Spanned<DeValue<'t>>> {
        debug_assert!(
            self.section.knows(key),
            "{key} is not in the schema of {}",
            self.section.header
        );
        let value = self.table?.get(key)?;
        found.places.insert(self.at(key), value.span());
        Some(value)
    }

    /// Whether the user has written this key.
    pub(super) fn writes(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Returns the value of a key, read by its form; `unwritten` if it is not written or not valid. A list keeps its
    /// valid items.
    pub(super) fn value<T: Clone>(
        &self,
        name: &str,
        form: &impl ValueForm<T>,
        unwritten: &T,
        found: &mut ConfigFindings,
    ) -> T {
        let key = self.section.key(name);
        if self.is_written() && !self.writes(name) && key.is_some_and(|key| key.is_needed) {
            let example = key.map_or("", |key| key.example);
            found.error(
                found.place(&self.path),
                format!("{} has no `{name}`", self.section.header),
                format!("add `{name} = {example}`"),
            );
            found.mark_bad(self.at(name));
            return unwritten.clone();
        }
        let Some(value) = self.get(name, found) else {
            return unwritten.clone();
        };
        let context = KeyContext {
            name,
            default: key.and_then(|key| key.default).unwrap_or_default(),
            base: self.parts.sources.directory_at(value.span().start),
        };
        if !self.parts.expanded.is_empty() {
            let texts = self.parts.expanded.within(value);
            if !texts.is_empty() {
                let read =
                    expanded_value::read(form, &context, value, &texts, self.section.header, found);
                if read.is_none() {
                    found.mark_bad(self.at(name));
                }
                return read.unwrap_or_else(|| unwritten.clone());
            }
        }
        let mut problems = SpannedProblems::new();
        let read = form.read_whole(&context, value, &mut problems);
        if !problems.is_empty() {
            found.mark_bad(self.at(name));
        }
        for (span, problem) in problems {
            found.error(Some(span), problem.message, problem.remedy);
        }
        read.unwrap_or_else(|| unwritten.clone())
    }

    /// Returns the table of a subsection that exists once.
    pub(super) fn child(
        &self,
        key: &str,
        section: &'static SectionSchema,
        found: &mut ConfigFindings,
    ) -> ConfigTable<'t> {
        let path = self.at(key);
        let value = self.get(key, found);
        let header = section.header;
        let table = match value.map(|value| (value.span(), value.get_ref())) {
            Some((_, DeValue::Table(table))) => Some(table),
            Some((span, other)) => {
                let tables = other
                    .as_array()
                    .is_some_and(|items| items.iter().all(|i| i.get_ref().is_table()));
                let (message, remedy) = if tables {
                    let message =
                        format!("`[{header}]` has double brackets, but there can be only one");
                    (message, format!("write it once: `{header}`"))
                } else {
                    (
                        format!("`{key}` is {}, but it is a section", describe(other)),
                        format!("write `{header}` on a line of its own, and its keys below"),
                    )
                };
                found.error(Some(span), message, remedy);
                found.mark_bad(path.clone());
                None
            }
            None => None,
        };
        ConfigTable::new(section, path, table, self.parts, found)
    }

    /// Returns the tables of an array of tables.
    pub(super) fn children(
        &self,
        key: &str,
        section: &'static SectionSchema,
        found: &mut ConfigFindings,
    ) -> Vec<ConfigTable<'t>> {
        let header = section.header;
        let Some(value) = self.get(key, found) else {
            return Vec::new();
        };
        match value.get_ref() {
            DeValue::Array(items) => {
                let mut tables = Vec::new();
                for item in items.iter() {
                    let DeValue::Table(table) = item.get_ref() else {
                        found.error(
                            Some(item.span()),
                            format!(
                                "`{key}` has {} in it, but each is a section",
                                describe(item.get_ref())
                            ),
                            format!("write one `{header}` for each, and its keys below"),
                        );
                        found.mark_bad(self.at(key));
                        continue;
                    };
                    let path = format!("{}[{}]", self.at(key), tables.len());
                    found.places.insert(path.clone(), item.span());
                    tables.push(ConfigTable::new(
                        section,
                        path,
                        Some(table),
                        self.parts,
                        found,
                    ));
                }
                tables
            }
            DeValue::Table(table) => {
                let single = header.trim_matches(['[', ']']);
                found.error(
                    Some(value.span()),
                    format!("`[{single}]` needs double brackets: there can be more than one"),
                    format!("write `{header}`"),
                );
                let path = format!("{}[0]", self.at(key));
                found.places.insert(path.clone(), value.span());
                vec![ConfigTable::new(
                    section,
                    path,
                    Some(table),
                    self.parts,
                    found,
                )]
            }
            other => {
                found.error(
                    Some(value.span()),
                    format!(
                        "`{key}` is {}, but each {key} is a section",
                        describe(other)
                    ),
                    format!("write `{header}` on a line of its own, and its keys below"),
                );
                found.mark_bad(self.at(key));
                Vec::new()
            }
        }
    }

    /// Reports every key that the schema does not know as an error, with the best available advice.
    fn refuse_unknown(&self, found: &mut ConfigFindings) {
        // Made once, because there may be very many unknown keys.
        let mut known = None;
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name: &str = key.get_ref();
            if self.section.knows(name) {
                continue;
            }
            let span = Some(key.span());
            let header = self.section.header;
            if let Some(later) = unsupported::key(self.section.name, name) {
                found.error(span, later.message(&format!("`{name}`")), later.meanwhile);
                continue;
            }
            let place = if header.is_empty() {
                "at the top of the file".to_string()
            } else {
                format!("in {header}")
            };
            let remedy = self.advice(name, &mut known);
            found.error(span, format!("there is no `{name}` {place}"), remedy);
        }
    }

    /// Returns the remedy for an unknown key. `known`: cache of the list of valid keys.
    fn advice(&self, name: &str, known: &mut Option<String>) -> String {
        let header = self.section.header;
        let own = header.is_empty().then_some(INCLUDE);
        if name == INCLUDE {
            return "write it at the top of the file, above the first section: below a header it belongs to that section"
                .into();
        }
        if let Some(near) = suggest::nearest(name, self.section.names().chain(own)) {
            return format!("did you mean {}?", self.section.shown(near));
        }
        if (self.section.name, name) == ("listener", "server_name") {
            return "a host's requests are sorted out by [[route]]: `host = \"www.example.org\"`"
                .into();
        }
        if let Some(other) = schema::elsewhere(name) {
            return format!("`{name}` belongs in {other}");
        }
        let list = known.get_or_insert_with(|| {
            let names = self.section.names();
            let shown: Vec<_> = names.map(|key| self.section.shown(key)).collect();
            shown.join(", ")
        });
        if header.is_empty() {
            format!("the sections are {list}")
        } else {
            format!("the keys of {header} are {list}")
        }
    }
}

/// Describes a value: `the number 30`, `the text "4"`, `a list`.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {}", super::values::quoted(text)),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
