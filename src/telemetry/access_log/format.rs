//! A record as a line. Written by hand: this runs once a request.

use std::time::Duration;

use super::buffer::Out;
use super::chosen;
use super::escape;
use super::layout::{LineLayout, LinePrefix};
use super::record::AccessRecord;
use super::timestamp::TimestampText;
use crate::config::LogFormat;
use crate::core::trace_context::trace_id_text;

/// Longest target that is logged, in bytes; what is over is left out and marked.
pub(super) const MAX_TARGET: usize = 8192;
/// The same for the other fields that come from the client.
pub(super) const MAX_FIELD: usize = 2048;
/// Marks text that was left out.
const MORE: &[u8] = "…".as_bytes();

/// Room that any line of this record fits in: no byte becomes more than six. Each field of text has to be in the list:
/// a line without room is dropped.
pub(super) fn room(record: &AccessRecord<'_>) -> usize {
    /// Names, punctuation, numbers, the date, and the marks of what was left out.
    const FIXED: usize = 1024;
    let fields: usize = [
        record.client.as_bytes(),
        record.method,
        record.host,
        record.version.as_bytes(),
        record.user.as_bytes(),
        record.route.as_bytes(),
        record.pool.as_bytes(),
        record.backend.as_bytes(),
        record.retry_reason.as_bytes(),
        record.sticky.as_bytes(),
        record.end.as_bytes(),
        record.cause.as_bytes(),
        record.restarts.as_bytes(),
        record.request_id,
        record.user_agent,
        record.referer,
    ]
    .iter()
    .map(|field| field.len().min(MAX_FIELD))
    .sum();
    FIXED + 6 * (fields + record.target.len().min(MAX_TARGET))
}

/// Writes one line, with its end; says how long it is, unless it didn't fit.
pub(super) fn line(
    room: &mut [u8],
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> Option<usize> {
    let mut out = Out::new(room);
    if !matches!(layout.prefix, LinePrefix::None) {
        prefix(&mut out, layout, stamp, record);
    }
    match (layout.format, &layout.fields) {
        (LogFormat::Json, None) => json(&mut out, layout, stamp, record),
        (LogFormat::Json, Some(fields)) => {
            chosen::json(&mut out, layout, fields, stamp, record);
        }
        (LogFormat::Combined, None) => combined(&mut out, layout, stamp, record),
        (LogFormat::Combined, Some(fields)) => {
            common(&mut out, stamp, record);
            chosen::text(&mut out, layout, fields, record);
        }
    }
    out.put(b"\n");
    out.written()
}

#[inline(never)]
fn prefix(
    out: &mut Out<'_>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) {
    let severity = layout.severity(record);
    match &layout.prefix {
        LinePrefix::None => {}
        LinePrefix::Severity => out.number(severity.into()),
        LinePrefix::Syslog { facility, rest } => {
            out.put(b"<");
            out.number(u64::from(facility * 8 + severity));
            out.put(b">1 ");
            stamp.iso(out, record.time);
            out.put(rest.as_bytes());
        }
    }
}

fn json(
    out: &mut Out<'_>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) {
    out.put(b"{\"time\":\"");
    stamp.iso(out, record.time);
    out.put(b"\",\"client\":\"");
    text(out, record.client.as_bytes(), MAX_FIELD);
    out.put(b"\",\"method\":\"");
    text(out, record.method, MAX_FIELD);
    out.put(b"\",\"host\":\"");
    text(out, record.host, MAX_FIELD);
    out.put(b"\",\"target\":\"");
    text(out, record.target, MAX_TARGET);
    out.put(b"\",\"version\":\"");
    // Our own words: nothing of them has to be escaped.
    out.put(record.version.as_bytes());
    out.put(b"\",\"status\":");
    out.number(u64::from(record.status));
    out.put(b",\"bytes_in\":");
    out.number(record.bytes_in);
    out.put(b",\"bytes_out\":");
    out.number(record.bytes_out);
    out.put(b",\"duration_ms\":");
    millis(out, record.duration);
    out.put(b",\"upstream_ms\":");
    millis(out, record.upstream);
    out.put(b",\"pool\":\"");
    text(out, record.pool.as_bytes(), MAX_FIELD);
    out.put(b"\",\"backend\":\"");
    text(out, record.backend.as_bytes(), MAX_FIELD);
    out.put(b"\",\"attempts\":");
    out.number(u64::from(record.attempts));
    if !record.held.is_zero() {
        out.put(b",\"held_ms\":");
        millis(out, record.held);
    }
    optional(out, b",\"user\":\"", record.user.as_bytes());
    optional(out, b",\"route\":\"", record.route.as_bytes());
    optional(out, b",\"retry_reason\":\"", record.retry_reason.as_bytes());
    optional(out, b",\"sticky\":\"", record.sticky.as_bytes());
    optional(out, b",\"end\":\"", record.end.as_bytes());
    optional(out, b",\"cause\":\"", record.cause.as_bytes());
    optional(out, b",\"request_id\":\"", record.request_id);
    optional(out, b",\"user_agent\":\"", record.user_agent);
    optional(out, b",\"referer\":\"", record.referer);
    optional(out, b",\"restarts\":\"", record.restarts.as_bytes());
    if record.trace_id != 0 {
        optional(out, b",\"trace_id\":\"", &trace_id_text(record.trace_id));
    }
    if layout.is_slow(record) {
        out.put(b",\"slow\":true");
    }
    if layout.is_sampling() && layout.is_plain(record) {
        out.put(b",\"sample\":");
        out.put(layout.sample.as_bytes());
    }
    out.put(b"}");
}

fn optional(out: &mut Out<'_>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.put(key);
        text(out, value, MAX_FIELD);
        out.put(b"\"");
    }
}

pub(super) fn text(out: &mut Out<'_>, bytes: &[u8], limit: usize) {
    match bytes.get(..limit) {
        Some(head) if bytes.len() > limit => {
            escape::json(out, head);
            out.put(MORE);
        }
        _ => escape::json(out, bytes),
    }
}

/// `client - - [date] "request" status bytes "referer" "user agent"`, then lameduck's own as `key=value`.
fn combined(
    out: &mut Out<'_>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) {
    common(out, stamp, record);
    out.put(b" host=\"");
    or_dash(out, record.host);
    out.put(b"\" pool=");
    own_fields(out, layout, record);
}

/// What other servers write, too.
fn common(out: &mut Out<'_>, stamp: &mut TimestampText, record: &AccessRecord<'_>) {
    word(out, record.client.as_bytes());
    out.put(b" - ");
    word(out, record.user.as_bytes());
    out.put(b" [");
    stamp.combined(out, record.time);
    out.put(b"] \"");
    quoted(out, record.method, MAX_FIELD);
    out.put(b" ");
    quoted(out, record.target, MAX_TARGET);
    out.put(b" ");
    quoted(out, record.version.as_bytes(), MAX_FIELD);
    out.put(b"\" ");
    // Three digits always, as nginx writes it: 000 where no status was sent.
    let status = record.status.min(999);
    out.put(&[
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
        b' ',
    ]);
    out.number(record.bytes_out);
    out.put(b" \"");
    or_dash(out, record.referer);
    out.put(b"\" \"");
    or_dash(out, record.user_agent);
    out.put(b"\"");
}

fn own_fields(out: &mut Out<'_>, layout: &LineLayout, record: &AccessRecord<'_>) {
    word(out, record.pool.as_bytes());
    out.put(b" backend=");
    word(out, record.backend.as_bytes());
    out.put(b" attempts=");
    out.number(u64::from(record.attempts));
    out.put(b" duration_ms=");
    millis(out, record.duration);
    out.put(b" upstream_ms=");
    millis(out, record.upstream);
    out.put(b" held_ms=");
    millis(out, record.held);
    out.put(b" bytes_in=");
    out.number(record.bytes_in);
    out.put(b" retry_reason=");
    word(out, record.retry_reason.as_bytes());
    out.put(b" end=");
    word(out, record.end.as_bytes());
    out.put(b" cause=\"");
    or_dash(out, record.cause.as_bytes());
    out.put(b"\" request_id=\"");
    or_dash(out, record.request_id);
    out.put(b"\"");
    if !record.route.is_empty() {
        out.put(b" route=");
        word(out, record.route.as_bytes());
    }
    if !record.sticky.is_empty() {
        out.put(b" sticky=");
        word(out, record.sticky.as_bytes());
    }
    if !record.restarts.is_empty() {
        out.put(b" restarts=");
        word(out, record.restarts.as_bytes());
    }
    if record.trace_id != 0 {
        out.put(b" trace_id=");
        out.put(&trace_id_text(record.trace_id));
    }
    if layout.is_slow(record) {
        out.put(b" slow=true");
    }
    if layout.is_sampling() && layout.is_plain(record) {
        out.put(b" sample=");
        out.put(layout.sample.as_bytes());
    }
}

pub(super) fn or_dash(out: &mut Out<'_>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.put(b"-");
    } else {
        quoted(out, bytes, MAX_FIELD);
    }
}

/// A value without quotes: its spaces become `_`, so that it can't be taken for two.
pub(super) fn word(out: &mut Out<'_>, bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == b' ');
    or_dash(out, parts.next().unwrap_or_default());
    for part in parts {
        out.put(b"_");
        quoted(out, part, MAX_FIELD);
    }
}

pub(super) fn quoted(out: &mut Out<'_>, bytes: &[u8], limit: usize) {
    match bytes.get(..limit) {
        Some(head) if bytes.len() > limit => {
            escape::combined(out, head);
            out.put(b"...");
        }
        _ => escape::combined(out, bytes),
    }
}

/// Milliseconds with three decimals.
pub(super) fn millis(out: &mut Out<'_>, value: Duration) {
    let micros = value
        .as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(value.subsec_micros()));
    out.number(micros / 1000);
    let fraction = (micros % 1000) as u32;
    out.put(&[
        b'.',
        b'0' + (fraction / 100) as u8,
        b'0' + (fraction / 10 % 10) as u8,
        b'0' + (fraction % 10) as u8,
    ]);
}
