//! `include = ["conf.d/*.toml"]`: the files that belong to a configuration.
//!
//! A name is relative to the directory of the file that contains it. The files of a pattern come in the order of
//! their names; each file comes before those that it includes.

use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::file_patterns::{find_files, is_pattern};
use super::plain_file::read_lasting_file;
use super::reader::{ConfigFindings, describe};
use super::size;
use super::sources::SourceTexts;
use super::variables::{VariableLookup, expand_text};
use super::words::plain;

/// Name of the key, at the top of a file.
pub(super) const INCLUDE: &str = "include";

/// Largest file, and largest total of all files of a configuration, in bytes.
pub(super) const MAX_SIZE: u64 = 16 << 20;

/// Most files of one configuration.
const MAX_FILES: usize = 1_000;

/// Most files that include one another, including the first.
const MAX_DEPTH: usize = 8;

/// Identity of a file (device and inode), whatever its name.
type IncludedFile = (u64, u64);

/// Reads the included files of a text.
pub(super) struct Includer<'a> {
    environment: VariableLookup<'a>,
    sources: &'a mut SourceTexts,
    found: &'a mut ConfigFindings,
    size: u64,
    /// Each file with the position that named it first.
    known: HashMap<IncludedFile, Range<usize>>,
    /// The chain of files that leads to the present one.
    above: Vec<(Option<IncludedFile>, String)>,
    /// Whether a limit was exceeded, which is reported once.
    is_full: bool,
}

impl<'a> Includer<'a> {
    /// Creates an includer for the first of these texts.
    pub(super) fn new(
        sources: &'a mut SourceTexts,
        environment: VariableLookup<'a>,
        found: &'a mut ConfigFindings,
    ) -> Self {
        let size = sources.iter().map(|source| source.text.len() as u64).sum();
        Includer {
            environment,
            sources,
            found,
            size,
            known: HashMap::new(),
            above: Vec::new(),
            is_full: false,
        }
    }

    /// Reads the files that the text with this number includes, and those that these include.
    pub(super) fn follow(&mut self, number: usize) {
        let Some(source) = self.sources.get(number) else {
            return;
        };
        let (text, start) = (source.text.clone(), source.start);
        let (name, directory) = (source.name.clone(), source.directory.clone());
        if !text.contains(INCLUDE) {
            return;
        }
        // Errors in the text are reported when it is parsed completely.
        let Ok(root) = DeTable::parse(&text) else {
            return;
        };
        let Some(value) = root.get_ref().get(INCLUDE) else {
            return;
        };
        let moved = |span: Range<usize>| span.start + start..span.end + start;
        let wrong = |is: &DeValue<'_>| format!("`{INCLUDE}` is {}", describe(is));
        let remedy = format!("write a list of names: `{INCLUDE} = [\"conf.d/*.toml\"]`");
        let DeValue::Array(items) = value.get_ref() else {
            let message = format!("{}, but must be a list", wrong(value.get_ref()));
            self.found.error(Some(moved(value.span())), message, remedy);
            return;
        };
        self.above.push((identity(Path::new(&name)), name));
        for item in items.iter() {
            let place = moved(item.span());
            match item.get_ref() {
                DeValue::String(written) => match expand_text(written, self.environment) {
                    Ok(wanted) => self.include(&directory, &wanted, &place),
                    Err(problem) => {
                        self.found
                            .error(Some(place), problem.message, problem.remedy);
                    }
                },
                other => {
                    let message = format!("`{INCLUDE}` has {} in it", describe(other));
                    self.found.error(Some(place), message, remedy.clone());
                }
            }
        }
        self.above.pop();
    }

    /// Reads the files of one name or pattern.
    fn include(&mut self, directory: &Path, wanted: &str, place: &Range<usize>) {
        let empty = wanted.is_empty();
        if empty || wanted.contains(|c: char| c.is_control()) {
            let is = if empty { "empty" } else { "no name of a file" };
            let message = format!("`{INCLUDE}` has a text in it that is {is}");
            let remedy = "write the name of a file, or a pattern such as \"conf.d/*.toml\"";
            self.found.error(Some(place.clone()), message, remedy);
            return;
        }
        if !is_pattern(wanted) {
            self.add(directory.join(wanted), place);
            return;
        }
        let found = find_files(directory, wanted);
        for (directory, why) in found.unreadable {
            let message = format!(
                "`{INCLUDE}`: can't look into {}: {}",
                directory.display(),
                plain(&why)
            );
            let remedy = "let lameduck's user read the directory: files in it would be missing from the configuration";
            self.found.error(Some(place.clone()), message, remedy);
        }
        for path in found.files {
            self.add(path, place);
        }
    }

    fn add(&mut self, path: PathBuf, place: &Range<usize>) {
        if self.is_full {
            return;
        }
        let name = path.display().to_string();
        let own = identity(&path);
        let above = self.above.iter();
        if own.is_some() && above.clone().any(|(known, _)| *known == own) {
            let mut way: Vec<_> = above.map(|(_, name)| name.as_str()).collect();
            way.push(&name);
            let message = format!("`{INCLUDE}` goes round and round: {}", way.join(" → "));
            let remedy = "remove it, or choose a pattern that does not match the file itself";
            self.found.error(Some(place.clone()), message, remedy);
            return;
        }
        if let Some(own) = own {
            if let Some(first) = self.known.get(&own).cloned() {
                let named = self.sources.shown(first.start);
                let message = format!("{name} is included twice, first by {named}");
                let remedy = "keep one of the two";
                self.found
                    .error(Some(place.clone()), message, remedy)
                    .also(Some(first), "included here first");
                return;
            }
            self.known.insert(own, place.clone());
        }
        let full = if self.above.len() >= MAX_DEPTH {
            Some(format!(
                "`{INCLUDE}`: more than {MAX_DEPTH} files include one another"
            ))
        } else if self.sources.names().len() >= MAX_FILES {
            Some(format!(
                "`{INCLUDE}`: the configuration has more than {MAX_FILES} files"
            ))
        } else {
            None
        };
        if let Some(message) = full {
            self.is_full = true;
            let remedy = "include them from one file, or see whether the pattern is right";
            self.found.error(Some(place.clone()), message, remedy);
            return;
        }
        let read = read_lasting_file(&path, MAX_SIZE.saturating_sub(self.size));
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                self.refuse_unreadable(&name, &error, place);
                return;
            }
        };
        self.size += bytes.len() as u64;
        match String::from_utf8(bytes) {
            Ok(text) => {
                let number = self.sources.names().len();
                self.sources.add(name, Arc::from(text));
                self.follow(number);
            }
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = good.split(|byte| *byte == b'\n').count();
                let message = format!("`{INCLUDE}`: {name}: line {line} is not UTF-8");
                let remedy = "save the file as UTF-8";
                self.found.error(Some(place.clone()), message, remedy);
            }
        }
    }

    fn refuse_unreadable(&mut self, name: &str, error: &std::io::Error, place: &Range<usize>) {
        use std::io::ErrorKind;
        let why = plain(error);
        let (why, remedy) = match error.kind() {
            ErrorKind::NotFound => (
                why,
                "correct the name; a pattern such as \"conf.d/*.toml\" may match nothing"
                    .to_owned(),
            ),
            ErrorKind::IsADirectory => (why, format!("write `\"{name}/*.toml\"`")),
            ErrorKind::PermissionDenied => (why, "let lameduck's user read it".to_owned()),
            ErrorKind::FileTooLarge => {
                self.is_full = true;
                let all = size::format(MAX_SIZE);
                (
                    format!("the files of the configuration have more than {all} together"),
                    "see whether it is the right file".to_owned(),
                )
            }
            _ => (why, "name a plain file".to_owned()),
        };
        let message = format!("`{INCLUDE}`: can't read {name}: {why}");
        self.found.error(Some(place.clone()), message, remedy);
    }
}

fn identity(path: &Path) -> Option<IncludedFile> {
    let data = path.metadata().ok()?;
    Some((data.dev(), data.ino()))
}
