//! The command: exit codes, where it looks, JSON.

use std::path::Path;
use std::process::{Command, Output};

fn doctor(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(lameduck_rig::place::exe())
        .arg("doctor")
        .args(args)
        .current_dir(dir)
        .env_remove("LAMEDUCK_CONFIG")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn exit_codes() {
    let here = Path::new("tests/doctor");
    let (code, out, _) = doctor(here, &["bad/oxfile.toml", "-c", "lameduck.toml"]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("error[sigterm-cap]") && out.contains("--> bad/oxfile.toml:6:"),
        "{out}"
    );
    let (code, out, err) = doctor(
        here,
        &[
            "good/oxfile.toml",
            "good/compose.yaml",
            "-c",
            "lameduck.toml",
        ],
    );
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        out,
        "good/oxfile.toml (Oxmgr's Oxfile): nothing found\ngood/compose.yaml (Compose file): nothing found\n"
    );
    // A warning alone.
    let one = ["bad/bare.service", "-c", "lameduck.toml"];
    assert_eq!(doctor(here, &one).0, 0);
    assert_eq!(doctor(here, &[&one[..], &["--strict"]].concat()).0, 1);
    // Usage.
    let (code, _, err) = doctor(here, &["nowhere.toml"]);
    assert!(
        code == 2 && err.contains("can't read nowhere.toml"),
        "{err}"
    );
    let (code, _, err) = doctor(here, &["good/oxfile.toml", "-c", "nowhere.toml"]);
    assert!(code == 2 && err.contains("nowhere.toml"), "{err}");
    assert_eq!(doctor(here, &["--app-stop", "soon"]).0, 2);
}

#[test]
fn without_a_file_it_looks_around() {
    let (code, out, _) = doctor(Path::new("tests/doctor/good"), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("oxfile.toml (Oxmgr's Oxfile)")
            && out.contains("hook.k8s.yaml (Kubernetes manifest)"),
        "{out}"
    );
    let empty = tempfile::tempdir().unwrap();
    let (code, _, err) = doctor(empty.path(), &[]);
    assert!(code == 2 && err.contains("looked for oxfile.toml"), "{err}");
}

#[test]
fn json_is_for_programs() {
    let (code, out, _) = doctor(
        Path::new("tests/doctor"),
        &["bad/old-oxfile.toml", "--json"],
    );
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let first = &json["files"][0]["findings"][0];
    assert_eq!(
        (code, &first["code"], &first["line"]),
        (1, &"kill-timeout".into(), &3.into()),
        "{json}"
    );
    assert!(
        first["help"]
            .as_str()
            .unwrap()
            .starts_with("stop_timeout_ms = "),
        "{json}"
    );
}

#[test]
fn without_node_it_says_how_to_convert() {
    let output = Command::new(lameduck_rig::place::exe())
        .args(["doctor", "tests/doctor/bad/ecosystem.config.js"])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("ecosystem.json"), "{err}");
}
