//! `target/conformance-targets.md`: which bytes nginx and HAProxy treat otherwise than lameduck, and how.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{Place, Spelling, SweepOutcome, SweepRun, TARGETS, TargetQuestion, WAYS};
use crate::front::{Protocol, Way};

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |protocol| match protocol {
            Protocol::H1 => "HTTP/1",
            Protocol::H2 => "HTTP/2",
        };
        write!(f, "{} → {}", name(self.clients), name(self.backends))
    }
}

/// All that differs.
pub struct SweepTable {
    titles: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    bytes: String,
    ways: String,
    /// What each proxy does.
    cells: [String; 3],
}

impl SweepTable {
    pub fn new(questions: &[TargetQuestion], runs: &[[Option<SweepRun>; 3]]) -> Self {
        // What each does → with which question → on which ways.
        let mut stories: BTreeMap<[String; 3], BTreeMap<TargetQuestion, Vec<usize>>> =
            BTreeMap::new();
        for (way, runs) in runs.iter().enumerate() {
            for (at, question) in questions.iter().enumerate() {
                let cell = |run: &Option<SweepRun>| match run {
                    Some(run) => cell(*question, &run.outcomes[at]),
                    None => "not there".to_owned(),
                };
                let cells = [cell(&runs[0]), cell(&runs[1]), cell(&runs[2])];
                if (1..3).any(|at| runs[at].is_some() && cells[at] != cells[0]) {
                    let ways = stories.entry(cells).or_default();
                    ways.entry(*question).or_default().push(way);
                }
            }
        }
        let mut rows = Vec::new();
        for (cells, questions) in stories {
            let mut by_ways: BTreeMap<Vec<usize>, Vec<TargetQuestion>> = BTreeMap::new();
            for (question, ways) in questions {
                by_ways.entry(ways).or_default().push(question);
            }
            rows.extend(by_ways.into_iter().map(|(ways, questions)| Row {
                bytes: bytes(&questions),
                ways: match ways.len() {
                    4 => "all".to_owned(),
                    _ => {
                        let ways = ways.iter().map(|way| WAYS[*way].to_string());
                        ways.collect::<Vec<_>>().join("; ")
                    }
                },
                cells: cells.clone(),
            }));
        }
        let titles = TARGETS.iter().map(|target| {
            let absent = || format!("{} (not installed)", target.name());
            target.title().unwrap_or_else(absent)
        });
        Self {
            titles: titles.collect(),
            rows,
        }
    }

    /// Writes `target/conformance-targets.md`.
    pub fn write(&self) {
        let mut text = format!(
            "# Targets that nginx or HAProxy treats otherwise\n\nOf `/a?b` and `/?q=a?b` with each byte in the place of \
             the question mark. As sent: the backend got the target byte by byte.\n\n| byte | way | {} |\n|---|---|---|---|---|\n",
            self.titles.join(" | ")
        );
        for row in &self.rows {
            let cells = row.cells.join(" | ");
            let _ = writeln!(text, "| {} | {} | {cells} |", row.bytes, row.ways);
        }
        let target = lameduck_rig::place::target();
        std::fs::write(target.join("conformance-targets.md"), text).unwrap();
    }
}

/// What became of a question, without naming its byte.
fn cell(question: TargetQuestion, outcome: &SweepOutcome) -> String {
    let mut text = outcome.answer.to_string();
    let sent = question.target();
    for asked in &outcome.asked {
        let encoded = |byte: &u8| match byte.is_ascii() && *byte == question.byte || *byte >= 0x80 {
            true => format!("%{byte:02X}").into_bytes(),
            false => vec![*byte],
        };
        let encoded: Vec<u8> = sent.iter().flat_map(encoded).collect();
        let place = sent.iter().position(|byte| *byte == question.byte);
        text += match asked {
            _ if *asked == sent => ", as sent",
            _ if asked.eq_ignore_ascii_case(&encoded) => ", percent-encoded",
            _ if place.is_some_and(|place| *asked == sent[..place]) => ", cut off before it",
            _ => ", changed",
        };
    }
    text
}

/// The bytes, ranges put together, by spelling and place.
fn bytes(questions: &[TargetQuestion]) -> String {
    let mut parts = Vec::new();
    for spelling in [Spelling::Bare, Spelling::Character] {
        let of = |place| {
            let of = questions
                .iter()
                .filter(move |question| question.spelling == spelling && question.place == place);
            of.map(|question| question.byte).collect::<Vec<_>>()
        };
        let (path, query) = (of(Place::Path), of(Place::Query));
        let mut told = |bytes: &[u8], place: &str| {
            if !bytes.is_empty() {
                let kind = match spelling {
                    Spelling::Bare => "",
                    Spelling::Character => " in UTF-8",
                };
                parts.push(format!("{}{kind} in {place}", ranges(bytes, spelling)));
            }
        };
        if path == query {
            told(&path, "path and query");
        } else {
            told(&path, "a path");
            told(&query, "a query");
        }
    }
    parts.join("; ")
}

fn ranges(bytes: &[u8], spelling: Spelling) -> String {
    let name = |byte: u8| match byte {
        _ if spelling == Spelling::Character => format!("U+{byte:04X}"),
        b'|' => "`\\|`".to_owned(),
        b'`' => "a backtick".to_owned(),
        b' ' => "a blank".to_owned(),
        0x21..=0x7e => format!("`{}`", char::from(byte)),
        _ => format!("0x{byte:02x}"),
    };
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    for byte in bytes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *byte => *last = *byte,
            _ => ranges.push((*byte, *byte)),
        }
    }
    let ranges = ranges.into_iter().map(|(first, last)| match last - first {
        0 => name(first),
        1 => format!("{} {}", name(first), name(last)),
        _ => format!("{} to {}", name(first), name(last)),
    });
    ranges.collect::<Vec<_>>().join(" ")
}
