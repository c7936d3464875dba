//! How this run is meant: short or for the figures, and what to do about what is missing here.

use std::io::Write as _;

/// Whether the full figures are asked for.
pub fn proving() -> bool {
    std::env::var_os("LAMEDUCK_PROVE").is_some_and(|value| value == "1")
}

/// Whether this is CI, where everything is there.
pub fn is_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

/// Says aloud that a test can't run here. In CI it fails instead.
pub fn skip(test: &str, what: &str) {
    assert!(!is_ci(), "{test}: needs {what}");
    say(&format!("{test}: skipped: needs {what}"));
}

/// Says something aloud. Not by `eprintln!`, whose text the test runner swallows when a test passes.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
