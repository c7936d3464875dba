//! What is written in two places because others read it there: both must say the same.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// The targets that a file calls with `make`, in their order.
fn called(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(str::trim_start);
    let commands = lines.filter_map(|line| {
        let line = line.strip_prefix("- run: ").unwrap_or(line);
        line.strip_prefix("make ")
    });
    let targets = commands.filter_map(|rest| rest.split_whitespace().next());
    targets.map(str::to_owned).collect()
}

#[test]
fn workflow_calls_the_targets_that_ci_calls() {
    let [ours, theirs] = [".ci/run", ".github/workflows/ci.yml"].map(|path| {
        let mut targets = called(path);
        // A step of its own where a machine lacks something, and what the others begin with in any case.
        targets.retain(|target| target != "setup");
        targets
    });
    assert!(ours.len() >= 3, "{ours:?}");
    assert_eq!(theirs, ours);
}

#[test]
fn make_without_a_target_lists_every_target() {
    let makefile = std::fs::read_to_string("Makefile").unwrap();
    let phony = makefile
        .lines()
        .find_map(|line| line.strip_prefix(".PHONY:"));
    let declared: BTreeSet<_> = phony.unwrap().split_whitespace().collect();
    let output = std::process::Command::new("make")
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("make "));
    let listed: BTreeSet<_> = listed
        .filter_map(|rest| rest.split_whitespace().next())
        .collect();
    assert_eq!(listed, declared);
    let defined = makefile.lines().filter_map(|line| {
        let name = line.split_once(':')?.0;
        name.bytes().all(|b| b.is_ascii_lowercase()).then_some(name)
    });
    assert_eq!(defined.collect::<BTreeSet<_>>(), declared);
}

/// The words that an enum writes (`Self::Cut => "cut",`), wherever in the source it stands.
fn words_of(name: &str) -> Vec<String> {
    let mut dirs = vec![PathBuf::from("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let Some((_, code)) = text.split_once(&format!("impl {name} {{")) else {
                continue;
            };
            let code = code.split("\n}\n").next().unwrap();
            let lines = code.lines().filter_map(|line| {
                let (_, word) = line.trim().strip_prefix("Self::")?.split_once("=> \"")?;
                word.split('"').next().filter(|word| !word.is_empty())
            });
            return lines.map(str::to_owned).collect();
        }
    }
    panic!("there is no `impl {name}`");
}

#[test]
fn access_log_page_has_every_end_and_every_reason_for_a_retry() {
    let page = std::fs::read_to_string("docs/access-log.md").unwrap();
    let mut seen = 0;
    for name in ["RequestEnd", "TunnelEnd", "RetryReason"] {
        for word in words_of(name) {
            seen += 1;
            assert!(page.contains(&format!("`{word}`")), "{name}: {word}");
        }
    }
    assert!(seen >= 20, "only {seen} words found");
}
