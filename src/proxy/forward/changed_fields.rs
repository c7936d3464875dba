//! Header changes by a route: header fields of some names are removed, and others are appended.

use crate::core::field_names::FieldNames;
use crate::proxy::h1::span::HeaderField;

/// Header fields to remove from a head, and lines to add.
#[derive(Debug, Clone, Copy)]
pub struct ChangedFields<'a> {
    /// Names of the header fields that are removed.
    pub dropped: &'a FieldNames,
    /// Lines that are appended after the others, each with its line break.
    pub lines: &'a [u8],
}

/// What a route changes in a request head.
#[derive(Debug, Clone, Copy)]
pub struct RequestChanges<'a> {
    /// The target for the app, if it differs from the client's.
    pub target: Option<&'a [u8]>,
    /// Changes to the header fields.
    pub fields: Option<ChangedFields<'a>>,
}

/// Copies the lines from `from` to `end`, except those whose kind is in `drop` or whose name is in `dropped`.
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
    /// Applies these changes to a head that lameduck has generated, which ends with an empty line. A line to add that
    /// is there already is not written twice.
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

    /// Returns whether this line, including its line break, is among the added lines.
    fn adds_line(&self, line: &[u8]) -> bool {
        let mut lines = self.lines.split_inclusive(|byte| *byte == b'\n');
        lines.any(|added| added.eq_ignore_ascii_case(line))
    }
}
