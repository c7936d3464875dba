//! Every message that a broken file can cause, word for word.
//!
//! `NAME.toml` has its expected rendering in `NAME.txt`. After a deliberate change, run the tests with
//! `LAMEDUCK_BLESS=1` and read the difference as a user would.

use lameduck::app::check::load;
use lameduck::config::parse;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The `.toml` files of a directory, in order.
pub fn files(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

/// Permissions are not kept by version control, so tests set those that they are about.
fn set_mode(file: &str, mode: u32) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Compare with the expected text next to the file, or write that with `LAMEDUCK_BLESS`.
fn compare(path: &Path, shown: &str, wrong: &mut Vec<String>) {
    let expected = path.with_extension("txt");
    if std::env::var_os("LAMEDUCK_BLESS").is_some() {
        std::fs::write(&expected, shown).unwrap();
    }
    match std::fs::read_to_string(&expected) {
        Ok(text) if text == shown => {}
        Ok(text) => wrong.push(format!(
            "{}: expected\n{text}\nbut got\n{shown}",
            path.display()
        )),
        Err(error) => wrong.push(format!("{}: {error}", expected.display())),
    }
}

#[test]
fn every_broken_file_has_its_message() {
    set_mode("tests/config/broken/token-empty.token", 0o640);
    set_mode("tests/config/broken/token-writable.token", 0o666);
    for users in ["sha", "nobody", "bad"] {
        set_mode(&format!("tests/config/broken/auth-{users}.users"), 0o640);
    }
    let files = files("tests/config/broken");
    assert_eq!(
        files.len(),
        BROKEN,
        "a broken file was added or lost: adjust the number"
    );
    let mut wrong = Vec::new();
    for path in &files {
        match load(path) {
            Err(error) => {
                assert!(!error.is_usage(), "{}", path.display());
                compare(path, &error.render(false), &mut wrong);
            }
            Ok(_) => wrong.push(format!("{} is accepted", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_warning_has_its_message_and_the_file_works() {
    set_mode("tests/config/warned/token-readable.token", 0o644);
    let files = files("tests/config/warned");
    assert_eq!(
        files.len(),
        WARNED,
        "a file was added or lost: adjust the number"
    );
    let mut wrong = Vec::new();
    for path in &files {
        match load(path) {
            Ok(loaded) if loaded.warnings.diagnostics.is_empty() => {
                wrong.push(format!("{} has no warning", path.display()));
            }
            Ok(loaded) => compare(path, &loaded.warnings.render(false), &mut wrong),
            Err(error) => wrong.push(format!("{}:\n{error}", path.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_says_where_and_what_to_do() {
    for path in files("tests/config/broken") {
        let Err(error) = load(&path) else { continue };
        for diagnostic in error.report().diagnostics {
            assert!(
                !diagnostic.remedy.is_empty(),
                "{}: {}",
                path.display(),
                diagnostic.message
            );
            // Only what is missing altogether has no place.
            let missing = diagnostic.message.starts_with("there is no [[");
            assert!(
                diagnostic.span.is_some() || missing,
                "{}: {}",
                path.display(),
                diagnostic.message
            );
        }
    }
}

const BROKEN: usize = 531;
const WARNED: usize = 26;

#[test]
fn odd_texts_are_judged_and_never_a_panic() {
    let good = "[[listener]]\naddress = \"127.0.0.1:80\"\n[[pool]]\nname = \"a\"\n";
    assert!(parse("x.toml", good).is_ok());
    // Windows editors begin files with a byte order mark.
    assert!(parse("x.toml", &format!("\u{feff}{good}")).is_ok());
    for deep in ["[", "{a=", "[[a]]\n", "a.", "a=[", "'''", "\"\\"] {
        let text = format!("x = {}", deep.repeat(20_000));
        assert!(parse("x.toml", &text).is_err());
        assert!(parse("x.toml", &deep.repeat(20_000)).is_err());
    }
    for control in ["\0", "\u{7f}", "\r", "a = 1\r", "\u{202e} = 1"] {
        assert!(parse("x.toml", control).is_err(), "{control:?}");
    }
}

#[test]
fn a_file_that_is_not_text_says_which_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    std::fs::write(&path, b"[server]\nthreads = 1\n# \xff\n").unwrap();
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("x.toml: line 3 is not UTF-8"), "{text}");
    let text = load(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains(": is a directory") && text.contains("help: name the file in it"),
        "{text}"
    );
}
