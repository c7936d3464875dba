//! The Helm chart: what helm makes of it, what Kubernetes says to that, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lameduck_rig::place::in_venv;

use super::{VERSION, package, succeed};

/// All that can be turned on.
const EVERYTHING: &str = "tls.secretName=shop-tls,serviceMonitor.enabled=true,rbac.create=true,\
    pools[0].name=shop,pools[0].service=shop,pools[0].port=8000,pools[0].namespace=shops,pools[0].healthPath=/up,\
    service.type=LoadBalancer,service.externalTrafficPolicy=Local,image.tag=1.2.3,imagePullSecrets[0].name=x,\
    podLabels.a=b,podAnnotations.c=d,nodeSelector.e=f,priorityClassName=high,podDisruptionBudget.maxUnavailable=50%,\
    serviceAccount.annotations.g=h,service.annotations.i=j,serviceMonitor.labels.k=l";

struct Helm {
    home: tempfile::TempDir,
    helm: PathBuf,
    python: PathBuf,
}

impl Helm {
    fn new() -> Option<Self> {
        let (helm, python) = (
            in_venv("helm-venv", "helm"),
            in_venv("schemas-venv", "python"),
        );
        let (Some(helm), Some(python)) = (helm, python) else {
            lameduck_rig::setting::skip("the chart", "helm (tests/setup.sh fetches it)");
            return None;
        };
        let home = tempfile::tempdir().unwrap();
        Some(Self { home, helm, python })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.helm);
        command.env("HOME", self.home.path());
        command
    }

    fn template(&self, chart: &Path, values: &str) -> Output {
        let mut command = self.command();
        command.args(["template", "front", "--namespace", "web", "--set", values]);
        command.arg(chart).output().unwrap()
    }

    fn shown(&self, chart: &Path, values: &str) -> String {
        let output = self.template(chart, values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{values}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// lameduck's configuration in it.
fn configuration(manifest: &str) -> String {
    let (_, rest) = manifest.split_once("  lameduck.toml: |\n").unwrap();
    let lines = rest.lines();
    let lines = lines.take_while(|line| line.starts_with("    ") || line.trim().is_empty());
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

#[test]
fn chart_is_linted_rendered_and_fits_the_schemas_of_kubernetes() {
    let (Some(helm), Some(chart)) = (Helm::new(), package(".tgz")) else {
        return;
    };
    succeed(helm.command().args(["lint", "--strict"]).arg(&chart));
    let dir = tempfile::tempdir().unwrap();
    for (values, resources) in [("replicas=2", 7), (EVERYTHING, 8)] {
        let manifest = helm.shown(&chart, values);
        let file = dir.path().join("manifest.yaml");
        std::fs::write(&file, &manifest).unwrap();
        for version in ["1.29", "1.37"] {
            let mut validate = Command::new(&helm.python);
            validate.args(["-m", "kubernetes_validate", "--strict", "-k", version]);
            let said = succeed(validate.arg(&file));
            assert_eq!(
                said.matches(" passed for resource ").count(),
                resources,
                "{said}"
            );
        }
        let config = configuration(&manifest);
        let loaded = lameduck::config::parse("lameduck.toml", &config).unwrap();
        assert_eq!(loaded.warnings.render(false), "", "{config}");
        assert!(
            manifest.contains("terminationGracePeriodSeconds: 45"),
            "{manifest}"
        );
    }
}

#[test]
fn values_reach_the_configuration_the_rights_and_the_image() {
    let (Some(helm), Some(chart)) = (Helm::new(), package(".tgz")) else {
        return;
    };
    let manifest = helm.shown(&chart, EVERYTHING);
    let config = configuration(&manifest);
    for line in [
        "service = \"shop\"",
        "port = 8000",
        "namespace = \"shops\"",
        "path = \"/up\"",
    ] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let role = manifest.split("kind: Role\n").nth(1).unwrap();
    assert!(
        role.starts_with("metadata:\n  name: front-lameduck\n  namespace: shops\n"),
        "{role}"
    );
    assert!(manifest.contains("image: \"lameduck:1.2.3\""), "{manifest}");
    let default = helm.shown(&chart, "replicas=3");
    assert!(
        default.contains(&format!("image: \"lameduck:{VERSION}\"")),
        "{default}"
    );
    assert!(default.contains("replicas: 3"), "{default}");
    // Another configuration is another generation of pods.
    let sum = |text: &str| text.split("checksum/config: ").nth(1).unwrap()[..64].to_owned();
    assert_ne!(sum(&manifest), sum(&default));
}

#[test]
fn values_that_mean_nothing_or_cut_requests_are_refused() {
    let (Some(helm), Some(chart)) = (Helm::new(), package(".tgz")) else {
        return;
    };
    for (values, says) in [
        ("replica=3", "replica"),
        ("replicas=0", "replicas"),
        ("pools[0].name=app", "service"),
        (
            "server.deadlineSeconds=5",
            "server.deadlineSeconds must be longer",
        ),
        ("service.type=Cluster", "type"),
    ] {
        let output = helm.template(&chart, values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values}");
        assert!(said.contains(says), "{values}: {said}");
    }
}
