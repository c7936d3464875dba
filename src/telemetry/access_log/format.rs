//! Writes a record as a line. The code is written by hand because it runs for each request.

use std::time::Duration;

use super::buffer::{LineOutcome, LineOutput};
use super::chosen;
use super::escape;
use super::layout::{LineLayout, LinePrefix};
use super::record::AccessRecord;
use super::timestamp::TimestampText;
use crate::config::LogFormat;
use crate::core::trace_context::trace_id_text;

/// Longest target that is logged, in bytes; the rest is left out and marked.
pub(super) const MAX_TARGET: usize = 8192;
/// The same for the other fields that come from the client.
pub(super) const MAX_FIELD: usize = 2048;
/// Mark for text that was left out.
const MORE: &[u8] = "…".as_bytes();

/// Upper bound for the length of this record's line: no byte becomes more than six. Each field is named here, so that
/// the compiler demands a decision for a new one: a line that does not fit is dropped.
pub(super) fn room(record: &AccessRecord<'_>) -> usize {
    /// Bytes for names, punctuation, numbers, the date, and the marks of text that was left out.
    const FIXED: usize = 1024;
    let AccessRecord {
        // Numbers and times are part of `FIXED`.
        time: _,
        status: _,
        bytes_in: _,
        bytes_out: _,
        duration: _,
        upstream: _,
        held: _,
        attempts: _,
        trace_id: _,
        client,
        method,
        target,
        host,
        version,
        user,
        route,
        pool,
        backend,
        retry_reason,
        sticky,
        request_id,
        user_agent,
        referer,
        end,
        cause,
        restarts,
    } = record;
    let texts = [
        client,
        version,
        user,
        route,
        pool,
        backend,
        retry_reason,
        sticky,
        end,
        cause,
        restarts,
    ];
    let texts = texts.iter().map(|text| text.len());
    let bytes = [method, host, request_id, user_agent, referer];
    let bytes = bytes.iter().map(|bytes| bytes.len());
    let fields: usize = texts.chain(bytes).map(|len| len.min(MAX_FIELD)).sum();
    FIXED + 6 * (fields + target.len().min(MAX_TARGET))
}

/// Writes one line with its line end; returns its length, unless it didn't fit.
pub(super) fn line(
    room: &mut [u8],
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> Option<usize> {
    match write_line::<false>(room, layout, stamp, record) {
        LineOutcome::Whole(length) => Some(length),
        LineOutcome::Unescaped => escaped_line(room, layout, stamp, record),
        LineOutcome::Unfit => None,
    }
}

#[cold]
#[inline(never)]
pub(super) fn escaped_line(
    room: &mut [u8],
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> Option<usize> {
    match write_line::<true>(room, layout, stamp, record) {
        LineOutcome::Whole(length) => Some(length),
        LineOutcome::Unescaped | LineOutcome::Unfit => None,
    }
}

#[inline(always)]
fn write_line<const ESCAPING: bool>(
    room: &mut [u8],
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutcome {
    let size = room.len();
    let mut out = LineOutput::<ESCAPING>::new(room);
    if !matches!(layout.prefix, LinePrefix::None) {
        out = prefix(out, layout, stamp, record);
    }
    out = match (layout.format, &layout.fields) {
        (LogFormat::Json, None) => json(out, layout, stamp, record),
        (LogFormat::Json, Some(fields)) => chosen::json(out, layout, fields, stamp, record),
        (LogFormat::Combined, None) => combined(out, layout, stamp, record),
        (LogFormat::Combined, Some(fields)) => {
            chosen::text(common(out, stamp, record), layout, fields, record)
        }
    };
    out.put(b"\n");
    out.written(size)
}

#[inline(never)]
fn prefix<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    let severity = layout.severity(record);
    match &layout.prefix {
        LinePrefix::None => {}
        LinePrefix::Severity => out.number(severity.into()),
        LinePrefix::Syslog { facility, rest } => {
            out.put(b"<");
            out.number(u64::from(facility * 8 + severity));
            out.put(b">1 ");
            stamp.iso(&mut out, record.time);
            out.put(rest.as_bytes());
        }
    }
    out
}

fn json<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    out.put(b"{\"time\":\"");
    stamp.iso(&mut out, record.time);
    out.put(b"\",\"client\":\"");
    text(&mut out, record.client.as_bytes(), MAX_FIELD);
    out.put(b"\",\"method\":\"");
    text(&mut out, record.method, MAX_FIELD);
    out.put(b"\",\"host\":\"");
    text(&mut out, record.host, MAX_FIELD);
    out.put(b"\",\"target\":\"");
    text(&mut out, record.target, MAX_TARGET);
    out.put(b"\",\"version\":\"");
    // These are our own words, which never need an escape.
    out.put(record.version.as_bytes());
    out.put(b"\",\"status\":");
    out.number(u64::from(record.status));
    out.put(b",\"bytes_in\":");
    out.number(record.bytes_in);
    out.put(b",\"bytes_out\":");
    out.number(record.bytes_out);
    out.put(b",\"duration_ms\":");
    millis(&mut out, record.duration);
    out.put(b",\"upstream_ms\":");
    millis(&mut out, record.upstream);
    out.put(b",\"pool\":\"");
    text(&mut out, record.pool.as_bytes(), MAX_FIELD);
    out.put(b"\",\"backend\":\"");
    text(&mut out, record.backend.as_bytes(), MAX_FIELD);
    out.put(b"\",\"attempts\":");
    out.number(u64::from(record.attempts));
    if has_notes(record) {
        out = notes(out, record);
    }
    optional(&mut out, b",\"request_id\":\"", record.request_id);
    optional(&mut out, b",\"user_agent\":\"", record.user_agent);
    optional(&mut out, b",\"referer\":\"", record.referer);
    optional(&mut out, b",\"restarts\":\"", record.restarts.as_bytes());
    if record.trace_id != 0 {
        optional(
            &mut out,
            b",\"trace_id\":\"",
            &trace_id_text(record.trace_id),
        );
    }
    if layout.is_slow(record) {
        out.put(b",\"slow\":true");
    }
    if layout.is_sampling() && layout.is_plain(record) {
        out.put(b",\"sample\":");
        out.put(layout.sample.as_bytes());
    }
    out.put(b"}");
    out
}

/// Whether a request has any of the fields that most lack: one test for all of them.
#[inline(always)]
fn has_notes(record: &AccessRecord<'_>) -> bool {
    let texts = record.user.len()
        | record.route.len()
        | record.retry_reason.len()
        | record.sticky.len()
        | record.end.len()
        | record.cause.len();
    texts != 0 || !record.held.is_zero()
}

#[inline(never)]
fn notes<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    if !record.held.is_zero() {
        out.put(b",\"held_ms\":");
        millis(&mut out, record.held);
    }
    optional(&mut out, b",\"user\":\"", record.user.as_bytes());
    optional(&mut out, b",\"route\":\"", record.route.as_bytes());
    optional(
        &mut out,
        b",\"retry_reason\":\"",
        record.retry_reason.as_bytes(),
    );
    optional(&mut out, b",\"sticky\":\"", record.sticky.as_bytes());
    optional(&mut out, b",\"end\":\"", record.end.as_bytes());
    optional(&mut out, b",\"cause\":\"", record.cause.as_bytes());
    out
}

#[inline(always)]
fn optional<const ESCAPING: bool>(out: &mut LineOutput<'_, ESCAPING>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.put(key);
        text(out, value, MAX_FIELD);
        out.put(b"\"");
    }
}

/// Writes the inside of a string; of one longer than `limit` the beginning, with a mark.
#[inline(always)]
pub(super) fn text<const ESCAPING: bool>(
    out: &mut LineOutput<'_, ESCAPING>,
    bytes: &[u8],
    limit: usize,
) {
    if ESCAPING {
        out.escape(bytes, limit, escape::json, MORE);
    } else {
        out.put_judged(bytes, limit);
    }
}

/// Writes `client - - [date] "request" status bytes "referer" "user agent"`, and then lameduck's own fields as
/// `key=value`.
fn combined<'a, const ESCAPING: bool>(
    out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    let mut out = common(out, stamp, record);
    out.put(b" host=\"");
    or_dash(&mut out, record.host);
    out.put(b"\" pool=");
    own_fields(out, layout, record)
}

/// Writes the part that other servers write, too.
fn common<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    word(&mut out, record.client.as_bytes());
    out.put(b" - ");
    word(&mut out, record.user.as_bytes());
    out.put(b" [");
    stamp.combined(&mut out, record.time);
    out.put(b"] \"");
    quoted(&mut out, record.method, MAX_FIELD);
    out.put(b" ");
    quoted(&mut out, record.target, MAX_TARGET);
    out.put(b" ");
    quoted(&mut out, record.version.as_bytes(), MAX_FIELD);
    out.put(b"\" ");
    // Always three digits, as nginx does: 000 if no status was sent.
    out.three_digits(record.status.min(999).into());
    out.put(b" ");
    out.number(record.bytes_out);
    out.put(b" \"");
    or_dash(&mut out, record.referer);
    out.put(b"\" \"");
    or_dash(&mut out, record.user_agent);
    out.put(b"\"");
    out
}

fn own_fields<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    word(&mut out, record.pool.as_bytes());
    out.put(b" backend=");
    word(&mut out, record.backend.as_bytes());
    out.put(b" attempts=");
    out.number(u64::from(record.attempts));
    out.put(b" duration_ms=");
    millis(&mut out, record.duration);
    out.put(b" upstream_ms=");
    millis(&mut out, record.upstream);
    out.put(b" held_ms=");
    millis(&mut out, record.held);
    out.put(b" bytes_in=");
    out.number(record.bytes_in);
    out.put(b" retry_reason=");
    word(&mut out, record.retry_reason.as_bytes());
    out.put(b" end=");
    word(&mut out, record.end.as_bytes());
    out.put(b" cause=\"");
    or_dash(&mut out, record.cause.as_bytes());
    out.put(b"\" request_id=\"");
    or_dash(&mut out, record.request_id);
    out.put(b"\"");
    if !record.route.is_empty() {
        out.put(b" route=");
        word(&mut out, record.route.as_bytes());
    }
    if !record.sticky.is_empty() {
        out.put(b" sticky=");
        word(&mut out, record.sticky.as_bytes());
    }
    if !record.restarts.is_empty() {
        out.put(b" restarts=");
        word(&mut out, record.restarts.as_bytes());
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
    out
}

#[inline(always)]
pub(super) fn or_dash<const ESCAPING: bool>(out: &mut LineOutput<'_, ESCAPING>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.put(b"-");
    } else {
        quoted(out, bytes, MAX_FIELD);
    }
}

/// Writes a value without quotes. Its spaces become `_`, so that it can't be taken for two values.
#[inline(always)]
pub(super) fn word<const ESCAPING: bool>(out: &mut LineOutput<'_, ESCAPING>, bytes: &[u8]) {
    if memchr::memchr(b' ', bytes).is_none() {
        or_dash(out, bytes);
    } else {
        out.pass(|out| words(out, bytes));
    }
}

#[cold]
fn words<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    bytes: &[u8],
) -> LineOutput<'a, ESCAPING> {
    let mut parts = bytes.split(|byte| *byte == b' ');
    or_dash(&mut out, parts.next().unwrap_or_default());
    for part in parts {
        out.put(b"_");
        quoted(&mut out, part, MAX_FIELD);
    }
    out
}

#[inline(always)]
pub(super) fn quoted<const ESCAPING: bool>(
    out: &mut LineOutput<'_, ESCAPING>,
    bytes: &[u8],
    limit: usize,
) {
    if ESCAPING {
        out.escape(bytes, limit, escape::combined, b"...");
    } else {
        out.put_judged(bytes, limit);
    }
}

/// Writes milliseconds with three decimals.
#[inline(always)]
pub(super) fn millis<const ESCAPING: bool>(out: &mut LineOutput<'_, ESCAPING>, value: Duration) {
    let micros = (value.as_secs())
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(value.subsec_micros()));
    out.thousandths(micros);
}
