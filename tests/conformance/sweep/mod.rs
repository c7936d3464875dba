//! Every byte that a target may have, in path and query, from either protocol to either, beside nginx and HAProxy.
//!
//! lameduck answers each target over HTTP/2, on either side, as it does from HTTP/1 to HTTP/1; no connection dies of one,
//! and each answer has its line in the access log. What nginx and HAProxy do otherwise is listed in
//! `target/conformance-targets.md` ([`table`]); what both of them serve, lameduck must not refuse.

mod backend;
mod client;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures_util::future::join_all;

use super::front::{Protocol, Target, Way};
use backend::EchoBackend;
use client::{TargetAnswer, TargetAsker};
use lameduck_rig::setting::skip;
use table::SweepTable;

/// Whose answers are compared.
const TARGETS: [Target; 3] = [Target::Lameduck, Target::Nginx, Target::HaProxy];

/// The first is what the others are measured by.
const WAYS: [Way; 4] = [
    way(Protocol::H1, Protocol::H1),
    way(Protocol::H1, Protocol::H2),
    way(Protocol::H2, Protocol::H1),
    way(Protocol::H2, Protocol::H2),
];

const fn way(clients: Protocol, backends: Protocol) -> Way {
    Way { clients, backends }
}

/// How a byte is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spelling {
    /// As it is.
    Bare,
    /// As the character of that number, in UTF-8.
    Character,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Path,
    Query,
}

/// A target with one byte of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TargetQuestion {
    spelling: Spelling,
    place: Place,
    byte: u8,
}

impl TargetQuestion {
    /// All of them: printable ASCII, and what is above it.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for spelling in [Spelling::Bare, Spelling::Character] {
            for place in [Place::Path, Place::Query] {
                let bytes = (0x20..=0x7eu8).chain(0x80..=0xff);
                // In ASCII both are the same.
                let bytes = bytes.filter(|byte| spelling == Spelling::Bare || !byte.is_ascii());
                all.extend(bytes.map(|byte| Self {
                    spelling,
                    place,
                    byte,
                }));
            }
        }
        all
    }

    fn target(self) -> Vec<u8> {
        let middle = match self.spelling {
            Spelling::Bare => vec![self.byte],
            Spelling::Character => char::from(self.byte).to_string().into_bytes(),
        };
        let before: &[u8] = match self.place {
            Place::Path => b"/a",
            Place::Query => b"/?q=a",
        };
        [before, &middle, b"b"].concat()
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SweepOutcome {
    answer: TargetAnswer,
    /// The targets that the backend was asked for.
    asked: Vec<Vec<u8>>,
}

impl SweepOutcome {
    fn is_served(&self) -> bool {
        self.answer == TargetAnswer::Status(200)
    }
}

/// What came of all questions, one way through one proxy.
struct SweepRun {
    outcomes: Vec<SweepOutcome>,
    /// What must never happen.
    faults: Vec<String>,
}

async fn run(target: Target, way: Way, questions: &[TargetQuestion]) -> SweepRun {
    let backend = EchoBackend::start(way.backends).await;
    let front = target.start_between(way, backend.address()).await;
    let mut asker = TargetAsker::new(front.address, way.clients);
    let mut outcomes = Vec::new();
    for question in questions {
        backend.forget();
        let answer = asker.ask(&question.target()).await;
        let asked = backend.asked();
        outcomes.push(SweepOutcome { answer, asked });
    }
    let mut faults = std::mem::take(&mut asker.faults);
    drop(asker);
    if let Some(rig) = front.lameduck() {
        let mut answered = BTreeMap::new();
        for outcome in &outcomes {
            *answered.entry(outcome.answer.to_string()).or_insert(0) += 1;
        }
        let mut logged = BTreeMap::new();
        for line in rig.access_log(outcomes.len()).await {
            *logged.entry(line["status"].to_string()).or_insert(0) += 1;
        }
        if answered != logged {
            faults.push(format!("answered {answered:?}, logged {logged:?}"));
        }
    }
    if way.backends == Protocol::H2 && backend.connections() != 1 {
        let count = backend.connections();
        faults.push(format!("the backend's session died: there were {count}"));
    }
    SweepRun { outcomes, faults }
}

/// All questions through all that are there: by the place of the way, then of the target.
async fn run_all(questions: &[TargetQuestion]) -> Vec<[Option<SweepRun>; 3]> {
    let there = TARGETS.map(|target| {
        let is_there = target.title().is_some();
        if !is_there {
            skip("conformance", target.name());
        }
        is_there
    });
    join_all(WAYS.map(async |way| {
        let runs = join_all((0..3).map(async |at| {
            let can_go = there[at] && TARGETS[at].can_go(way);
            match can_go {
                true => Some(run(TARGETS[at], way, questions).await),
                false => None,
            }
        }));
        runs.await.try_into().unwrap_or_else(|_| unreachable!())
    }))
    .await
}

#[lameduck_rig::test]
async fn every_byte_of_a_target_is_answered_alike_by_each_protocol_to_each() {
    let questions = TargetQuestion::all();
    let runs = tokio::task::LocalSet::new()
        .run_until(run_all(&questions))
        .await;
    let table = SweepTable::new(&questions, &runs);
    table.write();
    let mut wrong = String::new();
    let plain = runs[0][0].as_ref().unwrap();
    for (way, runs) in WAYS.iter().zip(&runs) {
        let ours = runs[0].as_ref().unwrap();
        for fault in &ours.faults {
            let _ = writeln!(wrong, "{way}: {fault}");
        }
        for (at, question) in questions.iter().enumerate() {
            let (target, outcome) = (question.target(), &ours.outcomes[at]);
            let shown = target.escape_ascii();
            if outcome != &plain.outcomes[at] {
                let usual = &plain.outcomes[at];
                let _ = writeln!(wrong, "{way}: {shown}: {outcome:?}, not {usual:?}");
            }
            if outcome.is_served() != (outcome.asked == [target.clone()]) {
                let _ = writeln!(
                    wrong,
                    "{way}: {shown} is not what the backend got: {outcome:?}"
                );
            }
            let others = runs[1].as_ref().zip(runs[2].as_ref());
            if !outcome.is_served()
                && others.is_some_and(|(nginx, haproxy)| {
                    nginx.outcomes[at].is_served() && haproxy.outcomes[at].is_served()
                })
            {
                let _ = writeln!(wrong, "{way}: both others serve {shown}: {outcome:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
