//! What an answer tells the client of its session, and what the app says of it there.

use crate::core::sticky::clears_cookie;
use crate::proxy::h1::response::ResponseHead;

/// What the answer to a request of a sticky pool tells.
#[derive(Debug, Clone, Copy)]
pub struct SessionAnswer<'a> {
    /// The cookie's name, or the field's.
    pub name: &'a str,
    /// Whether the token is in a field of its own.
    pub is_header: bool,
    /// What the client gets, as lines; empty where it has it already.
    pub lines: &'a [u8],
}

impl SessionAnswer<'_> {
    /// Adds the lines to a head that ends with its blank line, unless the app itself ends the session; says whether it does.
    pub(super) fn add_lines(&self, head: &ResponseHead, buffer: &[u8], out: &mut Vec<u8>) -> bool {
        if self.is_ended_by(head, buffer) {
            return true;
        }
        if !self.lines.is_empty() {
            out.truncate(out.len().saturating_sub(2));
            out.extend_from_slice(self.lines);
            out.extend_from_slice(b"\r\n");
        }
        false
    }

    /// Whether the app has the client forget its token: it clears the cookie, or sends the field without a value.
    fn is_ended_by(&self, head: &ResponseHead, buffer: &[u8]) -> bool {
        let field_name: &[u8] = match self.is_header {
            true => self.name.as_bytes(),
            false => b"set-cookie",
        };
        head.fields.iter().any(|field| {
            let value = field.value.of(buffer);
            field.name.of(buffer).eq_ignore_ascii_case(field_name)
                && match self.is_header {
                    true => value.trim_ascii().is_empty(),
                    false => clears_cookie(value, self.name.as_bytes()),
                }
        })
    }
}
