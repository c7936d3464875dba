//! What becomes of each directive. docs/from-nginx.md is written from this table.

mod rows;

use crate::tools::import::fate_tables;
pub use rows::ROWS;

/// What becomes of a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectiveFate {
    /// It is in the result; [`super::plan`] says how, and names the forms that it can't carry over.
    Carried,
    /// It changes no answer: nothing is said.
    Harmless,
    /// It is named as left out.
    LeftOut,
}

impl DirectiveFate {
    /// As it stands in the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            DirectiveFate::Carried => "carried over",
            DirectiveFate::Harmless => "not needed",
            DirectiveFate::LeftOut => "left out",
        }
    }
}

/// One directive of nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectiveRow {
    /// Its name.
    pub name: &'static str,
    /// The module that has it.
    pub module: &'static str,
    /// What becomes of it.
    pub fate: DirectiveFate,
    /// What it becomes, or why it doesn't.
    pub note: &'static str,
}

/// The row of a directive.
pub fn row_of(name: &str) -> Option<&'static DirectiveRow> {
    ROWS.iter().find(|row| row.name == name)
}

/// The table as Markdown, a section for each module.
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
