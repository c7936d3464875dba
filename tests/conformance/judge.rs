//! Whether the evidence is what the case says.

use super::backend::Received;
use super::case::{Case, Downstream, End, Upstream, echo};
use super::client::{Ended, Got};
use super::comparison::Evidence;
use super::message::{Body, Head, shown};

/// Compares; what is otherwise, in words.
pub fn judge(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    evidence.canary.clone()?;
    upstream(case, evidence)?;
    downstream(case, evidence)?;
    match (case.reused, evidence.reused) {
        (Some(wanted), Some(reused)) if wanted != reused => {
            Err(format!("the upstream connection was used again: {reused}"))
        }
        (Some(true), None) => Err("there was no upstream connection to use again".to_owned()),
        _ => Ok(()),
    }
}

fn upstream(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    let received: Vec<u8> = evidence
        .received
        .iter()
        .flat_map(without_additions)
        .collect();
    let wanted: &[u8] = match &case.upstream {
        Upstream::Nothing => b"",
        Upstream::Bytes(bytes) => bytes,
        Upstream::Part(bytes) if bytes.starts_with(&received) => return Ok(()),
        Upstream::Part(bytes) => bytes,
    };
    if received == wanted {
        return Ok(());
    }
    Err(format!(
        "the backend should get\n   {}\nit got\n   {}",
        shown(wanted),
        shown(&received)
    ))
}

fn downstream(case: &Case, evidence: &Evidence<Got>) -> Result<(), String> {
    let (bytes, ended) = (&evidence.got.bytes, evidence.got.ended);
    let after = echo("GET", super::backend::OWN, "Connection: close\r\n");
    let next: &[u8] = if case.end == End::Kept && case.goes_on {
        after.as_bytes()
    } else {
        b""
    };
    let ends = match case.end {
        End::Cut => ended == Ended::Reset,
        _ => matches!(ended, Ended::Closed | Ended::Left),
    };
    if !ends {
        return Err(format!(
            "the client's connection should be {:?}; it is {ended:?}",
            case.end
        ));
    }
    let Some(own) = bytes.strip_suffix(next) else {
        return Err("the next request on the connection didn't get its answer".to_owned());
    };
    match &case.downstream {
        Downstream::Own(status) => own_answer(own, *status, case.end),
        // What a reset overtakes is lost.
        Downstream::Bytes(wanted) if case.end == End::Cut && wanted.starts_with(own) => Ok(()),
        Downstream::Bytes(wanted) if wanted == own => Ok(()),
        Downstream::Then(first, status) => match own.strip_prefix(first.as_slice()) {
            Some(rest) => own_answer(rest, *status, case.end),
            None => Err(format!("the client should first get {}", shown(first))),
        },
        Downstream::Bytes(wanted) if case.half_closes_last() && *wanted == without_close(own) => {
            Ok(())
        }
        Downstream::Bytes(wanted) => Err(format!(
            "the client should get\n   {}\nit got\n   {}",
            shown(wanted),
            shown(own)
        )),
    }
}

/// Whether `Connection: close` is said to a client that has ended its direction depends on when that is seen.
fn without_close(bytes: &[u8]) -> Vec<u8> {
    const LINE: &[u8] = b"Connection: close\r\n";
    let at = bytes.windows(LINE.len()).position(|part| part == LINE);
    let (before, rest) = bytes.split_at(at.unwrap_or(bytes.len()));
    [before, rest.strip_prefix(LINE).unwrap_or(rest)].concat()
}

/// One whole answer with this status.
fn own_answer(bytes: &[u8], status: u16, end: End) -> Result<(), String> {
    let head = Head::read(bytes)
        .ok_or_else(|| format!("the client got no answer, but {}", shown(bytes)))?;
    let body = Body::read(head.of_response("GET"), &bytes[head.len..]);
    if head.status() != status {
        return Err(format!(
            "the status should be {status}; it is {}",
            head.status()
        ));
    }
    if head.closes() != (end == End::Closed) {
        return Err(format!("Connection: {:?}", head.field("connection")));
    }
    match body {
        Some(body) if head.len + body.len == bytes.len() => Ok(()),
        _ => Err("not one whole answer".to_owned()),
    }
}

/// A request as the backend got it, without the lines that lameduck adds to every one. What a client says in
/// their place isn't taken out.
pub fn without_additions(request: &Received) -> Vec<u8> {
    let text = &request.raw[..request.head.len];
    let host = request.head.field("host").unwrap_or_default();
    let host = format!("X-Forwarded-Host: {host}");
    let additions = [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        &host,
    ];
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, tail) = rest.split_at(end + 2);
        let known = String::from_utf8_lossy(&line[..end]);
        if !additions.contains(&known.as_ref()) && !is_made_id(&known) {
            bytes.extend_from_slice(line);
        }
        rest = tail;
    }
    bytes.extend_from_slice(rest);
    bytes.extend_from_slice(&request.raw[text.len()..]);
    bytes
}

/// An `X-Request-Id` that lameduck has made.
fn is_made_id(line: &str) -> bool {
    line.strip_prefix("X-Request-Id: ")
        .is_some_and(|id| id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
}
