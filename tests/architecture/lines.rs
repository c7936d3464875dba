//! What single lines of a file say, and how many there are.

use std::path::Path;

use super::code;
use super::sources::files_below;

/// Lines that a file may have.
const SITTING: usize = 500;

/// The data plane's threads have no timers: what asks tokio for one there panics. [`lameduck::rt::clock`] has some.
#[test]
fn the_data_plane_has_its_timers_from_the_clock() {
    for path in files_below("src/proxy") {
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
    for path in files_below("src") {
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
    for path in files_below("src") {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        let name = path.to_str().unwrap().to_owned();
        if lines > SITTING {
            long.push(format!("{name} ({lines})"));
        }
    }
    assert!(long.is_empty(), "more than {SITTING} lines: {long:?}");
}

/// Everything speaks TLS by rustls with ring. A dependency that brings another library along would link both.
#[test]
fn one_library_does_all_cryptography() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap();
    for other in [
        "aws-lc-rs",
        "aws-lc-sys",
        "openssl",
        "openssl-sys",
        "native-tls",
        "boring-sys",
    ] {
        assert!(
            !lock.contains(&format!("name = \"{other}\"\n")),
            "{other} is in Cargo.lock"
        );
    }
    assert!(lock.contains("name = \"ring\"\n"));
}

/// `#[lameduck_rig::test]` runs a test again that failed while the machine stood still. Tokio's own attribute does not.
#[test]
fn each_asynchronous_test_knows_when_the_machine_stood_still() {
    let mut found = 0;
    for path in files_below("tests") {
        for (n, line) in code(&path) {
            let place = format!("{}:{n}", path.display());
            let line = line.trim();
            // A clock that the test moves by hand knows no machine.
            let own = line.starts_with("#[tokio::test") && !line.contains("start_paused");
            assert!(!own, "{place}: use #[lameduck_rig::test]");
            found += usize::from(line.starts_with("#[lameduck_rig::test"));
        }
    }
    assert!(found > 500, "does this test see anything?");
}
