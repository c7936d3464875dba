//! Plays the cases against one proxy, several at a time, and keeps the evidence.

use std::cell::{Cell, RefCell};
use std::fmt;

use futures_util::future::join_all;

use super::case::Case;
use super::client::{self, Got};
use crate::backend::{CANARY, Received};
use crate::front::{Lane, Protocol, Target};
use crate::message::shown;
use crate::run::skip;
use crate::table::short;

/// Proxies of a kind, each with its backend: cases that wait don't hold up the others.
const LANES: usize = 6;

/// What came of all cases.
pub struct Run {
    /// Name and version.
    pub title: String,
    /// In the order of the cases.
    pub evidence: Vec<Evidence>,
}

/// What came of one.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What the backend got of the case.
    pub received: Vec<Received>,
    pub got: Got,
    /// Whether the request behind it, on the same connection, got its answer.
    pub went_on: bool,
    /// What the canary got instead of its own answer.
    pub canary: Result<(), String>,
    /// Whether the next request came on the same upstream connection.
    pub reused: Option<bool>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for request in &self.received {
            let raw = short(&shown(&request.raw), 2000);
            writeln!(f, "   backend ({}): {raw}", request.connection)?;
        }
        for (stream, answer) in &self.got.streams {
            let fields = answer
                .fields
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            let fields: Vec<_> = fields.collect();
            writeln!(
                f,
                "   stream {stream}: {answer} {}",
                shown(fields.join("; ").as_bytes())
            )?;
        }
        let code = self.got.goaway.map(super::frame::code_name);
        writeln!(
            f,
            "   connection: {:?} {}",
            self.got.ended,
            code.unwrap_or_default()
        )
    }
}

/// Plays all cases; `None`, aloud, where the proxy isn't installed.
pub async fn play_all(target: Target, cases: &[Case]) -> Option<Run> {
    let Some(title) = target.title() else {
        skip(target.name());
        return None;
    };
    let all: Vec<usize> = (0..cases.len()).collect();
    let evidence = play_some(target, cases, &all).await;
    Some(Run { title, evidence })
}

impl Run {
    /// Plays some cases once more, and keeps what comes of them now.
    pub async fn again(&mut self, target: Target, cases: &[Case], some: &[usize]) {
        let evidence = play_some(target, cases, some).await;
        for (index, evidence) in some.iter().zip(evidence) {
            self.evidence[*index] = evidence;
        }
    }
}

async fn play_some(target: Target, cases: &[Case], some: &[usize]) -> Vec<Evidence> {
    let next = Cell::new(0);
    let evidence = RefCell::new(vec![None; some.len()]);
    join_all((0..LANES.min(some.len())).map(async |_| {
        let mut lane = target.start(Protocol::H2).await;
        loop {
            let turn = next.get();
            let Some(index) = some.get(turn) else { return };
            next.set(turn + 1);
            let found = play(&lane, &cases[*index], *index).await;
            evidence.borrow_mut()[turn] = Some(found);
            if cases[*index].straggles {
                lane = target.start(Protocol::H2).await;
            }
        }
    }))
    .await;
    let evidence = evidence.into_inner().into_iter();
    evidence.map(Option::unwrap).collect()
}

async fn play(lane: &Lane, case: &Case, index: usize) -> Evidence {
    lane.backend.begin(&case.backend);
    let got = client::play(lane.address, &lane.backend, case).await;
    let path = format!("{CANARY}{index}");
    let answer = client::ask(lane.address, &path).await;
    let expected = format!("200 `answer to GET {path}`");
    let canary = if answer.to_string() == expected {
        Ok(())
    } else {
        Err(format!("the canary got {answer}"))
    };
    let all = lane.backend.received();
    let (own, received): (Vec<_>, Vec<_>) = all.into_iter().partition(Received::is_own);
    let last = received.last().map(|request| request.connection);
    let next = own.first().map(|request| request.connection);
    Evidence {
        went_on: got.went_on(),
        reused: last.zip(next).map(|(last, next)| last == next),
        received,
        got,
        canary,
    }
}

impl Evidence {
    /// Whether the proxy has ended the connection, or is about to: it has said that it takes no more.
    pub fn ended(&self) -> bool {
        !self.went_on && (self.got.ended.is_some() || self.got.goaway.is_some_and(|code| code != 0))
    }
}
