//! Regular expressions in the file: which are accepted, and how they are compiled.
//!
//! They search in time linear in the text, whatever expression and text are, because there is no backtracking;
//! therefore look-around and back-references are not supported. Limits on each expression keep the factor small.

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use std::sync::Arc;

/// Longest expression, in bytes.
const MAX_PATTERN: usize = 1024;
/// Most memory of one compiled expression, in bytes.
const MAX_PROGRAM: usize = 64 << 10;
/// Most memory in which a search caches its states, in bytes.
const MAX_STATES: usize = 512 << 10;

/// Compiles a checked expression.
///
/// # Errors
/// The expression is not valid, or too large: the configuration was not checked.
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(MAX_PROGRAM)
        .dfa_size_limit(MAX_STATES)
        .build()
}

/// Compiles checked expressions as one automaton, which reports which of them have a match.
pub fn compile_regexes(patterns: &[Arc<str>]) -> RegexSet {
    if patterns.is_empty() {
        return RegexSet::empty();
    }
    RegexSetBuilder::new(patterns)
        .unicode(false)
        // Each expression is within its own limit.
        .size_limit(usize::MAX)
        .dfa_size_limit(MAX_STATES)
        .build()
        .unwrap_or_else(|_| RegexSet::empty())
}

/// Checks that an expression can be used; the error says why not, and what to write.
pub(super) fn check_regex(pattern: &str) -> Result<(), (String, &'static str)> {
    if pattern.is_empty() {
        return Err(("it is empty".into(), "write an expression, or remove it"));
    }
    if pattern.len() > MAX_PATTERN {
        let why = format!("it has {} bytes, and can have {MAX_PATTERN}", pattern.len());
        return Err((why, "use a shorter one, or several routes"));
    }
    let mut parser = regex_syntax::ParserBuilder::new();
    if let Err(error) = parser.unicode(false).utf8(false).build().parse(pattern) {
        return Err(explain(pattern, &error));
    }
    match compile_regex(pattern) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err((
            "it becomes too large".into(),
            "use fewer and smaller repetitions than `{1000}`",
        )),
        Err(_) => Err(("it can't be used".into(), GENERAL)),
    }
}

const GENERAL: &str = "see https://docs.rs/regex/latest/regex/#syntax";

fn explain(pattern: &str, error: &regex_syntax::Error) -> (String, &'static str) {
    use regex_syntax::ast::ErrorKind as Syntax;
    use regex_syntax::hir::ErrorKind as Meaning;
    let (why, offset, remedy) = match error {
        regex_syntax::Error::Parse(error) => {
            let remedy = match error.kind() {
                Syntax::UnsupportedLookAround | Syntax::UnsupportedBackreference => {
                    "say it without, with several routes: no expression may take longer than a walk over the text"
                }
                _ => GENERAL,
            };
            (error.kind().to_string(), error.span().start.offset, remedy)
        }
        regex_syntax::Error::Translate(error) => {
            let remedy = match error.kind() {
                Meaning::UnicodeNotAllowed | Meaning::InvalidUtf8 => {
                    "paths are ASCII: write other characters percent-encoded, such as %C3%A9"
                }
                _ => GENERAL,
            };
            (error.kind().to_string(), error.span().start.offset, remedy)
        }
        _ => return ("it can't be read".into(), GENERAL),
    };
    let place = pattern.get(..offset).unwrap_or(pattern).chars().count() + 1;
    (format!("{why} (character {place})"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (pattern, why) in [
            ("", "it is empty"),
            ("^/(a", "unclosed group (character 3)"),
            ("^/a(?!b)", "(character 4)"),
            ("(a)\\1", "backreferences are not supported (character 4)"),
            ("[z-a]", "(character 2)"),
            ("é[ü]", "(character 3)"),
            ("(\\w{1000}){1000}", "it becomes too large"),
            ("\\p{Greek}", "(character 1)"),
        ] {
            let (said, remedy) = check_regex(pattern).unwrap_err();
            assert!(said.contains(why), "{pattern}: {said}");
            assert!(!said.contains('\n') && !remedy.is_empty(), "{said}");
        }
    }

    proptest! {
        #[test]
        fn checked_regexes_compile_alone_and_together(patterns in prop::collection::vec("[ab(|)*+?.\\[\\]{}1-3^$\\\\dwé]{1,12}", 1..8)) {
            let good: Vec<Arc<str>> = patterns
                .iter()
                .filter(|pattern| check_regex(pattern).is_ok())
                .map(|pattern| Arc::from(pattern.as_str()))
                .collect();
            prop_assert_eq!(compile_regexes(&good).len(), good.len());
            for pattern in &good {
                prop_assert!(compile_regex(pattern).is_ok());
            }
        }
    }
}
