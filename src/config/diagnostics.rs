//! Errors and warnings about a configuration: what is wrong, where, why, and what to do.

use super::excerpt::LineStarts;
use super::sources::SourceTexts;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, but probably not as intended.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Position, in bytes of the text; `None` if nothing was written (flags, an empty file).
    pub span: Option<Range<usize>>,
    /// What is wrong, with the key and the value.
    pub message: String,
    /// Label below the caret; may be empty.
    pub label: String,
    /// Another position that is related to the finding, with its label.
    pub also: Option<(Range<usize>, String)>,
    /// What to do.
    pub remedy: String,
    /// ID of the check that found it, such as `kill-timeout`; empty if there is no catalogue.
    pub code: &'static str,
    /// Why it matters; may be empty.
    pub why: String,
}

impl Diagnostic {
    /// Creates a finding of this severity.
    pub fn new(
        severity: Severity,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Diagnostic {
            severity,
            span,
            message: tame(&shorten(&message.into())),
            label: String::new(),
            also: None,
            remedy: tame(&shorten(&remedy.into())),
            code: "",
            why: String::new(),
        }
    }

    /// Sets the label below the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Adds another position.
    pub fn also(&mut self, span: Option<Range<usize>>, label: impl Into<String>) -> &mut Self {
        self.also = span.map(|span| (span, label.into()));
        self
    }
}

/// Findings together with the texts that they are about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigReport {
    /// The file, named as the user did, and its included files.
    pub sources: SourceTexts,
    /// The findings, in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding as JSON: `lameduck check --json`.
#[derive(Debug, Serialize)]
struct JsonDiagnostic<'a> {
    severity: Severity,
    file: &'a str,
    /// Line, from 1; absent if nothing was written.
    line: Option<usize>,
    /// Column, from 1, in characters.
    column: Option<usize>,
    message: &'a str,
    label: &'a str,
    help: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

/// Most findings that are shown. More of them mean one mistake repeated many times, or the wrong file.
const MOST_SHOWN: usize = 100;

impl ConfigReport {
    /// Returns the report as text, with colours or plain: the first hundred findings, errors first, in the order of
    /// the text, and the number of the others.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let lines = self.lines();
        let mut out = String::new();
        for diagnostic in self.shown() {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(&renderer, &lines, diagnostic));
            out.push('\n');
        }
        if self.unshown() > 0 {
            let more = grouped(self.unshown());
            out.push_str(&format!(
                "\nand {more} more; these are the first {MOST_SHOWN}\n"
            ));
        }
        out
    }

    /// Returns the findings that are shown: all errors before any warning, as far as there is room.
    fn shown(&self) -> impl Iterator<Item = &Diagnostic> {
        let errors = self.errors().count().min(MOST_SHOWN);
        let (mut errors, mut warnings) = (errors, MOST_SHOWN - errors);
        self.diagnostics.iter().filter(move |diagnostic| {
            let room = match diagnostic.severity {
                Severity::Error => &mut errors,
                Severity::Warning => &mut warnings,
            };
            let has_room = *room > 0;
            *room = room.saturating_sub(1);
            has_room
        })
    }

    /// Returns the number of findings that are not shown.
    pub fn unshown(&self) -> usize {
        self.diagnostics.len().saturating_sub(MOST_SHOWN)
    }

    /// Returns the name of the file, as the user named it.
    pub fn name(&self) -> &str {
        self.sources.name()
    }

    /// Returns the lines of each text.
    fn lines(&self) -> Vec<LineStarts<'_>> {
        let texts = self.sources.iter();
        texts.map(|source| LineStarts::of(&source.text)).collect()
    }

    /// Returns the number and name of the text that contains a span, and the span within that text.
    fn locate(&self, span: &Range<usize>) -> Option<(usize, &str, Range<usize>)> {
        let number = self.sources.number_at(span.start);
        let source = self.sources.get(number)?;
        let within = |place: usize| place.saturating_sub(source.start);
        let span = within(span.start)..within(span.end);
        Some((number, &source.name, span))
    }

    fn render_one(
        &self,
        renderer: &Renderer,
        lines: &[LineStarts<'_>],
        diagnostic: &Diagnostic,
    ) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(diagnostic.message.as_str());
        if !diagnostic.code.is_empty() {
            title = title.id(diagnostic.code);
        }
        let place = diagnostic.span.as_ref().and_then(|span| self.locate(span));
        let also = diagnostic.also.as_ref();
        let also = also.and_then(|(span, label)| Some((self.locate(span)?, label.as_str())));
        // In the same text, both are shown in one excerpt.
        let (beside, elsewhere) = match (&place, also) {
            (Some((number, ..)), Some(also)) if also.0.0 == *number => (Some(also), None),
            (_, also) => (None, also),
        };
        let name = place.as_ref().map_or(self.name(), |(_, name, _)| name);
        let excerpt = place.as_ref().and_then(|(number, _, span)| {
            let beside = beside.as_ref().map(|((.., span), _)| span);
            Some(lines.get(*number)?.excerpt(span, beside))
        });
        let origin = excerpt.as_ref().and_then(|excerpt| excerpt.place);
        let mut group = title.elements(origin.map(|(line, column)| {
            let origin = Origin::path(name);
            origin.line(line).char_column(column)
        }));
        if let Some(excerpt) = &excerpt {
            let mut main = AnnotationKind::Primary.span(excerpt.main.clone());
            if !diagnostic.label.is_empty() {
                main = main.label(diagnostic.label.as_str());
            }
            let also = excerpt.also.as_ref().zip(beside.as_ref());
            let also = also
                .map(|(span, (_, label))| AnnotationKind::Context.span(span.clone()).label(*label));
            let mut snippet = Snippet::source(excerpt.source.as_str()).line_start(excerpt.first);
            if origin.is_none() {
                snippet = snippet.path(name);
            }
            group = group.element(snippet.annotation(main).annotations(also));
        }
        let other = elsewhere
            .as_ref()
            .and_then(|((number, name, span), label)| {
                Some((*name, lines.get(*number)?.excerpt(span, None), *label))
            });
        if let Some((name, excerpt, label)) = &other {
            let there = AnnotationKind::Context.span(excerpt.main.clone());
            let snippet = Snippet::source(excerpt.source.as_str()).line_start(excerpt.first);
            group = group.element(snippet.path(*name).annotation(there.label(*label)));
        }
        if diagnostic.span.is_none() && !self.name().is_empty() {
            group = group.element(Origin::path(self.name()));
        }
        if !diagnostic.why.is_empty() {
            group = group.element(Level::NOTE.message(diagnostic.why.as_str()));
        }
        if !diagnostic.remedy.is_empty() {
            group = group.element(Level::HELP.message(diagnostic.remedy.as_str()));
        }
        renderer.render(&[group])
    }

    /// Returns the errors, without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
        self.diagnostics.iter().filter(is_error)
    }

    /// Returns the findings that [`ConfigReport::render`] shows as JSON, one object for each.
    pub fn json(&self) -> serde_json::Value {
        let lines = self.lines();
        self.shown()
            .map(|diagnostic| {
                let located = diagnostic.span.as_ref().and_then(|span| self.locate(span));
                let file = located.as_ref().map_or(self.name(), |(_, name, _)| name);
                let place = located
                    .and_then(|(number, _, span)| Some(lines.get(number)?.place(span.start)));
                serde_json::json!(JsonDiagnostic {
                    severity: diagnostic.severity,
                    file,
                    line: place.map(|(line, _)| line),
                    column: place.map(|(_, column)| column),
                    message: &diagnostic.message,
                    label: &diagnostic.label,
                    help: &diagnostic.remedy,
                    code: diagnostic.code,
                    why: &diagnostic.why,
                })
            })
            .collect()
    }
}

/// Formats a number for reading: `9,900`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Longest word and longest message, in characters: a longer value would not be read.
const LONGEST_WORD: usize = 200;
const LONGEST_MESSAGE: usize = 1200;

/// Removes the middle of a message's long words, and of the message itself if it is too long.
fn shorten(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_WORD {
        return Cow::Borrowed(text);
    }
    let words = text
        .split(' ')
        .map(|word| without_middle(word, LONGEST_WORD));
    let text = words.collect::<Vec<_>>().join(" ");
    Cow::Owned(without_middle(&text, LONGEST_MESSAGE).into_owned())
}

/// Shortens a text to about `most` characters: the beginning and the end stay.
fn without_middle(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let head = text.char_indices().nth(most * 2 / 3);
    let tail = text.char_indices().rev().nth(most / 3);
    match (head, tail) {
        (Some((head, _)), Some((tail, _))) if head < tail => {
            Cow::Owned(format!("{}…{}", &text[..head], &text[tail..]))
        }
        _ => Cow::Borrowed(text),
    }
}

/// Escapes characters of a value that could break a line or control a terminal, because values end up in messages.
pub(crate) fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Error in loading a configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable {
        /// Path, as given.
        path: PathBuf,
        /// The system's error message.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// No file was named, and none of the default files exists.
    NotFound {
        /// The paths that were tried.
        searched: Vec<PathBuf>,
    },
    /// Command-line flags that are not valid, or not valid together.
    Flags {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// The configuration was read and has errors (and perhaps warnings).
    Invalid(ConfigReport),
}

impl ConfigError {
    /// Returns the error as text, with colours or plain. Ends with a newline.
    pub fn render(&self, colour: bool) -> String {
        match self {
            ConfigError::Invalid(report) => report.render(colour),
            _ => self.report().render(colour),
        }
    }

    /// Converts the error to a report.
    pub fn report(&self) -> ConfigReport {
        let (message, remedy) = match self {
            ConfigError::Invalid(report) => return report.clone(),
            ConfigError::Unreadable { path, why, remedy } => (
                format!("can't read {}: {why}", path.display()),
                remedy.clone(),
            ),
            ConfigError::NotFound { searched } => {
                let places: Vec<_> = searched.iter().map(|p| p.display().to_string()).collect();
                (
                    format!("no configuration: there is no {}", places.join(", and no ")),
                    "name a file with `-c FILE`, or run without one: \
                     `lameduck run --backend 127.0.0.1:3000`"
                        .into(),
                )
            }
            ConfigError::Flags { message, remedy } => (message.clone(), remedy.clone()),
        };
        ConfigReport {
            diagnostics: vec![Diagnostic::new(Severity::Error, None, message, remedy)],
            ..ConfigReport::default()
        }
    }

    /// Whether the command line is at fault (exit code 2) and not a file (1).
    pub fn is_usage(&self) -> bool {
        matches!(self, ConfigError::Flags { .. })
    }
}

/// Whether messages to this stream should have colours: it is a terminal with colours, and `NO_COLOR` is not set
/// (<https://no-color.org>).
pub fn wants_colour(stream: &impl std::io::IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb")
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(text: &str, span: Range<usize>) -> ConfigReport {
        ConfigReport {
            sources: SourceTexts::one("x.toml", text),
            diagnostics: vec![Diagnostic::new(
                Severity::Error,
                Some(span),
                "bad",
                "do good",
            )],
        }
    }

    #[test]
    fn places_count_characters() {
        let json = report("é = 1\nüü = x\n", 12..13).json();
        assert_eq!(
            (&json[0]["line"], &json[0]["column"]),
            (&2.into(), &4.into())
        );
    }

    #[test]
    fn first_hundred_findings_are_shown_and_the_others_counted() {
        let mut many = report("x", 0..1);
        let warning = Diagnostic::new(Severity::Warning, Some(0..1), "odd", "");
        many.diagnostics.splice(0..0, vec![warning; 150]);
        for _ in 0..9849 {
            many.diagnostics.push(many.diagnostics[150].clone());
        }
        let text = many.render(false);
        assert_eq!(text.matches("error: bad").count(), 100);
        assert_eq!(text.matches("warning: odd").count(), 0);
        assert!(text.ends_with("\nand 9,900 more; these are the first 100\n"));
        assert_eq!(many.json().as_array().map(Vec::len), Some(100));
        many.diagnostics.truncate(151);
        let text = many.render(false);
        assert_eq!(text.matches("error: bad").count(), 1);
        assert_eq!(text.matches("warning: odd").count(), 99);
    }

    #[test]
    fn value_of_a_mebibyte_is_left_out_in_the_middle() {
        let value = "é".repeat(1 << 19);
        let message = format!("`key = {value}`: it is wrong");
        let one = Diagnostic::new(Severity::Error, None, message, value.as_str());
        assert!(one.message.chars().count() < 250, "{}", one.message);
        assert!(one.message.starts_with("`key = éé") && one.message.ends_with("é`: it is wrong"));
        let words = Diagnostic::new(Severity::Error, None, "a b ".repeat(1 << 18), "");
        assert!(words.message.len() < 1300);
        let text = format!("key = \"{value}\"\n");
        let shown = report(&text, 6..text.len() - 1).render(false);
        assert!(shown.len() < 2000, "{}", shown.len());
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_renders(text in "(\\PC|\n){0,30}", a in 0usize..50, b in 0usize..50) {
            let out = report(&text, a..b).render(false);
            prop_assert!(out.contains("bad") && out.contains("do good"));
            let _ = report(&text, a..b).json();
        }
    }
}
