//! The declarations of all sections and keys as data: description, form, default.
//!
//! Unknown keys are detected with it, and the reference in `docs/configuration.md` is generated from it.

use super::forms::{KeyContext, SpannedProblems, ValueForm};
use super::sections;
use std::path::Path;
use std::sync::LazyLock;
use toml::de::DeValue;

/// All sections, in the order in which they should be written; the first is the top of the file.
pub static SECTIONS: LazyLock<Vec<&'static SectionSchema>> = LazyLock::new(sections::all);

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct KeySchema {
    /// Name, as written.
    pub name: &'static str,
    /// Form of its value, as text.
    pub form: &'static str,
    /// Default as TOML; `None`: the key must be written.
    pub default: Option<&'static str>,
    /// Example of a value for advice, as TOML.
    pub example: &'static str,
    /// Description.
    pub doc: &'static str,
    /// Whether the key must be written.
    pub is_needed: bool,
    /// Whether a change takes effect only when the process is restarted.
    pub restart: bool,
}

/// One section.
#[derive(Debug)]
pub struct SectionSchema {
    /// Name, such as `pool.health`; empty: the top of the file.
    pub name: &'static str,
    /// Header, such as `[pool.health]` or `[[pool]]`.
    pub header: &'static str,
    /// Description.
    pub doc: &'static str,
    /// Keys, in the order of the reference.
    pub keys: &'static [KeySchema],
}

/// Whether a change of this key takes effect only when the process is restarted.
pub(super) fn needs_restart(header: &str, key: &str) -> bool {
    let section = SECTIONS.iter().find(|section| section.header == header);
    let key = section.and_then(|section| section.key(key));
    key.is_some_and(|key| key.restart)
}

impl SectionSchema {
    /// Creates a section with this header. It is kept for the life of the process.
    pub(super) fn new(header: &'static str, doc: &'static str, keys: Vec<KeySchema>) -> Self {
        SectionSchema {
            name: header.trim_matches(['[', ']']),
            header,
            doc,
            keys: keys.leak(),
        }
    }

    /// Returns the default of a key.
    ///
    /// # Panics
    /// Panics if there is no such key, or its default is not valid. A test reads the defaults of all sections.
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

    /// Returns the key with this name.
    pub fn key(&self, name: &str) -> Option<&'static KeySchema> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Returns the direct subsections, with the last part of their name.
    pub fn children(&self) -> impl Iterator<Item = (&'static str, &'static SectionSchema)> + '_ {
        SECTIONS.iter().copied().filter_map(|section| {
            let (parent, own) = section.name.rsplit_once('.').unwrap_or(("", section.name));
            (parent == self.name && !own.is_empty()).then_some((own, section))
        })
    }

    /// Whether it has a key or subsection with this name.
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Returns the names of its keys, then of its subsections.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let keys = self.keys.iter().map(|key| key.name);
        keys.chain(self.children().map(|(own, _)| own))
    }

    /// Returns a key or subsection as it is written: `` `rise` `` or `[pool.health]`.
    pub(super) fn shown(&self, name: &str) -> String {
        self.children().find(|(own, _)| *own == name).map_or_else(
            || format!("`{name}`"),
            |(_, section)| section.header.to_string(),
        )
    }
}

/// Returns where a key or subsection with this name belongs, as text: `[pool.health] or [pool.hold]`. For the name of
/// a section, returns that section.
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

/// Returns the reference of all sections, in Markdown.
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
