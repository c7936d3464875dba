//! Whether the evidence is what the case says, and whether what the backend got means one thing to everybody.

use super::case::{Case, Outcome, STREAM, Upstream};
use super::client::{End, Got};
use crate::backend::Received;
use crate::comparison::Evidence;
use crate::message::{Head, shown};
use crate::table::request;
use lameduck_rig::frames::{NO_ERROR, code_name};

/// Compares; what is otherwise, in words.
pub fn judge(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    evidence.canary.clone()?;
    for received in &evidence.received {
        unambiguous(received)?;
    }
    upstream(case, evidence)?;
    outcome(case, evidence)?;
    if case.discards && evidence.reused == Some(true) {
        return Err("the upstream connection was used again".to_owned());
    }
    Ok(())
}

fn upstream(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    let got = requests(&evidence.received);
    let fine = match &case.upstream {
        Upstream::Any => true,
        Upstream::Nothing => evidence.received.is_empty(),
        Upstream::Unfinished => evidence
            .received
            .iter()
            .all(|received| received.body.is_none()),
        Upstream::Requests(wanted) => *wanted == got,
    };
    if fine {
        return Ok(());
    }
    Err(format!(
        "the backend should get {:?}; it got {got}",
        case.upstream
    ))
}

/// What the backend got, in words, however it was framed.
pub fn requests(received: &[Received]) -> String {
    let requests = received
        .iter()
        .map(|received| request(received).replace(" chunked", ""));
    requests.collect::<Vec<_>>().join(", then ")
}

fn outcome(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    let got = &evidence.got;
    let answer = got.answer(case.stream.unwrap_or(STREAM));
    if !answer.faults.is_empty() {
        return Err(format!("the client got what isn't HTTP/2: {answer}"));
    }
    let wrong = |what: &str| {
        let code = got.goaway.map(code_name).unwrap_or_default();
        Err(format!(
            "{what}; the stream: {answer}, the connection: {:?} {code}",
            got.ended
        ))
    };
    if let Outcome::Ended(codes) = &case.outcome {
        let is_code = got.goaway.is_none_or(|code| codes.contains(&code));
        return if got.ended.is_some() && is_code && !evidence.went_on {
            Ok(())
        } else {
            wrong("the connection should end by an error")
        };
    }
    if let Outcome::Late(codes) = &case.outcome {
        // Answered, or reset by anybody, or the connection has ended by the right error: all but silence.
        let over =
            evidence.got.ended.is_some() && got.goaway.is_none_or(|code| codes.contains(&code));
        return if over || evidence.went_on {
            Ok(())
        } else {
            wrong("the stream or the connection should end by an error, or go on")
        };
    }
    if case.may_end && got.ended.is_some() {
        return Ok(());
    }
    if !evidence.went_on {
        return wrong("the next request on the connection should get its answer");
    }
    match &case.outcome {
        Outcome::Answer(wanted) if *wanted != answer.to_string() => {
            wrong(&format!("the client should get {wanted}"))
        }
        Outcome::Refused(codes) => match answer.end {
            End::Reset(code) if answer.status == 0 && codes.contains(&code) => Ok(()),
            End::Whole if matches!(answer.status, 400..=499 | 501) => Ok(()),
            _ => wrong("the message should be refused"),
        },
        Outcome::Cut => match answer.end {
            End::Reset(code) if code != NO_ERROR => Ok(()),
            End::Whole if answer.status == 502 => Ok(()),
            _ => wrong("the answer should be seen to be cut"),
        },
        Outcome::Either => match answer.end {
            End::Whole if answer.status < 500 => Ok(()),
            End::Reset(_) => Ok(()),
            _ => wrong("the request should be answered or refused"),
        },
        _ => Ok(()),
    }
}

/// Whether a request as the backend got it can be understood in one way only, by a reader of any kind.
fn unambiguous(received: &Received) -> Result<(), String> {
    let raw = &received.raw;
    let Some(head) = Head::read(raw) else {
        return Err(format!("the backend got no proper head: {}", shown(raw)));
    };
    let bytes = &raw[..head.len];
    let fault = |what: &str| Err(format!("the backend got {what}: {}", shown(bytes)));
    let text = &bytes[..head.len - 4];
    if text
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && text[..at].last() != Some(&b'\r'))
    {
        return fault("a bare LF");
    }
    let mut lines = text.split(|byte| *byte == b'\n');
    let line = lines.next().unwrap_or_default();
    let words: Vec<_> = line
        .strip_suffix(b"\r")
        .unwrap_or(line)
        .split(|byte| *byte == b' ')
        .collect();
    if words.len() != 3 || words[2] != b"HTTP/1.1" || words.iter().any(|word| word.is_empty()) {
        return fault("a request line that isn't one");
    }
    if !words[0].iter().all(|byte| is_token(*byte))
        || words[1].iter().any(|byte| *byte <= b' ' || *byte == 0x7f)
    {
        return fault("a method or a target that isn't one");
    }
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.is_empty() || name.len() == line.len() || !name.iter().all(|byte| is_token(*byte)) {
            return fault("a field's name that isn't one");
        }
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return fault("a control in a value");
        }
    }
    let count = |name: &str| {
        head.fields
            .iter()
            .filter(|(other, _)| other == name)
            .count()
    };
    if count("host") != 1 {
        return fault("not one Host");
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        return fault("more than one framing");
    }
    let trailers = received
        .body
        .as_ref()
        .map_or("", |body| body.trailers.as_str())
        .to_ascii_lowercase();
    let forbidden = [
        "content-length:",
        "transfer-encoding:",
        "host:",
        "authorization:",
        "cookie:",
        "x-forwarded-for:",
        ":",
    ];
    if trailers
        .split(';')
        .any(|line| forbidden.iter().any(|name| line.starts_with(name)))
    {
        return fault(&format!(
            "trailers that mean something elsewhere ({trailers})"
        ));
    }
    let length = head.field("content-length").unwrap_or("0");
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return fault("a length that isn't one");
    }
    Ok(())
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
