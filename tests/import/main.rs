//! `lameduck import nginx` over a corpus of sites: what is written and what is said, word for word.
//!
//! `sites/NAME.conf` is read; `results/NAME.toml` is what comes of it, and `NAME.txt` the exit code and what is said on
//! standard error. After a deliberate change run with `LAMEDUCK_BLESS=1` and read the difference as a user would.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod differential;
mod guards;
mod hostile;
mod ingress;
mod peer;
mod pools;

use std::path::{Path, PathBuf};

use clap::Parser;
use lameduck::cli::import::{ImportArgs, run_import};
use lameduck::config;
use lameduck::tools::import::nginx::directives::directive_tables;
use lameduck_rig::pages::check_generated;

const SITES: &str = "tests/import/sites";

#[derive(Parser)]
struct ImportCli {
    #[command(flatten)]
    args: ImportArgs,
}

/// Exit code, what is written, and what is said.
fn import(words: &[&str]) -> (u8, String, String) {
    let args = ImportCli::parse_from(["import", "nginx"].iter().chain(words)).args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_import(args, &mut out, &mut err);
    (
        code,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// A text as a configuration of its own.
fn import_text(text: &str) -> (u8, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nginx.conf");
    std::fs::write(&path, text).unwrap();
    let (code, out, err) = import(&[path.to_str().unwrap()]);
    let dir = format!("{}/", dir.path().display());
    (code, out.replace(&dir, ""), err.replace(&dir, ""))
}

fn sites() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(SITES)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut sites: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect();
    sites.sort();
    assert!(sites.len() >= 25, "{sites:?}");
    sites
}

#[test]
fn sites_become_what_is_written_beside_them() {
    let bless = std::env::var_os("LAMEDUCK_BLESS").is_some();
    for path in sites() {
        let (code, out, err) = import(&[path.to_str().unwrap()]);
        let said = format!("exit {code}\n{err}");
        let name = path.file_stem().unwrap().to_str().unwrap();
        for (end, text) in [("toml", &out), ("txt", &said)] {
            let result = Path::new("tests/import/results").join(format!("{name}.{end}"));
            if bless {
                std::fs::write(&result, text).unwrap();
            }
            let expected = std::fs::read_to_string(&result).unwrap_or_default();
            assert_eq!(
                *text,
                expected,
                "{}: run with LAMEDUCK_BLESS=1",
                result.display()
            );
        }
    }
}

#[test]
fn every_result_is_a_configuration_that_check_accepts() {
    for path in sites() {
        let (_, out, _) = import(&[path.to_str().unwrap()]);
        if let Err(error) = config::parse("lameduck.toml", &out) {
            panic!("{}\n{}\n{out}", path.display(), error.render(false));
        }
    }
}

/// Asserts that everything that is said names a file of this kind, stands in what is written as a comment too, and that
/// the exit code tells of what is left out.
fn check_notices(path: &Path, end: &str, (code, out, err): (u8, &str, &str)) {
    let mut left_out = false;
    for line in err
        .lines()
        .filter(|line| line.starts_with("warning: ") || line.starts_with("note: "))
    {
        let (kind, notice) = line.split_once(": ").unwrap();
        left_out |= kind == "warning";
        assert!(
            out.contains(&format!("# {notice}\n")),
            "{}: {notice}",
            path.display()
        );
        assert!(notice.contains(&format!("{end}:")), "{notice}");
    }
    assert_eq!(code, if left_out { 3 } else { 0 }, "{}", path.display());
}

#[test]
fn everything_that_is_said_stands_as_a_comment_too() {
    for path in sites() {
        let (code, out, err) = import(&[path.to_str().unwrap()]);
        check_notices(&path, ".conf", (code, &out, &err));
    }
}

#[test]
fn the_table_in_the_documentation_is_the_code_s() {
    const PAGE: &str = "docs/from-nginx.md";
    const BEGIN: &str = "<!-- directives: begin (generated; see tests/import/main.rs) -->\n";
    const END: &str = "<!-- directives: end -->";
    check_generated(PAGE, BEGIN, END, &format!("{}\n", directive_tables()));
}

#[test]
fn a_file_that_cannot_be_read_ends_with_1_and_writes_nothing() {
    for (words, says) in [
        (
            ["/nowhere/nginx.conf"],
            "error: /nowhere/nginx.conf: can't read /nowhere/nginx.conf: no such file",
        ),
        (["tests/import"], "is not a file"),
    ] {
        let (code, out, err) = import(&words);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(says), "{err}");
    }
    let (code, out, err) = import_text("http {\n  server {\n}\n");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("error: nginx.conf:4: the file ends"),
        "{err}"
    );
}

#[test]
fn output_goes_to_the_file_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("lameduck.toml");
    let (code, out, _) = import(&["tests/import/sites/grpc.conf", "-o", to.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(
        std::fs::read_to_string(&to)
            .unwrap()
            .contains("[[listener]]")
    );
}

#[test]
fn file_of_sites_enabled_is_read_without_http_around_it() {
    let (code, out, err) = import_text(
        "server { listen 80; location / { proxy_pass http://127.0.0.1:3000; proxy_set_header Host $host; } }",
    );
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("address = \"127.0.0.1:3000\""), "{out}");
}
