//! docs/conformance.md: what nginx and HAProxy do otherwise, and why; and the list of all cases.

use std::fmt::Write as _;

use super::backend::Received;
use super::case::{Case, Downstream, End, Upstream, echo};
use super::client::Ended;
use super::corpora::{self, Run};
use super::judge::without_additions;
use super::message::{Body, Framing, Head, shown};
use super::run::Evidence;

/// Where the table is kept.
pub const PAGE: &str = "docs/conformance.md";

/// The most of a body or a field that is shown.
const SHOWN: usize = 48;

/// Said of a peer that isn't installed.
const ABSENT: &str = "(not there)";

/// What became of a case, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Story {
    backend: String,
    client: String,
    /// As the backend's, whatever the framing and the case of names.
    heard: String,
    /// As the client's, but with one word for all errors: which status says no makes no difference.
    essence: String,
}

/// What all did, beside each other.
pub struct Table {
    peers: [String; 2],
    rows: Vec<Row>,
    /// Every byte that anybody got.
    evidence: String,
}

struct Row {
    theme: &'static str,
    name: &'static str,
    why: &'static str,
    ours: Story,
    /// `None`: it does as lameduck does, or isn't there.
    others: Vec<Option<Story>>,
}

impl corpora::Table<Case> for Table {
    fn new(
        cases: &[Case],
        ours: &Run<Evidence>,
        nginx: Option<&Run<Evidence>>,
        haproxy: Option<&Run<Evidence>>,
    ) -> Self {
        let named = [("nginx", nginx), ("HAProxy", haproxy)];
        let title = |run: Option<&'_ Run<Evidence>>| run.map(|run| run.title.clone());
        let peers = titles(title(nginx).as_deref(), title(haproxy).as_deref());
        let mut evidence = String::new();
        for (at, case) in cases.iter().enumerate() {
            let _ = writeln!(evidence, "== {} ({})", case.name, case.rule);
            for (name, run) in [("lameduck", Some(ours))].iter().chain(&named) {
                let played = run.map(|run| run.evidence[at].to_string());
                let _ = write!(evidence, " {name}\n{}", played.unwrap_or_default());
            }
        }
        let row = |(at, case): (usize, &Case)| {
            let ours = story(&ours.evidence[at]);
            let other = |(_, run): &(&str, Option<&Run<Evidence>>)| {
                let story = story(&run.as_ref()?.evidence[at]);
                let same = story.heard == ours.heard && story.essence == ours.essence;
                (!same).then_some(story)
            };
            let others = named.iter().map(other).collect();
            Row {
                theme: case.theme,
                name: case.name,
                why: case.differs,
                ours,
                others,
            }
        };
        Self {
            peers,
            rows: cases.iter().enumerate().map(row).collect(),
            evidence,
        }
    }

    /// As [`are_known`].
    fn has_known_peers(&self) -> bool {
        are_known(&self.peers)
    }

    /// The cases in which somebody differs and nobody says why: their places.
    fn unexplained(&self) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        let silent =
            rows.filter(|(_, row)| row.why.is_empty() && row.others.iter().any(Option::is_some));
        silent.map(|(at, _)| at).collect()
    }

    /// One case, with what all did.
    fn row(&self, at: usize) -> String {
        let row = &self.rows[at];
        format!("   {}: {}", row.name, self.cells(row))
    }

    /// Writes `target/conformance.md` and, byte for byte, `target/conformance.txt`; and the page itself if that was asked for.
    fn write(&self) {
        let target = lameduck_rig::place::target();
        std::fs::write(target.join("conformance.md"), self.markdown()).unwrap();
        std::fs::write(target.join("conformance.txt"), &self.evidence).unwrap();
        if std::env::var_os("LAMEDUCK_BLESS").is_some_and(|value| value == "1") {
            let page = format!(
                "{}\n{}\n{}",
                include_str!("page.md"),
                self.markdown(),
                list(&super::corpus::all())
            );
            std::fs::write(PAGE, page).unwrap();
        }
    }
}

impl Table {
    fn differences(&self) -> impl Iterator<Item = &Row> {
        self.rows
            .iter()
            .filter(|row| row.others.iter().any(Option::is_some))
    }

    fn cells(&self, row: &Row) -> String {
        let mut text = row.ours.cell();
        for other in &row.others {
            let _ = write!(
                text,
                " | {}",
                other.as_ref().map_or("the same".to_owned(), Story::cell)
            );
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "## Differences\n\nWith {} and {}. `→` is what the backend got, `←` what the client got.\n",
            self.peers[0], self.peers[1]
        );
        let rows: Vec<_> = self.differences().collect();
        for theme in distinct(rows.iter().map(|row| row.theme)) {
            let _ = writeln!(text, "\n### {theme}: who differs");
            let here: Vec<_> = rows.iter().filter(|row| row.theme == theme).collect();
            for why in distinct(here.iter().map(|row| row.why)) {
                let _ = write!(
                    text,
                    "\n{why}.\n\n| case | lameduck | nginx | HAProxy |\n|---|---|---|---|\n"
                );
                for row in here.iter().filter(|row| row.why == why) {
                    let _ = writeln!(text, "| {} | {} |", row.name, self.cells(row));
                }
            }
        }
        text
    }
}

impl Story {
    fn cell(&self) -> String {
        let (backend, client) = (
            short(&self.backend, 4 * SHOWN),
            short(&self.client, 4 * SHOWN),
        );
        format!("→ {backend} ← {client}").replace('|', "\\|")
    }
}

/// The others' names and versions.
pub fn titles(nginx: Option<&str>, haproxy: Option<&str>) -> [String; 2] {
    [("nginx", nginx), ("HAProxy", haproxy)].map(|(name, title)| match title {
        Some(title) => title.to_owned(),
        None => format!("{name} {ABSENT}"),
    })
}

/// Whether all that are there are versions whose differences were looked at. Others may differ elsewhere.
pub fn are_known(peers: &[String]) -> bool {
    const KNOWN: [&str; 4] = ["nginx 1.22.", "nginx 1.31.", "haproxy 2.6.", "haproxy 2.8."];
    let is_known =
        |peer: &String| peer.ends_with(ABSENT) || KNOWN.iter().any(|known| peer.starts_with(known));
    peers.iter().all(is_known)
}

/// Each of them once, in the order of their first appearance.
pub fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for theme in all {
        if !seen.contains(&theme) {
            seen.push(theme);
        }
    }
    seen
}

/// At most so many characters, and a sign that there were more.
pub fn short(text: &str, most: usize) -> String {
    let mut start: String = text.chars().take(most).collect();
    if start.len() < text.len() {
        // Code that is cut off must end all the same.
        start.push_str(if start.matches('`').count() % 2 == 1 {
            "…`"
        } else {
            "…"
        });
    }
    start
}

fn story(evidence: &Evidence) -> Story {
    let requests: Vec<_> = evidence.received.iter().map(request).collect();
    let backend = if requests.is_empty() {
        "nothing".to_owned()
    } else {
        requests.join(", then ")
    };
    let (client, essence) = answers(evidence);
    // How it was framed on the way, and how a trailer's name was written, changes nothing of what was said.
    let heard = backend.replace(" chunked", "").to_ascii_lowercase();
    Story {
        backend,
        heard,
        client,
        essence,
    }
}

/// A request as the backend got it, in words: without what every case has and what every proxy adds.
pub fn request(received: &Received) -> String {
    let head = &received.head;
    if head.len == 0 {
        return format!("a part of a head {}", code(&received.raw));
    }
    let mut text = format!("{} {}", head.line[0], head.line[1]);
    let bytes = without_additions(received);
    let plain = Head::read(&bytes).unwrap_or_default();
    let ignored = ["content-length", "transfer-encoding", "connection", "via"];
    let mut fields: Vec<_> = plain
        .fields
        .iter()
        .filter(|(name, value)| {
            // What every case has, and what every proxy adds.
            let usual = [("host", "a"), ("x-forwarded-for", "127.0.0.1")];
            !ignored.contains(&name.as_str()) && !usual.contains(&(name.as_str(), value.as_str()))
        })
        .map(|(name, value)| format!(" {}", code(format!("{name}: {value}").as_bytes())))
        .collect();
    fields.sort();
    text += &fields.concat();
    if head.of_request() == Framing::Chunks {
        text += " chunked";
    }
    match &received.body {
        None => text += " and a part of a body",
        Some(body) => {
            if !body.content.is_empty() {
                let _ = write!(text, " {}", code(&body.content));
            }
            if !body.trailers.is_empty() {
                let _ = write!(text, " trailers {}", code(body.trailers.as_bytes()));
            }
        }
    }
    text
}

/// The answers that the client got, and how its connection ended.
fn answers(evidence: &Evidence) -> (String, String) {
    let mut methods = evidence
        .received
        .iter()
        .map(|received| received.head.line[0].as_str());
    let mut method = methods.next().unwrap_or("GET");
    let (mut words, mut essence) = (Vec::new(), Vec::new());
    let mut rest = evidence.got.bytes.as_slice();
    while !rest.is_empty() {
        let Some(head) = Head::read(rest) else {
            words.push(code(rest));
            break;
        };
        rest = &rest[head.len..];
        let body = Body::read(head.of_response(method), rest);
        let mut word = head.status().to_string();
        let whole = body.is_some();
        let body = body.unwrap_or_default();
        let is_echo = String::from_utf8_lossy(&body.content).starts_with("answer to");
        if head.status() < 400 && !body.content.is_empty() && !is_echo {
            let _ = write!(word, " {}", code(&body.content));
        }
        if !body.trailers.is_empty() {
            let _ = write!(word, " trailers {}", code(body.trailers.as_bytes()));
        }
        if !whole {
            word += " cut";
        }
        // What belongs to the request behind the case is told by `went_on`.
        if !(is_echo && String::from_utf8_lossy(&body.content).ends_with(super::backend::OWN)) {
            essence.push(if head.status() >= 400 {
                "error".to_owned()
            } else {
                word.to_ascii_lowercase()
            });
            words.push(word);
        }
        if !whole {
            break;
        }
        rest = &rest[body.len..];
        if head.status() >= 200 {
            method = methods.next().unwrap_or("GET");
        }
    }
    if words.is_empty() {
        words.push("no answer".to_owned());
    }
    let end = match evidence.got.ended {
        _ if evidence.went_on => "goes on",
        Ended::Hangs => "hangs",
        Ended::Left => "left",
        Ended::Closed | Ended::Reset => "closed",
    };
    let canary = if evidence.canary.is_err() {
        ", **and another client's answer is wrong**"
    } else {
        ""
    };
    let tail = format!(", {end}{canary}");
    (words.join(", ") + &tail, essence.join(", ") + &tail)
}

fn code(bytes: &[u8]) -> String {
    code_up_to(bytes, SHOWN)
}

fn code_up_to(bytes: &[u8], most: usize) -> String {
    format!("`{}`", short(&shown(bytes).replace('`', "'"), most))
}

/// All cases with what lameduck does, as the corpus says.
pub fn list(cases: &[Case]) -> String {
    let mut text = format!("## All {} cases\n", cases.len());
    let mut theme = "";
    for case in cases {
        if case.theme != theme {
            theme = case.theme;
            let _ = write!(
                text,
                "\n### {theme}\n\n| case | rule | lameduck |\n|---|---|---|\n"
            );
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            case.name,
            case.rule,
            verdict(case).replace('|', "\\|")
        );
    }
    text
}

fn verdict(case: &Case) -> String {
    let backend = match &case.upstream {
        Upstream::Nothing | Upstream::Part(_) => String::new(),
        Upstream::Bytes(bytes) if *bytes == case.sent() => "forwarded as it is; ".to_owned(),
        Upstream::Bytes(bytes) => format!("forwarded as {}; ", code_up_to(bytes, 4 * SHOWN)),
    };
    let client = match &case.downstream {
        Downstream::Own(status) if backend.is_empty() => format!("refused, {status}"),
        Downstream::Own(status) => format!("{status}"),
        Downstream::Then(_, status) => format!("answered; what is behind it is refused, {status}"),
        Downstream::Bytes(bytes) if bytes.is_empty() => "no answer".to_owned(),
        Downstream::Bytes(bytes) if is_echo(bytes) => "answered".to_owned(),
        Downstream::Bytes(bytes) => format!("the client gets {}", code_up_to(bytes, 4 * SHOWN)),
    };
    let end = match case.end {
        End::Kept if case.goes_on => "",
        End::Kept | End::Closed => ", closed",
        End::Cut => ", cut off",
    };
    let upstream = match case.reused {
        Some(false) => "; that upstream connection isn't used again",
        _ => "",
    };
    format!("{backend}{client}{end}{upstream}")
}

fn is_echo(bytes: &[u8]) -> bool {
    let Some(head) = Head::read(bytes) else {
        return false;
    };
    let body = String::from_utf8_lossy(&bytes[head.len..]).into_owned();
    let mut words = body.trim_start_matches("answer to ").splitn(2, ' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    [
        echo(method, target, ""),
        echo(method, target, "Connection: close\r\n"),
    ]
    .iter()
    .any(|e| e.as_bytes() == bytes)
}
