//! Keys with a number in them, and the least and the most that `check` accepts for each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use lameduck::config::schema::{KeySchema, SECTIONS};

/// What may be written for a key, from the least to the most.
pub(super) fn candidates(key: &KeySchema) -> Vec<String> {
    let quoted = |list: &[&str]| list.iter().map(|text| format!("\"{text}\"")).collect();
    let form = key.form;
    if form == "duration" {
        return quoted(&["0s", "1us", "1ms", "4s", "29s", "15m1s", "364d", "365d"]);
    }
    if form.starts_with("size") {
        let most = i64::MAX.to_string();
        return quoted(&["0", "1", "1KiB", "64KiB", "1MiB", "1TiB", &most]);
    }
    if form.starts_with("integer") || form.contains("port") && !form.contains("address") {
        let most = [
            "0",
            "1",
            "2",
            "100",
            "1000",
            "1024",
            "10000",
            "65535",
            "1000000000",
        ];
        let most = most.map(str::to_owned).into_iter();
        return most
            .chain([u32::MAX.to_string(), i64::MAX.to_string()])
            .collect();
    }
    if form.starts_with("number") {
        return ["0", "0.000000001", "1"].map(str::to_owned).into();
    }
    Vec::new()
}

/// Forms without a number, and numbers that nothing is counted or timed by. A key of any other form is tried here, or
/// `every_key_with_a_number_is_tried` fails.
pub(super) const WITHOUT_NUMBER: [&str; 23] = [
    "\"1.2\" or \"1.3\"",
    "\"hold\", \"fail\" or \"fail_open\"",
    "\"http\", \"tcp\" or \"grpc\"",
    "\"json\" or \"combined\"",
    "\"least_requests\", \"round_robin\" or \"random\"",
    "\"off\", \"optional\" or \"required\"",
    "\"off\", \"v1\" or \"v2\"",
    "\"stdout\", \"off\" or path",
    "IP address and port",
    "address",
    "directory",
    "list",
    "list of host names",
    "list of networks",
    "list of pools",
    "path",
    "table of texts",
    "text",
    // The bits of a file's mode.
    "text, octal",
    "true or false",
    "list of methods",
    "regular expression",
    "text or list of texts",
];

/// A key at one of its bounds.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) section: &'static str,
    pub(super) line: String,
    pub(super) is_most: bool,
}

/// Whether `check` accepts it.
fn is_accepted(section: &str, line: &str) -> bool {
    let (server, listener, pool) = match section.strip_prefix("pool") {
        Some(sub) => ("", String::new(), pool_keys(sub, line)),
        None if section == "listener" => ("", listener_keys(line), String::new()),
        None => (line, String::new(), String::new()),
    };
    let text = format!(
        "[server]\n{server}\n[[listener]]\naddress = \"127.0.0.1:4\"\n{listener}\n[[pool]]\nname = \"app\"\n{}",
        backend_and_tables(SocketAddr::from(([127, 0, 0, 1], 2)), &pool)
    );
    lameduck::config::parse("x.toml", &text).is_ok()
}

/// One key of a listener, which is one for TLS where the key is.
fn listener_keys(line: &str) -> String {
    match needs_tls(line) {
        true => format!("{line}\ntls = {{ cert = \"c\", key = \"k\" }}"),
        false => line.to_owned(),
    }
}

pub(super) fn needs_tls(line: &str) -> bool {
    line.starts_with("hsts")
}

/// One key of a pool's sub-table (`.health`), or of its backend.
pub(super) fn pool_keys(sub: &str, line: &str) -> String {
    format!("{sub}\u{0}{line}")
}

/// A pool's backend and tables, quick ones, with one key changed.
pub(super) fn backend_and_tables(backend: SocketAddr, changed: &str) -> String {
    let (sub, line) = changed.split_once('\u{0}').unwrap_or(("", ""));
    let mut tables = BTreeMap::from([
        (".backend", vec![format!("address = \"{backend}\"")]),
        (".health", vec!["rise = 1".to_owned()]),
        (".hold", vec!["timeout = \"300ms\"".to_owned()]),
    ]);
    if !sub.is_empty() {
        let key = line.split(' ').next().unwrap_or_default();
        let lines = tables.entry(sub).or_default();
        lines.retain(|other| other.split(' ').next() != Some(key));
        lines.push(line.to_owned());
    }
    let mut text = String::new();
    for (sub, lines) in tables {
        let header = match sub {
            ".backend" => "[[pool.backend]]".to_owned(),
            sub => format!("[pool{sub}]"),
        };
        let _ = writeln!(text, "{header}\n{}", lines.join("\n"));
    }
    text
}

/// Where each bound has a test of its own below.
pub(super) fn is_tried(section: &str) -> bool {
    matches!(section, "server" | "listener") || section.starts_with("pool.")
}

/// The least and the most of every key of `[server]`, of listeners and of pools.
pub(super) fn bounds() -> Vec<Bound> {
    let mut bounds = Vec::new();
    for section in SECTIONS.iter() {
        if !is_tried(section.name) {
            continue;
        }
        for key in section.keys {
            let lines = candidates(key).into_iter();
            let lines = lines.map(|value| format!("{} = {value}", key.name));
            let good: Vec<_> = lines
                .filter(|line| is_accepted(section.name, line))
                .collect();
            let number = !candidates(key).is_empty();
            assert!(!number || good.len() > 1, "{}.{}", section.name, key.name);
            for (line, is_most) in [(good.first(), false), (good.last(), true)] {
                bounds.extend(line.map(|line| Bound {
                    section: section.name,
                    line: line.clone(),
                    is_most,
                }));
            }
        }
    }
    bounds
}
