//! Plays the cases against one proxy, several at a time, and keeps the evidence.

use std::fmt;

use super::case::Case;
use super::client::{self, Got};
use super::judge;
use super::table;
use crate::backend::CANARY;
use crate::comparison::{Comparison, Evidence, Story};
use crate::corpora::{self, AboutCase};
use crate::front::{Lane, Protocol};
use crate::message::shown;

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (stream, answer) in &self.streams {
            let fields = answer.fields.iter();
            let fields: Vec<_> = fields
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            let fields = shown(fields.join("; ").as_bytes());
            writeln!(f, "   stream {stream}: {answer} {fields}")?;
        }
        let code = self.goaway.map(lameduck_rig::frames::code_name);
        let code = code.unwrap_or_default();
        writeln!(f, "   connection: {:?} {code}", self.ended)
    }
}

impl corpora::Case for Case {
    type Got = Got;
    const PROTOCOL: Protocol = Protocol::H2;
    const REASONS: &str = "h2/corpus/why.rs";
    const PAGE: &str = "conformance-h2";
    const SHOWN: usize = 120;

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
        let answer = client::ask(lane.address, &path).await;
        let canary = match answer.to_string() == format!("200 `answer to GET {path}`") {
            true => Ok(()),
            false => Err(format!("the canary got {answer}")),
        };
        Evidence::gather(lane, got, canary, |_, got| got.went_on())
    }

    fn judge(&self, evidence: &Evidence<Got>) -> Result<(), String> {
        judge::judge(self, evidence)
    }

    fn story(&self, evidence: &Evidence<Got>) -> Story {
        table::story(self, evidence)
    }

    /// Where no answer is waited for, a stream that was reset and one that is open look alike; which of them it is when it
    /// is looked at depends on how things arrive.
    fn is_the_same(ours: &Story, other: &Story) -> bool {
        other.heard == ours.heard && (other.essence == ours.essence || other.client == ours.client)
    }

    fn straggles(&self) -> bool {
        self.straggles
    }

    fn differences(comparison: &Comparison) -> String {
        table::differences(comparison)
    }

    fn page(differences: &str) -> String {
        let list = table::list(&super::corpus::all());
        format!("{}\n{list}\n{differences}", include_str!("page.md"))
    }
}

impl Evidence<Got> {
    /// Whether the proxy has ended the connection, or is about to: it has said that it takes no more.
    pub fn ended(&self) -> bool {
        !self.went_on && (self.got.ended.is_some() || self.got.goaway.is_some_and(|code| code != 0))
    }
}
