//! Versions of objects in the Kubernetes API.

use std::cmp::Ordering;

/// A `resourceVersion`. Kubernetes documents it as an integer of any length that tells which of two objects (or lists)
/// of one resource is newer. If a server uses another format, its answers are believed in the order in which they come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ResourceVersion(String);

impl ResourceVersion {
    /// A version in the server's notation; empty if the server gives none.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the server wrote it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a watch may continue from here: it must be an integer as Kubernetes documents it, and not `0`, which
    /// means "any version".
    pub(super) fn can_resume(&self) -> bool {
        self.digits().is_some_and(|digits| !digits.is_empty())
    }

    /// Compares two versions; `None`: it can't be known which is newer.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        let (one, other) = (self.digits()?, other.digits()?);
        Some(one.len().cmp(&other.len()).then_with(|| one.cmp(other)))
    }

    /// Whether this is known to be older than `other`.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.compare(other) == Some(Ordering::Less)
    }

    /// Whether this is known to be as old as `other` or older.
    pub(super) fn is_no_newer_than(&self, other: &Self) -> bool {
        matches!(self.compare(other), Some(Ordering::Less | Ordering::Equal))
    }

    /// Digits without leading zeros, if it is an integer.
    fn digits(&self) -> Option<&str> {
        let is_number = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| self.0.trim_start_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(one: &str, other: &str) -> Option<Ordering> {
        ResourceVersion::new(one).compare(&ResourceVersion::new(other))
    }

    #[test]
    fn versions_of_any_length_compare_as_numbers() {
        assert_eq!(compare("9", "10"), Some(Ordering::Less));
        assert_eq!(compare("010", "10"), Some(Ordering::Equal));
        assert_eq!(
            compare(
                "340282366920938463463374607431768211457",
                "340282366920938463463374607431768211456"
            ),
            Some(Ordering::Greater)
        );
    }

    #[test]
    fn version_that_is_no_number_is_not_comparable_and_can_not_resume() {
        for text in ["", "...", "1a", "-1"] {
            assert_eq!(compare(text, "1"), None, "{text}");
            assert!(!ResourceVersion::new(text).can_resume(), "{text}");
        }
        assert!(!ResourceVersion::new("0").can_resume());
        assert!(ResourceVersion::new("7").can_resume());
    }
}
