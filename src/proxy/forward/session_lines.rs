//! What a response tells the client about its session, and how the app can end the session in it.

use crate::core::cookies::{clears_cookie, set_cookie_value};
use crate::proxy::h1::response::ResponseHead;

/// The session of a request to a sticky pool, for its response.
#[derive(Debug, Clone, Copy)]
pub struct SessionAnswer<'a> {
    /// The name of the cookie or header field.
    pub name: &'a str,
    /// Whether the token is in a header field of its own.
    pub is_header: bool,
    /// Header lines for the client; empty if it has the token already.
    pub lines: &'a [u8],
}

/// What an app sends under the token's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppsWord {
    Nothing,
    /// The session is over: the app clears the cookie, or sends the header field without a value.
    Ended,
    /// The app sets the name itself: because another proxy in between uses it, or the app doesn't know that lameduck
    /// does. Passed on, it would replace the client's token.
    Foreign,
}

impl SessionAnswer<'_> {
    /// Adds the lines to a head that ends with its empty line, unless the app ends the session; returns whether it
    /// does. The head begins at `start` of `out`.
    pub(super) fn add_lines(
        &self,
        head: &ResponseHead,
        buffer: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) -> bool {
        match self.word(head, buffer) {
            AppsWord::Ended => return true,
            AppsWord::Foreign => self.remove_foreign(out, start),
            AppsWord::Nothing => {}
        }
        if !self.lines.is_empty() {
            out.truncate(out.len().saturating_sub(2));
            out.extend_from_slice(self.lines);
            out.extend_from_slice(b"\r\n");
        }
        false
    }

    /// The same for a response that is replaced: returns the lines, and whether the app ends the session.
    pub fn lines_beside(&self, head: &ResponseHead, buffer: &[u8]) -> (String, bool) {
        let mut lines = Vec::new();
        let is_ended = self.word(head, buffer) == AppsWord::Ended;
        match is_ended {
            false => lines.extend_from_slice(self.lines),
            true => {
                for field in &head.fields {
                    let (name, value) = (field.name.of(buffer), field.value.of(buffer));
                    if self.word_of(name, value) == AppsWord::Ended {
                        [name, b": ", value, b"\r\n"]
                            .iter()
                            .for_each(|part| lines.extend_from_slice(part));
                    }
                }
            }
        }
        (String::from_utf8_lossy(&lines).into_owned(), is_ended)
    }

    fn field_name(&self) -> &[u8] {
        match self.is_header {
            true => self.name.as_bytes(),
            false => b"set-cookie",
        }
    }

    /// Reads all such header fields; the end of a session takes precedence.
    fn word(&self, head: &ResponseHead, buffer: &[u8]) -> AppsWord {
        let mut word = AppsWord::Nothing;
        for field in &head.fields {
            match self.word_of(field.name.of(buffer), field.value.of(buffer)) {
                AppsWord::Nothing => {}
                AppsWord::Ended => return AppsWord::Ended,
                AppsWord::Foreign => word = AppsWord::Foreign,
            }
        }
        word
    }

    fn word_of(&self, name: &[u8], value: &[u8]) -> AppsWord {
        if !name.eq_ignore_ascii_case(self.field_name()) {
            return AppsWord::Nothing;
        }
        let cookie = self.name.as_bytes();
        match self.is_header {
            true if value.trim_ascii().is_empty() => AppsWord::Ended,
            true => AppsWord::Foreign,
            false if clears_cookie(value, cookie) => AppsWord::Ended,
            false if set_cookie_value(value, cookie).is_some() => AppsWord::Foreign,
            false => AppsWord::Nothing,
        }
    }

    /// Removes the app's own lines with the token's name from the head.
    #[cold]
    fn remove_foreign(&self, out: &mut Vec<u8>, start: usize) {
        let head = out.split_off(start);
        let mut rest = &head[..];
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let (line, after) = rest.split_at(end + 2);
            rest = after;
            let is_foreign = memchr::memchr(b':', line).is_some_and(|colon| {
                let value = line[colon + 1..end].trim_ascii();
                self.word_of(&line[..colon], value) == AppsWord::Foreign
            });
            if !is_foreign {
                out.extend_from_slice(line);
            }
        }
        out.extend_from_slice(rest);
    }
}
