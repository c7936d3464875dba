//! docs/conformance.md: what nginx and HAProxy do otherwise, and why; and the list of all cases.

use std::fmt::Write as _;

use super::backend::Received;
use super::case::{Case, Downstream, End, Upstream, echo};
use super::client::{Ended, Got};
use super::comparison::{Comparison, Evidence, Story, by_reason, distinct, short};
use super::judge::without_additions;
use super::message::{Body, Framing, Head, shown};

/// The most of a body or a field that is shown.
pub const SHOWN: usize = 48;

/// What nginx and HAProxy do otherwise, by theme and reason.
pub fn differences(comparison: &Comparison) -> String {
    let [nginx, haproxy] = &comparison.peers;
    let mut text = format!(
        "## Differences\n\nWith {nginx} and {haproxy}. `→` is what the backend got, `←` what the client got.\n"
    );
    let rows = comparison.differences();
    for theme in distinct(rows.iter().map(|row| row.theme)) {
        let _ = writeln!(text, "\n### {theme}: who differs");
        let here = rows.iter().copied().filter(|row| row.theme == theme);
        text += &by_reason(&here.collect::<Vec<_>>());
    }
    text
}

/// What became of a case.
pub fn story(evidence: &Evidence<Got>) -> Story {
    let requests: Vec<_> = evidence.received.iter().map(request).collect();
    let backend = if requests.is_empty() {
        "nothing".to_owned()
    } else {
        requests.join(", then ")
    };
    let (client, essence) = answers(evidence);
    // How it was framed on the way, and how a trailer's name was written, changes nothing of what was said.
    let heard = backend.replace(" chunked", "").to_ascii_lowercase();
    Story {
        backend,
        heard,
        client,
        essence,
    }
}

/// A request as the backend got it, in words: without what every case has and what every proxy adds.
pub fn request(received: &Received) -> String {
    let head = &received.head;
    if head.len == 0 {
        return format!("a part of a head {}", code(&received.raw));
    }
    let mut text = format!("{} {}", head.line[0], head.line[1]);
    let bytes = without_additions(received);
    let plain = Head::read(&bytes).unwrap_or_default();
    let ignored = ["content-length", "transfer-encoding", "connection", "via"];
    let mut fields: Vec<_> = plain
        .fields
        .iter()
        .filter(|(name, value)| {
            // What every case has, and what every proxy adds.
            let usual = [("host", "a"), ("x-forwarded-for", "127.0.0.1")];
            !ignored.contains(&name.as_str()) && !usual.contains(&(name.as_str(), value.as_str()))
        })
        .map(|(name, value)| format!(" {}", code(format!("{name}: {value}").as_bytes())))
        .collect();
    fields.sort();
    text += &fields.concat();
    if head.of_request() == Framing::Chunks {
        text += " chunked";
    }
    match &received.body {
        None => text += " and a part of a body",
        Some(body) => {
            if !body.content.is_empty() {
                let _ = write!(text, " {}", code(&body.content));
            }
            if !body.trailers.is_empty() {
                let _ = write!(text, " trailers {}", code(body.trailers.as_bytes()));
            }
        }
    }
    text
}

/// The answers that the client got, and how its connection ended.
fn answers(evidence: &Evidence<Got>) -> (String, String) {
    let mut methods = evidence
        .received
        .iter()
        .map(|received| received.head.line[0].as_str());
    let mut method = methods.next().unwrap_or("GET");
    let (mut words, mut essence) = (Vec::new(), Vec::new());
    let mut rest = evidence.got.bytes.as_slice();
    while !rest.is_empty() {
        let Some(head) = Head::read(rest) else {
            words.push(code(rest));
            break;
        };
        rest = &rest[head.len..];
        let body = Body::read(head.of_response(method), rest);
        let mut word = head.status().to_string();
        let whole = body.is_some();
        let body = body.unwrap_or_default();
        let is_echo = String::from_utf8_lossy(&body.content).starts_with("answer to");
        if head.status() < 400 && !body.content.is_empty() && !is_echo {
            let _ = write!(word, " {}", code(&body.content));
        }
        if !body.trailers.is_empty() {
            let _ = write!(word, " trailers {}", code(body.trailers.as_bytes()));
        }
        if !whole {
            word += " cut";
        }
        // What belongs to the request behind the case is told by `went_on`.
        if !(is_echo && String::from_utf8_lossy(&body.content).ends_with(super::backend::OWN)) {
            essence.push(if head.status() >= 400 {
                "error".to_owned()
            } else {
                word.to_ascii_lowercase()
            });
            words.push(word);
        }
        if !whole {
            break;
        }
        rest = &rest[body.len..];
        if head.status() >= 200 {
            method = methods.next().unwrap_or("GET");
        }
    }
    if words.is_empty() {
        words.push("no answer".to_owned());
    }
    let end = match evidence.got.ended {
        _ if evidence.went_on => "goes on",
        Ended::Hangs => "hangs",
        Ended::Left => "left",
        Ended::Closed | Ended::Reset => "closed",
    };
    let canary = if evidence.canary.is_err() {
        ", **and another client's answer is wrong**"
    } else {
        ""
    };
    let tail = format!(", {end}{canary}");
    (words.join(", ") + &tail, essence.join(", ") + &tail)
}

fn code(bytes: &[u8]) -> String {
    code_up_to(bytes, SHOWN)
}

fn code_up_to(bytes: &[u8], most: usize) -> String {
    format!("`{}`", short(&shown(bytes).replace('`', "'"), most))
}

/// All cases with what lameduck does, as the corpus says.
pub fn list(cases: &[Case]) -> String {
    let mut text = format!("## All {} cases\n", cases.len());
    let mut theme = "";
    for case in cases {
        if case.theme != theme {
            theme = case.theme;
            let _ = write!(
                text,
                "\n### {theme}\n\n| case | rule | lameduck |\n|---|---|---|\n"
            );
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            case.name,
            case.rule,
            verdict(case).replace('|', "\\|")
        );
    }
    text
}

fn verdict(case: &Case) -> String {
    let backend = match &case.upstream {
        Upstream::Nothing | Upstream::Part(_) => String::new(),
        Upstream::Bytes(bytes) if *bytes == case.sent() => "forwarded as it is; ".to_owned(),
        Upstream::Bytes(bytes) => format!("forwarded as {}; ", code_up_to(bytes, 4 * SHOWN)),
    };
    let client = match &case.downstream {
        Downstream::Own(status) if backend.is_empty() => format!("refused, {status}"),
        Downstream::Own(status) => format!("{status}"),
        Downstream::Then(_, status) => format!("answered; what is behind it is refused, {status}"),
        Downstream::Bytes(bytes) if bytes.is_empty() => "no answer".to_owned(),
        Downstream::Bytes(bytes) if is_echo(bytes) => "answered".to_owned(),
        Downstream::Bytes(bytes) => format!("the client gets {}", code_up_to(bytes, 4 * SHOWN)),
    };
    let end = match case.end {
        End::Kept if case.goes_on => "",
        End::Kept | End::Closed => ", closed",
        End::Cut => ", cut off",
    };
    let upstream = match case.reused {
        Some(false) => "; that upstream connection isn't used again",
        _ => "",
    };
    format!("{backend}{client}{end}{upstream}")
}

fn is_echo(bytes: &[u8]) -> bool {
    let Some(head) = Head::read(bytes) else {
        return false;
    };
    let body = String::from_utf8_lossy(&bytes[head.len..]).into_owned();
    let mut words = body.trim_start_matches("answer to ").splitn(2, ' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    [
        echo(method, target, ""),
        echo(method, target, "Connection: close\r\n"),
    ]
    .iter()
    .any(|e| e.as_bytes() == bytes)
}
