//! File names with `*`, `?` and `[…]`, matched as glob(3) and a shell do: within one path component each, sorted,
//! without hidden files unless the pattern begins with a dot.

use std::io;
use std::path::{Path, PathBuf};

/// Most paths that are examined for one pattern.
const MAX_PLACES: usize = 10_000;

/// Result of a search.
#[derive(Debug, Default)]
pub(crate) struct FoundFiles {
    /// The files, in the order of their names, level by level.
    pub(crate) files: Vec<PathBuf>,
    /// Directories that could not be read, with the error. Missing directories are not included.
    pub(crate) unreadable: Vec<(PathBuf, io::Error)>,
}

/// Whether a name is a pattern.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Returns the regular files that a name or pattern refers to, relative to `base`. A name that is no pattern is
/// returned even if the file is missing.
pub(crate) fn find_files(base: &Path, pattern: &str) -> FoundFiles {
    let mut found = FoundFiles::default();
    if !is_pattern(pattern) {
        found.files.push(base.join(pattern));
        return found;
    }
    let start = match pattern.starts_with('/') {
        true => PathBuf::from("/"),
        false => base.to_path_buf(),
    };
    let mut places = vec![start];
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let mut next = Vec::new();
        for place in &places {
            if !is_pattern(part) {
                next.push(place.join(part));
                continue;
            }
            match names_in(place, part) {
                Ok(names) => next.extend(names.into_iter().map(|name| place.join(name))),
                Err(error) if is_absent(&error) => {}
                Err(error) => found.unreadable.push((place.clone(), error)),
            }
            next.truncate(MAX_PLACES);
        }
        places = next;
    }
    // A dangling link is reported by the code that reads it.
    places.retain(|path| !path.is_dir() && path.symlink_metadata().is_ok());
    found.files = places;
    found
}

/// Returns the names in a directory that match, sorted.
fn names_in(directory: &Path, part: &str) -> io::Result<Vec<String>> {
    // `""` means the working directory.
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        let is_shown = part.starts_with('.') || !name.starts_with('.');
        if is_shown && names.len() < MAX_PLACES && fits(part, &name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// Whether a name matches a pattern, in at most pattern × name steps: a star is tried again only until the next one.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = fits_one(&pattern, p, name[n]) {
            p = next;
            n += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Matches one character with the element at a position of the pattern; returns the next position.
fn fits_one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let negated = matches!(pattern.get(at + 1), Some('!' | '^'));
            let from = at + 1 + usize::from(negated);
            // A bracket at the very beginning is a member of the set.
            let Some(length) = pattern.get(from + 1..)?.iter().position(|c| *c == ']') else {
                return (c == '[').then_some(at + 1);
            };
            let set = &pattern[from..=from + length];
            let mut found = false;
            let mut i = 0;
            while i < set.len() {
                if set.get(i + 1) == Some(&'-') && i + 2 < set.len() {
                    found |= (set[i]..=set[i + 2]).contains(&c);
                    i += 3;
                } else {
                    found |= set[i] == c;
                    i += 1;
                }
            }
            (found != negated).then_some(from + length + 2)
        }
        '\\' => (pattern.get(at + 1) == Some(&c)).then_some(at + 2),
        other => (*other == c).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[x", "[x", true),
            ("*a*b*", "xxaxxbx", true),
            ("\\*", "*", true),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
        // This would take exponential time if stars were tried recursively.
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
    }
}
