//! `lameduck doctor` over a corpus: every planted mistake is found where it is, and nothing in the good files.
//!
//! A mistake is named in its own line (`expect: CODE, CODE`), or, where the format has no comments at line ends, in
//! `FILE.expect` (`LINE CODE`). `expect-anywhere:` is for files whose lines are not what is read. Whole outputs are
//! in `shown/`; after a deliberate change run with `LAMEDUCK_BLESS=1` and read the difference as a user would.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod command;
mod corpus;
mod documentation;
mod paste;
mod reading;
mod robust;
mod schemas;
mod sessions;

use lameduck::config::Config;
use lameduck::tools::doctor::{DoctorOptions, Examination, discover, examine};
use std::path::{Path, PathBuf};

/// lameduck's own configuration, for all of the corpus.
fn own() -> Config {
    lameduck::app::check::load(Path::new("tests/doctor/lameduck.toml"))
        .unwrap()
        .config
}

fn examined(paths: &[PathBuf]) -> Examination {
    let (files, errors) = discover::read(paths);
    assert!(errors.is_empty(), "{errors:?}");
    examine(&files, Some(own()), DoctorOptions::default())
}

/// The files of a directory, drop-ins and expectations left out.
fn files(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "expect"))
        .filter(|path| !needs_node(path) || has_node())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{dir}: {files:?}");
    files
}

fn needs_node(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "js" || end == "cjs")
}

fn has_node() -> bool {
    let there = std::process::Command::new("node")
        .arg("--version")
        .output()
        .is_ok();
    if !there {
        lameduck_rig::setting::skip("doctor", "node (ecosystem.config.js)");
    }
    there
}
