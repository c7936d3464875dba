//! `[include]` of supervisord: more files, by pattern.

use std::path::{Path, PathBuf};

use super::ini::{self, Dialect};

/// Directories that are looked through for one pattern, at most.
const MAX_DIRECTORIES: usize = 200;

/// The files that a configuration includes; none if it is of another kind.
pub(super) fn files(path: &Path, text: &str) -> Vec<PathBuf> {
    if !text.contains("[include]") {
        return Vec::new();
    }
    let here = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (sections, _) = ini::parse(text, Dialect::Supervisord);
    let mut found = Vec::new();
    for section in sections.iter().filter(|section| section.name == "include") {
        let Some(key) = section.last("files") else {
            continue;
        };
        for pattern in key.value.split_whitespace() {
            let pattern = pattern.replace("%(here)s/", "");
            let mut matching = matching(here, &pattern);
            matching.sort();
            found.extend(matching);
        }
    }
    found.retain(|file| file != path);
    found
}

fn matching(here: &Path, pattern: &str) -> Vec<PathBuf> {
    let start = if pattern.starts_with('/') {
        PathBuf::from("/")
    } else {
        here.to_owned()
    };
    let mut places = vec![start];
    for part in pattern
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
    {
        let mut next = Vec::new();
        for place in places.iter().take(MAX_DIRECTORIES) {
            if !part.contains(['*', '?', '[']) {
                next.push(place.join(part));
                continue;
            }
            let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
            let fits = entries.filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| fits(part.as_bytes(), name.as_bytes()))
            });
            next.extend(fits.map(|entry| entry.path()));
        }
        places = next;
    }
    places.retain(|path| path.is_file());
    places
}

/// Shell patterns of `*`, `?` and `[…]`; a set counts as any character.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| fits(rest, &name[at..])),
        (Some((b'[', rest)), Some((_, more))) => {
            let end = rest
                .iter()
                .position(|b| *b == b']')
                .map_or(rest.len(), |end| end + 1);
            fits(&rest[end..], more)
        }
        (Some((p, rest)), Some((n, more))) => (p == n || *p == b'?') && fits(rest, more),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(fits(b"*.conf", b"a.conf") && fits(b"a?[0-9]*", b"ab7"));
        assert!(!fits(b"*.conf", b"a.conf.bak") && !fits(b"?", b""));
    }
}
