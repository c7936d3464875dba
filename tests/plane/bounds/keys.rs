//! Keys with a number in them, and the least and the most that `check` accepts for each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use lameduck::config::schema::{KeySchema, SECTIONS};

/// What may be written for a key, from the least to the most.
pub(super) fn candidates(key: &KeySchema) -> Vec<String> {
    let quoted = |list: &[&str]| list.iter().map(|text| format!("\"{text}\"")).collect();
    let form = key.form;
    if form.starts_with("duration") {
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
            "200",
            "599",
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
    if form == "requests per s, m or h" {
        return quoted(&["0/s", "1/h", "1/s", "1000000/s", "1000000000/s"]);
    }
    match key.name {
        "split" => {
            return ["0", "1", "1000000"]
                .map(|n| format!("{{ app = {n} }}"))
                .into();
        }
        "mirror" => {
            let percent = ["0", "0.0001", "1", "100", "101"];
            return percent
                .map(|percent| format!("{{ pool = \"other\", percent = {percent} }}"))
                .into();
        }
        _ => {}
    }
    if form.starts_with("number") {
        let most = ["0", "0.000000001", "1", "1.5", "1000"];
        return most.map(str::to_owned).into();
    }
    Vec::new()
}

/// Forms without a number, and numbers that nothing is counted or timed by. A key of any other form is tried here, or
/// `every_key_with_a_number_is_tried` fails. Those of words alone need no line: see [`has_no_number`].
const WITHOUT_NUMBER: [&str; 42] = [
    "\"letsencrypt\", \"staging\" or URL",
    "mail address",
    "\"hold\", \"fail\" or \"fail_open\", or `auto`",
    "\"off\", \"required\", or table",
    "URL",
    "header field",
    "list of algorithms",
    "list of file names",
    "list of header fields",
    "list of media types",
    "list of paths",
    "media type",
    "301, 302, 303, 307 or 308",
    "table of texts with placeholders",
    "text with placeholders",
    "token",
    "field name",
    "host name",
    "list of texts",
    "text with placeholders, or table of `regex` and `to`",
    "true or false, or `auto`",
    "factor, 1 to 100, or 0",
    "\"stdout\", \"off\", \"syslog\", \"journald\" or path",
    "list of fields",
    "IP address and port",
    "IP address and port, or unix socket",
    "address",
    "directory",
    "list",
    "list of host names",
    "list of listeners' addresses",
    "list of networks",
    "list of pools",
    "path",
    "table of paths",
    "table of texts",
    "text",
    // The bits of a file's mode.
    "text, octal",
    "true or false",
    "list of methods",
    "regular expression",
    "text or list of texts",
];

/// Whether a key of this form is not tried: it is a choice among words, such as `"json" or "combined"`, or listed.
pub(super) fn has_no_number(form: &str) -> bool {
    let mut words = form.split(" or ").flat_map(|words| words.split(", "));
    let is_word = |word: &str| word.len() > 2 && word.starts_with('"') && word.ends_with('"');
    words.all(is_word) || WITHOUT_NUMBER.contains(&form)
}

/// A key at one of its bounds.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) section: &'static str,
    pub(super) line: String,
    pub(super) is_most: bool,
}

/// Whether `check` accepts it.
fn is_accepted(section: &str, line: &str) -> bool {
    let other = match section {
        "compression" | "tracing" | "access_log" => format!("[{section}]\n{line}\n"),
        _ if section.starts_with("route") => route_with("r", section, line),
        _ => String::new(),
    };
    let line = if other.is_empty() { line } else { "" };
    let (server, listener, pool) = match section.strip_prefix("pool") {
        Some(sub) => ("", String::new(), pool_keys(sub, line)),
        None if section == "listener" => ("", listener_keys(line), String::new()),
        None if section.starts_with("listener.acme") => ("", acme_keys(line), String::new()),
        None => (line, String::new(), String::new()),
    };
    let pools = backend_and_tables(SocketAddr::from(([127, 0, 0, 1], 2)), &pool);
    let text = format!(
        "[server]\n{server}\n[[listener]]\naddress = \"127.0.0.1:4\"\n{listener}\n[[pool]]\nname = \"app\"\n{pools}\
         [[pool]]\nname = \"other\"\n{pools}{other}[[route]]\npool = \"app\"\n"
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

/// A listener that orders certificates, with one key of how.
fn acme_keys(line: &str) -> String {
    format!("[listener.acme]\ndomains = [\"x.example\"]\nstate_dir = \"/x\"\n{line}")
}

/// What a source of backends needs besides one of its keys: those of DNS alone are DNS's.
fn source_with(key: &str) -> Vec<String> {
    let dns = [
        "server", "timeout", "min_ttl", "max_ttl", "port", "record", "name",
    ];
    let (kind, others): (_, &[&str]) = match dns.contains(&key) {
        true => ("dns", &["name = \"x.example\"", "port = 1"]),
        false => ("file", &["path = \"x.json\""]),
    };
    let others = others
        .iter()
        .filter(|line| line.split(' ').next() != Some(key));
    let kind = format!("type = \"{kind}\"");
    std::iter::once(kind)
        .chain(others.map(|line| (*line).to_owned()))
        .collect()
}

/// One route for this host, with one key of one of its sections.
pub(super) fn route_with(host: &str, section: &str, line: &str) -> String {
    let key = line.split(' ').next().unwrap_or_default();
    let mut lines = vec![line.to_owned()];
    let pool = matches!(
        section,
        "route" | "route.rate" | "route.auth" | "route.retry" | "route.hold"
    ) && key != "split";
    match section {
        "route.rate" if key != "limit" => lines.push("limit = \"10/s\"".into()),
        "route.auth" => lines.push("forward = \"http://127.0.0.1:9/\"".into()),
        "route.redirect" => lines.push("host = \"x.example\"".into()),
        "route.files" => lines.push("root = \"/\"".into()),
        _ => {}
    }
    let mut text = format!("[[route]]\nhost = \"{host}\"\n");
    if pool {
        text.push_str("pool = \"app\"\n");
    }
    if section != "route" {
        let _ = writeln!(text, "[{section}]");
    }
    text + &lines.join("\n") + "\n"
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
        match sub {
            ".discovery" => lines.extend(source_with(key)),
            ".supervisor" => lines.push("type = \"supervisord\"".to_owned()),
            _ => {}
        }
        lines.retain(|other| other.split(' ').next() != Some(key));
        lines.push(line.to_owned());
    }
    let mut text = String::new();
    for (sub, lines) in tables {
        let header = match sub {
            ".backend" | ".discovery" => format!("[[pool{sub}]]"),
            sub => format!("[pool{sub}]"),
        };
        let _ = writeln!(text, "{header}\n{}", lines.join("\n"));
    }
    text
}

/// Where each bound has a test of its own below.
pub(super) fn is_tried(section: &str) -> bool {
    matches!(
        section,
        "server" | "listener" | "listener.acme" | "compression" | "tracing" | "access_log"
    ) || section.starts_with("pool.")
        || section.starts_with("route")
}

/// The least and the most of every key of `[server]`, of listeners, pools and routes, of `[compression]`, `[tracing]` and `[access_log]`.
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
