//! Patterns of files: `*.css` for names, `/assets/*` for paths.

/// Whether a file matches a pattern. `path` is its path below the root, without a slash at its beginning. A pattern
/// that begins with a slash is compared with the path, any other with the file's name. `*` stands for any text,
/// including none and slashes.
pub fn fits_pattern(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [b'/', pattern @ ..] => fits(pattern, path),
        pattern => {
            let name = path.rsplit(|byte| *byte == b'/').next();
            fits(pattern, name.unwrap_or_default())
        }
    }
}

/// Matches in time that grows at most with the product of both lengths: only the last `*` is tried again.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Position after the last `*`, and the position in the text at which the rest of the pattern was last tried.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, read));
            }
            Some(byte) if *byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => match &mut star {
                Some((behind, begun)) => {
                    *begun += 1;
                    (at, read) = (*behind, *begun);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, path, expected) in [
            ("*", "a/b.css", true),
            ("*.css", "a/b.css", true),
            ("*.css", "a/b.css.map", false),
            ("b.css", "a/b.css", true),
            ("a*", "a/b.css", false),
            ("/a/*", "a/b/c", true),
            ("/a/*", "b/a/c", false),
            ("/a/*.js", "a/b/c.js", true),
            ("/*", "a", true),
            ("*.*.js", "app.3f2a.js", true),
            ("*.*.js", "app.js", false),
            ("", "", true),
            ("index.html", "index.html", true),
        ] {
            assert_eq!(
                fits_pattern(pattern.as_bytes(), path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
        let long = [b'a'; 20_000];
        assert!(!fits_pattern(b"*a*a*a*a*a*a*a*b", &long));
    }
}
