//! What becomes of each annotation of ingress-nginx. docs/from-ingress.md is written from this table.

mod rows;

use crate::tools::import::fate_tables;
pub use rows::ROWS;

/// What ingress-nginx's annotations begin with, unless it was told another prefix.
pub const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What becomes of an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationFate {
    /// It is in the result; `super::plan` says how, and names the values that it can't carry over.
    Carried,
    /// It changes no answer, or nothing by itself: nothing is said.
    Harmless,
    /// It is named as left out, unless it says what is the case anyway.
    LeftOut,
    /// It restricts access and can't be carried over: its paths answer 503.
    Closed,
}

impl AnnotationFate {
    /// As it stands in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnotationFate::Carried => "carried over",
            AnnotationFate::Harmless => "not needed",
            AnnotationFate::LeftOut => "left out",
            AnnotationFate::Closed => "closed",
        }
    }
}

/// One annotation of ingress-nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnotationRow {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What it is about; a heading of the documentation.
    pub topic: &'static str,
    /// What becomes of it.
    pub fate: AnnotationFate,
    /// What it becomes, or why it doesn't.
    pub note: &'static str,
    /// Values that change nothing: nothing is said of them.
    pub idle: &'static [&'static str],
}

/// The row of an annotation, by its name without the prefix.
pub fn row_of(name: &str) -> Option<&'static AnnotationRow> {
    ROWS.iter().find(|row| row.name == name)
}

/// The table as Markdown, a section for each topic.
pub fn annotation_tables() -> String {
    let rows = ROWS.iter();
    let rows = rows.map(|row| [row.topic, row.name, row.fate.as_str(), row.note]);
    fate_tables("annotation", rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_annotation_stands_once_and_each_topic_in_one_run() {
        let mut names = std::collections::BTreeSet::new();
        let mut topics = Vec::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert!(
                row.fate == AnnotationFate::Harmless || !row.note.is_empty(),
                "{}",
                row.name
            );
            if topics.last() != Some(&row.topic) {
                assert!(!topics.contains(&row.topic), "{} in two runs", row.topic);
                topics.push(row.topic);
            }
        }
        assert!(names.len() > 100, "{}", names.len());
    }
}
