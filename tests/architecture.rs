//! Keeps the architecture what docs/architecture.md says it is.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[path = "architecture/lines.rs"]
mod lines;
#[path = "architecture/sources.rs"]
mod sources;

use sources::{Source, files_below, product, read_sources};

/// The rows of folders below `src/`, as docs/architecture.md draws them. Each folder imports only from those before it,
/// in its own row too: so no two import each other.
const ROWS: [(&str, &[&str]); 6] = [
    ("decide", &["core", "config"]),
    ("foundations", &["rt", "net", "tls", "auth", "metrics"]),
    ("state", &["registry"]),
    (
        "the proxy",
        &[
            "telemetry",
            "probe",
            "discovery",
            "supervisor",
            "acme",
            "proxy",
            "server",
            "admin",
            "upgrade",
        ],
    ),
    ("wiring", &["app"]),
    ("beside it", &["client", "tools", "cli"]),
];

/// What stands in one row, or beside it, and must not know its neighbours all the same.
const STRANGERS: [(&str, &[&str]); 8] = [
    (
        "telemetry",
        &[
            "probe",
            "discovery",
            "supervisor",
            "acme",
            "proxy",
            "server",
            "admin",
        ],
    ),
    ("discovery", &["telemetry", "probe", "acme"]),
    ("supervisor", &["telemetry", "probe", "discovery", "acme"]),
    (
        "acme",
        &["telemetry", "probe", "discovery", "supervisor", "registry"],
    ),
    ("proxy", &["probe", "discovery", "supervisor", "acme"]),
    (
        "server",
        &["probe", "discovery", "supervisor", "acme", "registry"],
    ),
    (
        "admin",
        &[
            "probe",
            "discovery",
            "supervisor",
            "acme",
            "proxy",
            "server",
            "telemetry",
        ],
    ),
    (
        "tools",
        &["probe", "proxy", "server", "admin", "telemetry", "app"],
    ),
];

/// A request's way through `src/proxy`, from its end to its beginning: each station knows those before it in this list.
const STATIONS: [&str; 22] = [
    "memory",
    "arrivals",
    "buffer",
    "error_response",
    "client_info",
    "per_client",
    "guard_state",
    "messages",
    "h1",
    "compression",
    "h2",
    "refusal",
    "moving",
    "data_plane",
    "client",
    "forward",
    "files",
    "error_pages",
    "upstream",
    "transaction",
    "connection",
    "accept",
];

/// What the core must not know, although `std` has it: sockets, files, threads, the time of day.
const IMPURE: [&str; 10] = [
    "std::net",
    "std::os",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "async ",
];

/// The code of a file: its lines without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().enumerate();
    lines
        .map(|(n, line)| {
            (
                n + 1,
                line.split("//").next().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// The crates that the package depends on, as code writes them.
fn dependencies() -> Vec<String> {
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = ["dependencies", "dev-dependencies"].map(|section| manifest[section].as_table());
    let names = names.into_iter().flatten().flat_map(toml::Table::keys);
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn the_core_is_pure() {
    let crates = dependencies();
    assert!(crates.contains(&"tokio".to_owned()), "{crates:?}");
    for path in files_below("src/core") {
        if path.ends_with("tests.rs") {
            continue;
        }
        // Tests may use threads.
        let is_test = |line: &(usize, String)| line.1.contains("#[cfg(test)]");
        for (n, line) in code(&path).into_iter().take_while(|line| !is_test(line)) {
            let place = format!("{}:{n}: {line}", path.display());
            for name in &crates {
                // `bytes::` would be found in `as_bytes::`, and `ring::` in `String::`.
                let whole = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                });
                assert!(!whole, "{place}: the core imports std alone");
            }
            for name in IMPURE {
                assert!(!line.contains(name), "{place}: the core is pure");
            }
        }
    }
}

/// Where a path leads: the folder that stands for it in [`ROWS`] or [`STATIONS`], at this depth.
fn part(path: &[String], depth: usize) -> Option<&str> {
    path.get(depth).map(String::as_str)
}

/// Asserts that each part imports only from parts that stand before it.
fn assert_order(sources: &[Source], below: &[&str], order: &[&str]) {
    let depth = below.len();
    let is_below =
        |path: &[String]| path.len() > depth && below.iter().zip(path).all(|(a, b)| a == b);
    let known: BTreeSet<&str> = order.iter().copied().collect();
    assert_eq!(known.len(), order.len(), "a part stands twice");
    let mut seen = BTreeSet::new();
    let mut imports = 0;
    for source in sources.iter().filter(|source| is_below(&source.module)) {
        let Some(from) = part(&source.module, depth) else {
            continue;
        };
        let place = order.iter().position(|part| *part == from);
        let place = place.unwrap_or_else(|| {
            panic!(
                "{}: `{from}` has no place in the rows of tests/architecture.rs",
                source.path.display()
            )
        });
        seen.insert(from);
        for name in source.names.iter().filter(|name| is_below(name)) {
            // A name that stands in the folder's own mod.rs belongs to the parent, which may know its children.
            let Some(to) = part(name, depth).filter(|to| known.contains(to) && *to != from) else {
                continue;
            };
            imports += 1;
            assert!(
                order[..place].contains(&to),
                "{}: `{from}` imports `{}`, and `{to}` stands after it; see docs/architecture.md, \"Who knows whom\"",
                source.path.display(),
                name.join("::"),
            );
        }
    }
    assert!(imports > 100, "does this test see anything?");
    for part in order {
        assert!(
            seen.contains(part),
            "`{part}` is in the rows and not in the sources"
        );
    }
}

#[test]
fn each_folder_imports_only_from_the_rows_above_it() {
    let sources = product();
    let order: Vec<&str> = ROWS
        .iter()
        .flat_map(|(_, folders)| *folders)
        .copied()
        .collect();
    assert_order(sources, &[], &order);
    let loose: Vec<_> = std::fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let loose = loose.iter().filter(|path| path.is_file()).count();
    assert_eq!(loose, 2, "src/ has lib.rs, main.rs and folders");
}

#[test]
fn each_station_of_the_proxy_imports_only_from_those_below_it() {
    assert_order(product(), &["proxy"], &STATIONS);
}

#[test]
fn parts_side_by_side_do_not_know_each_other() {
    let sources = product();
    for (part, strangers) in STRANGERS {
        for source in sources
            .iter()
            .filter(|source| source.module[..].first().is_some_and(|first| first == part))
        {
            for name in &source.names {
                let stranger = name
                    .first()
                    .filter(|first| strangers.contains(&first.as_str()));
                assert!(
                    stranger.is_none(),
                    "{}: `{part}` must not know `{}`",
                    source.path.display(),
                    name.join("::")
                );
            }
        }
    }
}

#[test]
fn the_core_and_the_configuration_know_nothing_else_of_ours() {
    for source in product() {
        for folder in ["core", "config"] {
            for name in source
                .names
                .iter()
                .filter(|_| source.module.first().is_some_and(|first| first == folder))
            {
                assert_eq!(
                    name.first().map(String::as_str),
                    Some(folder),
                    "{}: {}",
                    source.path.display(),
                    name.join("::")
                );
            }
        }
    }
}

/// The folder that a module belongs to: the deepest directory around it; a loose file at the root stands for itself.
fn folder_of(module: &[String], folders: &BTreeSet<Vec<String>>) -> Vec<String> {
    let longest = (1..=module.len())
        .rev()
        .find(|length| folders.contains(&module[..*length]));
    module[..longest.unwrap_or(1.min(module.len()))].to_vec()
}

/// Pairs of folders that import each other, parents and children left out.
fn circles(sources: &[Source]) -> BTreeSet<(String, String)> {
    let mut folders = BTreeSet::new();
    for source in sources {
        for length in 1..source.module.len() {
            folders.insert(source.module[..length].to_vec());
        }
    }
    let mut edges = BTreeSet::new();
    for source in sources {
        let from = folder_of(&source.module, &folders);
        for name in &source.names {
            let to = folder_of(name, &folders);
            let exists = sources.iter().any(|source| source.module.starts_with(&to));
            if exists
                && !to.is_empty()
                && !from.is_empty()
                && !from.starts_with(&to)
                && !to.starts_with(&from)
            {
                edges.insert((from.join("/"), to.join("/")));
            }
        }
    }
    let mutual = edges
        .iter()
        .filter(|(from, to)| from < to && edges.contains(&(to.clone(), from.clone())));
    mutual.cloned().collect()
}

#[test]
fn no_two_folders_import_each_other() {
    let circles = circles(product());
    assert!(circles.is_empty(), "{circles:?}");
}

/// What docs/architecture.md has side by side. `benches/measure-house` runs it for a directory of sources.
#[test]
#[ignore = "prints figures: benches/measure-house"]
fn figures_of_the_house() {
    let root =
        PathBuf::from(std::env::var("LAMEDUCK_SOURCES").unwrap_or_else(|_| "src".to_owned()));
    let sources = read_sources(&root);
    let entries: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let loose = entries
        .iter()
        .filter(|path| path.is_file() && !path.ends_with("lib.rs") && !path.ends_with("main.rs"));
    let types: BTreeSet<&String> = sources.iter().flat_map(|source| &source.types).collect();
    let twice = names_given_twice(&sources).len();
    let mut lines: Vec<_> = sources
        .iter()
        .map(|source| (source.lines, source.path.clone()))
        .collect();
    lines.sort();
    let (longest, path) = lines.last().unwrap();
    println!("loose files at the root: {}", loose.count());
    println!(
        "folders at the root: {}",
        entries.iter().filter(|path| path.is_dir()).count()
    );
    let circles = circles(&sources);
    println!("folder circles: {}", circles.len());
    for (one, other) in circles {
        println!("  {one} <-> {other}");
    }
    println!(
        "type names that stand more than once: {twice} of {} ({:.0} %)",
        types.len(),
        100.0 * twice as f64 / types.len() as f64
    );
    println!("median file: {} lines", lines[lines.len() / 2].0);
    println!(
        "longest file: {longest} lines ({})",
        path.strip_prefix(&root).unwrap().display()
    );
}

/// The types of each name that stands more than once, by their files.
fn names_given_twice(sources: &[Source]) -> BTreeMap<&str, Vec<String>> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        for name in &source.types {
            let place = source.path.display().to_string();
            places.entry(name).or_default().push(place);
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

/// A name that stands twice makes two things look like one, and a search find both.
#[test]
fn each_type_has_a_name_of_its_own() {
    let twice = names_given_twice(product());
    assert!(twice.is_empty(), "give one of them another: {twice:#?}");
}

/// The map of docs/architecture.md: what it names is there, and what is there stands on it.
#[test]
fn map_and_tree_name_the_same() {
    let text = std::fs::read_to_string("docs/architecture.md").unwrap();
    let (_, map) = text.split_once("## The map\n").unwrap();
    let map = map.split("\n## ").next().unwrap();
    let named: BTreeSet<&str> = map.split('`').skip(1).step_by(2).collect();
    let is_named = |name: &str| {
        let mut names = named.iter();
        names.any(|one| one.trim_end_matches('/').trim_start_matches("proxy/") == name)
    };
    let folders = ROWS.iter().flat_map(|(_, folders)| *folders);
    let mut missing: Vec<String> = folders
        .filter(|folder| !is_named(folder))
        .map(|folder| format!("src/{folder}"))
        .collect();
    for entry in std::fs::read_dir("src/proxy").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "mod.rs" && !is_named(&name) {
            missing.push(format!("src/proxy/{name}"));
        }
    }
    assert!(missing.is_empty(), "not in \"The map\": {missing:?}");
    let files = files_below("src").into_iter();
    let files: Vec<_> = files.map(|path| path.display().to_string()).collect();
    let is_place = |name: &&&str| name.ends_with(".rs") || name.ends_with('/');
    for name in named.iter().filter(is_place) {
        let end = format!("/{}", name.trim_end_matches('/').trim_start_matches("src/"));
        let inside = format!("{end}/");
        let is_there = |file: &String| file.ends_with(&end) || file.contains(&inside);
        assert!(
            files.iter().any(is_there) || *name == "src/",
            "\"The map\" names `{name}`, and there is no such place"
        );
    }
}
