//! An entry of systemd's journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! This is our own code, because existing crates take records of `log` or `tracing`, or call libsystemd, which may
//! block. The whole protocol is a datagram of `NAME=value` lines.

use serde_json::{Map, Value};

/// Converts a line (one digit for its priority, and a JSON object) to an entry with the object's fields.
pub(super) fn write_entry(line: &[u8], out: &mut Vec<u8>) {
    let (priority, object) = match line.split_first() {
        Some((digit, object)) => (digit - b'0', object),
        None => return,
    };
    let fields: Map<String, Value> = serde_json::from_slice(object).unwrap_or_default();
    put(out, "PRIORITY", &priority.to_string());
    put(out, "SYSLOG_IDENTIFIER", "lameduck");
    put(out, "MESSAGE", &message(&fields));
    for (name, value) in &fields {
        let name = format!("LAMEDUCK_{}", name.to_ascii_uppercase());
        match value {
            Value::String(text) => put(out, &name, text),
            other => put(out, &name, &other.to_string()),
        }
    }
}

/// The entry's message: one line for people.
fn message(fields: &Map<String, Value>) -> String {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut message = format!(
        "{} {}{} {}",
        text("method"),
        text("host"),
        text("target"),
        text("status")
    );
    for (name, before, after) in [
        ("duration_ms", "", " ms"),
        ("backend", "by ", ""),
        ("end", "end=", ""),
        ("cause", "", ""),
    ] {
        let value = text(name);
        if !value.is_empty() {
            message.push(' ');
            message.push_str(before);
            message.push_str(&value);
            message.push_str(after);
        }
    }
    message
}

/// Writes a field; a value with line ends is preceded by its length.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_has_a_message_and_every_field() {
        let mut out = Vec::new();
        let line =
            br#"4{"method":"GET","target":"/a\nb","status":200,"end":"cut","duration_ms":1.500}"#;
        write_entry(line, &mut out);
        let mut expected = b"PRIORITY=4\nSYSLOG_IDENTIFIER=lameduck\nMESSAGE\n".to_vec();
        let message = "GET /a\nb 200 1.5 ms end=cut";
        expected.extend_from_slice(&(message.len() as u64).to_le_bytes());
        expected.extend_from_slice(message.as_bytes());
        expected.extend_from_slice(
            b"\nLAMEDUCK_DURATION_MS=1.5\nLAMEDUCK_END=cut\nLAMEDUCK_METHOD=GET\n",
        );
        expected
            .extend_from_slice(b"LAMEDUCK_STATUS=200\nLAMEDUCK_TARGET\n\x04\0\0\0\0\0\0\0/a\nb\n");
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&expected)
        );
    }
}
