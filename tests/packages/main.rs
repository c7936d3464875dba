//! What `make packages` makes, of the binary under test: what is in it, that it can be installed and run, and that the same
//! input makes the same bytes; and in a Debian of its own, a package's life from its installation to its end.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod api;
mod chart;
mod content;
mod debian;
mod image;
mod lifetime;
mod load;
mod manual;
mod published;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn exe() -> &'static str {
    env!("CARGO_BIN_EXE_lameduck")
}

/// All packages of this version, made once for all tests. In CI each kind must be there.
fn packages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let dir = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let said = build(dir.path(), VERSION, &[]);
        lameduck_rig::setting::say(&said);
        assert!(
            !lameduck_rig::setting::is_ci() || !said.contains("skipped"),
            "{said}"
        );
        dir
    });
    dir.path()
}

/// Calls deploy/packages/build; returns what it said.
fn build(out: &Path, version: &str, kinds: &[&str]) -> String {
    let mut command = Command::new("deploy/packages/build");
    command.args(["--quick", "--binary", exe(), "--version", version, "--out"]);
    command.arg(out).args(kinds);
    succeed(&mut command)
}

/// The package whose name ends so; `None`, aloud: this machine couldn't make it.
fn package(end: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(packages()).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.find(|path| path.to_string_lossy().ends_with(end));
    if found.is_none() {
        lameduck_rig::setting::skip(end, "what deploy/packages/build has named");
    }
    found
}

/// Runs a command that must succeed; returns all that it said.
fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{said}");
    said
}

fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&paths);
    places.any(|place| place.join(program).exists())
}

/// Whether this process may make namespaces, as a container's runtime does.
fn has_namespaces() -> bool {
    let mut able = Command::new("unshare");
    able.args(["--mount", "--pid", "--net", "--fork", "true"]);
    able.output().is_ok_and(|output| output.status.success())
}

/// All files below a directory, by their path in it.
fn files_below(dir: &Path) -> std::collections::BTreeMap<String, PathBuf> {
    let mut found = std::collections::BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(one) = left.pop() {
        for entry in std::fs::read_dir(one).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, path);
            }
        }
    }
    found
}
