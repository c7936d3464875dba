//! Which notice of the import speaks of a difference.

use super::super::place::PlacedSite;
use super::super::requests::Request;
use lameduck::tools::import::nginx::tree::NginxDirective;
use lameduck::tools::import::notice::{ImportNotice, NoticeKind};
use regex::RegexBuilder;

/// Where in nginx's configuration a request is answered.
pub(super) struct Place {
    pub(super) name: String,
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
    pub(super) fn of(site: &PlacedSite, request: &Request) -> Self {
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
        // Who leaves out the last slash may be sent there, or not.
        let found = [true, false].map(|slash| find_location(server.inner(), &path, slash));
        for location in found.into_iter().flatten() {
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

    /// The notice about this place that says that this may differ.
    pub(super) fn announcing<'s>(
        &self,
        site: &'s PlacedSite,
        differing: &Differing<'_>,
    ) -> Option<&'s ImportNotice> {
        let mut here = site.notices.iter().filter(|notice| {
            let line = notice.place.line;
            self.lines
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&line))
        });
        here.find(|notice| speaks_of(notice, differing))
    }
}

/// What differs.
pub(super) struct Differing<'a> {
    pub(super) aspect: &'a str,
    /// nginx's status.
    pub(super) theirs: u16,
    /// Our value.
    pub(super) ours: &'a str,
}

/// A notice without what is of one run: ports, and the site's own directory.
pub(super) fn without_place(text: &str, site: &PlacedSite) -> String {
    let text = text.replace(&site.root(), "");
    let ports = regex::Regex::new(r"(127\.0\.0\.1|0\.0\.0\.0):\d+").unwrap();
    ports.replace_all(&text, "$1:PORT").into_owned()
}

/// Whether a notice speaks of another status: of one of both by its number, or of what makes one of them.
fn speaks_of_status(notice: &ImportNotice, theirs: u16, ours: u16) -> bool {
    // A place that is closed answers 503; what it would have been is not compared.
    if ours == 503 && notice.kind == NoticeKind::LeftOut {
        return true;
    }
    let text = notice.text.to_ascii_lowercase();
    let names = |status: u16| {
        let mut numbers = text.split(|byte: char| !byte.is_ascii_digit());
        numbers.any(|number| number.parse() == Ok(status))
    };
    // Most places say 200 of something.
    let names_one = [theirs, ours]
        .into_iter()
        .any(|status| status != 200 && names(status));
    let said = |(word, statuses): &(&str, &[u16])| {
        text.contains(word) && (statuses.contains(&theirs) || statuses.contains(&ours))
    };
    // Where there is no such file, nginx does not ask for the method first.
    let is_file_of_none = ours == 405 && names(404);
    names_one || is_file_of_none || SAID_OF_STATUS.iter().any(said)
}

/// Words of notices, and the statuses that they speak of.
const SAID_OF_STATUS: &[(&str, &[u16])] = &[
    // Whom a condition on the scheme believes, where it ends in a redirect.
    ("x_forwarded_proto", &[301, 302, 308]),
    ("x-forwarded-proto", &[301, 302, 308]),
];

pub(super) fn speaks_of(notice: &ImportNotice, differing: &Differing<'_>) -> bool {
    let Differing {
        aspect,
        theirs,
        ours,
    } = *differing;
    let text = notice.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let field = aspect.trim_start_matches("seen ");
    // Another answer altogether.
    let is_error = theirs >= 400 || ours.parse().is_ok_and(|ours: u16| ours >= 400);
    if notice.kind == NoticeKind::LeftOut
        && says(&["`error_page"])
        && is_error
        && aspect != "status"
    {
        return true;
    }
    match aspect {
        "status" => speaks_of_status(notice, theirs, ours.parse().unwrap_or(0)),
        "answer" | "body" => {
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
        "content-type" => says(&[
            "return",
            "default_type",
            "types",
            "charset",
            "no files are looked for",
        ]),
        "content-encoding" | "vary" => says(&["gzip", "brotli", "compress", "vary"]),
        "cache-control" | "expires" => says(&["expires", "cache-control"]),
        "www-authenticate" => says(&["auth"]),
        "accept-ranges" | "content-range" => says(&["gzip", "range", "no files are looked for"]),
        "seen backend" | "seen target" => {
            notice.kind == NoticeKind::LeftOut
                || says(&["rewrite", "proxy_pass", "regular expression", "query"])
        }
        "seen host" => says(&["host"]) || notice.kind == NoticeKind::LeftOut && says(&["`rewrite"]),
        "seen if-modified-since" | "seen if-none-match" if says(&["`proxy_cache"]) => true,
        "set-cookie" => says(&["cookie"]),
        "x-powered-by" | "etag" if says(&["answers to head"]) => true,
        "x-powered-by" | "last-modified" | "etag" if says(&["no files are looked for"]) => true,
        _ => says(&[field]),
    }
}

/// As nginx compares it.
pub(super) fn plain_path(path: &str) -> String {
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

pub(super) fn find_location<'a>(
    level: &'a [NginxDirective],
    path: &str,
    slash: bool,
) -> Option<&'a NginxDirective> {
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
        .filter(|d| path.starts_with(&kind(d).1) || slash && format!("{path}/") == kind(d).1)
        .max_by_key(|d| kind(d).1.len());
    if let Some(prefix) = prefix {
        if let Some(nested) = find_location(prefix.inner(), path, slash) {
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
