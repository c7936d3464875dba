//! What an import has to say about a place of the file that it read.

use std::fmt;
use std::sync::Arc;

use crate::rt::output::printable;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePlace {
    /// The file as it was found.
    pub file: Arc<str>,
    /// From 1; 0: the file as a whole.
    pub line: u32,
}

impl SourcePlace {
    /// That line of that file.
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

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// It is not in the result. The command ends with 3.
    LeftOut,
    /// It is in the result, and some requests are answered in another way.
    Differs,
}

impl NoticeKind {
    /// As it stands in comments.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeKind::LeftOut => "left out",
            NoticeKind::Differs => "differs",
        }
    }
}

/// One thing to know about the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportNotice {
    /// What became of it.
    pub kind: NoticeKind,
    /// Where it stands in what was read.
    pub place: SourcePlace,
    /// What it is, and why.
    pub text: String,
}

impl ImportNotice {
    /// Something that is not in the result.
    pub fn left_out(place: &SourcePlace, text: impl Into<String>) -> Self {
        ImportNotice {
            kind: NoticeKind::LeftOut,
            place: place.clone(),
            text: printable(&text.into()),
        }
    }

    /// Something that is, in another way.
    pub fn differs(place: &SourcePlace, text: impl Into<String>) -> Self {
        ImportNotice {
            kind: NoticeKind::Differs,
            ..Self::left_out(place, text)
        }
    }
}

/// What has notices.
pub trait NoticeList {
    /// Says that something is not in the result.
    fn leave_out(&mut self, place: &SourcePlace, text: impl Into<String>);

    /// Says that something is in it in another way.
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
