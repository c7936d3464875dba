//! The reference in the documentation, the examples and the code say the same.

use super::messages::files;
use lameduck::app::check::load;
use lameduck::config::print::print;
use lameduck::config::schema::{SECTIONS, SectionSchema, reference};
use lameduck::config::{
    CompressionConfig, OutlierConfig, StickyConfig, TracingConfig, UpstreamTls, duration, parse,
};
use lameduck_rig::pages::check_generated;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const DOC: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- reference: begin (generated; see tests/config/reference.rs) -->\n";
const END: &str = "<!-- reference: end -->";

#[test]
fn the_reference_is_the_schema() {
    check_generated(DOC, BEGIN, END, &format!("\n{}", reference()));
}

#[test]
fn the_defaults_of_the_schema_are_the_defaults_of_the_code() {
    let minimal = "[[listener]]\naddress = \"0.0.0.0:8080\"\nhttp2 = false\n\n[listener.tls]\ncert = \"a\"\nkey = \"b\"\n\n\
        [[listener.tls.certificates]]\ncert = \"c\"\nkey = \"d\"\n\
        [listener.acme]\nstate_dir = \"s\"\n[[listener.acme.certificates]]\ndomains = [\"a.example\"]\n[[pool]]\nname = \"app\"\n\
        [[pool.backend]]\naddress = \"127.0.0.1:3000\"\n[pool.health]\n[pool.sticky]\n[pool.tls]\n[pool.outlier]\n\
        [pool.supervisor]\ntype = \"systemd\"\n[[route]]\npool = \"app\"\n\
        [route.request_headers]
[route.response_headers]
\
        [route.rate]
limit = \"10/s\"
[route.auth]
basic = \"a\"
[route.retry]
[route.hold]
\
        [[route]]
path = \"/r\"
[route.redirect]
scheme = \"https\"
[[route]]
path = \"/a\"
[route.respond]
[[route]]
path = \"/f\"
[route.files]
root = \"x\"
[compression]\n[tracing]\n[admin.tls]\ncert = \"a\"\nkey = \"b\"\n";
    let printed = print(&parse("x.toml", minimal).unwrap().config);
    let mut keys = 0;
    let whole = |section: &&&SectionSchema| section.header != DISCOVERY;
    for section in SECTIONS[1..].iter().filter(whole) {
        let body = printed
            .split(&format!("{}\n", section.header))
            .nth(1)
            .unwrap();
        let body = body.split("\n\n").next().unwrap();
        for key in section.keys {
            keys += 1;
            let line = body
                .lines()
                .find(|line| line.starts_with(&format!("{} = ", key.name)));
            let line =
                line.unwrap_or_else(|| panic!("{} {} is not printed", section.header, key.name));
            // It is needed if [server] has none.
            let is_written = section.header == "[listener.acme]" && key.name == "state_dir";
            if let Some(default) = key.default.filter(|_| !is_written) {
                let value = line.split_once(" = ").unwrap().1;
                // "60s" is printed as "1m".
                let time = |text: &str| duration::parse(text.trim_matches('"')).ok();
                let same =
                    value == default || time(value).is_some_and(|t| time(default) == Some(t));
                assert!(
                    same,
                    "{} {line}, but the reference has {default}",
                    section.header
                );
            }
        }
        assert_eq!(
            body.lines().count(),
            section.keys.len(),
            "{} prints keys it has not",
            section.header
        );
    }
    assert!(keys > 60, "{keys}");
}

/// Its keys are printed as far as the type knows them.
const DISCOVERY: &str = "[[pool.discovery]]";

#[test]
fn every_key_of_a_source_is_printed_with_its_default_by_some_type() {
    let sources = [
        "type = \"file\"\npath = \"x\"",
        "type = \"dns\"\nname = \"x\"\nport = 1",
        "type = \"docker\"",
        "type = \"kubernetes\"\nservice = \"x\"",
    ];
    let mut printed = String::new();
    for source in sources {
        let text = format!(
            "[[listener]]\naddress = \"0.0.0.0:8080\"\n[[pool]]\nname = \"app\"\n{DISCOVERY}\n{source}\n"
        );
        let text = print(&parse("x.toml", &text).unwrap().config);
        let body = text.split(&format!("{DISCOVERY}\n")).nth(1).unwrap();
        printed += body.split("\n\n").next().unwrap();
        printed += "\n";
    }
    let section = SECTIONS.iter().find(|one| one.header == DISCOVERY).unwrap();
    for key in section.keys {
        let default = key.default.unwrap_or("\"file\"");
        let line = format!("{} = {default}", key.name);
        let is_given = ["path", "name", "service"].contains(&key.name);
        let is_printed = printed.lines().any(|one| match is_given {
            true => one.starts_with(&format!("{} = ", key.name)),
            false => one == line,
        });
        assert!(is_printed, "{line} is not in\n{printed}");
    }
}

/// The declarations as text, so that nothing that reads them can leave out one unnoticed.
#[test]
fn every_declared_key_is_in_the_schema() {
    let mut keys = 0;
    for entry in std::fs::read_dir("src/config/sections").unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for declaration in text.split("section! {\n").skip(1) {
            // State is filled by functions, and is no key.
            let ends = ["\n}\n", "\n    state {\n"];
            let declaration = ends.iter().fold(declaration, |text, end| {
                text.split(end).next().unwrap_or_default()
            });
            let lines = || declaration.lines().map(str::trim);
            let header = lines().find(|line| line.starts_with('[')).unwrap();
            if header == "[]" {
                continue;
            }
            let section = SECTIONS.iter().find(|section| section.header == header);
            let section = section.unwrap_or_else(|| panic!("{header} is not in sections::all"));
            let mut renamed = None;
            for line in lines().filter(|line| !line.starts_with("//")) {
                if let Some(name) = line.strip_prefix("#[key = \"") {
                    renamed = name.strip_suffix("\"]");
                }
                let Some((field, _)) = line.split_once(": ").filter(|_| line.contains(" = "))
                else {
                    continue;
                };
                let name = renamed.take().unwrap_or(field);
                assert!(
                    section.key(name).is_some(),
                    "{header} {name} is declared and unknown"
                );
                keys += 1;
            }
        }
    }
    let known: usize = SECTIONS.iter().map(|section| section.keys.len()).sum();
    assert_eq!(keys, known, "keys declared, and known");
}

#[test]
fn keys_whose_change_needs_a_restart_are_those_that_the_page_names() {
    let mut marked = Vec::new();
    for section in &SECTIONS[1..] {
        let keys = section.keys.iter().filter(|key| key.restart);
        let names: Vec<_> = keys.clone().map(|key| key.name).collect();
        if !names.is_empty() && names.len() == section.keys.len() {
            marked.push(section.header.to_owned());
        } else {
            marked.extend(
                names
                    .iter()
                    .map(|name| format!("{} {name}", section.header)),
            );
        }
        for key in section.keys {
            let says = key.doc.contains("A change needs a restart");
            assert!(!says || key.restart, "{} {}", section.header, key.name);
        }
    }
    let expected = [
        "[server] threads",
        "[server] state_dir",
        "[admin]",
        "[admin.tls]",
        "[access_log]",
        "[tracing]",
        "[[listener]] reuse_port",
    ];
    assert_eq!(marked, expected, "see \"What a reload changes\" in {DOC}");
}

#[test]
fn every_key_of_the_schema_is_read() {
    for section in &SECTIONS[1..] {
        for key in section.keys {
            // No key takes a date, so whoever reads it must complain about it.
            let parents = match section.name.split_once('.') {
                // Of this one there is one only.
                Some(("admin", _)) => format!("{}\n", section.header),
                Some((parent, _)) => format!("[[{parent}]]\n{}\n", section.header),
                None => format!("{}\n", section.header),
            };
            let text = format!("{parents}{} = 1979-05-27\n", key.name);
            let report = parse("x.toml", &text).unwrap_err().report();
            let complains = |message: &str| message.contains(&format!("`{}` is a date", key.name));
            assert!(
                report.diagnostics.iter().any(|d| complains(&d.message)),
                "{} {}: {}",
                section.header,
                key.name,
                report.render(false)
            );
        }
    }
}

#[test]
fn every_example_works_without_a_warning() {
    let files = files("config");
    assert_eq!(
        files.len(),
        14,
        "an example was added or lost: adjust the number, and docs/configuration.md"
    );
    let doc = std::fs::read_to_string(DOC).unwrap();
    for path in files {
        let (_dir, readable) = with_certificates(&path);
        let loaded = load(&readable).unwrap_or_else(|error| panic!("{error}"));
        let warnings = loaded.warnings.render(false);
        assert!(warnings.is_empty(), "{warnings}");
        let name = path.display().to_string();
        assert!(doc.contains(&name), "{DOC} does not mention {name}");
    }
}

/// An example in a place of its own, with the certificates that it names.
fn with_certificates(path: &Path) -> (tempfile::TempDir, PathBuf) {
    const TLS: &str = "/etc/lameduck/tls";
    let text = std::fs::read_to_string(path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(path.file_name().unwrap());
    let here = dir.path().to_str().unwrap();
    // The directory of a site's files must be there, and a file of users.
    let users = dir.path().join("htpasswd");
    std::fs::write(&users, "ann:{SHA}hvfkN/qlp/zhXR3cuerq6jd2Z7g=\n").unwrap();
    let closed = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&users, closed).unwrap();
    let jobs = dir.path().join("jobs.json");
    std::fs::write(&jobs, "[]").unwrap();
    let text_here = (text.replace(TLS, here).replace("/srv/www/app", here))
        .replace("/etc/lameduck/htpasswd", &users.display().to_string())
        .replace("/etc/lameduck/jobs.json", &jobs.display().to_string());
    std::fs::write(&copy, text_here).unwrap();
    // What it includes stands in a directory of its name.
    let included = path.with_extension("d");
    for file in std::fs::read_dir(&included).into_iter().flatten() {
        let (file, beside) = (file.unwrap().path(), copy.with_extension("d"));
        std::fs::create_dir_all(&beside).unwrap();
        std::fs::copy(&file, beside.join(file.file_name().unwrap())).unwrap();
    }
    for listener in parse(path.to_str().unwrap(), &text)
        .unwrap()
        .config
        .listeners
    {
        let Some(tls) = listener.tls else { continue };
        for files in &tls.certificates {
            let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).unwrap();
            let place = |file: &Path| dir.path().join(file.strip_prefix(TLS).unwrap());
            std::fs::write(place(&files.cert), made.cert.pem()).unwrap();
            std::fs::write(place(&files.key), made.signing_key.serialize_pem()).unwrap();
            let closed = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(place(&files.key), closed).unwrap();
            if let Some(ca) = &tls.client_ca {
                std::fs::write(place(ca), made.cert.pem()).unwrap();
            }
        }
    }
    (dir, copy)
}

#[test]
fn the_annotated_example_lacks_no_key() {
    let path = "config/lameduck.toml";
    let text = std::fs::read_to_string(path).unwrap();
    let complete = lameduck::config::example::complete(&text);
    if std::env::var_os("LAMEDUCK_BLESS").is_some() {
        std::fs::write(path, &complete).unwrap();
        return;
    }
    assert_eq!(text, complete, "run the tests with LAMEDUCK_BLESS=1");
}

#[test]
fn the_annotated_example_shows_every_key_with_its_default() {
    let text = std::fs::read_to_string("config/lameduck.toml").unwrap();
    // With every comment taken off a key or a section it must be a configuration still, with the same values.
    let uncommented: String = text.lines().map(uncomment).collect();
    let one_action = without_other_actions(&uncommented);
    // Which keys a source has depends on its type.
    let one_action = without_section(&one_action, DISCOVERY);
    // Who orders certificates keeps them somewhere: there is no default.
    let one_action = without_section(&one_action, "[listener.acme]");
    let one_action = without_section(&one_action, "[[listener.acme.certificates]]");
    let explicit =
        parse("config/lameduck.toml", &one_action).unwrap_or_else(|error| panic!("{error}"));
    for section in &SECTIONS[1..] {
        let body = uncommented.split(&format!("{}\n", section.header)).nth(1);
        let body = body.unwrap_or_else(|| panic!("{} is not there", section.header));
        let body = body.split("\n[").next().unwrap();
        for key in section.keys {
            let found = body
                .lines()
                .any(|line| line.starts_with(&format!("{} = ", key.name)));
            assert!(found, "{} {} is not shown", section.header, key.name);
        }
    }
    let mut plain = load("config/lameduck.toml".as_ref()).unwrap().config;
    // Writing [compression], [tracing], [pool.health], [pool.sticky], [pool.tls], [pool.outlier], [pool.supervisor] and [[route]]
    // down is the one thing that means something by itself.
    for pool in &mut plain.pools {
        pool.health.explicit = true;
        pool.tls = Some(UpstreamTls::default());
        pool.outlier = Some(OutlierConfig::default());
        pool.supervisor = explicit.config.pools[0].supervisor.clone();
        pool.sticky = Some(StickyConfig {
            names_cookie: true,
            ..StickyConfig::default()
        });
    }
    plain.compression = Some(CompressionConfig::default());
    plain.tracing = Some(TracingConfig::default());
    plain.admin.tls = explicit.config.admin.tls.clone();
    plain.routes = explicit.config.routes.clone();
    for (plain, explicit) in plain.listeners.iter_mut().zip(&explicit.config.listeners) {
        plain.tls = explicit.tls.clone();
    }
    assert_eq!(explicit.config, plain);
}

fn without_section(text: &str, header: &str) -> String {
    let (before, rest) = text.split_once(&format!("{header}\n")).unwrap();
    let next = rest.find("\n[").map_or("", |at| &rest[at + 1..]);
    format!("{before}{next}")
}

/// Sections that are an action of a route, of which it has one.
const OTHER_ACTIONS: [&str; 3] = ["[route.redirect]", "[route.respond]", "[route.files]"];

/// The example with a route that leads to a pool, and does nothing else.
fn without_other_actions(text: &str) -> String {
    let mut is_left_out = false;
    let mut rest = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            is_left_out = OTHER_ACTIONS.contains(&line);
        }
        if !is_left_out {
            rest += &format!("{line}\n");
        }
    }
    rest
}

/// `# key = value` and `# [section]` without the mark; prose stays a comment.
fn uncomment(line: &str) -> String {
    let bare = line
        .strip_prefix("# ")
        .or(line.strip_prefix('#'))
        .unwrap_or(line);
    let name = bare.split(" = ").next().unwrap_or("");
    let key = bare.contains(" = ")
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c));
    if key || (bare.starts_with('[') && bare.ends_with(']')) {
        format!("{bare}\n")
    } else {
        format!("{line}\n")
    }
}
