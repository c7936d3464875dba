//! What lameduck, nginx and HAProxy did with each case, beside each other: for the page, and for what nobody explains.

use std::fmt::{self, Write as _};

use super::backend::Received;
use super::corpora::{Case, Run};
use super::front::Lane;
use super::message::shown;

/// Said of a peer that isn't installed.
const ABSENT: &str = "(not there)";

/// The most of a request that is printed.
const PRINTED: usize = 2000;

/// What came of a case; `G` is what the client saw.
#[derive(Debug, Clone)]
pub struct Evidence<G> {
    /// What the backend got of the case.
    pub received: Vec<Received>,
    pub got: G,
    /// Whether the request behind it, on the same connection, reached the backend.
    pub went_on: bool,
    /// What the canary got instead of its own answer.
    pub canary: Result<(), String>,
    /// Whether the next request came on the same upstream connection.
    pub reused: Option<bool>,
}

impl<G> Evidence<G> {
    /// Of a case that has just been played on this lane. `went_on` judges by the requests behind the case.
    pub fn gather(
        lane: &Lane,
        got: G,
        canary: Result<(), String>,
        went_on: impl FnOnce(&[Received], &G) -> bool,
    ) -> Self {
        let all = lane.backend.received();
        let (own, received): (Vec<_>, Vec<_>) = all.into_iter().partition(Received::is_own);
        let last = received.last().map(|request| request.connection);
        let next = own.first().map(|request| request.connection);
        Self {
            went_on: went_on(&own, &got),
            reused: last.zip(next).map(|(last, next)| last == next),
            received,
            got,
            canary,
        }
    }
}

impl<G: fmt::Display> fmt::Display for Evidence<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for request in &self.received {
            let raw = short(&shown(&request.raw), PRINTED);
            writeln!(f, "   backend ({}): {raw}", request.connection)?;
        }
        self.got.fmt(f)
    }
}

/// What became of a case, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    pub backend: String,
    pub client: String,
    /// As the backend's, whatever the framing and the case of names.
    pub heard: String,
    /// As the client's, but with one word for all ways to refuse: which of them it is makes no difference.
    pub essence: String,
}

impl Story {
    fn cell(&self, most: usize) -> String {
        let (backend, client) = (short(&self.backend, most), short(&self.client, most));
        format!("→ {backend} ← {client}").replace('|', "\\|")
    }
}

/// One case, with what all did.
pub struct Row {
    pub theme: &'static str,
    name: &'static str,
    pub why: &'static str,
    ours: Story,
    /// `None`: it does as lameduck does, or isn't there.
    others: Vec<Option<Story>>,
    /// The most of a cell that is shown.
    most: usize,
}

impl Row {
    fn differs(&self) -> bool {
        self.others.iter().any(Option::is_some)
    }
}

impl fmt::Display for Row {
    /// As a row of the page's tables, without the bars at its ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} | {}", self.name, self.ours.cell(self.most))?;
        for other in &self.others {
            let cell = other.as_ref().map(|other| other.cell(self.most));
            write!(f, " | {}", cell.as_deref().unwrap_or("the same"))?;
        }
        Ok(())
    }
}

/// What all did with all cases.
pub struct Comparison {
    /// Names and versions of nginx and HAProxy.
    pub peers: [String; 2],
    pub rows: Vec<Row>,
    /// All that anybody received.
    pub evidence: String,
}

impl Comparison {
    pub fn new<C: Case>(
        cases: &[C],
        ours: &Run<C>,
        nginx: Option<&Run<C>>,
        haproxy: Option<&Run<C>>,
    ) -> Self {
        let others = [("nginx", nginx), ("HAProxy", haproxy)];
        let mut evidence = String::new();
        let mut rows = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            let about = case.about();
            let _ = writeln!(evidence, "== {} ({})", about.name, about.rule);
            for (name, run) in [("lameduck", Some(ours))].iter().chain(&others) {
                let played = run.map(|run| run.evidence[at].to_string());
                let _ = write!(evidence, " {name}\n{}", played.unwrap_or_default());
            }
            let mine = case.story(&ours.evidence[at]);
            let other = |(_, run): &(&str, Option<&Run<C>>)| {
                let story = case.story(&run.as_ref()?.evidence[at]);
                (!C::is_the_same(&mine, &story)).then_some(story)
            };
            rows.push(Row {
                theme: about.theme,
                name: about.name,
                why: about.differs,
                others: others.iter().map(other).collect(),
                ours: mine,
                most: C::SHOWN,
            });
        }
        Self {
            peers: others.map(|(name, run)| match run {
                Some(run) => run.title.clone(),
                None => format!("{name} {ABSENT}"),
            }),
            rows,
            evidence,
        }
    }

    /// Whether all that are there are versions whose differences were looked at. Others may differ elsewhere.
    pub fn has_known_peers(&self) -> bool {
        const KNOWN: [&str; 4] = ["nginx 1.22.", "nginx 1.31.", "haproxy 2.6.", "haproxy 2.8."];
        let is_known = |peer: &String| {
            peer.ends_with(ABSENT) || KNOWN.iter().any(|known| peer.starts_with(known))
        };
        self.peers.iter().all(is_known)
    }

    /// The cases in which somebody differs and nobody says why: their places.
    pub fn unexplained(&self) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        let silent = rows.filter(|(_, row)| row.why.is_empty() && row.differs());
        silent.map(|(at, _)| at).collect()
    }

    /// The cases in which somebody differs.
    pub fn differences(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.differs()).collect()
    }
}

/// Differences, in one table for each reason.
pub fn by_reason(rows: &[&Row]) -> String {
    let mut text = String::new();
    for why in distinct(rows.iter().map(|row| row.why)) {
        let _ = write!(
            text,
            "\n{why}.\n\n| case | lameduck | nginx | HAProxy |\n|---|---|---|---|\n"
        );
        for row in rows.iter().filter(|row| row.why == why) {
            let _ = writeln!(text, "| {row} |");
        }
    }
    text
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
