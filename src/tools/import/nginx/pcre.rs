//! Translates nginx's regular expressions (PCRE) to lameduck's syntax.
//!
//! Expressions that need backtracking are refused with a reason: look-around, back-references, atomic groups,
//! possessive quantifiers. For those that restrict access, [`widen_regex`] makes one that matches at least as much.

use crate::tools::import::draft::toml_text;
use crate::tools::import::offered;

/// A part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RegexPiece {
    /// Text that stays as it is.
    Text(String),
    /// A part that can't be translated, with one that matches at least as much.
    Foreign {
        name: &'static str,
        text: String,
        wider: &'static str,
        depth: usize,
    },
}

/// Expression for `path_regex`.
///
/// # Errors
/// It can't be translated; the text names the obstacle.
pub fn translate_regex(pattern: &str, is_caseless: bool) -> Result<String, String> {
    let mut out = String::from(if is_caseless { "(?i)" } else { "" });
    for piece in split(pattern) {
        match piece {
            RegexPiece::Text(text) => out.push_str(&text),
            RegexPiece::Foreign { name, text, .. } => {
                return Err(format!(
                    "lameduck's regular expressions have no {name} (`{text}`)"
                ));
            }
        }
    }
    offered::check_key("path_regex", &toml_text(&out)).map(|()| out)
}

/// Translates an expression that nginx matches with decoded paths: characters that clients have to encode are encoded
/// in it.
///
/// # Errors
/// As for [`translate_regex`].
pub fn translate_path_regex(pattern: &str, is_caseless: bool) -> Result<String, String> {
    translate_regex(&encode_literals(pattern), is_caseless)
}

/// Encodes characters of a path that clients have to encode: spaces, quotes, and everything but ASCII.
pub fn encode_path(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte.is_ascii_graphic() && !b"\"<>".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Encodes literal characters of an expression, except in classes: those that never occur in a path as they are, and
/// those that clients may send in either way.
fn encode_literals(pattern: &str) -> String {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::new();
    let (mut at, mut ignored) = (0, String::new());
    while let Some(c) = chars.get(at).copied() {
        let next = chars.get(at + 1).copied();
        match (c, next) {
            ('[', _) => {
                let end = class_end(&chars, at, &mut ignored);
                out.extend(&chars[at..end.min(chars.len())]);
                at = end;
                continue;
            }
            // Kind and name of the group.
            ('(', Some('?')) => {
                let rest = &chars[at..];
                let is_end = |c: &char| [':', '>', ')', '!', '='].contains(c);
                let length = rest.iter().position(is_end).unwrap_or(rest.len() - 1);
                out.extend(&rest[..=length]);
                at += length + 1;
                continue;
            }
            ('\\', Some(' ')) => out.push_str("(?:%20)"),
            ('\\', Some(meta)) if "[]{}()+*^|".contains(meta) => {
                out.push_str(&format!("(?:\\{meta}|%{:02X})", u32::from(meta)));
            }
            ('\\', Some(other)) => out.extend(['\\', other]),
            (c, _) if !c.is_ascii() || " \"<>#".contains(c) => {
                let mut bytes = [0; 4];
                let encoded = c.encode_utf8(&mut bytes).bytes();
                let encoded: String = encoded.map(|byte| format!("%{byte:02X}")).collect();
                match next.is_some_and(|next| "*+?{".contains(next)) {
                    true => out.push_str(&format!("(?:{encoded})")),
                    false => out.push_str(&encoded),
                }
            }
            (c, _) => out.push(c),
        }
        at += if c == '\\' && next.is_some() { 2 } else { 1 };
    }
    out
}

/// An expression that matches at least as much as this one; `None`: there is none.
pub fn widen_regex(pattern: &str, is_caseless: bool) -> Option<String> {
    let mut out = String::from(if is_caseless { "(?i)" } else { "" });
    for piece in split(&encode_literals(pattern)) {
        match piece {
            RegexPiece::Text(text) => out.push_str(&text),
            RegexPiece::Foreign { wider, .. } => out.push_str(wider),
        }
    }
    offered::check_key("path_regex", &toml_text(&out)).ok()?;
    Some(out)
}

/// For an expression such as "dot files, but not `.well-known`": an expression for the exception.
pub fn spared_by_look_ahead(pattern: &str) -> Option<String> {
    let pieces = split(pattern);
    let [
        RegexPiece::Text(before),
        RegexPiece::Foreign {
            name: "negative look-ahead",
            text,
            depth: 0,
            ..
        },
        after @ ..,
    ] = &pieces[..]
    else {
        return None;
    };
    let is_open = match after {
        [] => true,
        [RegexPiece::Text(rest)] => [".*", ".*$", ""].contains(&rest.as_str()),
        _ => false,
    };
    let known = [
        r"/\.",
        r"\/\.",
        r"^/\.",
        r"^\/\.",
        r"(^|/)\.",
        r"(?:^|/)\.",
        r"(/|^)\.",
        r"(^|\/)\.",
    ];
    let inner = text.strip_prefix("(?!")?.strip_suffix(')')?;
    (is_open && known.contains(&before.as_str())).then(|| {
        // If a later segment begins with a dot, the exception does not apply.
        format!(r"^/\.(?:{inner})(?:[^/.][^/]*)?(?:/[^/.][^/]*)*/?$")
    })
}

fn split(pattern: &str) -> Vec<RegexPiece> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let (mut at, mut depth) = (0, 0usize);
    let begins = |at: usize, word: &str| {
        chars
            .get(at..)
            .is_some_and(|rest| rest.iter().copied().take(word.len()).eq(word.chars()))
    };
    while let Some(c) = chars.get(at).copied() {
        let group = [
            ("(?=", "look-ahead"),
            ("(?!", "negative look-ahead"),
            ("(?<=", "look-behind"),
            ("(?<!", "negative look-behind"),
            ("(?(", "condition"),
        ]
        .into_iter()
        .find(|(word, _)| begins(at, word));
        let mut foreign = |name, end: usize, wider| {
            if !text.is_empty() {
                pieces.push(RegexPiece::Text(std::mem::take(&mut text)));
            }
            pieces.push(RegexPiece::Foreign {
                name,
                text: chars[at..end].iter().collect(),
                wider,
                depth,
            });
            end
        };
        at = match c {
            '\\' => {
                let next = chars.get(at + 1).copied().unwrap_or('\\');
                match next {
                    '1'..='9' => foreign("back-references", at + 2, ".*"),
                    'k' => foreign("back-references", at + 2, ".*"),
                    'K' => foreign("`\\K`", at + 2, ""),
                    _ => {
                        text.extend(['\\', next]);
                        at + 2
                    }
                }
            }
            '[' => class_end(&chars, at, &mut text),
            '(' if group.is_some() => {
                let end = group_end(&chars, at);
                foreign(group.map_or("", |(_, name)| name), end, "")
            }
            '(' if begins(at, "(?>") => {
                let end = foreign("atomic groups", at + 3, "(?:");
                depth += 1;
                end
            }
            '+' if at > 0
                && matches!(chars[at - 1], '+' | '*' | '?' | '}')
                && chars.get(at.wrapping_sub(2)) != Some(&'\\') =>
            {
                foreign("possessive quantifiers", at + 1, "")
            }
            _ => {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                text.push(c);
                at + 1
            }
        };
    }
    if !text.is_empty() {
        pieces.push(RegexPiece::Text(text));
    }
    pieces
}

/// Copies a class, and escapes what has a special meaning only in lameduck's syntax; returns its end.
fn class_end(chars: &[char], start: usize, out: &mut String) -> usize {
    out.push('[');
    let mut at = start + 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    while let Some(c) = chars.get(at).copied() {
        match c {
            ']' if at > first => {
                out.push(']');
                return at + 1;
            }
            '\\' => {
                out.push('\\');
                out.extend(chars.get(at + 1));
                at += 2;
                continue;
            }
            '[' if chars.get(at + 1) == Some(&':') => {
                while let Some(c) = chars.get(at).copied() {
                    out.push(c);
                    at += 1;
                    if c == ']' {
                        break;
                    }
                }
                continue;
            }
            ']' | '[' => out.extend(['\\', c]),
            '&' | '~' | '-' if chars.get(at + 1) == Some(&c) => out.extend(['\\', c]),
            _ => out.push(c),
        }
        at += 1;
    }
    at
}

fn group_end(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    let mut ignored = String::new();
    while let Some(c) = chars.get(at).copied() {
        match c {
            '\\' => at += 1,
            '[' => {
                at = class_end(chars, at, &mut ignored);
                continue;
            }
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

/// An expression that matches only this text.
pub fn escape_regex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !"/_-%!,:;=@&~'\"<>#".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_expressions_stay_what_they_are() {
        for pattern in [
            r"\.php$",
            r"^/v[0-9]+/",
            r"\.(?:css|js|png)$",
            r"^/(?<name>[^/]+)/",
            r"^\/a\/b$",
            r"^/a++?",
        ] {
            let translated = translate_regex(pattern, false);
            if pattern.contains("++") {
                assert!(translated.unwrap_err().contains("possessive"));
            } else {
                assert_eq!(translated.as_deref(), Ok(pattern));
            }
        }
        assert_eq!(translate_regex("a", true).unwrap(), "(?i)a");
        assert_eq!(translate_regex("[a[b]x", false).unwrap(), r"[a\[b]x");
        assert_eq!(
            translate_regex("[[:alpha:]-]", false).unwrap(),
            "[[:alpha:]-]"
        );
    }

    #[test]
    fn expressions_that_need_backtracking_are_refused_with_the_reason() {
        for (pattern, name) in [
            (r"/\.(?!well-known)", "negative look-ahead"),
            (r"^(a)\1", "back-references"),
            (r"(?<=x)y", "look-behind"),
            (r"(?>a)b", "atomic groups"),
        ] {
            let error = translate_regex(pattern, false).unwrap_err();
            assert!(error.contains(name), "{pattern}: {error}");
            assert!(widen_regex(pattern, false).is_some(), "{pattern}");
        }
        assert_eq!(
            widen_regex(r"/\.(?!well-known).*", false).unwrap(),
            r"/\..*"
        );
    }

    #[test]
    fn spared_paths_have_no_other_dot_file_in_them() {
        let spared = spared_by_look_ahead(r"/\.(?!well-known).*").unwrap();
        let regex = regex::Regex::new(&spared).unwrap();
        for (path, fits) in [
            ("/.well-known/acme-challenge/x", true),
            ("/.well-known", true),
            ("/.well-known/.git", false),
            ("/a/.well-known", false),
            ("/.git", false),
        ] {
            assert_eq!(regex.is_match(path), fits, "{path}");
        }
        assert_eq!(spared_by_look_ahead(r"/x(?!y)"), None);
    }

    #[test]
    fn escaped_text_fits_itself() {
        for text in ["/a.b+c(d)", "/x y$", "/[z]{1}"] {
            let regex = regex::Regex::new(&format!("^{}$", escape_regex(text))).unwrap();
            assert!(regex.is_match(text));
        }
    }
}
