//! A head's fields as a route changes them: those of some names end here, and others are written behind the rest.

use crate::core::field_names::FieldNames;
use crate::proxy::h1::span::HeaderField;

/// What becomes of a head's fields.
#[derive(Debug, Clone, Copy)]
pub struct ChangedFields<'a> {
    /// Those that don't go on.
    pub dropped: &'a FieldNames,
    /// Lines that are written behind the others, each with its end.
    pub lines: &'a [u8],
}

/// What a route changes of a request's head.
#[derive(Debug, Clone, Copy)]
pub struct RequestChanges<'a> {
    /// The target that the app is asked for, where it isn't the client's.
    pub target: Option<&'a [u8]>,
    /// Its fields.
    pub fields: Option<ChangedFields<'a>>,
}

/// Copies the lines from `from` to `end`, without those whose kind is in `drop` or whose name is in `dropped`.
#[inline(never)]
pub(super) fn copy_changed(
    out: &mut Vec<u8>,
    buf: &[u8],
    fields: &[HeaderField],
    (from, end): (usize, usize),
    drop: u32,
    dropped: &FieldNames,
) {
    let mut run = from;
    for (at, field) in fields.iter().enumerate() {
        if drop & field.kind.bit() != 0
            || dropped.has_length(field.name.len()) && dropped.has(field.name.of(buf))
        {
            out.extend_from_slice(buf.get(run..field.name.start as usize).unwrap_or(&[]));
            run = fields
                .get(at + 1)
                .map_or(end, |next| next.name.start as usize);
        }
    }
    out.extend_from_slice(buf.get(run..end).unwrap_or(&[]));
}

impl ChangedFields<'_> {
    /// Makes these changes to a head that lameduck has written itself, which ends with its blank line. A line that the
    /// route adds and that stands there already is not written twice.
    pub fn apply(&self, head: &[u8], out: &mut Vec<u8>) {
        let mut rest = head;
        let mut is_first = true;
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let (line, after) = rest.split_at(end + 2);
            rest = after;
            if end == 0 {
                break;
            }
            let colon = memchr::memchr(b':', line).unwrap_or(0);
            if std::mem::take(&mut is_first)
                || !self.dropped.has(&line[..colon]) && !self.adds_line(line)
            {
                out.extend_from_slice(line);
            }
        }
        out.extend_from_slice(self.lines);
        out.extend_from_slice(b"\r\n");
    }

    /// Whether this line, with its end, is among those that are added.
    fn adds_line(&self, line: &[u8]) -> bool {
        let mut lines = self.lines.split_inclusive(|byte| *byte == b'\n');
        lines.any(|added| added.eq_ignore_ascii_case(line))
    }
}
