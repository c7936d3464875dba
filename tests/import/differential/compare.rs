//! Two answers beside each other, and what was said of their difference.
//!
//! Differences of principle, which no import announces one by one (docs/from-nginx.md, "What differs in every case"):
//! see [`is_of_principle`].

mod speaks;

use std::collections::BTreeMap;

use self::speaks::{Differing, Place, without_place};
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
    let is_read = ["GET", "HEAD"].contains(&&*request.method);
    // nginx says them twice where it refuses a range.
    if pair.ours.status == 416 && theirs == format!("{ours} & {ours}") {
        return true;
    }
    let bare = |host: &str| host.to_ascii_lowercase().replace(":port", "");
    // `.` and `..` are resolved by nginx, and routed nowhere by lameduck.
    if has_dots(request.path()) {
        return true;
    }
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
            let own = ours
                .strip_prefix(theirs)
                .map(|rest| rest.trim_start_matches(" & "));
            pair.is_page && own.is_some_and(|own| ["no-store", "max-age=86400"].contains(&own))
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
        "content-type" => {
            // Texts are UTF-8, and say so; JavaScript has been `text/javascript` since RFC 9239; a site that names no
            // types has nginx's default for all but HTML; a fixed answer has one type, whatever the path ends with.
            let is_script = ours == "text/javascript; charset=utf-8"
                && theirs.starts_with("application/javascript");
            let is_unnamed = !pair.site.has_types && theirs.starts_with("text/plain");
            // What is empty is of no type.
            let is_empty =
                pair.ours.body.is_empty() && pair.theirs.body.is_empty() && ours.is_empty();
            // An echo has the type of the path that it has seen, which nginx may have decoded.
            let is_decoded = request.target.contains('%')
                && (!pair.is_fixed && request.method == "HEAD"
                    || pair.ours.body.starts_with(ECHO.as_bytes()));
            is_decoded
                || ours == format!("{theirs}; charset=utf-8")
                || is_script
                || is_unnamed
                || is_empty
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
                || bare(theirs) == bare(ours)
        }
        // A run of slashes: routes take it for one, the app gets it as it came; nginx may send it decoded, and takes
        // away the mark of a query that is empty.
        "seen target" => {
            request.target.contains("//")
                || request.target.contains('%')
                || theirs.trim_end_matches('?') == ours.trim_end_matches('?')
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
            // A path that the app gets in a field.
            let is_path = request.target.contains("//")
                && theirs.replace("//", "/") == ours.replace("//", "/");
            is_path
                || bare(theirs) == bare(ours)
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
