//! The crate as it would be published.

use std::process::Command;

use super::{VERSION, succeed};

#[test]
fn published_crate_has_what_its_source_includes_and_no_tests() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut list = Command::new(cargo);
    list.args(["package", "--list", "--allow-dirty", "--offline"]);
    // Not what it says beside it, such as whom it waits for.
    let output = list.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let files: std::collections::BTreeSet<_> = said.lines().collect();
    for name in [
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "src/main.rs",
        "src/admin/openapi.json",
    ] {
        assert!(files.contains(name), "{name}: {said}");
    }
    // What it is built from, what its pages show, what it is deployed with, and what cargo adds.
    let tops = [
        "src/",
        "benches/",
        "config/",
        "docs/",
        "deploy/",
        "Cargo.",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        ".cargo_vcs_info.json",
    ];
    let outside = files
        .iter()
        .find(|name| !tops.iter().any(|top| name.starts_with(top)));
    assert_eq!(outside, None);
    // What the source takes in by name is in it: `cargo install` of the archive finds all that it compiles.
    for name in files.iter().filter(|name| name.ends_with(".rs")) {
        let text = std::fs::read_to_string(name).unwrap();
        for word in [
            "include_str!(\"",
            "include_bytes!(\"",
            "include!(\"",
            "#[path = \"",
        ] {
            for part in text.split(word).skip(1) {
                let file = part.split('"').next().unwrap();
                let path = std::path::Path::new(name).parent().unwrap().join(file);
                let path = std::fs::canonicalize(&path).unwrap();
                let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                assert!(
                    files.contains(path.to_str().unwrap()),
                    "{name} needs {}",
                    path.display()
                );
            }
        }
    }
}

/// What crates.io asks for and shows; a repository follows when there is a public one.
#[test]
fn published_manifest_is_complete_and_the_archive_small() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let mut make = Command::new(cargo);
    make.args([
        "package",
        "--no-verify",
        "--allow-dirty",
        "--offline",
        "--quiet",
    ]);
    succeed(make.arg("--target-dir").arg(dir.path()));
    let name = format!("lameduck-{VERSION}");
    let archive = dir.path().join("package").join(format!("{name}.crate"));
    // Of the 10 MiB that crates.io takes.
    let size = archive.metadata().unwrap().len();
    assert!(size < 4 << 20, "{size}");

    let mut unpack = Command::new("tar");
    succeed(unpack.arg("-xzf").arg(&archive).arg("-C").arg(dir.path()));
    let text = std::fs::read_to_string(dir.path().join(name).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    for key in [
        "description",
        "license",
        "readme",
        "rust-version",
        "keywords",
        "categories",
    ] {
        assert!(manifest["package"].get(key).is_some(), "{key}: {text}");
    }
    // The tests' own library is published nowhere.
    assert!(!text.contains("lameduck-rig"), "{text}");
}
