//! The container image: an OCI layout whose digests hold, which says what the Dockerfile says, and runs as a root file system.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{has_namespaces, package, succeed};

struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    fn unpack() -> Option<Self> {
        let tar = package(".oci.tar")?;
        let dir = tempfile::tempdir().unwrap();
        succeed(
            Command::new("tar")
                .arg("-xf")
                .arg(tar)
                .arg("-C")
                .arg(dir.path()),
        );
        Some(Self { dir })
    }

    fn json(&self, name: &str) -> Value {
        let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The file that a descriptor names, if its digest and size are right.
    fn blob(&self, descriptor: &Value) -> String {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let name = format!("blobs/sha256/{digest}");
        let path = self.dir.path().join(&name);
        assert_eq!(
            path.metadata().unwrap().len(),
            descriptor["size"].as_u64().unwrap()
        );
        assert_eq!(sha256(&path), digest);
        name
    }

    fn parts(&self) -> (Value, PathBuf) {
        let manifest = self.json(&self.blob(&self.json("index.json")["manifests"][0]));
        let config = self.json(&self.blob(&manifest["config"]));
        let layer = self.dir.path().join(self.blob(&manifest["layers"][0]));
        (config, layer)
    }
}

fn sha256(path: &Path) -> String {
    let said = succeed(Command::new("sha256sum").arg(path));
    said.split(' ').next().unwrap().to_owned()
}

#[test]
fn image_s_digests_hold_and_it_says_what_the_dockerfile_says() {
    let Some(image) = Image::unpack() else { return };
    assert_eq!(image.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let (config, layer) = image.parts();
    let plain = image.dir.path().join("layer.tar");
    succeed(
        Command::new("sh")
            .args(["-c", "gzip -dc \"$0\" > \"$1\""])
            .arg(&layer)
            .arg(&plain),
    );
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", sha256(&plain))
    );

    let text = std::fs::read_to_string("deploy/docker/Dockerfile").unwrap();
    let last = text.rsplit("\nFROM ").next().unwrap();
    let said = |word: &str| {
        let mut lines = last.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{word} ")));
        line.unwrap_or_else(|| panic!("no {word}")).to_owned()
    };
    let own = &config["config"];
    assert_eq!(own["User"], said("USER"));
    assert_eq!(own["StopSignal"], "SIGTERM");
    assert!(last.contains("STOPSIGNAL SIGTERM"));
    for (key, word) in [("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")] {
        let said: Value = serde_json::from_str(&said(word)).unwrap();
        assert_eq!(own[key], said, "{word}");
    }
    let ports = said("EXPOSE");
    for port in own["ExposedPorts"].as_object().unwrap().keys() {
        assert!(
            ports.contains(port.strip_suffix("/tcp").unwrap()),
            "{port}: {ports}"
        );
    }
    let check = said("HEALTHCHECK");
    assert!(check.contains("--interval=10s --timeout=3s"), "{check}");
    assert_eq!(own["Healthcheck"]["Test"][1], "/lameduck");

    let listed = succeed(Command::new("tar").arg("-tvf").arg(&plain));
    for part in [
        "drwxrwx--- 65532/65532",
        " lameduck\n",
        " etc/ssl/certs/ca-certificates.crt\n",
        " run/lameduck/\n",
        " var/lib/lameduck/\n",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    // Nobody can do anything else in it.
    for shell in ["bin/sh", "busybox"] {
        assert!(!listed.contains(shell), "{listed}");
    }
}

/// As root file system of namespaces, read-only, as its user: it starts, is healthy by its own check, and stops by its signal.
#[lameduck_rig::test]
fn image_runs_read_only_without_root_and_stops_in_good_order() {
    if !has_namespaces() {
        return lameduck_rig::setting::skip("the image", "root, and namespaces");
    }
    let Some(image) = Image::unpack() else { return };
    let (_, layer) = image.parts();
    let root = image.dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    succeed(
        Command::new("tar")
            .arg("-xpzf")
            .arg(&layer)
            .arg("-C")
            .arg(&root),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--net", "--fork", "--kill-child"]);
    let said = succeed(command.arg("tests/packages/run-image.sh").arg(&root));
    for part in [
        "user 65532",
        "app (least_requests): 0 of 0 backends eligible",
        "ended 0",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("read-only: Read-only file system"), "{said}");
}
