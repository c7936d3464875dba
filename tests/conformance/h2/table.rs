//! docs/conformance-h2.md: themes, counts, and what nginx and HAProxy do otherwise, and why.

use std::fmt::Write as _;

use super::case::{Case, STREAM};
use super::client::{End, Got};
use super::judge;
use crate::comparison::{Comparison, Evidence, Story, by_reason, distinct};
use lameduck_rig::frames::code_name;

/// What nginx and HAProxy do otherwise, by reason.
pub fn differences(comparison: &Comparison) -> String {
    let [nginx, haproxy] = &comparison.peers;
    let head = format!(
        "## Differences\n\nWith {nginx} and {haproxy}. `→` is what the backend got, `←` what the client got. How a \
         message is refused (a status, a reset stream, the connection's end) is no difference here.\n"
    );
    head + &by_reason(&comparison.differences())
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

/// What became of a case.
pub fn story(case: &Case, evidence: &Evidence<Got>) -> Story {
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
        heard: backend.to_ascii_lowercase(),
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
