//! Two answers beside each other, and what was said of their difference.
//!
//! Differences of principle, which no import announces one by one (docs/from-nginx.md, "What differs in every case"):
//! see [`is_of_principle`].

use std::collections::BTreeMap;

use lameduck::tools::import::nginx::tree::NginxDirective;
use lameduck::tools::import::notice::{ImportNotice, NoticeKind};
use regex::RegexBuilder;

use super::RawAnswer;
use super::backend::ECHO;
use super::place::PlacedSite;
use super::requests::Request;

/// Fields that say how one message is sent, or who has sent it.
const IGNORED: [&str; 9] = [
    "server",
    "date",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "content-length",
    "via",
    "x-request-id",
    "alt-svc",
];

/// What differs and was not announced, by what it is.
#[derive(Default)]
pub struct Differences {
    found: BTreeMap<String, (usize, String)>,
}

impl Differences {
    pub fn note(
        &mut self,
        site: &PlacedSite,
        request: &Request,
        aspect: &str,
        theirs: &str,
        ours: &str,
    ) {
        let place = Place::of(site, request);
        if is_of_principle(request, aspect, theirs, ours) || place.announces(site, aspect, ours) {
            return;
        }
        let short = |text: &str| text.chars().take(160).collect::<String>();
        let key = format!("{aspect} at {}", place.name);
        let example = format!(
            "{} {} (Host: {}, {:?})\n      nginx:    {}\n      lameduck: {}",
            request.method,
            request.target,
            request.host,
            request.fields,
            short(theirs),
            short(ours)
        );
        self.found.entry(key).or_insert((0, example)).0 += 1;
    }

    pub fn verdict(&self) -> Result<(), String> {
        if self.found.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = self
            .found
            .iter()
            .map(|(key, (count, example))| format!("  {key}, {count} times, such as {example}"))
            .collect();
        Err(format!(
            "{} differences:\n{}",
            lines.len(),
            lines.join("\n")
        ))
    }
}

/// Compares status, fields, body, and what the backend saw.
pub fn compare(
    site: &PlacedSite,
    request: &Request,
    theirs: &RawAnswer,
    ours: &RawAnswer,
    out: &mut Differences,
) {
    if theirs.status != ours.status {
        let note = format!(
            "{} {}",
            theirs.status,
            String::from_utf8_lossy(&theirs.body[..theirs.body.len().min(60)])
        );
        out.note(site, request, "status", &note, &ours.status.to_string());
        return;
    }
    let (there, here) = site.doors[request.door];
    let is_page = is_own_page(theirs);
    let mut names: Vec<&str> = theirs
        .fields
        .iter()
        .chain(&ours.fields)
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| !IGNORED.contains(name)) {
        if is_page && name == "content-type" {
            continue;
        }
        let all = |answer: &RawAnswer, port: u16| {
            let values = answer.fields.iter().filter(|(known, _)| known == name);
            let mut values: Vec<_> = values
                .map(|(_, value)| value.replace(&format!(":{port}"), ":PORT"))
                .collect();
            values.sort();
            values.join(" & ")
        };
        let (theirs, ours) = (all(theirs, there.port()), all(ours, here.port()));
        if theirs != ours {
            out.note(site, request, name, &theirs, &ours);
        }
    }
    let is_encoded = [theirs, ours]
        .iter()
        .any(|answer| answer.field("content-encoding").is_some());
    if is_encoded || is_page || request.method == "HEAD" {
        return;
    }
    let text = |answer: &RawAnswer| String::from_utf8_lossy(&answer.body).into_owned();
    let (their_body, our_body) = (text(theirs), text(ours));
    match (their_body.starts_with(ECHO), our_body.starts_with(ECHO)) {
        (true, true) => compare_seen(
            site,
            request,
            &their_body,
            &our_body,
            (there.port(), here.port()),
            out,
        ),
        _ if their_body != our_body => out.note(site, request, "body", &their_body, &our_body),
        _ => {}
    }
}

fn compare_seen(
    site: &PlacedSite,
    request: &Request,
    theirs: &str,
    ours: &str,
    ports: (u16, u16),
    out: &mut Differences,
) {
    let lines = |text: &str, port: u16| -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.replace(&format!(":{port}"), ":PORT");
            let (name, value) = match n {
                0 => ("backend".to_owned(), line),
                1 => ("target".to_owned(), line),
                _ => match line.split_once(": ") {
                    Some((name, value)) => (name.to_owned(), value.to_owned()),
                    None => (line.trim_end_matches(':').to_owned(), String::new()),
                },
            };
            map.insert(name, value);
        }
        map
    };
    let (theirs, ours) = (lines(theirs, ports.0), lines(ours, ports.1));
    let none = String::from("(nothing)");
    let mut names: Vec<_> = theirs.keys().chain(ours.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (their, our) = (
            theirs.get(name).unwrap_or(&none),
            ours.get(name).unwrap_or(&none),
        );
        if their != our && name != "x-request-id" {
            out.note(site, request, &format!("seen {name}"), their, our);
        }
    }
}

/// What nginx says by itself of a status.
fn is_own_page(answer: &RawAnswer) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    answer.status >= 300 && (answer.body.is_empty() || text.contains("<hr><center>nginx"))
}

/// What is so for every site, and why.
fn is_of_principle(request: &Request, aspect: &str, theirs: &str, ours: &str) -> bool {
    match aspect {
        // lameduck sends them together, or none of them; what a client says of itself there is dropped.
        "seen x-forwarded-for"
        | "seen x-forwarded-proto"
        | "seen x-forwarded-host"
        | "seen x-real-ip" => {
            theirs == "(nothing)"
                || ours == "(nothing)"
                || request
                    .fields
                    .iter()
                    .any(|(name, _)| name.starts_with("X-F"))
        }
        // A run of slashes: routes take it for one, the app gets it as it came; nginx may send it decoded.
        "seen target" => request.target.contains("//") || request.target.contains('%'),
        // No bodies of theirs for what they refuse themselves.
        "body" => theirs.contains("<hr><center>nginx"),
        // Another file's time, another way to make a tag of it.
        "etag" | "last-modified" => true,
        // An empty field is none.
        "seen user-agent" => theirs == "(nothing)" || ours == "(nothing)",
        _ => false,
    }
}

/// Where in nginx's configuration a request is answered.
struct Place {
    name: String,
    /// Lines, from and to: of the location, and of the server without its locations.
    lines: Vec<(u32, u32)>,
}

fn lines_of(directive: &NginxDirective) -> (u32, u32) {
    let from = directive.place.line;
    let last = directive
        .inner()
        .iter()
        .map(|inner| lines_of(inner).1)
        .max();
    (from, last.unwrap_or(from).max(from))
}

impl Place {
    /// By a reading of nginx's rules of its own.
    fn of(site: &PlacedSite, request: &Request) -> Self {
        let http = site.tree.iter().find(|d| d.name() == "http").unwrap();
        let door = site.doors[request.door].1.to_string();
        let host = request
            .host
            .split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_here = |d: &&NginxDirective| {
            d.inner()
                .iter()
                .any(|inner| inner.name() == "listen" && inner.arg(0) == door)
        };
        let servers: Vec<_> = http
            .inner()
            .iter()
            .filter(|d| d.name() == "server")
            .filter(is_here)
            .collect();
        let names = |server: &NginxDirective| -> Vec<String> {
            let named = server.inner().iter().filter(|d| d.name() == "server_name");
            named.flat_map(|d| d.args().to_vec()).collect()
        };
        let rank = |server: &&&NginxDirective| {
            let best = names(server).into_iter().filter_map(|name| {
                match name.strip_prefix("*.").or(name.strip_prefix('.')) {
                    _ if name == host => Some(1000),
                    Some(rest) if host.ends_with(&format!(".{rest}")) => Some(rest.len()),
                    Some(rest) if name.starts_with('.') && host == rest => Some(1000),
                    _ => None,
                }
            });
            best.max()
        };
        let named = servers
            .iter()
            .filter(|server| rank(server).is_some())
            .max_by_key(|server| rank(server));
        let is_default = |server: &&&NginxDirective| {
            server.inner().iter().any(|d| {
                d.name() == "listen"
                    && d.arg(0) == door
                    && d.args()
                        .iter()
                        .any(|w| w == "default_server" || w == "default")
            })
        };
        let server = named
            .or_else(|| servers.iter().find(is_default))
            .or(servers.first())
            .unwrap();
        let path = plain_path(request.path());
        let mut lines = Vec::new();
        let mut name = format!("server of line {}", server.place.line);
        if let Some(location) = find_location(server.inner(), &path) {
            lines.push(lines_of(location));
            name = format!("`{}` of line {}", location.line(), location.place.line);
            // What it falls back to, or is asked of.
            for word in location.inner().iter().flat_map(|d| d.args().to_vec()) {
                let target = server
                    .inner()
                    .iter()
                    .find(|d| d.name() == "location" && d.args().last() == Some(&word));
                lines.extend(target.map(lines_of));
            }
        }
        for directive in server.inner().iter().filter(|d| d.name() != "location") {
            lines.push(lines_of(directive));
        }
        lines.push((server.place.line, server.place.line));
        for directive in http.inner().iter().filter(|d| d.name() != "server") {
            lines.push(lines_of(directive));
        }
        Place { name, lines }
    }

    /// Whether a notice about this place says that this may differ.
    fn announces(&self, site: &PlacedSite, aspect: &str, ours: &str) -> bool {
        let here = site.notices.iter().filter(|notice| {
            let line = notice.place.line;
            self.lines
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&line))
        });
        here.into_iter()
            .any(|notice| speaks_of(notice, aspect, ours))
    }
}

fn speaks_of(notice: &ImportNotice, aspect: &str, ours: &str) -> bool {
    let text = notice.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let field = aspect.trim_start_matches("seen ");
    match aspect {
        // A place that is closed answers 503; what it would have been is not compared.
        "status" if ours == "503" => notice.kind == NoticeKind::LeftOut,
        "status" | "answer" | "body" => {
            !says(&[
                "add_header",
                "proxy_set_header",
                "expires",
                "gzip",
                "`location` passes",
                "read_timeout",
                "answers with an error",
            ]) || says(&["error_page"])
        }
        "location" => says(&["location", "return", "rewrite", "query"]),
        "content-type" => says(&["return", "default_type", "types", "charset"]),
        "content-encoding" | "vary" => says(&["gzip", "brotli", "compress", "vary"]),
        "cache-control" | "expires" => says(&["expires", "cache-control"]),
        "www-authenticate" => says(&["auth"]),
        "accept-ranges" | "content-range" => says(&["gzip", "range"]),
        "seen backend" | "seen target" => {
            notice.kind == NoticeKind::LeftOut
                || says(&["rewrite", "proxy_pass", "regular expression", "query"])
        }
        "seen host" => says(&["host"]),
        _ => says(&[field]),
    }
}

/// As nginx compares it.
fn plain_path(path: &str) -> String {
    let mut out = Vec::new();
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = path
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte = match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                at += 2;
                byte
            }
            (byte, _) => byte,
        };
        if !(byte == b'/' && out.last() == Some(&b'/')) {
            out.push(byte);
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn find_location<'a>(level: &'a [NginxDirective], path: &str) -> Option<&'a NginxDirective> {
    let locations = || level.iter().filter(|d| d.name() == "location");
    let kind = |d: &NginxDirective| match (d.arg(0).to_owned(), d.arg(1).to_owned()) {
        (sign, path) if ["=", "^~", "~", "~*"].contains(&sign.as_str()) => (sign, path),
        (path, _) => (String::new(), path),
    };
    if let Some(exact) = locations().find(|d| kind(d) == ("=".into(), path.into())) {
        return Some(exact);
    }
    let prefix = locations()
        .filter(|d| ["", "^~"].contains(&kind(d).0.as_str()) && !kind(d).1.starts_with('@'))
        // Who leaves out the last slash is sent there.
        .filter(|d| path.starts_with(&kind(d).1) || format!("{path}/") == kind(d).1)
        .max_by_key(|d| kind(d).1.len());
    if let Some(prefix) = prefix {
        if let Some(nested) = find_location(prefix.inner(), path) {
            return Some(nested);
        }
        if kind(prefix).0 == "^~" {
            return Some(prefix);
        }
    }
    let fits = |d: &&NginxDirective| {
        let (sign, pattern) = kind(d);
        ["~", "~*"].contains(&sign.as_str())
            && RegexBuilder::new(
                &pattern
                    .replace("(?!well-known)", "(?:[^w]|$)")
                    .replace("(?!well-known\\/)", "(?:[^w]|$)"),
            )
            .case_insensitive(sign == "~*")
            .build()
            .is_ok_and(|regex| regex.is_match(path))
    };
    locations().find(fits).or(prefix)
}
