//! The shipped manifests against Kubernetes' own schemas, as `kubernetes-validate` from PyPI bundles them.

use lameduck_rig::setting::skip;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where tests/setup.sh puts it.
const PYTHON: &str = "target/schemas-venv/bin/python";

/// The oldest version that the manifests are for (native sidecars), and a new one.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

fn manifests() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("deploy/kubernetes").unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 5, "{files:?}");
    files
}

#[test]
fn manifests_fit_the_schemas() {
    if !Path::new(PYTHON).exists() {
        return skip(
            "manifests",
            &format!("{PYTHON} (tests/setup.sh fetches it)"),
        );
    }
    for version in VERSIONS {
        let validate = |files: &[PathBuf]| {
            let mut command = Command::new(PYTHON);
            let command = command.args(["-m", "kubernetes_validate", "--strict", "-k", version]);
            let output = command.args(files).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&said).into_owned(),
            )
        };
        let (good, said) = validate(&manifests());
        assert!(good, "{said}");
        // All but the ServiceMonitor, which is the Prometheus Operator's own.
        assert_eq!(said.matches(" passed for resource ").count(), 19, "{said}");
        // It can fail.
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("bad.yaml");
        let text = std::fs::read_to_string("deploy/kubernetes/sidecar.yaml").unwrap();
        std::fs::write(&bad, text.replace("startupProbe:", "startupProb:")).unwrap();
        let (good, said) = validate(&[bad]);
        assert!(!good, "{said}");
    }
}

#[test]
fn the_configurations_in_them_are_good() {
    let mut seen = 0;
    for path in manifests() {
        let text = std::fs::read_to_string(&path).unwrap();
        let Some((_, rest)) = text.split_once("  lameduck.toml: |\n") else {
            continue;
        };
        let lines = rest
            .lines()
            .take_while(|line| line.starts_with("    ") || line.is_empty());
        let config: String = lines
            .map(|line| format!("{}\n", line.trim_start()))
            .collect();
        let loaded = lameduck::config::parse("lameduck.toml", &config);
        let loaded = loaded.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            loaded.warnings.diagnostics.is_empty(),
            "{}: {}",
            path.display(),
            loaded.warnings.render(false)
        );
        seen += 1;
    }
    assert_eq!(seen, 4);
}
