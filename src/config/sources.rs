//! The texts that findings are about: a file and its included files, as one text in which every position is one
//! number.
//!
//! A position in the second text is its offset there plus the length of the first, and so on. So code that handles
//! spans need not know how many files there are, and the order of positions is the order in which the files are read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::excerpt::LineStarts;

/// One text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SourceText {
    /// Name of the file, as the user would write it.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    /// Position of its first byte.
    pub(super) start: usize,
    /// Directory to which relative paths in it are relative.
    pub(super) directory: PathBuf,
}

/// All texts of a configuration, in the order in which they are read: each file before those that it includes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceTexts(Vec<SourceText>);

impl SourceTexts {
    /// Creates a single text.
    pub fn one(name: &str, text: &str) -> Self {
        let mut sources = Self::default();
        sources.add(name.to_owned(), text.into());
        sources
    }

    /// Adds a text; returns the number at which its positions begin.
    pub(super) fn add(&mut self, name: String, text: Arc<str>) -> usize {
        // One more than its length, because the position after its last byte belongs to it.
        let end = |last: &SourceText| last.start + last.text.len() + 1;
        let start = self.0.last().map_or(0, end);
        let directory = Path::new(&name).parent().unwrap_or(Path::new(""));
        self.0.push(SourceText {
            directory: directory.to_owned(),
            name,
            text,
            start,
        });
        start
    }

    /// Returns the name of the first file; empty without texts.
    pub fn name(&self) -> &str {
        self.0.first().map_or("", |first| &first.name)
    }

    /// Returns the names of all files, in the order in which they are read.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|source| source.name.as_str())
    }

    /// Returns the number of the text that contains this position.
    pub(super) fn number_at(&self, place: usize) -> usize {
        let after = self.0.partition_point(|source| source.start <= place);
        after.saturating_sub(1)
    }

    /// Returns the text with this number.
    pub(super) fn get(&self, number: usize) -> Option<&SourceText> {
        self.0.get(number)
    }

    /// Returns the text that contains this position.
    pub(super) fn at(&self, place: usize) -> Option<&SourceText> {
        self.get(self.number_at(place))
    }

    /// Returns the directory to which paths at this position are relative.
    pub(super) fn directory_at(&self, place: usize) -> &Path {
        self.at(place)
            .map_or(Path::new(""), |source| &source.directory)
    }

    /// Returns a position as text: `conf.d/app.toml:3`.
    pub(super) fn shown(&self, place: usize) -> String {
        let Some(source) = self.at(place) else {
            return String::new();
        };
        let (line, _) = LineStarts::of(&source.text).place(place - source.start);
        format!("{}:{line}", source.name)
    }

    /// Returns all texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &SourceText> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_belongs_to_the_text_that_it_is_in() {
        let mut sources = SourceTexts::one("a.toml", "x = 1");
        assert_eq!(sources.add("d/b.toml".into(), "y = 2\nz".into()), 6);
        for (place, shown) in [
            (0, "a.toml:1"),
            (5, "a.toml:1"),
            (6, "d/b.toml:1"),
            (12, "d/b.toml:2"),
            (13, "d/b.toml:2"),
        ] {
            assert_eq!(sources.shown(place), shown, "{place}");
        }
        assert_eq!(sources.directory_at(5), Path::new(""));
        assert_eq!(sources.directory_at(6), Path::new("d"));
        assert_eq!(SourceTexts::default().shown(3), "");
    }
}
