//! Planted mistakes are found, each at its line; nothing else is.

use super::{examined, files};
use lameduck::tools::doctor::checks;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is planted in a file: (line, code); line 0: anywhere.
fn planted(name: &str) -> BTreeSet<(usize, String)> {
    let name = name.trim_end_matches(" (evaluated)");
    let text = std::fs::read_to_string(name).unwrap();
    let mut all = BTreeSet::new();
    for (n, line) in text.lines().enumerate() {
        for (mark, at) in [
            ("expect: ", n + 1),
            ("expect-next: ", n + 2),
            ("expect-anywhere: ", 0),
        ] {
            let codes = line.split_once(mark).map_or("", |(_, codes)| codes);
            all.extend(
                codes
                    .split(", ")
                    .filter(|c| !c.is_empty())
                    .map(|code| (at, code.to_owned())),
            );
        }
    }
    let beside = std::fs::read_to_string(format!("{name}.expect")).unwrap_or_default();
    for line in beside.lines() {
        let (n, code) = line.split_once(' ').unwrap();
        all.insert((n.parse().unwrap(), code.to_owned()));
    }
    all
}

#[test]
fn every_planted_mistake_is_found_where_it_is() {
    let mut codes = BTreeSet::new();
    let mut wrong = Vec::new();
    for path in files("tests/doctor/bad") {
        for report in &examined(&[path]).reports {
            let expected = planted(report.name());
            let json = report.json();
            let found: BTreeSet<_> = json
                .as_array()
                .unwrap()
                .iter()
                .map(|finding| {
                    let line = finding["line"].as_u64().unwrap_or(0);
                    (
                        usize::try_from(line).unwrap(),
                        finding["code"].as_str().unwrap().to_owned(),
                    )
                })
                .collect();
            for (line, code) in expected.difference(&found) {
                wrong.push(format!("{}:{line}: {code} was not found", report.name()));
            }
            for (line, code) in found.difference(&expected) {
                wrong.push(format!(
                    "{}:{line}: {code} was found, and is not planted",
                    report.name()
                ));
            }
            codes.extend(expected.into_iter().map(|(_, code)| code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // `broken-file` has its own test.
    let missing: Vec<_> = checks::ALL
        .iter()
        .map(|check| check.code)
        .filter(|code| *code != "broken-file" && !codes.contains(*code))
        .collect();
    assert!(missing.is_empty(), "no file plants {missing:?}");
}

#[test]
fn good_files_have_nothing() {
    for path in files("tests/doctor/good") {
        for (report, kind) in examined(std::slice::from_ref(&path))
            .reports
            .iter()
            .zip(examined(&[path]).kinds)
        {
            assert!(report.diagnostics.is_empty(), "{}", report.render(false));
            assert_ne!(kind, "unknown", "{}", report.name());
        }
    }
}

#[test]
fn what_people_install_has_nothing() {
    let mut seen = 0;
    for dir in [
        "systemd",
        "kubernetes",
        "oxmgr",
        "pm2",
        "supervisord",
        "docker",
    ] {
        let entries = std::fs::read_dir(Path::new("deploy").join(dir)).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()) {
            // No supervisor's, and no app's either.
            if path.ends_with("Dockerfile") {
                continue;
            }
            let config = lameduck::app::check::load(Path::new("config/container.toml"))
                .unwrap()
                .config;
            // The manifests bring their own.
            let config = (dir != "kubernetes").then_some(config);
            let (files, errors) =
                lameduck::tools::doctor::discover::read(std::slice::from_ref(&path));
            assert!(errors.is_empty(), "{errors:?}");
            let examined = lameduck::tools::doctor::examine(
                &files,
                config,
                lameduck::tools::doctor::DoctorOptions::default(),
            );
            for report in examined.reports {
                assert!(report.diagnostics.is_empty(), "{}", report.render(false));
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn whole_outputs_word_for_word() {
    let mut wrong = Vec::new();
    for name in [
        "oxfile.toml",
        "ecosystem.config.yaml",
        "launched.service",
        "supervisord.conf",
        "compose.yaml",
        "sidecar.k8s.yaml",
    ] {
        let path = Path::new("tests/doctor/bad").join(name);
        let shown: String = examined(&[path])
            .reports
            .iter()
            .map(|report| report.render(false))
            .collect();
        let expected = Path::new("tests/doctor/shown").join(format!("{name}.txt"));
        if std::env::var_os("LAMEDUCK_BLESS").is_some() {
            std::fs::create_dir_all("tests/doctor/shown").unwrap();
            std::fs::write(&expected, &shown).unwrap();
        }
        let before = std::fs::read_to_string(&expected).unwrap_or_default();
        if before != shown {
            wrong.push(format!(
                "{}: expected\n{before}\nbut got\n{shown}",
                expected.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_instances_under_oxmgr_are_checked_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("oxfile.toml");
    let text = "version = 1\n[[apps]]\nname = \"api\"\ncommand = \"lameduck exec --pool api -- node app.mjs\"\n\
                instances = 3\nhealth_cmd = \"curl -f http://127.0.0.1:3000/health\"\n";
    std::fs::write(&path, text).unwrap();
    let shown = examined(&[path]).reports[0].render(false);
    let line = "health_cmd = \"sh -c 'lameduck health api/api-$NODE_APP_INSTANCE'\"";
    assert!(shown.contains(line), "{shown}");
}

#[test]
fn probe_without_a_path_asks_for_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pod.yaml");
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: api}\nspec:\n  containers:\n    - name: api\n      image: x\n      \
                livenessProbe:\n        httpGet:\n          port: 3000\n";
    std::fs::write(&path, text).unwrap();
    for (health, expected) in [("/", 1), ("/health", 0)] {
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"api\"\n[pool.health]\npath = \"{health}\"\n"
        );
        let config = lameduck::config::parse("lameduck.toml", &config)
            .unwrap()
            .config;
        let (files, _) = lameduck::tools::doctor::discover::read(std::slice::from_ref(&path));
        let options = lameduck::tools::doctor::DoctorOptions::default();
        let examined = lameduck::tools::doctor::examine(&files, Some(config), options);
        let found = examined.reports[0].json().as_array().unwrap().clone();
        let found = found
            .iter()
            .filter(|found| found["code"] == "health-url")
            .count();
        assert_eq!(found, expected, "{health}");
    }
}

#[test]
fn launcher_may_ask_the_socket_for_apps() {
    let config = "[admin]\nsocket = \"/run/lameduck/lameduck.sock\"\napps_socket = \"/run/lameduck/apps.sock\"\n\
                  [[listener]]\naddress = \"127.0.0.1:8080\"\n[[pool]]\nname = \"api\"\n";
    let config = lameduck::config::parse("lameduck.toml", config)
        .unwrap()
        .config;
    for (socket, expected) in [
        ("/run/lameduck/apps.sock", 0),
        ("/run/lameduck/others.sock", 1),
    ] {
        let file = lameduck::tools::doctor::InputFile {
            name: "app.conf".into(),
            text: format!(
                "[program:api]\nstopwaitsecs=60\ncommand=lameduck exec --pool api --admin {socket} --drain-timeout 30s -- node a.js\n"
            ),
            ..lameduck::tools::doctor::InputFile::default()
        };
        let options = lameduck::tools::doctor::DoctorOptions::default();
        let examined = lameduck::tools::doctor::examine(&[file], Some(config.clone()), options);
        assert_eq!(examined.reports[0].diagnostics.len(), expected, "{socket}");
    }
}

/// The kinds of the larger corpus, twenty files each: as they stand in public repositories, messy, long, templated,
/// with several apps.
const KINDS: [(&str, &str); 6] = [
    ("pm2", "PM2"),
    ("systemd", "systemd"),
    ("supervisord", "supervisord"),
    ("compose", "Compose"),
    ("kubernetes", "Kubernetes"),
    ("oxfile", "Oxfiles"),
];

fn files_of(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new("tests/doctor/corpus").join(kind);
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

/// All of it that can be read here.
pub fn files_of_corpus() -> Vec<PathBuf> {
    let all = KINDS.iter().flat_map(|(kind, _)| files_of(kind));
    all.filter(|path| !super::needs_node(path) || super::has_node())
        .collect()
}

#[test]
fn files_as_people_write_them_are_judged_right() {
    let (mut wrong, mut rows) = (Vec::new(), String::new());
    for (kind, title) in KINDS {
        let files = files_of(kind);
        assert_eq!(files.len(), 20, "{kind}");
        let (mut right, mut extra, mut missed) = (0, 0, 0);
        for path in files {
            if super::needs_node(&path) && !super::has_node() {
                return;
            }
            let examined = examined(&[path]);
            assert!(
                !examined.kinds.contains(&"unknown"),
                "{:?}",
                examined.reports
            );
            for report in &examined.reports {
                let expected = planted(report.name());
                let anywhere = |code: &str| expected.contains(&(0, code.to_owned()));
                let json = report.json();
                let found: BTreeSet<_> = json
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|finding| {
                        let code = finding["code"].as_str().unwrap().to_owned();
                        let line = finding["line"]
                            .as_u64()
                            .filter(|_| !anywhere(&code))
                            .unwrap_or(0);
                        (usize::try_from(line).unwrap(), code)
                    })
                    .collect();
                right += expected.intersection(&found).count();
                missed += expected.difference(&found).count();
                extra += found.difference(&expected).count();
                wrong.extend(
                    expected
                        .difference(&found)
                        .map(|miss| format!("{}: {miss:?} was not found", report.name())),
                );
                wrong.extend(found.difference(&expected).map(|more| {
                    format!("{}: {more:?} was found, and is not planted", report.name())
                }));
            }
        }
        rows.push_str(&format!(
            "| {title} | 20 | {right} | {extra} | {missed} |\n"
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    counts_are_documented(&rows);
}

/// docs/doctor.md has the counts; `LAMEDUCK_BLESS=1` writes them.
fn counts_are_documented(rows: &str) {
    const HEAD: &str = "| files | read | right | wrong | missed |\n|---|---|---|---|---|\n";
    let text = std::fs::read_to_string("docs/doctor.md").unwrap();
    let (before, rest) = text
        .split_once(HEAD)
        .expect("docs/doctor.md has no table of counts");
    let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
    if std::env::var_os("LAMEDUCK_BLESS").is_some() {
        std::fs::write(
            "docs/doctor.md",
            format!("{before}{HEAD}{rows}{}", &rest[end..]),
        )
        .unwrap();
        return;
    }
    assert_eq!(&rest[..end], rows, "run with LAMEDUCK_BLESS=1");
}
