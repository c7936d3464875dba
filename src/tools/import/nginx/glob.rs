//! Patterns of `include`, as glob(3) matches them for nginx: `*`, `?` and `[…]` within one name, sorted, hidden files
//! left out unless the pattern begins with the dot.

use std::path::{Path, PathBuf};

/// Places that are looked at for one pattern, at most.
const MAX_PLACES: usize = 10_000;

/// The files that a name or pattern means. A name without a pattern means itself, there or not.
pub(super) fn matching(prefix: &Path, pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?', '[']) {
        return vec![prefix.join(pattern)];
    }
    let start = match pattern.starts_with('/') {
        true => PathBuf::from("/"),
        false => prefix.to_path_buf(),
    };
    let mut places = vec![start];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for place in &places {
            if !part.contains(['*', '?', '[']) {
                next.push(place.join(part));
                continue;
            }
            let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| part.starts_with('.') || !name.starts_with('.'))
                .filter(|name| fits(part, name))
                .take(MAX_PLACES)
                .collect();
            names.sort();
            next.extend(names.into_iter().map(|name| place.join(name)));
            next.truncate(MAX_PLACES);
        }
        places = next;
    }
    places.retain(|path| path.exists());
    places
}

/// Whether a name fits a pattern. Never more than pattern × name steps: a star is tried again only until the next one.
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

/// Whether one character fits what stands at a place of the pattern; where the pattern goes on then.
fn fits_one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => {
            let negated = matches!(pattern.get(at + 1), Some('!' | '^'));
            let from = at + 1 + usize::from(negated);
            // A bracket right at the beginning is a member.
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
        // Exponential where stars are tried in one another.
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
    }
}
