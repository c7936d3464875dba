//! The declarations of all sections and keys as data: what each means, its form, its default.
//!
//! Unknown keys are found with it, and `docs/configuration.md` has its reference from it.

use super::forms::{KeyContext, SpannedProblems, ValueForm};
use super::sections;
use std::path::Path;
use std::sync::LazyLock;
use toml::de::DeValue;

/// All sections, in the order in which people should write them; the first is the top of the file.
pub static SECTIONS: LazyLock<Vec<&'static SectionSchema>> = LazyLock::new(sections::all);

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct KeySchema {
    /// As written.
    pub name: &'static str,
    /// The form of its value, for people.
    pub form: &'static str,
    /// The default as TOML; `None`: it must be written.
    pub default: Option<&'static str>,
    /// A value for advice, as TOML.
    pub example: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Whether it must be written.
    pub is_needed: bool,
    /// Whether a change takes effect only when the process starts anew.
    pub restart: bool,
}

/// One section.
#[derive(Debug)]
pub struct SectionSchema {
    /// `pool.health`; empty: the top of the file.
    pub name: &'static str,
    /// `[pool.health]` or `[[pool]]`.
    pub header: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys, in the order of the reference.
    pub keys: &'static [KeySchema],
}

/// Whether a change of this key takes effect only when the process starts anew.
pub(super) fn needs_restart(header: &str, key: &str) -> bool {
    let section = SECTIONS.iter().find(|section| section.header == header);
    let key = section.and_then(|section| section.key(key));
    key.is_some_and(|key| key.restart)
}

impl SectionSchema {
    /// A section with this header. It is kept for as long as the process lives.
    pub(super) fn new(header: &'static str, doc: &'static str, keys: Vec<KeySchema>) -> Self {
        SectionSchema {
            name: header.trim_matches(['[', ']']),
            header,
            doc,
            keys: keys.leak(),
        }
    }

    /// The default of one of its keys.
    ///
    /// # Panics
    /// If there is no such key, or its default is no value of its form. A test reads the defaults of all sections.
    pub(super) fn default_of<T>(&self, name: &str, form: &impl ValueForm<T>) -> T {
        let default = self
            .key(name)
            .and_then(|key| key.default)
            .unwrap_or_default();
        let context = KeyContext {
            name,
            default,
            base: Path::new(""),
        };
        let mut problems = SpannedProblems::new();
        let value = DeValue::parse(default).ok();
        let read = value.and_then(|value| form.read_whole(&context, &value, &mut problems));
        match read.filter(|_| problems.is_empty()) {
            Some(value) => value,
            None => panic!("{} {name}: {default} is no default for it", self.header),
        }
    }

    /// One of its keys.
    pub fn key(&self, name: &str) -> Option<&'static KeySchema> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The sections directly below it, with the last part of their name.
    pub fn children(&self) -> impl Iterator<Item = (&'static str, &'static SectionSchema)> + '_ {
        SECTIONS.iter().copied().filter_map(|section| {
            let (parent, own) = section.name.rsplit_once('.').unwrap_or(("", section.name));
            (parent == self.name && !own.is_empty()).then_some((own, section))
        })
    }

    /// Whether it has such a key or section.
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Its keys, then its sections.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let keys = self.keys.iter().map(|key| key.name);
        keys.chain(self.children().map(|(own, _)| own))
    }

    /// How a key or section of it is written: `` `rise` `` or `[pool.health]`.
    pub(super) fn shown(&self, name: &str) -> String {
        self.children().find(|(own, _)| *own == name).map_or_else(
            || format!("`{name}`"),
            |(_, section)| section.header.to_string(),
        )
    }
}

/// Where a key or sub-section of this name is, for people: `[pool.health] or [pool.hold]`. The name of a section
/// means that section.
pub(super) fn elsewhere(name: &str) -> Option<String> {
    let sections = SECTIONS
        .iter()
        .filter(|section| section.name.ends_with(&format!(".{name}")));
    let parent = |section: &SectionSchema| section.name.split('.').next().unwrap_or_default();
    let sections: Vec<_> = sections
        .map(|section| (parent(section), section.header))
        .collect();
    let keys = SECTIONS
        .iter()
        .filter(|section| section.key(name).is_some());
    let places: Vec<String> = match &sections[..] {
        [] => keys.map(|section| section.header.to_string()).collect(),
        [(parent, header)] => vec![format!("a {parent}: write {header}")],
        several => {
            let place = |(parent, header): &(&str, &str)| format!("a {parent} (write {header})");
            several.iter().map(place).collect()
        }
    };
    (!places.is_empty()).then(|| places.join(" or "))
}

/// The reference of all sections, in Markdown.
pub fn reference() -> String {
    let mut out = String::new();
    for section in &SECTIONS[1..] {
        out.push_str(&format!("### `{}`\n\n{}\n\n", section.header, section.doc));
        out.push_str("| key | form | default | meaning |\n|---|---|---|---|\n");
        for key in section.keys {
            let default = match key.default {
                Some(default) => format!("`{default}`"),
                None if key.is_needed => "(needed)".into(),
                None => "see right".into(),
            };
            out.push_str(&format!(
                "| `{}` | {} | {default} | {} |\n",
                key.name, key.form, key.doc
            ));
        }
        out.push('\n');
    }
    out
}
