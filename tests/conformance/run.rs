//! Plays the cases against one proxy, several at a time, and keeps the evidence.

use std::fmt;

use super::backend::{CANARY, OWN, Received};
use super::case::Case;
use super::client::{self, Ended, Got};
use super::corpora;
use super::front::{Lane, Protocol};
use super::judge;
use super::message::{Body, Head, shown};
use super::table::Table;

/// What came of one.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What the backend got of the case.
    pub received: Vec<Received>,
    pub got: Got,
    /// Whether the request behind it, on the same connection, reached the backend.
    pub went_on: bool,
    /// What the canary got instead of its own answer.
    pub canary: Result<(), String>,
    /// Whether the next request came on the same upstream connection.
    pub reused: Option<bool>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for request in &self.received {
            writeln!(
                f,
                "   backend ({}): {}",
                request.connection,
                shown(&request.raw)
            )?;
        }
        writeln!(
            f,
            "   client: {} ({:?})",
            shown(&self.got.bytes),
            self.got.ended
        )
    }
}

impl corpora::Case for Case {
    type Evidence = Evidence;
    type Table = Table;
    const PROTOCOL: Protocol = Protocol::H1;
    const REASONS: &str = "corpus/why/";

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
}

async fn play(lane: &Lane, case: &Case, index: usize) -> Evidence {
    lane.backend.begin(&case.backend);
    let got = client::play(lane.address, &lane.backend, case).await;
    let path = format!("{CANARY}{index}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client::ask(lane.address, request.as_bytes()).await;
    let canary = own_answer(&answer, &path);
    let all = lane.backend.received();
    let (own, received): (Vec<_>, Vec<_>) = all.into_iter().partition(Received::is_own);
    let last = received.last().map(|request| request.connection);
    let next = own.first().map(|request| request.connection);
    Evidence {
        went_on: own.iter().any(|request| request.head.line[1] == OWN),
        reused: last.zip(next).map(|(last, next)| last == next),
        received,
        got,
        canary,
    }
}

/// Whether this is one answer, whole, to the request for this path.
fn own_answer(got: &Got, path: &str) -> Result<(), String> {
    let expected = format!("answer to GET {path}");
    let whole = Head::read(&got.bytes).is_some_and(|head| {
        let rest = &got.bytes[head.len..];
        let body = Body::read(head.of_response("GET"), rest);
        head.status() == 200
            && body
                .is_some_and(|body| body.content == expected.as_bytes() && body.len == rest.len())
    });
    if whole && got.ended == Ended::Closed {
        Ok(())
    } else {
        Err(format!(
            "the canary got {} ({:?})",
            shown(&got.bytes),
            got.ended
        ))
    }
}
