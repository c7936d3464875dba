//! The crate as it would be published.

use std::process::Command;

use super::succeed;

#[test]
fn published_crate_has_what_its_source_includes_and_no_tests() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut list = Command::new(cargo);
    list.args(["package", "--list", "--allow-dirty", "--offline"]);
    let said = succeed(&mut list);
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
    let outside = files
        .iter()
        .find(|name| name.starts_with("tests/") || name.starts_with(".ci"));
    assert_eq!(outside, None);
    // What the source takes in by name is in it.
    for name in files
        .iter()
        .filter(|name| name.starts_with("src/") && name.ends_with(".rs"))
    {
        let text = std::fs::read_to_string(name).unwrap();
        for part in text.split("include_str!(\"").skip(1) {
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
