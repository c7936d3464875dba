//! Plays the cases against one proxy, several at a time, and keeps the evidence.

use std::fmt;

use super::case::Case;
use super::client::{self, Got};
use super::judge;
use super::table::Table;
use crate::backend::{CANARY, Received};
use crate::corpora;
use crate::front::{Lane, Protocol};
use crate::message::shown;
use crate::table::short;

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
        let code = self.got.goaway.map(lameduck_rig::frames::code_name);
        writeln!(
            f,
            "   connection: {:?} {}",
            self.got.ended,
            code.unwrap_or_default()
        )
    }
}

impl corpora::Case for Case {
    type Evidence = Evidence;
    type Table = Table;
    const PROTOCOL: Protocol = Protocol::H2;
    const REASONS: &str = "h2/corpus/why.rs";

    fn name(&self) -> &'static str {
        self.name
    }

    fn rule(&self) -> &'static str {
        self.rule
    }

    async fn play(&self, lane: &Lane, index: usize) -> Evidence {
        play(lane, self, index).await
    }

    fn judge(&self, evidence: &Evidence) -> Result<(), String> {
        judge::judge(self, evidence)
    }

    fn straggles(&self) -> bool {
        self.straggles
    }
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
