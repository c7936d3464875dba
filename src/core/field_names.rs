//! Names of header fields, looked up in any spelling.

/// A set of field names. Case is ignored, and `_` counts as `-`, because apps that use CGI or WSGI can't tell them
/// apart: a client that sends `X_User` must not get around a rule for `X-User`.
#[derive(Debug, Default)]
pub struct FieldNames {
    /// A bit for each length of a name, modulo 64, which rules out most fields of a head.
    lengths: u64,
    names: Vec<Box<[u8]>>,
}

impl FieldNames {
    /// Creates a set of these names.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for name in names {
            let name: Box<[u8]> = name.bytes().map(fold).collect();
            if !set.has(&name) {
                set.lengths |= length_bit(name.len());
                set.names.push(name);
            }
        }
        set
    }

    /// Returns the names in the form in which they are compared.
    pub fn each(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter();
        names.filter_map(|name| std::str::from_utf8(name).ok())
    }

    /// Whether the set has no names.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the set contains this name, in any spelling.
    #[inline]
    pub fn has(&self, name: &[u8]) -> bool {
        self.has_length(name.len()) && self.has_folded(name)
    }

    /// Whether the set may contain a name of this length in bytes.
    #[inline]
    pub fn has_length(&self, length: usize) -> bool {
        self.lengths & length_bit(length) != 0
    }

    /// Whether the set contains a name that begins with `start`, for a name of which only this part was kept.
    pub fn has_longer(&self, start: &[u8]) -> bool {
        let is_longer = |other: &[u8]| {
            let same = start.iter().zip(other).all(|(a, b)| fold(*a) == *b);
            other.len() > start.len() && same
        };
        self.names.iter().any(|other| is_longer(other))
    }

    #[inline(never)]
    fn has_folded(&self, name: &[u8]) -> bool {
        let is_same = |other: &[u8]| {
            other.len() == name.len() && name.iter().zip(other).all(|(a, b)| fold(*a) == *b)
        };
        self.names.iter().any(|other| is_same(other))
    }
}

#[inline]
fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

fn fold(byte: u8) -> u8 {
    match byte {
        b'_' => b'-',
        byte => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_no_underscores() {
        let names = FieldNames::new(["X-User", "Accept"].into_iter());
        for (name, is_there) in [
            ("x-user", true),
            ("X_USER", true),
            ("ACCEPT", true),
            ("X-User-Id", false),
            ("Accepts", false),
            ("", false),
        ] {
            assert_eq!(names.has(name.as_bytes()), is_there, "{name}");
            assert!(!is_there || names.has_length(name.len()), "{name}");
        }
        assert!(names.has_longer(b"x_us") && !names.has_longer(b"x-user"));
    }
}
