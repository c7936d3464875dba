//! `Connection` (RFC 9110 §7.6.1): the header fields that only apply to this hop.

use super::fields::{FieldKind, is_tchar, tokens};
use super::span::HeaderField;

/// Maximum number of options in one head that name header fields. Nobody needs more than a few; without a limit, a
/// head full of options times a hundred header fields would cost milliseconds.
const MAX_NOMINATIONS: u32 = 32;

/// The options of all `Connection` header fields of a head.
#[derive(Debug, Clone, Default)]
pub struct ConnectionOptions {
    /// `close`: takes precedence over `keep-alive` (RFC 9112 §9.3).
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Number of other options, each of which names a header field that is not passed on.
    pub nominations: u32,
}

/// The error for too many options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyOptions;

impl ConnectionOptions {
    /// Reads one `Connection` header field.
    ///
    /// # Errors
    /// If too many header fields are named.
    pub fn read(&mut self, value: &[u8]) -> Result<(), TooManyOptions> {
        // The value that nearly all clients send.
        if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keep_alive = true;
            return Ok(());
        }
        for option in tokens(value) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.eq_ignore_ascii_case(b"te") {
                self.nominations += 1;
            }
            if self.nominations > MAX_NOMINATIONS {
                return Err(TooManyOptions);
            }
        }
        Ok(())
    }
}

/// Marks each header field that a `Connection` option names as dropped, unless it is an end-to-end field: a client
/// must not be able to make the proxy remove header fields that the app relies on.
pub fn drop_nominated(buf: &[u8], fields: &mut [HeaderField]) {
    for at in 0..fields.len() {
        if fields[at].kind != FieldKind::Connection {
            continue;
        }
        for option in tokens(fields[at].value.of(buf)) {
            if !option.iter().copied().all(is_tchar) || is_end_to_end(option) {
                continue;
            }
            for field in fields.iter_mut() {
                if field.kind == FieldKind::Other && field.name.of(buf).eq_ignore_ascii_case(option)
                {
                    field.kind = FieldKind::Dropped;
                }
            }
        }
    }
}

/// Returns whether a header field can't be removed by naming it, in addition to all those with a kind of their own
/// (`Host`, framing, `X-Forwarded-…`, `Forwarded`, `Via`, `X-Request-Id`, `Content-Type`, …).
fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 11] = [
        b"authorization",
        b"cache-control",
        b"cookie",
        b"date",
        b"etag",
        b"location",
        b"origin",
        b"range",
        b"set-cookie",
        b"vary",
        b"www-authenticate",
    ];
    /// Prefixes of such names: content, content negotiation, conditional requests, CORS, and those set by browsers.
    const STARTS: [&[u8]; 5] = [b"accept", b"access-control-", b"content-", b"if-", b"sec-"];
    let starts = |start: &[u8]| {
        name.get(..start.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    NAMES
        .iter()
        .any(|end_to_end| name.eq_ignore_ascii_case(end_to_end))
        || STARTS.into_iter().any(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_add_up_over_fields() {
        let mut options = ConnectionOptions::default();
        options.read(b"Keep-Alive, TE").unwrap();
        options.read(b" ,close,, UPGRADE , x-mine").unwrap();
        assert!(options.close && options.keep_alive && options.upgrade);
        assert_eq!(options.nominations, 1);
    }

    #[test]
    fn nominations_are_bounded() {
        let mut options = ConnectionOptions::default();
        assert_eq!(options.read("a,".repeat(32).as_bytes()), Ok(()));
        assert_eq!(options.read(b"b"), Err(TooManyOptions));
    }
}
