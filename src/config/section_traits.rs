//! The traits that a declaration ([`declare`](super::declare)) implements for a struct, and those of its fields.

use super::reader::{ConfigFindings, ConfigTable};
use super::schema::{KeySchema, SectionSchema};

/// Keys with their values as TOML.
pub(super) type TomlEntries = Vec<(&'static str, String)>;

/// Headers of sections with their keys and values, in the order in which they are printed.
pub(super) type PrintedSections = Vec<(&'static str, TomlEntries)>;

/// How much of a section is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrintExtent {
    /// The section with all subsections.
    Whole,
    /// Only subsections that exist once: lists of sections, such as a pool's backends, are left out.
    WithoutLists,
}

/// A struct that is a section of the file. Implemented by `section!`.
pub(super) trait ConfigSection: Clone + 'static {
    /// Returns its name, its description and its keys.
    fn section() -> &'static SectionSchema;

    /// Returns the section when it is not written: all defaults, and a stand-in for each key without a default.
    fn unwritten() -> &'static Self;

    /// Reads the section and its subsections.
    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self;

    /// Returns its own keys with their values.
    fn entries(&self) -> TomlEntries;

    /// Prints the section and its subsections.
    fn print(&self, extent: PrintExtent, out: &mut PrintedSections);
}

/// A field of a section that is a section itself, may be one, or is a list of them.
pub(super) trait Subsection: Sized {
    /// Returns the field when the section is not written.
    fn absent() -> Self;

    /// Reads the field from its parent's table.
    fn read_below(parent: &ConfigTable<'_>, key: &str, found: &mut ConfigFindings) -> Self;

    /// Prints the field's sections.
    fn print_below(&self, extent: PrintExtent, out: &mut PrintedSections);
}

impl<T: ConfigSection> Subsection for T {
    fn absent() -> Self {
        T::unwritten().clone()
    }

    fn read_below(parent: &ConfigTable<'_>, key: &str, found: &mut ConfigFindings) -> Self {
        T::read(&parent.child(key, T::section(), found), found)
    }

    fn print_below(&self, extent: PrintExtent, out: &mut PrintedSections) {
        self.print(extent, out);
    }
}

impl<T: ConfigSection> Subsection for Option<T> {
    fn absent() -> Self {
        None
    }

    fn read_below(parent: &ConfigTable<'_>, key: &str, found: &mut ConfigFindings) -> Self {
        let table = parent.child(key, T::section(), found);
        let read = T::read(&table, found);
        table.is_written().then_some(read)
    }

    fn print_below(&self, extent: PrintExtent, out: &mut PrintedSections) {
        if let Some(section) = self {
            section.print(extent, out);
        }
    }
}

impl<T: ConfigSection> Subsection for Vec<T> {
    fn absent() -> Self {
        Vec::new()
    }

    fn read_below(parent: &ConfigTable<'_>, key: &str, found: &mut ConfigFindings) -> Self {
        let tables = parent.children(key, T::section(), found);
        tables.iter().map(|table| T::read(table, found)).collect()
    }

    fn print_below(&self, extent: PrintExtent, out: &mut PrintedSections) {
        if extent == PrintExtent::Whole {
            for section in self {
                section.print(extent, out);
            }
        }
    }
}

/// A field that several keys of one section form together, such as a choice with keys for only one of its cases.
pub(super) trait KeyGroup: Sized {
    /// Returns the keys.
    fn keys() -> &'static [KeySchema];

    /// Returns the group when none of its keys is written.
    fn unwritten() -> Self;

    /// Reads the keys.
    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self;

    /// Returns the keys that apply, with their values.
    fn entries(&self) -> TomlEntries;

    /// Prints the subsections that belong to the group.
    fn print_below(&self, _out: &mut PrintedSections) {}
}

/// The value of a field when a key without a default is missing or not valid, so that reading can continue. It is
/// never used if the key is needed: the configuration is refused.
pub(super) trait StandInValue {
    /// Returns a value that no check reports.
    fn stand_in() -> Self;
}

impl StandInValue for String {
    fn stand_in() -> Self {
        String::new()
    }
}

impl StandInValue for std::path::PathBuf {
    fn stand_in() -> Self {
        Self::new()
    }
}

impl StandInValue for super::ListenAddress {
    fn stand_in() -> Self {
        Self::Tcp((std::net::Ipv4Addr::LOCALHOST, 0).into())
    }
}

impl StandInValue for super::RequestRate {
    fn stand_in() -> Self {
        Self {
            count: std::num::NonZeroU32::MIN,
            period: std::time::Duration::from_secs(1),
        }
    }
}

impl StandInValue for super::Address {
    fn stand_in() -> Self {
        super::Address::Name(String::new(), 0)
    }
}

impl<T> StandInValue for Vec<T> {
    fn stand_in() -> Self {
        Vec::new()
    }
}

impl<T> StandInValue for Option<T> {
    fn stand_in() -> Self {
        None
    }
}

/// Joins lines of documentation to one text, up to the first empty line.
pub(super) fn prose(lines: &[&'static str]) -> &'static str {
    let lines = lines.iter().map(|line| line.trim());
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    // Made once for each key: the schema lives as long as the process.
    lines.join(" ").leak()
}

/// Returns a value in one line: the compiler passes a long list in several lines.
pub(super) fn one_line(value: &'static str) -> &'static str {
    match value.contains('\n') {
        // Made once for each key, as above.
        true => value.lines().collect::<Vec<_>>().join(" ").leak(),
        false => value,
    }
}
