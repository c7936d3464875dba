//! Lines with chosen fields. They cost a little more than lines with all fields, whose order is fixed.

use super::buffer::LineOutput;
use super::format::{MAX_FIELD, MAX_TARGET, millis, or_dash, quoted, text as escaped, word};
use super::layout::LineLayout;
use super::record::AccessRecord;
use super::timestamp::TimestampText;
use crate::config::LogField;
use crate::core::trace_context::trace_id_text;

/// A field's value.
enum FieldValue<'a> {
    /// The time of the request.
    Time,
    /// Text that is always written.
    Text(&'a [u8]),
    /// Text that is left out if it is empty.
    Optional(&'a [u8]),
    /// A number.
    Number(u64),
    /// A duration; `true`: left out if it is zero.
    Millis(std::time::Duration, bool),
    /// Text that needs no escape; left out if it is empty.
    Word(&'a str),
}

fn value<'a>(
    field: LogField,
    layout: &'a LineLayout,
    record: &AccessRecord<'a>,
    trace: &'a [u8],
) -> FieldValue<'a> {
    use FieldValue::{Millis, Number, Optional, Text, Time, Word};
    match field {
        LogField::Time => Time,
        LogField::Client => Text(record.client.as_bytes()),
        LogField::Method => Text(record.method),
        LogField::Host => Text(record.host),
        LogField::Target => Text(record.target),
        LogField::Version => Text(record.version.as_bytes()),
        LogField::Status => Number(record.status.into()),
        LogField::BytesIn => Number(record.bytes_in),
        LogField::BytesOut => Number(record.bytes_out),
        LogField::DurationMs => Millis(record.duration, false),
        LogField::UpstreamMs => Millis(record.upstream, false),
        LogField::Pool => Text(record.pool.as_bytes()),
        LogField::Backend => Text(record.backend.as_bytes()),
        LogField::Attempts => Number(record.attempts.into()),
        LogField::HeldMs => Millis(record.held, true),
        LogField::User => Optional(record.user.as_bytes()),
        LogField::Route => Optional(record.route.as_bytes()),
        LogField::RetryReason => Optional(record.retry_reason.as_bytes()),
        LogField::Sticky => Optional(record.sticky.as_bytes()),
        LogField::End => Optional(record.end.as_bytes()),
        LogField::Cause => Optional(record.cause.as_bytes()),
        LogField::RequestId => Optional(record.request_id),
        LogField::UserAgent => Optional(record.user_agent),
        LogField::Referer => Optional(record.referer),
        LogField::Restarts => Optional(record.restarts.as_bytes()),
        LogField::TraceId => Optional(trace),
        LogField::Slow if layout.is_slow(record) => Word("true"),
        LogField::Sample if layout.is_sampling() && layout.is_plain(record) => Word(&layout.sample),
        LogField::Slow | LogField::Sample => Word(""),
    }
}

fn longest(field: LogField) -> usize {
    match field {
        LogField::Target => MAX_TARGET,
        _ => MAX_FIELD,
    }
}

/// Trace id as text, and its length; 0: there is no trace.
fn trace_text(record: &AccessRecord<'_>) -> ([u8; 32], usize) {
    match record.trace_id {
        0 => ([0; 32], 0),
        trace => (trace_id_text(trace), 32),
    }
}

/// Writes a line as one JSON object.
pub(super) fn json<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    fields: &[LogField],
    stamp: &mut TimestampText,
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    let (trace, length) = trace_text(record);
    let mut before: &[u8] = b"{\"";
    for field in fields {
        let value = value(*field, layout, record, &trace[..length]);
        let is_absent = match &value {
            FieldValue::Optional(text) => text.is_empty(),
            FieldValue::Word(word) => word.is_empty(),
            FieldValue::Millis(time, true) => time.is_zero(),
            _ => false,
        };
        if is_absent {
            continue;
        }
        out.put(before);
        before = b",\"";
        out.put(field.as_str().as_bytes());
        out.put(b"\":");
        match value {
            FieldValue::Time => {
                out.put(b"\"");
                stamp.iso(&mut out, record.time);
                out.put(b"\"");
            }
            FieldValue::Text(text) | FieldValue::Optional(text) => {
                out.put(b"\"");
                escaped(&mut out, text, longest(*field));
                out.put(b"\"");
            }
            FieldValue::Number(number) => out.number(number),
            FieldValue::Millis(time, _) => millis(&mut out, time),
            FieldValue::Word(word) => out.put(word.as_bytes()),
        }
    }
    // None of the chosen fields has a value.
    if before == b"{\"" {
        out.put(b"{");
    }
    out.put(b"}");
    out
}

/// Writes `key=value` pairs, each after a space; leaves out what the line has already.
pub(super) fn text<'a, const ESCAPING: bool>(
    mut out: LineOutput<'a, ESCAPING>,
    layout: &LineLayout,
    fields: &[LogField],
    record: &AccessRecord<'_>,
) -> LineOutput<'a, ESCAPING> {
    let (trace, length) = trace_text(record);
    for field in fields {
        if is_common(*field) {
            continue;
        }
        let value = value(*field, layout, record, &trace[..length]);
        if matches!(value, FieldValue::Word("")) {
            continue;
        }
        out.put(b" ");
        out.put(field.as_str().as_bytes());
        out.put(b"=");
        match value {
            FieldValue::Text(text) | FieldValue::Optional(text) => {
                match matches!(
                    field,
                    LogField::Host | LogField::Cause | LogField::RequestId
                ) {
                    true => {
                        out.put(b"\"");
                        or_dash(&mut out, text);
                        out.put(b"\"");
                    }
                    false => word(&mut out, text),
                }
            }
            FieldValue::Number(number) => out.number(number),
            FieldValue::Millis(time, _) => millis(&mut out, time),
            FieldValue::Word(text) => quoted(&mut out, text.as_bytes(), MAX_FIELD),
            FieldValue::Time => {}
        }
    }
    out
}

/// Whether the combined format already has this field.
fn is_common(field: LogField) -> bool {
    matches!(
        field,
        LogField::Time
            | LogField::Client
            | LogField::User
            | LogField::Method
            | LogField::Target
            | LogField::Version
            | LogField::Status
            | LogField::BytesOut
            | LogField::Referer
            | LogField::UserAgent
    )
}
