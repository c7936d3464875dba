//! Table of all annotations of ingress-nginx, and what the import does with each. docs/from-ingress.md is written from
//! it.

mod rows;

use crate::tools::import::fate_tables;
pub use rows::ROWS;

/// Prefix of ingress-nginx's annotations, unless it is configured otherwise.
pub const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What the import does with an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationFate {
    /// It is imported; `super::plan` does this, and reports values that it can't import.
    Carried,
    /// It changes no response by itself, so nothing is reported.
    Harmless,
    /// It is reported as left out, unless its value changes nothing.
    LeftOut,
    /// It restricts access and can't be imported, so its paths answer 503.
    Closed,
}

impl AnnotationFate {
    /// Text in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnotationFate::Carried => "carried over",
            AnnotationFate::Harmless => "not needed",
            AnnotationFate::LeftOut => "left out",
            AnnotationFate::Closed => "closed",
        }
    }
}

/// An annotation of ingress-nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnotationRow {
    /// Name without the prefix.
    pub name: &'static str,
    /// Topic, which is a heading of the documentation.
    pub topic: &'static str,
    /// What the import does with it.
    pub fate: AnnotationFate,
    /// What it becomes, or why it is left out.
    pub note: &'static str,
    /// Values that change nothing, so that nothing is reported.
    pub idle: &'static [&'static str],
}

/// Row of the annotation with this name, without the prefix.
pub fn row_of(name: &str) -> Option<&'static AnnotationRow> {
    ROWS.iter().find(|row| row.name == name)
}

/// The table as Markdown, with a section for each topic.
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
