//! Keeps the architecture what docs/architecture.md says it is.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Lines that a file may have.
const SITTING: usize = 500;

/// What the core must not know, although `std` has it: sockets, files, threads, the time of day.
const IMPURE: [&str; 10] = [
    "std::net",
    "std::os",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "async ",
];

fn sources(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The code of a file: its lines without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().enumerate();
    lines
        .map(|(n, line)| {
            (
                n + 1,
                line.split("//").next().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// Every `crate::NAME` of a directory (and the file of the same name), with its place.
fn names_of_ours(module: &str) -> Vec<(String, String)> {
    let mut files = sources(Path::new("src").join(module));
    let file = PathBuf::from(format!("src/{module}.rs"));
    files.extend(file.exists().then_some(file));
    let mut found = Vec::new();
    for path in files {
        for (n, line) in code(&path) {
            for rest in line.split("crate::").skip(1) {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                found.push((rest[..end].to_owned(), format!("{}:{n}", path.display())));
            }
        }
    }
    assert!(!found.is_empty(), "{module} uses nothing of ours?");
    found
}

/// The crates that the package depends on, as code writes them.
fn dependencies() -> Vec<String> {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = ["dependencies", "dev-dependencies"].map(|section| manifest[section].as_table());
    let names = names.into_iter().flatten().flat_map(toml::Table::keys);
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn the_core_is_pure() {
    for (name, place) in names_of_ours("core") {
        assert_eq!(name, "core", "{place}: the core knows nothing but itself");
    }
    let crates = dependencies();
    assert!(crates.contains(&"tokio".to_owned()), "{crates:?}");
    for path in sources("src/core") {
        // Tests may use threads.
        let is_test = |line: &(usize, String)| line.1.contains("#[cfg(test)]");
        for (n, line) in code(&path).into_iter().take_while(|line| !is_test(line)) {
            let place = format!("{}:{n}: {line}", path.display());
            for name in &crates {
                // `bytes::` would be found in `as_bytes::`, and `ring::` in `String::`.
                let whole = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                });
                assert!(!whole, "{place}: the core imports std alone");
            }
            for name in IMPURE {
                assert!(!line.contains(name), "{place}: the core is pure");
            }
        }
    }
}

#[test]
fn the_parts_do_not_know_each_other() {
    for (part, strangers) in [
        ("probe", ["proxy", "admin", "app", "server"].as_slice()),
        ("proxy", &["probe", "admin", "app", "server"]),
        ("admin", &["probe", "proxy", "app", "server"]),
        ("registry", &["probe", "admin", "app", "server"]),
        (
            "supervisor",
            &["probe", "proxy", "admin", "app", "server", "cli"],
        ),
        ("server", &["probe", "admin", "app", "registry"]),
        (
            "config",
            &["probe", "proxy", "admin", "app", "server", "registry"],
        ),
        ("telemetry", &["probe", "proxy", "admin", "app", "server"]),
    ] {
        for (name, place) in names_of_ours(part) {
            assert!(
                !strangers.contains(&name.as_str()),
                "{place}: {part} must not know {name}"
            );
        }
    }
}

/// The data plane's threads have no timers: what asks tokio for one there panics. [`lameduck::rt::clock`] has some.
#[test]
fn the_data_plane_has_its_timers_from_the_clock() {
    for path in sources("src/proxy") {
        if path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let is_test = |line: &(usize, String)| line.1.contains("#[cfg(test)]");
        for (n, line) in code(&path).into_iter().take_while(|line| !is_test(line)) {
            let asks = [
                "tokio::time::sleep",
                "tokio::time::timeout",
                "tokio::time::interval",
                // Pingora's own timers take tokio's above 15 minutes.
                "connection_timeout =",
                "pingora_timeout",
            ];
            let imports = line.contains("use tokio::time") && !line.contains("Sleep;");
            assert!(
                !imports && !asks.iter().any(|call| line.contains(call)),
                "{}:{n}: crate::clock has timers that work on every thread",
                path.display()
            );
        }
    }
}

/// Whoever prints by itself waits for a reader that may never come, or panics where it has gone.
#[test]
fn only_the_output_module_knows_the_standard_streams() {
    let prints = ["println!", "print!", "dbg!", "io::stdout", "io::stderr"];
    let mut found = 0;
    for path in sources("src") {
        let is_output = path.starts_with("src/rt/output") || path == Path::new("src/rt/output.rs");
        let is_test = |line: &(usize, String)| line.1.contains("#[cfg(test)]");
        for (n, line) in code(&path).into_iter().take_while(|line| !is_test(line)) {
            let prints = prints.iter().any(|call| line.contains(call));
            found += usize::from(prints);
            let place = format!("{}:{n}: {}", path.display(), line.trim());
            assert!(
                !prints || is_output,
                "{place}: use crate::output, which never waits and never panics"
            );
        }
    }
    assert!(found > 0, "does this test see anything?");
}

#[test]
fn a_file_can_be_read_in_one_sitting() {
    let mut long = Vec::new();
    for path in sources("src") {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        let name = path.to_str().unwrap().to_owned();
        if lines > SITTING {
            long.push(format!("{name} ({lines})"));
        }
    }
    assert!(long.is_empty(), "more than {SITTING} lines: {long:?}");
}
