//! Findings, collected by file.

use std::ops::Range;

use super::checks::DoctorCheck;
use super::model::FindingPlace;
use crate::config::{ConfigReport, Diagnostic, Severity, SourceTexts, tame};

/// Most findings in one file; the limit keeps a hostile file from taking for ever.
const MAX_FINDINGS: usize = 100;

/// A file to examine.
#[derive(Debug, Clone, Default)]
pub struct InputFile {
    /// Name as the user gave it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Names and commands of the `scripts` in package.json beside it.
    pub scripts: Vec<(String, String)>,
}

/// Findings so far, with one report for each file.
#[derive(Debug)]
pub(super) struct DoctorFindings {
    reports: Vec<ConfigReport>,
    /// Whether a file is a generated text (the JSON of a `.js` file), so that positions in it mean nothing.
    placeless: Vec<bool>,
}

impl DoctorFindings {
    pub(super) fn new(files: &[InputFile]) -> Self {
        let report = |file: &InputFile| ConfigReport {
            sources: SourceTexts::one(&file.name, &file.text),
            diagnostics: Vec::new(),
        };
        DoctorFindings {
            reports: files.iter().map(report).collect(),
            placeless: vec![false; files.len()],
        }
    }

    /// Leaves out positions in this file.
    pub(super) fn without_positions(&mut self, file: usize) {
        if let Some(flag) = self.placeless.get_mut(file) {
            *flag = true;
        }
    }

    /// Adds a finding that will cut requests. `instead` is to be pasted: settings, each a line in the file's syntax.
    pub(super) fn error(
        &mut self,
        check: DoctorCheck,
        place: &FindingPlace,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(Severity::Error, check, place, what.into(), instead.into());
    }

    /// Adds a finding that may cut requests. `instead` as for [`DoctorFindings::error`].
    pub(super) fn warning(
        &mut self,
        check: DoctorCheck,
        place: &FindingPlace,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(Severity::Warning, check, place, what.into(), instead.into());
    }

    pub(super) fn add(
        &mut self,
        severity: Severity,
        check: DoctorCheck,
        place: &FindingPlace,
        what: String,
        instead: String,
    ) {
        let span: Option<Range<usize>> = match self.placeless.get(place.file) {
            Some(false) => Some(place.span.clone()),
            _ => None,
        };
        // Each line can be pasted on its own.
        let lines: Vec<_> = instead.lines().map(tame).collect();
        let mut diagnostic = Diagnostic::new(severity, span, what, "");
        diagnostic.remedy = lines.join("\n");
        diagnostic.code = check.code;
        diagnostic.why = check.why.into();
        if let Some(report) = self.reports.get_mut(place.file)
            && report.diagnostics.len() < MAX_FINDINGS
            && !report.diagnostics.iter().any(|known| {
                // Profiles and environments can lead to the same finding more than once.
                (known.code, &known.span, &known.message)
                    == (diagnostic.code, &diagnostic.span, &diagnostic.message)
            })
        {
            report.diagnostics.push(diagnostic);
        }
    }

    /// The reports, each in the order of its text.
    pub(super) fn finish(mut self) -> Vec<ConfigReport> {
        for report in &mut self.reports {
            let start = |d: &Diagnostic| d.span.as_ref().map_or(usize::MAX, |span| span.start);
            report.diagnostics.sort_by_key(start);
        }
        self.reports
    }
}
