//! Conversion of a request's path to a path below a root.
//!
//! The path is decoded once. The result can't leave the root: no segment is `..`, none is empty, none contains a
//! slash or a NUL, and the path is relative. Symbolic links are left to the kernel, when the file is opened.

use super::super::uri;

/// The only hidden directory that is meant for the public (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// A path below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedPath {
    /// Decoded segments, joined by slashes, without a slash at either end. Empty: the root itself.
    pub relative: Vec<u8>,
    /// Whether the request's path ends with a slash, and so refers to a directory.
    pub is_directory: bool,
}

/// Why a path refers to nothing below a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// The path is malformed: a percent sign without two digits, a control character, or it leads above the root.
    Malformed,
    /// No file can have this name, because it contains a slash.
    Unnamable,
}

impl ServedPath {
    /// Decodes the path of a request, without its query.
    ///
    /// An encoded slash is refused, because routes are chosen by segments as they were sent: `/open%2fadmin` is one
    /// segment for them, and must not become two here. Bytes that should have been encoded are refused too, because a
    /// route's path is compared in its encoded form.
    ///
    /// # Errors
    /// The path refers to nothing below a root.
    pub fn decode(path: &[u8]) -> Result<Self, PathError> {
        if path.first() != Some(&b'/') {
            return Err(PathError::Malformed);
        }
        let mut relative = Vec::with_capacity(path.len());
        let mut is_directory = false;
        for segment in path[1..].split(|byte| *byte == b'/') {
            let start = relative.len();
            if start > 0 {
                relative.push(b'/');
            }
            let name = relative.len();
            decode_segment(segment, &mut relative)?;
            is_directory = matches!(&relative[name..], b"" | b"." | b"..");
            match &relative[name..] {
                b"" | b"." => relative.truncate(start),
                b".." if start == 0 => return Err(PathError::Malformed),
                b".." => {
                    let parent = &relative[..start];
                    let parent = parent.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    relative.truncate(parent);
                }
                _ => {}
            }
        }
        Ok(Self {
            relative,
            is_directory,
        })
    }

    /// Appends the path in the form in which a client can request it: with one slash at its beginning, so that its
    /// first segment can't be taken for a host, and with all characters encoded that are not plainly part of a path.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(b'/');
        uri::append_encoded(out, &self.relative, |byte| {
            uri::is_segment(byte) || byte == b'/'
        });
        if self.is_directory && !self.relative.is_empty() {
            out.push(b'/');
        }
    }
}

/// Whether a path below a root has a hidden segment: one that begins with a dot, such as `.git`. As the first
/// segment, `.well-known` is public.
pub fn is_hidden(relative: &[u8]) -> bool {
    let mut segments = relative.split(|byte| *byte == b'/').enumerate();
    segments.any(|(place, segment)| {
        segment.first() == Some(&b'.') && !(place == 0 && segment == WELL_KNOWN)
    })
}

fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                let byte = uri::hex_byte(Some(&[*high, *low])).ok_or(PathError::Malformed)?;
                (byte, after)
            }
            (b'%' | 0x80.., _) => return Err(PathError::Malformed),
            (byte, after) => (*byte, after),
        };
        match byte {
            b'/' => return Err(PathError::Unnamable),
            0..=0x1f | 0x7f => return Err(PathError::Malformed),
            byte => out.push(byte),
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(path: &str) -> Option<(String, bool)> {
        let path = ServedPath::decode(path.as_bytes()).ok()?;
        let relative = String::from_utf8(path.relative).ok()?;
        Some((relative, path.is_directory))
    }

    #[test]
    fn path_is_decoded_once_and_stays_below_its_root() {
        for (path, relative, is_directory) in [
            ("/", "", true),
            ("/a", "a", false),
            ("/a/", "a", true),
            ("//a///b", "a/b", false),
            ("/a/./b", "a/b", false),
            ("/a/b/..", "a", true),
            ("/a/../b", "b", false),
            ("/a/%2e%2E/b", "b", false),
            ("/a%20b", "a b", false),
            ("/%252e%252e/x", "%2e%2e/x", false),
            ("/...", "...", false),
            ("/a\\..\\b", "a\\..\\b", false),
            ("/a/b/../../c/.", "c", true),
            ("/a/..", "", true),
        ] {
            assert_eq!(
                decoded(path),
                Some((relative.into(), is_directory)),
                "{path}"
            );
        }
    }

    #[test]
    fn path_outside_the_root_or_malformed_is_refused() {
        for path in [
            "",
            "*",
            "a",
            "/..",
            "/../x",
            "/a/../..",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2e",
            "/%",
            "/%4",
            "/%zz",
            "/%00",
            "/a%00.html",
            "/%0a",
            "/\u{e9}",
        ] {
            let error = ServedPath::decode(path.as_bytes());
            assert_eq!(error, Err(PathError::Malformed), "{path}");
        }
        for path in ["/%2f", "/a%2F..%2fb", "/admin%2fx"] {
            let error = ServedPath::decode(path.as_bytes());
            assert_eq!(error, Err(PathError::Unnamable), "{path}");
        }
    }

    #[test]
    fn encoded_path_never_begins_with_two_slashes_or_a_backslash() {
        for (path, encoded) in [
            ("//evil.example/x", "/evil.example/x"),
            ("/%5cevil.example", "/%5Cevil.example"),
            ("/\\evil.example/", "/%5Cevil.example/"),
            ("/a b?", "/a%20b%3F"),
            ("/", "/"),
            ("/%c3%a9/", "/%C3%A9/"),
        ] {
            let mut out = Vec::new();
            ServedPath::decode(path.as_bytes())
                .unwrap()
                .encode(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), encoded, "{path}");
        }
    }

    #[test]
    fn dot_files_are_hidden_but_what_is_well_known() {
        for hidden in [
            ".git/config",
            "a/.env",
            ".well-known/.x",
            "a/.well-known/x",
            "...",
        ] {
            assert!(is_hidden(hidden.as_bytes()), "{hidden}");
        }
        for shown in [
            "",
            "a",
            "a.b",
            ".well-known",
            ".well-known/acme-challenge/x",
            "a/b.",
        ] {
            assert!(!is_hidden(shown.as_bytes()), "{shown}");
        }
    }
}
