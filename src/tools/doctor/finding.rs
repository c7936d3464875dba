//! Findings, collected by file.

use std::ops::Range;

use super::checks::DoctorCheck;
use super::model::FindingPlace;
use crate::config::{ConfigReport, Diagnostic, Severity, SourceTexts, tame};

/// More findings than this in one file would not help; the limit keeps a hostile file from taking for ever.
const MOST: usize = 100;

/// One of the files.
#[derive(Debug, Clone, Default)]
pub struct InputFile {
    /// As the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// `scripts` of the package.json beside it: name and command.
    pub scripts: Vec<(String, String)>,
}

/// What was found so far, one report for each file.
#[derive(Debug)]
pub(super) struct DoctorFindings {
    reports: Vec<ConfigReport>,
    /// For a generated text (a `.js` file's JSON): no positions.
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

    /// Positions in this file mean nothing to its reader.
    pub(super) fn without_positions(&mut self, file: usize) {
        if let Some(flag) = self.placeless.get_mut(file) {
            *flag = true;
        }
    }

    /// It will cut requests. `instead` is what to paste: settings, each a line in the file's own syntax.
    pub(super) fn error(
        &mut self,
        check: DoctorCheck,
        place: &FindingPlace,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(Severity::Error, check, place, what.into(), instead.into());
    }

    /// It may cut requests. `instead` as for [`DoctorFindings::error`].
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
        // Each line is one to be pasted.
        let lines: Vec<_> = instead.lines().map(tame).collect();
        let mut diagnostic = Diagnostic::new(severity, span, what, "");
        diagnostic.remedy = lines.join("\n");
        diagnostic.code = check.code;
        diagnostic.why = check.why.into();
        if let Some(report) = self.reports.get_mut(place.file)
            && report.diagnostics.len() < MOST
            && !report.diagnostics.iter().any(|known| {
                // Profiles and environments come to the same more than once.
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
