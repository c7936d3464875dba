//! A record as a line. Written by hand: this runs once a request.

use std::time::Duration;

use super::escape;
use super::record::Record;
use super::stamp::Stamp;
use crate::config::LogFormat;

/// Longest target that is logged, in bytes; what is over is left out and marked.
const MAX_TARGET: usize = 8192;
/// The same for the other fields that come from the client.
const MAX_FIELD: usize = 2048;
/// Marks text that was left out.
const MORE: &[u8] = "…".as_bytes();

/// Appends one line, with its end.
pub(super) fn line(out: &mut Vec<u8>, format: LogFormat, stamp: &mut Stamp, record: &Record<'_>) {
    match format {
        LogFormat::Json => json(out, stamp, record),
        LogFormat::Combined => combined(out, stamp, record),
    }
}

fn json(out: &mut Vec<u8>, stamp: &mut Stamp, record: &Record<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.iso(out, record.time);
    out.extend_from_slice(b"\",\"client\":\"");
    text(out, record.client.as_bytes(), MAX_FIELD);
    out.extend_from_slice(b"\",\"method\":\"");
    text(out, record.method, MAX_FIELD);
    out.extend_from_slice(b"\",\"host\":\"");
    text(out, record.host, MAX_FIELD);
    out.extend_from_slice(b"\",\"target\":\"");
    text(out, record.target, MAX_TARGET);
    out.extend_from_slice(b"\",\"version\":\"");
    text(out, record.version.as_bytes(), MAX_FIELD);
    out.extend_from_slice(b"\",\"status\":");
    number(out, u64::from(record.status));
    out.extend_from_slice(b",\"bytes_in\":");
    number(out, record.bytes_in);
    out.extend_from_slice(b",\"bytes_out\":");
    number(out, record.bytes_out);
    out.extend_from_slice(b",\"duration_ms\":");
    millis(out, record.duration);
    out.extend_from_slice(b",\"upstream_ms\":");
    millis(out, record.upstream);
    out.extend_from_slice(b",\"pool\":\"");
    text(out, record.pool.as_bytes(), MAX_FIELD);
    out.extend_from_slice(b"\",\"backend\":\"");
    text(out, record.backend.as_bytes(), MAX_FIELD);
    out.extend_from_slice(b"\",\"attempts\":");
    number(out, u64::from(record.attempts));
    if !record.held.is_zero() {
        out.extend_from_slice(b",\"held_ms\":");
        millis(out, record.held);
    }
    optional(out, b",\"retry_reason\":\"", record.retry_reason.as_bytes());
    optional(out, b",\"end\":\"", record.end.as_bytes());
    optional(out, b",\"cause\":\"", record.cause.as_bytes());
    optional(out, b",\"request_id\":\"", record.request_id);
    optional(out, b",\"user_agent\":\"", record.user_agent);
    optional(out, b",\"referer\":\"", record.referer);
    out.extend_from_slice(b"}\n");
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        text(out, value, MAX_FIELD);
        out.push(b'"');
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    match bytes.get(..limit) {
        Some(head) if bytes.len() > limit => {
            escape::json(out, head);
            out.extend_from_slice(MORE);
        }
        _ => escape::json(out, bytes),
    }
}

/// `client - - [date] "request" status bytes "referer" "user agent"`, then lameduck's own as `key=value`.
fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, record: &Record<'_>) {
    word(out, record.client.as_bytes());
    out.extend_from_slice(b" - - [");
    stamp.combined(out, record.time);
    out.extend_from_slice(b"] \"");
    quoted(out, record.method, MAX_FIELD);
    out.push(b' ');
    quoted(out, record.target, MAX_TARGET);
    out.push(b' ');
    quoted(out, record.version.as_bytes(), MAX_FIELD);
    out.extend_from_slice(b"\" ");
    // Three digits always, as nginx writes it: 000 where no status was sent.
    let status = record.status.min(999);
    out.extend_from_slice(&[
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
        b' ',
    ]);
    number(out, record.bytes_out);
    out.extend_from_slice(b" \"");
    or_dash(out, record.referer);
    out.extend_from_slice(b"\" \"");
    or_dash(out, record.user_agent);
    out.extend_from_slice(b"\" host=\"");
    or_dash(out, record.host);
    out.extend_from_slice(b"\" pool=");
    word(out, record.pool.as_bytes());
    out.extend_from_slice(b" backend=");
    word(out, record.backend.as_bytes());
    out.extend_from_slice(b" attempts=");
    number(out, u64::from(record.attempts));
    out.extend_from_slice(b" duration_ms=");
    millis(out, record.duration);
    out.extend_from_slice(b" upstream_ms=");
    millis(out, record.upstream);
    out.extend_from_slice(b" held_ms=");
    millis(out, record.held);
    out.extend_from_slice(b" bytes_in=");
    number(out, record.bytes_in);
    out.extend_from_slice(b" retry_reason=");
    word(out, record.retry_reason.as_bytes());
    out.extend_from_slice(b" end=");
    word(out, record.end.as_bytes());
    out.extend_from_slice(b" cause=\"");
    or_dash(out, record.cause.as_bytes());
    out.extend_from_slice(b"\" request_id=\"");
    or_dash(out, record.request_id);
    out.extend_from_slice(b"\"\n");
}

fn or_dash(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.push(b'-');
    } else {
        quoted(out, bytes, MAX_FIELD);
    }
}

/// A value without quotes: one that could be taken for two becomes escaped, as a field with a quote would.
fn word(out: &mut Vec<u8>, bytes: &[u8]) {
    let from = out.len();
    or_dash(out, bytes);
    for byte in &mut out[from..] {
        if *byte == b' ' {
            *byte = b'_';
        }
    }
}

fn quoted(out: &mut Vec<u8>, bytes: &[u8], limit: usize) {
    match bytes.get(..limit) {
        Some(head) if bytes.len() > limit => {
            escape::combined(out, head);
            out.extend_from_slice(b"...");
        }
        _ => escape::combined(out, bytes),
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, value: Duration) {
    let micros = value
        .as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(value.subsec_micros()));
    number(out, micros / 1000);
    let fraction = (micros % 1000) as u32;
    out.extend_from_slice(&[
        b'.',
        b'0' + (fraction / 100) as u8,
        b'0' + (fraction / 10 % 10) as u8,
        b'0' + (fraction % 10) as u8,
    ]);
}
