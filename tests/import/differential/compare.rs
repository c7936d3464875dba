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

/// What differs and was not announced, by what it is; and what was excused, by what excuses it.
#[derive(Default)]
pub struct Differences {
    found: BTreeMap<String, (usize, String)>,
    /// By a notice, and what differed.
    excused: BTreeMap<(String, String), usize>,
    of_principle: usize,
}

impl Differences {
    pub fn note(&mut self, pair: &Pair<'_>, aspect: &str, theirs: &str, ours: &str) {
        let (site, request) = (pair.site, pair.request);
        let place = Place::of(site, request);
        if is_of_principle(pair, aspect, theirs, ours) {
            self.of_principle += 1;
            return;
        }
        let differing = Differing {
            aspect,
            theirs: pair.theirs.status,
            ours,
        };
        if let Some(notice) = place.announcing(site, &differing) {
            let what = match aspect {
                "status" => format!("status {} → {ours}", pair.theirs.status),
                aspect => aspect.to_owned(),
            };
            let excuse = (without_place(&notice.text, site), what);
            *self.excused.entry(excuse).or_default() += 1;
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

    /// Adds what another site's were.
    pub fn add_excuses(&mut self, other: Self) {
        for (excuse, count) in other.excused {
            *self.excused.entry(excuse).or_default() += count;
        }
        self.of_principle += other.of_principle;
    }

    /// How often which notice has excused what, the most frequent first.
    pub fn excuses(&self) -> String {
        let mut rows: Vec<_> = self.excused.iter().collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let all: usize = self.excused.values().sum();
        let rows = rows
            .iter()
            .map(|((notice, what), count)| format!("{count:>7}  {what}: {notice}\n"));
        format!(
            "{} differences of principle; {all} that were announced:\n{}",
            self.of_principle,
            rows.collect::<String>()
        )
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
    let pair = &Pair::new(site, request, theirs, ours);
    if theirs.status != ours.status {
        let note = format!(
            "{} {}",
            theirs.status,
            String::from_utf8_lossy(&theirs.body[..theirs.body.len().min(60)])
        );
        out.note(pair, "status", &note, &ours.status.to_string());
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
            out.note(pair, name, &theirs, &ours);
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
            pair,
            &their_body,
            &our_body,
            (there.port(), here.port()),
            out,
        ),
        _ if their_body != our_body => out.note(pair, "body", &their_body, &our_body),
        _ => {}
    }
}

fn compare_seen(
    pair: &Pair<'_>,
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
            out.note(pair, &format!("seen {name}"), their, our);
        }
    }
}

/// What nginx says by itself of a status.
fn is_own_page(answer: &RawAnswer) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    answer.status >= 300 && (answer.body.is_empty() || text.contains("<hr><center>nginx"))
}

/// What is so for every site, and why: docs/from-nginx.md, "What differs in every case".
fn is_of_principle(pair: &Pair<'_>, aspect: &str, theirs: &str, ours: &str) -> bool {
    let request = pair.request;
    let has = |name: &str| request.fields.iter().any(|(known, _)| *known == name);
    let is_read = ["GET", "HEAD"].contains(&request.method);
    // nginx says them twice where it refuses a range.
    if pair.ours.status == 416 && theirs == format!("{ours} & {ours}") {
        return true;
    }
    let bare = |host: &str| host.to_ascii_lowercase().replace(":port", "");
    match aspect {
        // An error page is an answer of lameduck's own, and none that is kept; who asks for JSON gets JSON.
        "cache-control" | "vary" | "etag" | "last-modified" | "accept-ranges"
            if pair.is_error_page() || pair.is_problem() =>
        {
            true
        }
        "content-type" | "body" if pair.is_problem() => true,
        // lameduck's own pages are not to be kept, framed, or taken for something else; they differ by `Accept`.
        "cache-control" => {
            theirs.is_empty() && pair.is_page && ["no-store", "max-age=86400"].contains(&ours)
        }
        "content-security-policy" | "x-content-type-options" => theirs.is_empty() && pair.is_page,
        "vary" if pair.is_page && ours == "Accept" => theirs.is_empty(),
        // Whether it is compressed or not: who keeps it has to know.
        "vary" => ours == "Accept-Encoding" && theirs.is_empty(),
        // Which methods there are is said with 405, and files have two; nginx looks for the file first.
        "allow" => theirs.is_empty() && ours == "GET, HEAD",
        "status" if ours == "405" => {
            !is_read
                && ["301", "404", "405", "403"]
                    .iter()
                    .any(|code| theirs.starts_with(code))
        }
        // RFC 9110, 13.1: `If-None-Match` decides alone. nginx asks of `If-Modified-Since`, too, and of fixed answers.
        "status" if ours == "304" => has("If-None-Match") && has("If-Modified-Since"),
        "status" if ours == "200" && theirs.starts_with("304") => {
            has("If-None-Match") && pair.ours.field("etag").is_none()
        }
        // `.` and `..` are resolved by nginx, and routed nowhere by lameduck.
        "status" | "answer" if has_dots(request.path()) => true,
        "content-type" => {
            // Texts are UTF-8, and say so; JavaScript has been `text/javascript` since RFC 9239; a site that names no
            // types has nginx's default for all but HTML; a fixed answer has one type, whatever the path ends with.
            let is_script = ours == "text/javascript; charset=utf-8"
                && theirs.starts_with("application/javascript");
            let is_unnamed = !pair.site.has_types && theirs == "text/plain";
            // An echo has the type of the path that it has seen, which nginx may have decoded.
            let is_decoded = request.target.contains('%')
                && (!pair.is_fixed && request.method == "HEAD"
                    || pair.ours.body.starts_with(ECHO.as_bytes()));
            is_decoded
                || ours == format!("{theirs}; charset=utf-8")
                || is_script
                || is_unnamed
                || pair.is_fixed
        }
        "www-authenticate" => ours == format!("{theirs}, charset=\"UTF-8\""),
        // A part says that there are parts.
        "accept-ranges" => pair.ours.status == 206 && ours == "bytes",
        // The tag of a file is made another way; both have one, or none.
        "etag" => !theirs.is_empty() && !ours.is_empty(),
        // A redirect keeps the port that the client has written; nginx writes its own.
        "location" => {
            let host = request.host.split(':').next().unwrap_or_default();
            let whole = |text: &str| {
                let text = match text.starts_with('/') {
                    true => format!("http://{host}{text}"),
                    false => text.replace(":PORT", ""),
                };
                let text = text.replacen(host, &host.to_ascii_lowercase(), 1);
                text.trim_end_matches('?').to_owned()
            };
            // Who is trusted says what the client has spoken; nginx says what it speaks itself.
            let is_told = has("X-Forwarded-Proto") && pair.site.toml.contains("trusted = [");
            let (theirs, ours) = (whole(theirs), whole(ours));
            theirs == ours || is_told && theirs == ours.replacen("https://", "http://", 1)
        }
        // What the app has seen is in its answer, which is longer then: about `gzip_min_length` they differ.
        "content-encoding" => {
            !request.target.contains("big")
                && pair.ours.field("vary").is_some()
                && theirs.is_empty()
        }
        "body" => pair.is_page,
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
        // A run of slashes: routes take it for one, the app gets it as it came; nginx may send it decoded, and takes
        // away the mark of a query that is empty.
        "seen target" => {
            request.target.contains("//")
                || request.target.contains('%')
                || theirs == ours.trim_end_matches('?')
        }
        // One of an upstream's.
        "seen backend" => {
            let name = |text: &str| text.trim_start_matches(ECHO).to_owned();
            pair.site
                .upstreams
                .iter()
                .any(|all| all.contains(&name(theirs)) && all.contains(&name(ours)))
        }
        // An empty field is none.
        "seen user-agent" => theirs == "(nothing)" || ours == "(nothing)",
        // `Host` as the client wrote it; nginx's `$host` is in lower case and has no port.
        aspect if aspect.starts_with("seen ") => {
            bare(theirs) == bare(ours)
                && bare(ours).contains(&bare(&request.host.replace("@port@", "PORT")))
        }
        _ => false,
    }
}

/// Whether a path has segments that are not names.
fn has_dots(path: &str) -> bool {
    path.replace("%2e", ".")
        .split('/')
        .any(|segment| segment == "." || segment == "..")
}

/// A request with both answers.
pub struct Pair<'p> {
    pub site: &'p PlacedSite,
    pub request: &'p Request,
    pub ours: &'p RawAnswer,
    theirs: &'p RawAnswer,
    /// Whether it is what each of them says by itself of a status.
    is_page: bool,
    /// Whether it is a text that stands in the configuration.
    is_fixed: bool,
}

impl Pair<'_> {
    /// Whether lameduck has answered with an error page, and nginx with its own.
    fn is_error_page(&self) -> bool {
        let all = |name: &str| {
            self.ours
                .fields
                .iter()
                .filter(|f| f.0 == name)
                .map(|f| f.1.as_str())
                .collect::<Vec<_>>()
        };
        self.ours.status >= 400
            && all("cache-control").contains(&"no-store")
            && all("vary").contains(&"Accept")
    }

    fn is_problem(&self) -> bool {
        self.ours.field("content-type") == Some("application/problem+json")
            && self.theirs.status == self.ours.status
    }
}

impl<'p> Pair<'p> {
    pub fn new(
        site: &'p PlacedSite,
        request: &'p Request,
        theirs: &'p RawAnswer,
        ours: &'p RawAnswer,
    ) -> Self {
        let is_fixed = theirs.body == ours.body
            && !ours.body.is_empty()
            && site.tree_has_text(&String::from_utf8_lossy(&ours.body));
        Pair {
            site,
            request,
            ours,
            theirs,
            is_page: is_own_page(theirs),
            is_fixed,
        }
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
    fn announcing<'s>(
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
struct Differing<'a> {
    aspect: &'a str,
    /// nginx's status.
    theirs: u16,
    /// Our value.
    ours: &'a str,
}

/// A notice without what is of one run: ports, and the site's own directory.
fn without_place(text: &str, site: &PlacedSite) -> String {
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
    names_one || SAID_OF_STATUS.iter().any(said)
}

/// Words of notices, and the statuses that they speak of.
const SAID_OF_STATUS: &[(&str, &[u16])] = &[
    // Whom a condition on the scheme believes, where it ends in a redirect.
    ("x_forwarded_proto", &[301, 302, 308]),
    ("x-forwarded-proto", &[301, 302, 308]),
];

fn speaks_of(notice: &ImportNotice, differing: &Differing<'_>) -> bool {
    let Differing {
        aspect,
        theirs,
        ours,
    } = *differing;
    let text = notice.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let field = aspect.trim_start_matches("seen ");
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
        "seen host" => says(&["host"]),
        "x-powered-by" | "etag" if says(&["answers to head"]) => true,
        "x-powered-by" | "last-modified" | "etag" if says(&["no files are looked for"]) => true,
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

fn find_location<'a>(
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
