//! `ETag`, `Last-Modified`, and the preconditions of clients that have a file already (RFC 9110, section 13).

use std::fmt::Write as _;

/// Seconds without a change after which whole seconds are enough for a file's tag.
const SETTLED: i64 = 2;

/// The properties by which one state of a file is told from another.
///
/// The tag is nginx's, `"seconds-size"` in hexadecimal, so that copies in clients and caches from an nginx that ran
/// here before stay valid. A file that was changed within the last two seconds may change again within the same
/// second: its tag also contains the nanoseconds, and changes once the file has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileValidators {
    /// Time of the last change, in seconds since 1970.
    pub modified: i64,
    /// Nanoseconds of that time.
    pub nanos: u32,
    /// Length in bytes.
    pub size: u64,
    /// Suffix of the tag: the same file in another coding has another tag.
    pub suffix: &'static str,
    /// Present time, in seconds since 1970.
    pub now: i64,
}

/// The preconditions of a request. Dates are in seconds since 1970, `None` for values that are no date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions<'a> {
    /// `If-Match`.
    pub if_match: Option<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<i64>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<i64>,
}

/// Result of the preconditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreconditionAnswer {
    /// Serve the request.
    Serve,
    /// 304: the client has the file.
    NotModified,
    /// 412: the file isn't in the state that the client expects.
    Failed,
}

impl FileValidators {
    /// Returns the tag, with its quotes.
    pub fn tag(&self) -> String {
        let mut tag = String::with_capacity(40);
        let settled = self.now - self.modified >= SETTLED;
        // Writing to a string can't fail.
        let _ = match settled {
            true => write!(tag, "\"{:x}-{:x}", self.modified, self.size),
            false => write!(
                tag,
                "\"{:x}.{:x}-{:x}",
                self.modified, self.nanos, self.size
            ),
        };
        tag.push_str(self.suffix);
        tag.push('"');
        tag
    }

    /// Evaluates the preconditions, in the order of RFC 9110, section 13.2.2.
    pub fn judge(&self, asked: &Preconditions<'_>) -> PreconditionAnswer {
        match (asked.if_match, asked.if_unmodified_since) {
            (Some(tags), _) if !self.is_among(tags, false) => return PreconditionAnswer::Failed,
            (None, Some(date)) if self.modified > date => return PreconditionAnswer::Failed,
            _ => {}
        }
        match (asked.if_none_match, asked.if_modified_since) {
            (Some(tags), _) if self.is_among(tags, true) => PreconditionAnswer::NotModified,
            // The same date, not a later one: a file that was restored to an older state has changed, too.
            (None, Some(date)) if self.modified == date => PreconditionAnswer::NotModified,
            _ => PreconditionAnswer::Serve,
        }
    }

    /// Whether `If-Range` holds: the part of the file that the client has is of this state. `date`: the value as a
    /// date, if it is one.
    pub fn is_current(&self, if_range: &[u8], date: Option<i64>) -> bool {
        match if_range.first() {
            Some(b'"') => if_range == self.tag().as_bytes(),
            // A weak tag never matches here.
            Some(b'W') if if_range.starts_with(b"W/") => false,
            _ => date == Some(self.modified),
        }
    }

    /// Whether the file's tag is in a list of tags, or the list is `*`. A weak comparison ignores `W/`.
    fn is_among(&self, list: &[u8], weak: bool) -> bool {
        if list.trim_ascii() == b"*" {
            return true;
        }
        let own = self.tag();
        let mut rest = list;
        while let Some(open) = rest.iter().position(|byte| *byte == b'"') {
            let Some(length) = rest[open + 1..].iter().position(|byte| *byte == b'"') else {
                return false;
            };
            let close = open + 1 + length;
            let is_weak = rest[..open].ends_with(b"W/");
            if (weak || !is_weak) && &rest[open..=close] == own.as_bytes() {
                return true;
            }
            rest = &rest[close + 1..];
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::PreconditionAnswer::{Failed, NotModified, Serve};
    use super::*;

    const FILE: FileValidators = FileValidators {
        modified: 0x100,
        nanos: 0xab,
        size: 0x20,
        suffix: "",
        now: 0x1000,
    };

    #[test]
    fn tag_is_nginx_s_once_the_file_has_settled() {
        assert_eq!(FILE.tag(), "\"100-20\"");
        let fresh = FileValidators { now: 0x101, ..FILE };
        assert_eq!(fresh.tag(), "\"100.ab-20\"");
        let settled = FileValidators { now: 0x102, ..FILE };
        assert_eq!(settled.tag(), FILE.tag());
        let packed = FileValidators {
            suffix: ".gz",
            ..FILE
        };
        assert_eq!(packed.tag(), "\"100-20.gz\"");
    }

    #[test]
    fn preconditions_are_asked_in_the_order_of_the_standard() {
        let none = Preconditions::default();
        let tags = |list: &'static [u8]| Some(list);
        for (asked, answer) in [
            (none.clone(), Serve),
            (
                Preconditions {
                    if_none_match: tags(b"\"100-20\""),
                    ..none.clone()
                },
                NotModified,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"W/\"100-20\""),
                    ..none.clone()
                },
                NotModified,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"\"x\", \"a,b\",W/\"100-20\""),
                    ..none.clone()
                },
                NotModified,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"*"),
                    ..none.clone()
                },
                NotModified,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"\"100-2\""),
                    ..none.clone()
                },
                Serve,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"\"100-20"),
                    ..none.clone()
                },
                Serve,
            ),
            (
                Preconditions {
                    if_none_match: tags(b"\"x\""),
                    if_modified_since: Some(0x100),
                    ..none.clone()
                },
                Serve,
            ),
            (
                Preconditions {
                    if_modified_since: Some(0x100),
                    ..none.clone()
                },
                NotModified,
            ),
            (
                Preconditions {
                    if_modified_since: Some(0x101),
                    ..none.clone()
                },
                Serve,
            ),
            (
                Preconditions {
                    if_match: tags(b"\"100-20\""),
                    ..none.clone()
                },
                Serve,
            ),
            (
                Preconditions {
                    if_match: tags(b"W/\"100-20\""),
                    ..none.clone()
                },
                Failed,
            ),
            (
                Preconditions {
                    if_match: tags(b"\"x\""),
                    if_unmodified_since: Some(0x200),
                    ..none.clone()
                },
                Failed,
            ),
            (
                Preconditions {
                    if_unmodified_since: Some(0xff),
                    ..none.clone()
                },
                Failed,
            ),
            (
                Preconditions {
                    if_unmodified_since: Some(0x100),
                    ..none.clone()
                },
                Serve,
            ),
        ] {
            assert_eq!(FILE.judge(&asked), answer, "{asked:?}");
        }
    }

    #[test]
    fn range_holds_for_the_same_state_only() {
        assert!(FILE.is_current(b"\"100-20\"", None));
        assert!(FILE.is_current(b"Thu, 01 Jan 1970 00:04:16 GMT", Some(0x100)));
        for (value, date) in [
            (&b"W/\"100-20\""[..], None),
            (b"\"1-2\"", None),
            (b"x", None),
            (b"", Some(1)),
        ] {
            assert!(!FILE.is_current(value, date), "{value:?}");
        }
    }
}
