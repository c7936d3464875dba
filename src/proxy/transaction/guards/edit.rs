//! Edits of the request head that depend on who the client is.

use super::{RouteAdmission, same_name};

impl RouteAdmission {
    /// Edits the head for the app: removes the header fields that only this route's authentication may set, in any
    /// spelling, and adds the ones that it has set.
    pub(in crate::proxy::transaction) fn edit_head(&self, head: &mut Vec<u8>) {
        let Some(auth) = &self.rule.route.auth else {
            return;
        };
        // If the route sets the field itself, the client's is removed already.
        let changes = self.rule.changes.as_ref();
        let changed = changes.and_then(|changes| changes.request.as_ref());
        let is_written = changed.is_some_and(|changed| changed.dropped.has(b"authorization"));
        let own = auth.basic.is_some() && !auth.keep_authorization && !is_written;
        let withheld: Vec<&[u8]> = own
            .then_some(&b"authorization"[..])
            .into_iter()
            .chain(auth.user_header.iter().map(String::as_bytes))
            .chain(auth.copy.iter().map(String::as_bytes))
            .collect();
        replace_fields(head, &withheld, &self.lines);
    }
}

/// Removes all header fields with these names from a head, and adds lines at its end.
pub(in crate::proxy::transaction) fn replace_fields(
    head: &mut Vec<u8>,
    withheld: &[&[u8]],
    lines: &[u8],
) {
    let mut kept = 0;
    let mut from = 0;
    let mut is_first = true;
    while from < head.len() {
        let end = memchr::memchr(b'\n', &head[from..]).map_or(head.len(), |at| from + at + 1);
        let line = &head[from..end];
        if line == b"\r\n" {
            break;
        }
        let is_withheld = !is_first
            && memchr::memchr(b':', line)
                .is_some_and(|colon| withheld.iter().any(|name| same_name(&line[..colon], name)));
        if !is_withheld {
            head.copy_within(from..end, kept);
            kept += end - from;
        }
        (from, is_first) = (end, false);
    }
    head.truncate(kept);
    head.extend_from_slice(lines);
    head.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_are_removed_in_every_spelling_and_lines_are_added() {
        let mut head =
            b"GET /x:y HTTP/1.1\r\nHost: a\r\nX-User: root\r\nx_user: root\r\nX-UserX: 1\r\n\
              AUTHORIZATION: Basic x\r\nX-User:\r\nAccept: */*\r\n\r\n"
                .to_vec();
        replace_fields(
            &mut head,
            &[b"X-User", b"authorization"],
            b"X-User: ann\r\n",
        );
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "GET /x:y HTTP/1.1\r\nHost: a\r\nX-UserX: 1\r\nAccept: */*\r\nX-User: ann\r\n\r\n"
        );
        let mut head = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        replace_fields(&mut head, &[b"GET /", b"x"], b"");
        assert_eq!(head, b"GET / HTTP/1.1\r\n\r\n");
    }
}
