//! Paths without parts that may be private, for operators who look at requests in flight.

/// Most segments that are shown; the rest is left out.
const MOST_SEGMENTS: usize = 8;

/// Longest segment that is taken for a word, in bytes.
const LONGEST_WORD: usize = 24;

/// Returns a path with `*` in place of every segment that may be an identifier, a name or a secret: all that contain
/// a digit, are long, or have characters other than letters, `.`, `_` and `-`. Versions (`v1`) stay. The part after
/// the eighth segment is shown as `…`.
pub fn outline_path(path: &[u8]) -> String {
    let mut outline = String::new();
    let mut segments = path.split(|byte| *byte == b'/');
    // The part before the first slash is empty, except for `*` and the targets of CONNECT.
    match segments.next() {
        Some(b"") | None => {}
        Some(_) => outline.push('*'),
    }
    for (index, segment) in segments.enumerate() {
        outline.push('/');
        if index == MOST_SEGMENTS {
            outline.push('…');
            break;
        }
        match is_word(segment) || is_version(segment) {
            true => outline.push_str(&String::from_utf8_lossy(segment)),
            false => outline.push('*'),
        }
    }
    outline
}

fn is_word(segment: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphabetic() || b"._-".contains(byte);
    segment.len() <= LONGEST_WORD && segment.iter().all(fits)
}

fn is_version(segment: &[u8]) -> bool {
    let digits = segment.strip_prefix(b"v").unwrap_or_default();
    (1..=2).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::outline_path;

    #[test]
    fn outline_keeps_words_and_versions_and_hides_everything_else() {
        for (path, outline) in [
            ("/", "/"),
            ("/slow", "/slow"),
            ("/v1/users/4711/orders", "/v1/users/*/orders"),
            ("/reset/9f8a7b6c", "/reset/*"),
            ("/reset/abcdefghijklmnopqrstuvwxyz", "/reset/*"),
            ("/u/anna@example.org", "/u/*"),
            ("/a%20b/<script>/x.html", "/*/*/x.html"),
            ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
            ("/v123", "/*"),
            ("*", "*"),
            ("example.org:443", "*"),
            ("", ""),
        ] {
            assert_eq!(outline_path(path.as_bytes()), outline, "{path}");
        }
        assert_eq!(outline_path(b"/\xff/\x1b[2J"), "/*/*");
    }
}
