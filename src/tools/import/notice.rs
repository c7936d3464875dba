//! Notices of an import about places in the file that it reads.

use std::fmt;
use std::sync::Arc;

use crate::rt::output::printable;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePlace {
    /// Name of the file as it was given or found.
    pub file: Arc<str>,
    /// Line number from 1; 0: the whole file.
    pub line: u32,
}

impl SourcePlace {
    /// A place in a file.
    pub fn new(file: &str, line: u32) -> Self {
        SourcePlace {
            file: file.into(),
            line,
        }
    }
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Kind of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Something is not in the result. The command ends with 3.
    LeftOut,
    /// Something is in the result, but some requests are answered differently.
    Differs,
}

impl NoticeKind {
    /// Text in comments.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeKind::LeftOut => "left out",
            NoticeKind::Differs => "differs",
        }
    }
}

/// A notice about the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportNotice {
    /// Kind of the notice.
    pub kind: NoticeKind,
    /// Place in the file that was read.
    pub place: SourcePlace,
    /// What it is about, and why.
    pub text: String,
}

impl ImportNotice {
    /// Notice that something is not in the result.
    pub fn left_out(place: &SourcePlace, text: impl Into<String>) -> Self {
        ImportNotice {
            kind: NoticeKind::LeftOut,
            place: place.clone(),
            text: printable(&text.into()),
        }
    }

    /// Notice that something has a different effect in the result.
    pub fn differs(place: &SourcePlace, text: impl Into<String>) -> Self {
        ImportNotice {
            kind: NoticeKind::Differs,
            ..Self::left_out(place, text)
        }
    }
}

/// A collection of notices.
pub trait NoticeList {
    /// Adds a notice that something is not in the result.
    fn leave_out(&mut self, place: &SourcePlace, text: impl Into<String>);

    /// Adds a notice that something has a different effect in the result.
    fn tell_difference(&mut self, place: &SourcePlace, text: impl Into<String>);
}

impl NoticeList for Vec<ImportNotice> {
    fn leave_out(&mut self, place: &SourcePlace, text: impl Into<String>) {
        self.push(ImportNotice::left_out(place, text));
    }

    fn tell_difference(&mut self, place: &SourcePlace, text: impl Into<String>) {
        self.push(ImportNotice::differs(place, text));
    }
}

impl fmt::Display for ImportNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = printable(&self.place.to_string());
        write!(f, "{}: {place}: {}", self.kind.as_str(), self.text)
    }
}
