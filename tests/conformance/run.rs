//! Plays the cases against one proxy, several at a time, and keeps the evidence.

use std::fmt;

use super::backend::{CANARY, OWN};
use super::case::Case;
use super::client::{self, Ended, Got};
use super::comparison::{Comparison, Evidence, Story};
use super::corpora::{self, AboutCase};
use super::front::{Lane, Protocol};
use super::judge;
use super::message::{Body, Head, shown};
use super::table;

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   client: {} ({:?})", shown(&self.bytes), self.ended)
    }
}

impl corpora::Case for Case {
    type Got = Got;
    const PROTOCOL: Protocol = Protocol::H1;
    const REASONS: &str = "corpus/why/";
    const PAGE: &str = "conformance";
    const SHOWN: usize = 4 * table::SHOWN;

    fn about(&self) -> AboutCase {
        AboutCase {
            theme: self.theme,
            name: self.name,
            rule: self.rule,
            differs: self.differs,
        }
    }

    async fn play(&self, lane: &Lane, index: usize) -> Evidence<Got> {
        lane.backend.begin(&self.backend);
        let got = client::play(lane.address, &lane.backend, self).await;
        let path = format!("{CANARY}{index}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = client::ask(lane.address, request.as_bytes()).await;
        Evidence::gather(lane, got, own_answer(&answer, &path), |own, _| {
            own.iter().any(|request| request.head.line[1] == OWN)
        })
    }

    fn judge(&self, evidence: &Evidence<Got>) -> Result<(), String> {
        judge::judge(self, evidence)
    }

    fn story(&self, evidence: &Evidence<Got>) -> Story {
        table::story(evidence)
    }

    fn is_the_same(ours: &Story, other: &Story) -> bool {
        other.heard == ours.heard && other.essence == ours.essence
    }

    fn differences(comparison: &Comparison) -> String {
        table::differences(comparison)
    }

    fn page(differences: &str) -> String {
        let list = table::list(&super::corpus::all());
        format!("{}\n{differences}\n{list}", include_str!("page.md"))
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
