//! What a declaration ([`declare`](super::declare)) makes of a struct, and what its fields may be.

use super::reader::{ConfigFindings, ConfigTable};
use super::schema::{KeySchema, SectionSchema};

/// Keys with their values as TOML.
pub(super) type TomlEntries = Vec<(&'static str, String)>;

/// A section's header with its keys and values, one after the other as they are printed.
pub(super) type PrintedSections = Vec<(&'static str, TomlEntries)>;

/// How much of a section is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PrintExtent {
    /// All that is below it.
    Whole,
    /// What there is one of: lists of sections, such as a pool's backends, are left out.
    WithoutLists,
}

/// A struct that is a section of the file. `section!` implements it.
pub(super) trait ConfigSection: Clone + 'static {
    /// Its name, its text and its keys.
    fn section() -> &'static SectionSchema;

    /// The section when it is not written: every default, and a stand-in for each key that has none.
    fn unwritten() -> &'static Self;

    /// Reads it, and the sections below it.
    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self;

    /// Its own keys with their values.
    fn entries(&self) -> TomlEntries;

    /// Itself, and the sections below it.
    fn print(&self, extent: PrintExtent, out: &mut PrintedSections);
}

/// A field of a section that is a section itself, may be one, or is any number of them.
pub(super) trait Subsection: Sized {
    /// The section when it is not written.
    fn absent() -> Self;

    /// Reads it from below its parent.
    fn read_below(parent: &ConfigTable<'_>, key: &str, found: &mut ConfigFindings) -> Self;

    /// Prints what there is of it.
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

/// A field that several keys of one section make together, such as a choice with keys for one of its cases only.
pub(super) trait KeyGroup: Sized {
    /// The keys.
    fn keys() -> &'static [KeySchema];

    /// The group when none of its keys is written.
    fn unwritten() -> Self;

    /// Reads them.
    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self;

    /// Those that apply, with their values.
    fn entries(&self) -> TomlEntries;

    /// The sections below that belong to it.
    fn print_below(&self, _out: &mut PrintedSections) {}
}

/// What a field holds when a key without a default is missing or wrong, so that reading can go on. It is never used
/// where the key is needed: the configuration is refused.
pub(super) trait StandInValue {
    /// A value that no check takes offence at.
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

/// Lines of documentation as one text, up to the first empty line.
pub(super) fn prose(lines: &[&'static str]) -> &'static str {
    let lines = lines.iter().map(|line| line.trim());
    let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    // Made once for each key: the schema lives as long as the process.
    lines.join(" ").leak()
}

/// A value as it is written: a long list comes from the compiler in several lines.
pub(super) fn one_line(value: &'static str) -> &'static str {
    match value.contains('\n') {
        // Made once for each key, as above.
        true => value.lines().collect::<Vec<_>>().join(" ").leak(),
        false => value,
    }
}
