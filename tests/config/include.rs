//! Configurations of several files, and values from the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lameduck::app::check::load;
use lameduck::config::print::print;
use lameduck::config::{LoadedConfig, diff, load as loading};
use proptest::prelude::*;

/// A directory with these files; the first is the configuration.
fn directory(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let first = dir.path().join(files[0].0);
    (dir, first)
}

fn names(loaded: &LoadedConfig, below: &Path) -> Vec<String> {
    let names = loaded.warnings.sources.names();
    let relative = |name: &str| Path::new(name).strip_prefix(below).unwrap().to_owned();
    names
        .map(|name| relative(name).display().to_string())
        .collect()
}

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:8080\"\n";

fn pool(name: &str) -> String {
    format!(
        "[[pool]]\nname = \"{name}\"\n[[pool.backend]]\naddress = \"unix:/{name}.sock\"\n[[route]]\nhost = \"{name}\"\npool = \"{name}\"\n"
    )
}

#[test]
fn files_come_in_order_and_paths_belong_to_the_file_that_has_them() {
    let first =
        format!("include = [\"conf.d/*.toml\", \"more/last.toml\", \"none/*.toml\"]\n{LISTENER}");
    let inner =
        "include = [\"../inner.toml\"]\n[access_log]\npath = \"b.log\"\n".to_owned() + &pool("b");
    let (dir, path) = directory(&[
        ("lameduck.toml", &first),
        ("conf.d/c.toml", &pool("c")),
        ("conf.d/b.toml", &inner),
        ("conf.d/.hidden.toml", "not = read"),
        ("conf.d/a.toml~", "not = read"),
        ("conf.d/sub.toml/x", ""),
        ("inner.toml", &pool("inner")),
        ("more/last.toml", &pool("last")),
    ]);
    let loaded = load(&path).unwrap_or_else(|error| panic!("{error}"));
    let order = [
        "lameduck.toml",
        "conf.d/b.toml",
        "conf.d/../inner.toml",
        "conf.d/c.toml",
        "more/last.toml",
    ];
    assert_eq!(names(&loaded, dir.path()), order);
    let pools: Vec<_> = loaded.config.pools.iter().map(|pool| &*pool.name).collect();
    assert_eq!(pools, ["b", "inner", "c", "last"]);
    let log = print(&loaded.config);
    let expected = format!("\"{}/conf.d/b.log\"", dir.path().display());
    assert!(log.contains(&expected), "{log}");
}

#[test]
fn file_that_can_not_be_read_is_refused_and_never_left_out() {
    use std::os::unix::fs::PermissionsExt as _;
    let first = format!("include = [\"conf.d/*.toml\"]\n{LISTENER}{}", pool("a"));
    let (dir, path) = directory(&[("lameduck.toml", &first), ("conf.d/b.toml", &pool("b"))]);
    assert_eq!(load(&path).unwrap().config.pools.len(), 2);
    // Gone between the look into the directory and the reading of the file: a link to nowhere is the same.
    std::fs::remove_file(dir.path().join("conf.d/b.toml")).unwrap();
    std::os::unix::fs::symlink("gone.toml", dir.path().join("conf.d/b.toml")).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.contains("can't read") && error.contains("conf.d/b.toml"),
        "{error}"
    );
    assert!(error.contains("lameduck.toml:1:12"), "{error}");
    if rustix::process::geteuid().is_root() {
        return;
    }
    let conf = dir.path().join("conf.d");
    std::fs::set_permissions(&conf, std::fs::Permissions::from_mode(0o000)).unwrap();
    let error = load(&path).unwrap_err().to_string();
    std::fs::set_permissions(&conf, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error.contains("can't look into"), "{error}");
}

#[test]
fn number_and_size_of_files_are_bounded() {
    let first = format!("include = [\"d/*.toml\"]\n{LISTENER}{}", pool("a"));
    let (dir, path) = directory(&[("lameduck.toml", &first), ("d/0.toml", "")]);
    for i in 1..1_000 {
        std::fs::write(dir.path().join(format!("d/{i}.toml")), "").unwrap();
    }
    let error = load(&path).unwrap_err().to_string();
    assert_eq!(error.matches("more than 1000 files").count(), 1, "{error}");
    std::fs::remove_file(dir.path().join("d/7.toml")).unwrap();
    assert!(load(&path).is_ok());
    let large = "#".repeat(9 << 20);
    for i in [1, 2, 3] {
        std::fs::write(dir.path().join(format!("d/{i}.toml")), &large).unwrap();
    }
    let error = load(&path).unwrap_err().to_string();
    assert_eq!(
        error.matches("more than 16MiB together").count(),
        1,
        "{error}"
    );
}

/// A configuration with these variables set.
fn with_variables(text: &str, variables: &'static [(&str, &str)]) -> lameduck::config::Config {
    let environment = |name: &str| {
        let mut known = variables.iter().filter(|(other, _)| *other == name);
        known.next().map(|(_, value)| OsString::from(value))
    };
    let loaded = loading::parse_with("x.toml", text, &environment);
    loaded.unwrap_or_else(|error| panic!("{error}")).config
}

const WITH_VARIABLES: &str = r#"
[server]
deadline = "${TIME}"
threads = "${COUNT}"

[headers]
via = "${YES}"
trusted = ["${NET}", "10.0.0.0/8"]

[[listener]]
address = "0.0.0.0:${PORT:-8080}"
redirect_https = "${HTTPS}"

[[pool]]
name = "${COUNT}"

[pool.retry]
budget = "${SHARE}"

[pool.health]
path = "/$${COUNT}"
headers = { "X-Key" = "Bearer ${KEY}", "X-Count" = "${COUNT}" }

[[pool.backend]]
address = "127.0.0.1:${COUNT}000"
weight = "${COUNT}"
"#;

const VARIABLES: &[(&str, &str)] = &[
    ("TIME", "1m"),
    ("COUNT", "3"),
    ("YES", "true"),
    ("NET", "192.0.2.0/24"),
    ("PORT", "8443"),
    ("HTTPS", "443"),
    ("SHARE", "0.5"),
    ("KEY", "hunter2"),
];

#[test]
fn value_from_the_environment_is_read_by_the_form_of_its_key() {
    let read = with_variables(WITH_VARIABLES, VARIABLES);
    let mut plain = WITH_VARIABLES.to_owned();
    for number in ["threads", "weight", "redirect_https", "budget", "via"] {
        // Without quotes, as one would write it.
        let line = plain
            .lines()
            .find(|line| line.starts_with(number))
            .unwrap()
            .to_owned();
        plain = plain.replace(&line, &line.replace('"', ""));
    }
    plain = plain
        .replace("${PORT:-8080}", "8443")
        .replace("$${COUNT}", "$$ {COUNT}");
    for (name, value) in VARIABLES {
        plain = plain.replace(&format!("${{{name}}}"), value);
    }
    let plain = plain.replace("$$ {COUNT}", "$${COUNT}");
    assert_eq!(read, with_variables(&plain, &[]));
    assert_eq!(read.pools[0].backends[0].weight, 3);
    assert_eq!(read.pools[0].name, "3");
}

#[test]
fn free_text_from_the_environment_is_shown_as_its_reference() {
    let config = with_variables(WITH_VARIABLES, VARIABLES);
    let printed = print(&config);
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        r#"headers = { "X-Count" = "${COUNT}", "X-Key" = "Bearer ${KEY}" }"#,
        "path = \"/$${COUNT}\"",
        "weight = 3",
        "name = \"3\"",
        "deadline = \"1m\"",
        "address = \"0.0.0.0:8443\"",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    // What is printed means the same where the environment is the same.
    assert_eq!(with_variables(&printed, VARIABLES), config);
    let other = with_variables(&WITH_VARIABLES.replace("Bearer ", "Basic "), VARIABLES);
    let changes = diff(&config, &other).to_string();
    assert!(
        changes.contains("Bearer ${KEY}") && changes.contains("Basic ${KEY}"),
        "{changes}"
    );
    assert!(!changes.contains("hunter2"), "{changes}");
    let same = with_variables(&WITH_VARIABLES.replace("${KEY}", "hunter2"), VARIABLES);
    assert!(diff(&config, &same).is_empty());
}

#[test]
fn keys_and_comments_are_left_alone() {
    let text = format!(
        "# ${{UNSET}}\n{LISTENER}[[pool]]\nname = \"a\" # ${{UNSET}}\n[pool.health]\nheaders = {{ \"X-$\" = \"1\" }}\n"
    );
    with_variables(&text, &[]);
}

/// Sections that can stand in any file.
fn sections() -> impl Strategy<Value = Vec<String>> {
    let several = proptest::collection::vec(0usize..4, 1..12);
    several.prop_map(|kinds| {
        let numbered = kinds.into_iter().enumerate();
        let section = |(i, kind): (usize, usize)| match kind {
            0 => format!("[[listener]]\naddress = \"127.0.0.1:{}\"\n", 8000 + i),
            1 => format!("[[route]]\nhost = \"h{i}\"\npool = \"p0\"\n"),
            2 => format!("[[pool]]\nname = \"p{i}\"\n[pool.drain]\ndeadline = \"{i}m\"\nclose_spread = \"0s\"\n[[pool.backend]]\naddress = \"app:{}\"\n", 3000 + i),
            _ => format!("[[pool]]\nname = \"q{i}\"\n[[pool.backend]]\naddress = \"\"\n"),
        };
        let mut all = vec![LISTENER.to_owned(), "[[pool]]\nname = \"p0\"\n".to_owned()];
        all.extend(numbered.map(|(i, kind)| section((i + 1, kind))));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What several files say together is what one file says that has the same text, in the same order.
    #[test]
    fn files_together_mean_what_one_file_means(all in sections(), cuts in proptest::collection::vec(0usize..14, 0..4)) {
        let (one_dir, one) = directory(&[("x.toml", &all.concat())]);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(all.len())).collect();
        cuts.extend([0, all.len()]);
        cuts.sort();
        let mut files: Vec<_> = cuts.windows(2).map(|cut| all[cut[0]..cut[1]].concat()).collect();
        files[0].insert_str(0, "include = [\"d/*.toml\"]\n");
        let files = files.iter().enumerate();
        let named: Vec<_> = files.map(|(i, text)| (if i == 0 { "x.toml".into() } else { format!("d/{i}.toml") }, text)).collect();
        let named: Vec<_> = named.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (many_dir, many) = directory(&named);
        // Messages name places that differ: what is wrong is the same, in the same order.
        let outcome = |path: &Path, dir: &tempfile::TempDir| match load(path) {
            Ok(loaded) => Ok(loaded.config),
            Err(error) => {
                let report = error.report();
                let told = report.diagnostics.into_iter().map(|found| (found.message, found.remedy));
                let dir = dir.path().display().to_string();
                Err(told.map(|(message, remedy)| (message.replace(&dir, ""), remedy)).collect::<Vec<_>>())
            }
        };
        prop_assert_eq!(outcome(&many, &many_dir), outcome(&one, &one_dir));
    }
}
