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

/// As JSON, since `--set` has no numbers in quotes and no null in a list. Digits for a name are texts, not numbers.
const UNUSUAL: &str = r#"{
  "image": {"repository": "registry.example.org/lameduck", "digest": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
  "pools": [
    {"name": "shop", "service": "shop", "port": "8000", "namespace": "1234", "hosts": ["shop.example.org", "*.shop.example.org"], "healthPath": ""},
    {"name": "api", "service": "api", "port": 80, "pathPrefix": "/a&b'c"},
    {"name": "rest", "service": "rest", "port": "h2c", "pathPrefix": "/"}
  ],
  "extraConfig": "[[listener]]\naddress = \"0.0.0.0:9000\"\n\n[[listener]]\naddress = \"0.0.0.0:9001\"",
  "service": {"extraPorts": [{"name": "admin", "port": 9000}, {"name": "9001", "port": 81, "containerPort": 9001}]},
  "tls": {"secretName": "2024"}, "priorityClassName": "10",
  "serviceAccount": {"create": false}, "hostNetwork": true, "resources": null, "podDisruptionBudget": null, "spreadOver": null,
  "serviceMonitor": {"enabled": true},
  "extraVolumes": [{"name": "state", "emptyDir": {}}],
  "extraVolumeMounts": [{"name": "state", "mountPath": "/var/lib/lameduck"}]
}"#;

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
        self.template_release("front", chart, values)
    }

    /// What a release of this name is made of; the values are JSON, or as `--set` has them.
    fn template_release(&self, name: &str, chart: &Path, values: &str) -> Output {
        let mut command = self.command();
        command.args(["template", name, "--namespace", "web"]);
        if values.starts_with('{') {
            let file = self.home.path().join("values.json");
            std::fs::write(&file, values).unwrap();
            command.arg("--values").arg(file);
        } else {
            command.args(["--set", values]);
        }
        command.arg(chart).output().unwrap()
    }

    fn shown(&self, chart: &Path, values: &str) -> String {
        self.shown_release("front", chart, values)
    }

    fn shown_release(&self, name: &str, chart: &Path, values: &str) -> String {
        let output = self.template_release(name, chart, values);
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
    // As long as Helm lets a release's name be.
    let long = "r".repeat(53);
    for (name, values, resources) in [
        ("front", "replicas=2", 7),
        ("front", EVERYTHING, 8),
        (&long, UNUSUAL, 8),
        ("12", UNUSUAL, 8),
    ] {
        let manifest = helm.shown_release(name, &chart, values);
        let file = dir.path().join("manifest.yaml");
        std::fs::write(&file, &manifest).unwrap();
        assert!(!manifest.contains("\n  name: 12"), "{manifest}");
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
        role.starts_with("metadata:\n  name: front-lameduck-web\n  namespace: \"shops\"\n"),
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
        (r#"{"pools": []}"#, "nothing in pools"),
        (
            "pools[0].name=a,pools[0].service=a,pools[0].port=1,pools[0].pathPrefix=/a b",
            "pathPrefix",
        ),
        (
            r#"{"pools": [{"name": "a", "service": "a", "port": 1}, {"name": "a", "service": "b", "port": 1}]}"#,
            "which requests are for pool a?",
        ),
        (
            r#"{"pools": [{"name": "a", "service": "a", "port": 1}, {"name": "a", "service": "b", "port": 1}], "extraConfig": "[[route]]"}"#,
            "two pools named a",
        ),
        (
            "pools[0].name=a,pools[0].service=a,pools[0].port=65536",
            "port",
        ),
        ("image.digest=1234", "digest"),
    ] {
        let output = helm.template(&chart, values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{values}");
        assert!(said.contains(says), "{values}: {said}");
    }
}

#[test]
fn unusual_values_reach_the_pods_as_they_are_meant() {
    let (Some(helm), Some(chart)) = (Helm::new(), package(".tgz")) else {
        return;
    };
    let manifest = helm.shown(&chart, UNUSUAL);
    for part in [
        "image: \"registry.example.org/lameduck@sha256:0123",
        "hostNetwork: true\n      dnsPolicy: ClusterFirstWithHostNet",
        "maxSurge: 0\n      maxUnavailable: 1",
        "serviceAccountName: \"default\"",
        "secretName: \"2024\"",
        "mountPath: /var/lib/lameduck",
        "name: \"9001\"\n              containerPort: 9001",
        "name: \"9001\"\n      port: 81\n      targetPort: \"9001\"",
    ] {
        assert!(manifest.contains(part), "{part}: {manifest}");
    }
    for part in [
        "resources:\n            null",
        "PodDisruptionBudget",
        "kind: ServiceAccount\nmetadata",
    ] {
        assert!(!manifest.contains(part), "{part}: {manifest}");
    }
    let config = configuration(&manifest);
    let routes =
        "[[route]]\nhost = [\"shop.example.org\",\"*.shop.example.org\"]\npool = \"shop\"\n";
    for part in [
        routes,
        "service = \"shop\"\nport = 8000\n",
        "port = \"h2c\"\n",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
}
