//! What is in the packages.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{VERSION, build, exe, files_below, has, package, packages, succeed};

/// What each package for a host brings.
const FILES: [&str; 11] = [
    "usr/bin/lameduck",
    "usr/lib/systemd/system/lameduck.service",
    "usr/lib/sysusers.d/lameduck.conf",
    "etc/lameduck/lameduck.toml",
    "etc/logrotate.d/lameduck",
    "usr/share/bash-completion/completions/lameduck",
    "usr/share/fish/vendor_completions.d/lameduck.fish",
    "usr/share/man/man1/lameduck.1.gz",
    "usr/share/man/man1/lameduck-drain.1.gz",
    "usr/share/man/man5/lameduck.toml.5.gz",
    "usr/share/doc/lameduck/examples/minimal.toml",
];

fn check_tree(root: &Path) {
    let files = files_below(root);
    for name in FILES {
        assert!(files.contains_key(name), "no {name} in {files:?}");
    }
    for (name, path) in &files {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        let expected = if name.starts_with("usr/bin/") {
            0o755
        } else {
            0o644
        };
        assert_eq!(mode, expected, "{name}");
    }
    let unit = std::fs::read_to_string(&files[FILES[1]]).unwrap();
    assert_eq!(
        unit,
        std::fs::read_to_string("deploy/systemd/lameduck.service").unwrap()
    );
    let said = succeed(Command::new(&files[FILES[0]]).arg("--version"));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[test]
fn deb_has_all_files_and_says_what_it_is() {
    let Some(deb) = package(".deb") else { return };
    let dir = tempfile::tempdir().unwrap();
    let unpack = |how: &str, to: &str| {
        let mut command = Command::new("dpkg-deb");
        let to = dir.path().join(to);
        succeed(command.arg(how).arg(&deb).arg(&to));
        to
    };
    let root = unpack("-x", "root");
    check_tree(&root);
    assert!(root.join("usr/share/doc/lameduck/copyright").exists());
    assert!(
        root.join("usr/share/doc/lameduck/changelog.Debian.gz")
            .exists()
    );
    assert!(
        root.join("usr/share/zsh/vendor-completions/_lameduck")
            .exists()
    );

    let control = unpack("-e", "control");
    let read = |name: &str| std::fs::read_to_string(control.join(name)).unwrap();
    let fields = read("control");
    for line in [
        "Package: lameduck",
        &format!("Version: {VERSION}-1"),
        "Section: httpd",
        "libc6 (>= 2.",
        "adduser",
    ] {
        assert!(fields.contains(line), "{line}: {fields}");
    }
    assert_eq!(
        read("conffiles"),
        "/etc/lameduck/lameduck.toml\n/etc/logrotate.d/lameduck\n"
    );
    succeed(
        Command::new("md5sum")
            .args(["--check", "--quiet"])
            .arg(control.join("md5sums"))
            .current_dir(&root),
    );
    for script in ["postinst", "prerm", "postrm"] {
        let path = control.join(script);
        succeed(Command::new("sh").arg("-n").arg(&path));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }
    // It takes a minute.
    if has("lintian") && lameduck_rig::setting::proving() {
        let mut command = Command::new("lintian");
        succeed(
            command
                .args(["--fail-on", "error,warning", "--allow-root"])
                .arg(&deb),
        );
    }
}

/// rpm itself unpacks it, into a root of its own.
#[test]
fn rpm_has_all_files_and_scripts_that_a_shell_understands() {
    let Some(rpm) = package(".rpm") else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let mut install = Command::new("rpm");
    install
        .args(["--install", "--nodeps", "--noscripts", "--root"])
        .arg(&root);
    succeed(
        install
            .arg("--define")
            .arg("_dbpath /var/lib/rpm")
            .arg(&rpm),
    );
    std::fs::remove_dir_all(root.join("var")).unwrap();
    check_tree(&root);
    assert!(root.join("usr/share/licenses/lameduck/LICENSE").exists());
    assert!(root.join("usr/share/zsh/site-functions/_lameduck").exists());

    let ask = |what: &str| succeed(Command::new("rpm").args(["-qp", what]).arg(&rpm));
    assert_eq!(
        ask("--configfiles").trim(),
        "/etc/lameduck/lameduck.toml\n/etc/logrotate.d/lameduck"
    );
    let scripts = ask("--scripts");
    for part in [
        "preinstall scriptlet",
        "useradd",
        "systemctl --no-reload preset",
        "systemctl reload",
    ] {
        assert!(scripts.contains(part), "{part}: {scripts}");
    }
    assert!(!scripts.contains("restart"), "{scripts}");
    let scripts: String = scripts
        .lines()
        .filter(|line| !line.contains("scriptlet (using /bin/sh):"))
        .map(|line| format!("{line}\n"))
        .collect();
    succeed(Command::new("sh").args(["-n", "-c", &scripts]));
}

#[test]
fn archive_has_all_files_below_one_directory() {
    let Some(archive) = package("-linux.tar.gz") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("tar");
    succeed(command.arg("-xzf").arg(archive).arg("-C").arg(dir.path()));
    let mut tops = std::fs::read_dir(dir.path()).unwrap();
    check_tree(&tops.next().unwrap().unwrap().path());
    assert!(tops.next().is_none());
}

/// It starts on a machine where nothing is configured: it listens on loopback alone, and its file raises no warning.
#[test]
fn installed_configuration_is_accepted_without_a_warning_and_open_to_this_host_alone() {
    let text = std::fs::read_to_string("deploy/packages/files/lameduck.toml").unwrap();
    let loaded = lameduck::config::parse("lameduck.toml", &text).unwrap();
    assert_eq!(loaded.warnings.render(false), "");
    for line in text.lines().filter(|line| line.starts_with("address = ")) {
        assert!(line.starts_with("address = \"127.0.0.1:"), "{line}");
    }
    let rotated = std::fs::read_to_string("deploy/packages/files/lameduck.logrotate").unwrap();
    assert!(text.contains("/var/log/lameduck/access.log"));
    assert!(rotated.starts_with("/var/log/lameduck/*.log"));
}

#[test]
fn sums_are_those_of_the_files_and_name_each() {
    let dir = packages();
    let mut check = Command::new("sha256sum");
    let said = succeed(check.args(["--check", "SHA256SUMS"]).current_dir(dir));
    let files = files_below(dir).len();
    assert_eq!(said.matches(": OK").count(), files - 1, "{said}");
}

#[test]
fn bill_of_materials_names_each_crate_with_licence_digest_and_needs() {
    let Some(path) = package(".cdx.json") else {
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["metadata"]["component"]["name"], "lameduck");
    let components = document["components"].as_array().unwrap();
    assert!(components.len() > 150, "{}", components.len());
    for one in components {
        for field in ["name", "version", "purl", "hashes", "licenses"] {
            assert!(one.get(field).is_some(), "{field}: {one}");
        }
    }
    let named = |name: &str| components.iter().any(|one| one["name"] == name);
    assert!(named("pingora") && named("rustls") && named("ring"));
    // What only tests are built with is not in the binary.
    assert!(!named("proptest") && !named("lameduck-rig"));
    let dependencies = document["dependencies"].as_array().unwrap();
    assert_eq!(dependencies.len(), components.len() + 1);
}

#[test]
fn same_input_makes_the_same_bytes_elsewhere_and_another_day() {
    let (one, other) = (packages(), tempfile::tempdir().unwrap());
    // As a source archive has it: another directory, without history, under another umask, in another zone.
    let copy = other.path().join("source");
    let mut git = Command::new("sh");
    let files = "git ls-files -co --exclude-standard -z Cargo.toml Cargo.lock CHANGELOG.md README.md LICENSE config deploy src \
                 benches tests/rig | xargs -0 cp --parents -t \"$0\" --";
    std::fs::create_dir(&copy).unwrap();
    succeed(git.args(["-c", files]).arg(&copy));
    let epoch = succeed(Command::new("git").args(["log", "-1", "--format=%ct"]));
    let out = other.path().join("out");
    let line = "umask 077; exec deploy/packages/build --quick --binary \"$0\" --out \"$1\"";
    let mut build = Command::new("sh");
    build.args(["-c", line, exe()]).arg(&out).current_dir(&copy);
    build
        .env("SOURCE_DATE_EPOCH", epoch.trim())
        .env("TZ", "Asia/Kathmandu");
    succeed(&mut build);
    let (one, other) = (files_below(one), files_below(&out));
    assert_eq!(
        one.keys().collect::<Vec<_>>(),
        other.keys().collect::<Vec<_>>()
    );
    for (name, path) in one {
        let same = std::fs::read(path).unwrap() == std::fs::read(&other[&name]).unwrap();
        assert!(same, "{name} differs");
    }
}

#[test]
fn kinds_and_binaries_that_are_not_there_are_refused() {
    let refused = |words: &[&str]| {
        let output = Command::new("deploy/packages/build")
            .args(words)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["--binary", exe(), "msi"]).contains("no kind msi"));
    assert!(refused(&["--binary", "/nowhere/lameduck", "deb"]).contains("make release"));
    assert!(refused(&["--binary", "Cargo.toml", "sbom"]).contains("no program"));
    // Where one is asked for, it alone is made.
    let dir = tempfile::tempdir().unwrap();
    build(dir.path(), "1.2.3-rc.1", &["chart"]);
    let made = files_below(dir.path());
    assert_eq!(
        made.keys().collect::<Vec<_>>(),
        ["SHA256SUMS", "lameduck-chart-1.2.3-rc.1.tgz"]
    );
}
