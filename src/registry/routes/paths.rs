//! A request's path, in the form in which it is compared.

use std::borrow::Cow;

use super::hosts::Map;
use crate::config::MAX_PREFIX;
use crate::core::uri;

/// A request's path. Normalised at most once, and only if a route's prefix is longer than `/`.
pub(super) struct RequestPath<'a> {
    raw: &'a [u8],
    normal: Option<NormalPath>,
}

impl<'a> RequestPath<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Self {
        RequestPath { raw, normal: None }
    }

    /// Returns the compared form, up to the length of the longest possible prefix.
    pub(super) fn normal(&mut self) -> &NormalPath {
        self.normal.get_or_insert_with(|| NormalPath::new(self.raw))
    }

    /// Returns the whole compared form. Allocates only if it differs from the path as sent.
    pub(super) fn whole(&self) -> Cow<'a, [u8]> {
        let end = memchr::memchr2(b'?', b'#', self.raw).unwrap_or(self.raw.len());
        let path = &self.raw[..end];
        let is_normal = path
            .iter()
            .all(|byte| uri::is_segment(*byte) || *byte == b'/')
            && memchr::memmem::find(path, b"//").is_none();
        if is_normal {
            return Cow::Borrowed(path);
        }
        let mut whole = Vec::with_capacity(path.len());
        normalise(path, |byte, _| whole.push(byte));
        Cow::Owned(whole)
    }
}

/// A map with a value for each prefix other than `/`: looked up by whole segments, the longest prefix first.
#[derive(Debug, Clone, Default)]
pub(super) struct PrefixMap<V> {
    /// Keyed by the prefix without a trailing slash.
    prefixes: Map<V>,
    /// Length of the longest prefix.
    longest: usize,
}

impl<V: Default> PrefixMap<V> {
    /// Returns the entry of a prefix as written in the configuration; `None`: the prefix is `/`.
    pub(super) fn entry(&mut self, prefix: &str) -> Option<&mut V> {
        let normal = NormalPath::new(prefix.as_bytes());
        let key = normal.text();
        let key = key.strip_suffix(b"/").unwrap_or(key);
        if key.is_empty() {
            return None;
        }
        self.longest = self.longest.max(key.len());
        Some(self.prefixes.entry(key.into()).or_default())
    }
}

impl<V> PrefixMap<V> {
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.prefixes.values_mut()
    }

    /// Returns the first result of `choose` for the prefixes of a path in its compared form, from the longest on.
    #[inline]
    pub(super) fn find<T>(&self, text: &[u8], choose: impl Fn(&V) -> Option<T>) -> Option<T> {
        if text.len() <= self.longest
            && let Some(found) = self.prefixes.get(text).and_then(&choose)
        {
            return Some(found);
        }
        let mut end = text.len().min(self.longest + 1);
        while let Some(slash) = memchr::memrchr(b'/', &text[..end]).filter(|slash| *slash > 0) {
            if let Some(found) = self.prefixes.get(&text[..slash]).and_then(&choose) {
                return Some(found);
            }
            end = slash;
        }
        None
    }
}

/// A path in the form in which it is compared.
pub(super) struct NormalPath {
    /// The beginning of the path, longer than any prefix.
    buffer: [u8; MAX_PREFIX + 2],
    length: usize,
    /// Whether a segment is `.` or `..`, or could be taken for that.
    pub(super) dotted: bool,
}

impl NormalPath {
    pub(super) fn new(raw: &[u8]) -> Self {
        let mut path = NormalPath {
            buffer: [0; MAX_PREFIX + 2],
            length: 0,
            dotted: false,
        };
        path.dotted = normalise(raw, |byte, _| {
            if let Some(place) = path.buffer.get_mut(path.length) {
                *place = byte;
                path.length += 1;
            }
        });
        path
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Returns the whole compared form of a path.
pub fn compared_path(path: &[u8]) -> Cow<'_, [u8]> {
    RequestPath::new(path).whole()
}

/// Whether a segment of a path, which a query may follow, is `.` or `..`, or could be taken for that.
pub fn has_dot_segment(path: &[u8]) -> bool {
    normalise(path, |_, _| {})
}

/// Returns the part of a path, as it was sent, after a prefix as written in the configuration: empty, or beginning
/// with a slash. `None`: the path does not have this prefix.
pub fn rest_of_path<'a>(path: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    if prefix == "/" {
        return Some(path);
    }
    let wanted = NormalPath::new(prefix.as_bytes());
    let wanted = wanted.text();
    let (mut matched, mut at) = (0, None);
    normalise(path, |byte, end| {
        if matched < wanted.len() && wanted[matched] == byte {
            matched += 1;
            if matched == wanted.len() {
                at = Some(end);
            }
        } else if at.is_none() {
            matched = usize::MAX;
        }
    });
    let rest = path.get(at?..)?;
    matches!(rest.first(), None | Some(b'/')).then_some(rest)
}

/// Passes the bytes of a path's compared form to `push`, each with the end of its source in the path. Returns whether
/// a segment is `.` or `..`, or could be taken for that.
#[inline(always)]
fn normalise(raw: &[u8], mut push: impl FnMut(u8, usize)) -> bool {
    let mut dotted = false;
    // Number of dots in the segment so far, as long as it contains nothing else.
    let mut dots = Some(0);
    let (mut i, mut last) = (0, 0u8);
    while i < raw.len() {
        let (byte, encoded) = match (raw[i], uri::hex_byte(raw.get(i + 1..i + 3))) {
            (b'%', Some(byte)) => (byte, true),
            (byte, _) => (byte, false),
        };
        if !encoded && (byte == b'?' || byte == b'#') {
            break;
        }
        // Some apps take these for the end of a segment, or of a segment's name (`..;x`).
        if matches!(byte, b'/' | b'\\' | b';') {
            dotted |= matches!(dots, Some(1 | 2));
            dots = if byte == b';' { None } else { Some(0) };
        } else if byte == b'.' {
            dots = dots.map(|dots| dots + 1);
        } else {
            dots = None;
        }
        let end = i + if encoded { 3 } else { 1 };
        // A character that may stand in a segment is the same if it is encoded, as for nearly all apps. Others are
        // compared in their encoded form.
        if uri::is_segment(byte) || (byte == b'/' && !encoded) {
            if !(byte == b'/' && last == b'/') {
                push(byte, end);
            }
            last = byte;
        } else {
            for byte in uri::percent_encoded(byte) {
                push(byte, end);
            }
            last = 0;
        }
        i = end;
    }
    dotted | matches!(dots, Some(1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rest_is_what_follows_the_prefix_as_it_was_sent() {
        for (path, prefix, rest) in [
            ("/api", "/api", Some("")),
            ("/api/", "/api", Some("/")),
            ("/api/x/%79", "/api", Some("/x/%79")),
            ("/apis", "/api", None),
            ("/ap", "/api", None),
            ("/x", "/", Some("/x")),
            ("//api//x", "/api", Some("//x")),
            ("/%61pi/x", "/api", Some("/x")),
            ("/a%2fb/c", "/a%2Fb", Some("/c")),
            ("/a/b", "/a%2Fb", None),
            ("/api%2Fx", "/api", None),
            ("/api;x", "/api", None),
            ("/a%2Bb/x", "/a+b", Some("/x")),
            ("/a+b/x", "/a%2bb", Some("/x")),
            ("/caf\u{e9}/x", "/caf%C3%A9", Some("/x")),
            ("/caf%c3%a9/x", "/caf\u{e9}", Some("/x")),
            ("/a%/x", "/a%25", Some("/x")),
            ("", "/api", None),
        ] {
            let found = rest_of_path(path.as_bytes(), prefix);
            assert_eq!(found, rest.map(str::as_bytes), "{path} {prefix}");
        }
    }

    proptest! {
        /// The route table and `rest_of_path` agree on which paths have a prefix.
        #[test]
        fn prefix_and_rest_agree(path in "(/|a|b|%2[fFbB]|[+|]|%61|%7[cC]|%2e|;|\\.){0,10}", prefix in prop::sample::select(vec!["/a", "/a/b", "/ab", "/a%2Fb", "/b", "/a%2Bb", "/a|b"])) {
            let compared = compared_path(path.as_bytes());
            let prefix = compared_path(prefix.as_bytes());
            let has = compared.strip_prefix(&*prefix).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
            let rest = rest_of_path(path.as_bytes(), std::str::from_utf8(&prefix).unwrap());
            prop_assert_eq!(rest.is_some(), has, "{}", path);
            if let Some(rest) = rest {
                prop_assert!(path.as_bytes().ends_with(rest));
                let whole = [&*prefix, &*compared_path(rest)].concat();
                prop_assert_eq!(&*whole, &*compared);
            }
        }
    }
}
