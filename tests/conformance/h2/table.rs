//! docs/conformance-h2.md: themes, counts, and what nginx and HAProxy do otherwise, and why.

use std::fmt::Write as _;

use super::case::{Case, STREAM};
use super::client::End;
use super::judge;
use super::run::Evidence;
use crate::corpora::{self, Run};
use crate::table::{are_known, distinct, short, titles};
use lameduck_rig::frames::code_name;

/// Where the table is kept.
pub const PAGE: &str = "docs/conformance-h2.md";

/// The most of a cell that is shown.
const SHOWN: usize = 120;

/// What became of a case, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Story {
    backend: String,
    client: String,
    /// As the client's, but with one word for all ways to refuse: a status, a reset stream, the connection's end.
    essence: String,
}

/// What all did, beside each other.
pub struct Table {
    peers: [String; 2],
    rows: Vec<Row>,
    /// Every byte that any backend got, and what the clients did.
    evidence: String,
}

struct Row {
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
        let runs = [nginx, haproxy];
        let mut evidence = String::new();
        let mut rows = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let _ = writeln!(evidence, "== {} ({})", case.name, case.rule);
            for (name, run) in ["lameduck", "nginx", "HAProxy"]
                .iter()
                .zip([Some(ours)].iter().chain(&runs))
            {
                let played = run.map(|run| run.evidence[at].to_string());
                let _ = write!(evidence, " {name}\n{}", played.unwrap_or_default());
            }
            let mine = story(case, &ours.evidence[at]);
            let other = |run: &Option<&Run<Evidence>>| {
                let story = story(case, &run.as_ref()?.evidence[at]);
                // Where no answer is waited for, a stream that was reset and one that is open look alike; which of them it
                // is when it is looked at depends on how things arrive.
                let same = story.backend.eq_ignore_ascii_case(&mine.backend)
                    && (story.essence == mine.essence || story.client == mine.client);
                (!same).then_some(story)
            };
            rows.push(Row {
                name: case.name,
                why: case.differs,
                others: runs.iter().map(other).collect(),
                ours: mine,
            });
        }
        Self {
            peers: titles(
                nginx.map(|run| run.title.as_str()),
                haproxy.map(|run| run.title.as_str()),
            ),
            rows,
            evidence,
        }
    }

    /// Whether all that are there are versions whose differences were looked at.
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
        format!("   {}: {}", row.name, cells(row))
    }

    /// Writes `target/conformance-h2.md` and, with all that was received, `target/conformance-h2.txt`; and the page itself if
    /// that was asked for.
    fn write(&self) {
        let target = lameduck_rig::place::target();
        std::fs::write(target.join("conformance-h2.md"), self.markdown()).unwrap();
        std::fs::write(target.join("conformance-h2.txt"), &self.evidence).unwrap();
        if std::env::var_os("LAMEDUCK_BLESS").is_some_and(|value| value == "1") {
            let page = format!(
                "{}\n{}\n{}",
                include_str!("page.md"),
                list(&super::corpus::all()),
                self.markdown(),
            );
            std::fs::write(PAGE, page).unwrap();
        }
    }
}

impl Table {
    fn markdown(&self) -> String {
        let mut text = format!(
            "## Differences\n\nWith {} and {}. `→` is what the backend got, `←` what the client got. How a message is \
             refused (a status, a reset stream, the connection's end) is no difference here.\n",
            self.peers[0], self.peers[1]
        );
        let rows = self
            .rows
            .iter()
            .filter(|row| row.others.iter().any(Option::is_some));
        let rows: Vec<_> = rows.collect();
        for why in distinct(rows.iter().map(|row| row.why)) {
            let _ = write!(
                text,
                "\n{why}.\n\n| case | lameduck | nginx | HAProxy |\n|---|---|---|---|\n"
            );
            for row in rows.iter().filter(|row| row.why == why) {
                let _ = writeln!(text, "| {} | {} |", row.name, cells(row));
            }
        }
        text
    }
}

/// How many cases there are, by theme.
pub fn list(cases: &[Case]) -> String {
    let mut text = format!(
        "## All {} cases\n\n| theme | cases |\n|---|---|\n",
        cases.len()
    );
    for theme in distinct(cases.iter().map(|case| case.theme)) {
        let count = cases.iter().filter(|case| case.theme == theme).count();
        let _ = writeln!(text, "| {theme} | {count} |");
    }
    text
}

fn cells(row: &Row) -> String {
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

impl Story {
    fn cell(&self) -> String {
        let (backend, client) = (short(&self.backend, SHOWN), short(&self.client, SHOWN));
        format!("→ {backend} ← {client}").replace('|', "\\|")
    }
}

fn story(case: &Case, evidence: &Evidence) -> Story {
    // A part of a request does nothing; how much of one came depends on how things arrive.
    let mut received = evidence.received.clone();
    received.retain(|received| received.body.is_some());
    let backend = match received.len() {
        0 => "nothing".to_owned(),
        1..=3 => without_key(&judge::requests(&received)),
        _ => "many requests".to_owned(),
    };
    let got = &evidence.got;
    let answer = got.answer(case.stream.unwrap_or(STREAM));
    let mut client = match case.stream {
        Some(_) => answer.to_string(),
        None => String::new(),
    };
    let is_refused = match answer.end {
        End::Reset(_) => answer.status == 0 || answer.status >= 400,
        End::Whole => answer.status >= 400,
        End::Open => evidence.ended(),
    };
    let mut essence = if is_refused || (case.stream.is_none() && !evidence.went_on) {
        "refused".to_owned()
    } else {
        match answer.end {
            End::Reset(_) => "cut".to_owned(),
            _ => client.to_ascii_lowercase(),
        }
    };
    let end = if evidence.went_on {
        "goes on".to_owned()
    } else {
        match (got.goaway, got.ended) {
            (Some(code), _) if code != 0 => code_name(code),
            (_, Some(_)) => "closed".to_owned(),
            _ => "**hangs**".to_owned(),
        }
    };
    if client == "no answer" && !evidence.went_on {
        client.clear();
    }
    if !client.is_empty() {
        client += ", ";
    }
    client += &end;
    if essence != "refused" && !evidence.went_on {
        essence += " ended";
    }
    if evidence.canary.is_err() {
        client += ", **and another client's answer is wrong**";
        essence += " wrong";
    }
    Story {
        backend,
        client,
        essence,
    }
}

/// A WebSocket's key is another one each time.
fn without_key(requests: &str) -> String {
    const KEY: &str = " `sec-websocket-key: ";
    match requests.split_once(KEY) {
        Some((before, rest)) => format!(
            "{before}{}",
            rest.split_once('`').map_or("", |(_, rest)| rest)
        ),
        None => requests.to_owned(),
    }
}
