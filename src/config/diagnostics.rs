//! What is wrong with a configuration, for people: what, where, why, and what to do.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, and probably not as meant.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Where, in bytes of the text; `None` where nothing was written (flags, an empty file).
    pub span: Option<Range<usize>>,
    /// What is wrong, with the key and the value.
    pub message: String,
    /// Words below the caret; may be empty.
    pub label: String,
    /// Another place that belongs to it.
    pub also: Option<(Range<usize>, String)>,
    /// What to do now.
    pub remedy: String,
    /// The check that found it, such as `kill-timeout`; empty where there is no catalogue.
    pub code: &'static str,
    /// Why it matters; may be empty.
    pub why: String,
}

impl Diagnostic {
    /// A finding of this severity.
    pub fn new(
        severity: Severity,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Diagnostic {
            severity,
            span,
            message: tame(&message.into()),
            label: String::new(),
            also: None,
            remedy: tame(&remedy.into()),
            code: "",
            why: String::new(),
        }
    }

    /// Set the words below the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = label.into();
        self
    }

    /// Point at another place, too.
    pub fn also(&mut self, span: Option<Range<usize>>, label: impl Into<String>) -> &mut Self {
        self.also = span.map(|span| (span, label.into()));
        self
    }
}

/// Findings together with the text that they are about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The file as the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// One finding as JSON: `lameduck check --json`.
#[derive(Debug, Serialize)]
struct JsonDiagnostic<'a> {
    severity: Severity,
    file: &'a str,
    /// From 1; absent where nothing was written.
    line: Option<usize>,
    /// From 1, in characters.
    column: Option<usize>,
    message: &'a str,
    label: &'a str,
    help: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

impl Report {
    /// Everything as people read it, with colours or plain.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(&renderer, diagnostic));
            out.push('\n');
        }
        out
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = level.primary_title(diagnostic.message.as_str());
        if !diagnostic.code.is_empty() {
            title = title.id(diagnostic.code);
        }
        let mut group = title.elements(diagnostic.span.as_ref().map(|span| {
            let mut main = AnnotationKind::Primary.span(self.clip(span));
            if !diagnostic.label.is_empty() {
                main = main.label(diagnostic.label.as_str());
            }
            let also = diagnostic.also.as_ref().map(|(span, label)| {
                AnnotationKind::Context
                    .span(self.clip(span))
                    .label(label.as_str())
            });
            Snippet::source(self.text.as_str())
                .path(self.name.as_str())
                .annotation(main)
                .annotations(also)
        }));
        if diagnostic.span.is_none() && !self.name.is_empty() {
            group = group.element(Origin::path(self.name.as_str()));
        }
        if !diagnostic.why.is_empty() {
            group = group.element(Level::NOTE.message(diagnostic.why.as_str()));
        }
        if !diagnostic.remedy.is_empty() {
            group = group.element(Level::HELP.message(diagnostic.remedy.as_str()));
        }
        renderer.render(&[group])
    }

    /// A span that lies within the text, on character boundaries, and on one line: carets under ten lines of a
    /// multi-line value help nobody.
    fn clip(&self, span: &Range<usize>) -> Range<usize> {
        let start = floor(&self.text, span.start);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |at| start + at);
        start..floor(&self.text, span.end).clamp(start, line_end)
    }

    /// The errors, without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
        self.diagnostics.iter().filter(is_error)
    }

    /// Everything as JSON values, one object for each finding.
    pub fn json(&self) -> serde_json::Value {
        self.diagnostics
            .iter()
            .map(|diagnostic| {
                let place = diagnostic.span.as_ref().map(|span| self.place(span.start));
                serde_json::json!(JsonDiagnostic {
                    severity: diagnostic.severity,
                    file: &self.name,
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

    /// Line and column (in characters), from 1.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }
}

/// Values end up in messages: none of them may break the line or play tricks on a terminal.
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

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigError {
    /// The file can't be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// No file was named and none of the default ones exists.
    NotFound {
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// Command-line flags that are wrong, or don't go together.
    Flags {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// It was read, and has errors (and perhaps warnings).
    Invalid(Report),
}

impl ConfigError {
    /// The error as people read it, with colours or plain. Ends with a newline.
    pub fn render(&self, colour: bool) -> String {
        match self {
            ConfigError::Invalid(report) => report.render(colour),
            _ => self.report().render(colour),
        }
    }

    /// As a report, whatever it is.
    pub fn report(&self) -> Report {
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
        Report {
            diagnostics: vec![Diagnostic::new(Severity::Error, None, message, remedy)],
            ..Report::default()
        }
    }

    /// Whether the command line is at fault (exit code 2) and not a file (1).
    pub fn is_usage(&self) -> bool {
        matches!(self, ConfigError::Flags { .. })
    }
}

/// Whether messages to this stream should have colours: a terminal that can, and nobody who objects
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

    fn report(text: &str, span: Range<usize>) -> Report {
        Report {
            name: "x.toml".into(),
            text: text.into(),
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

    proptest! {
        #[test]
        fn any_span_of_any_text_renders(text in "(\\PC|\n){0,30}", a in 0usize..50, b in 0usize..50) {
            let out = report(&text, a..b).render(false);
            prop_assert!(out.contains("bad") && out.contains("do good"));
            let _ = report(&text, a..b).json();
        }
    }
}
