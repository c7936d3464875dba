//! Table of nginx's directives, and what the import does with each. docs/from-nginx.md is written from it.

mod rows;

use crate::tools::import::fate_tables;
pub use rows::ROWS;

/// What the import does with a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectiveFate {
    /// It is imported; [`super::plan`] does this, and reports forms that it can't import.
    Carried,
    /// It changes no response, so nothing is reported.
    Harmless,
    /// It is reported as left out.
    LeftOut,
}

impl DirectiveFate {
    /// Text in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            DirectiveFate::Carried => "carried over",
            DirectiveFate::Harmless => "not needed",
            DirectiveFate::LeftOut => "left out",
        }
    }
}

/// A directive of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectiveRow {
    /// Its name.
    pub name: &'static str,
    /// Module that has it.
    pub module: &'static str,
    /// What the import does with it.
    pub fate: DirectiveFate,
    /// What it becomes, or why it is left out.
    pub note: &'static str,
}

/// Row of a directive.
pub fn row_of(name: &str) -> Option<&'static DirectiveRow> {
    ROWS.iter().find(|row| row.name == name)
}

/// The table as Markdown, with a section for each module.
pub fn directive_tables() -> String {
    let rows = ROWS.iter();
    let rows = rows.map(|row| [row.module, row.name, row.fate.as_str(), row.note]);
    fate_tables("directive", rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directive_stands_once_and_each_module_in_one_run() {
        let mut names = std::collections::BTreeSet::new();
        let mut modules = Vec::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{} stands twice", row.name);
            assert!(
                row.fate == DirectiveFate::Harmless || !row.note.is_empty(),
                "{}",
                row.name
            );
            if modules.last() != Some(&row.module) {
                assert!(!modules.contains(&row.module), "{} in two runs", row.module);
                modules.push(row.module);
            }
        }
        assert!(names.len() > 250, "{}", names.len());
    }
}
