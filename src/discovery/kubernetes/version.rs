//! How new something is that the API server says.

use std::cmp::Ordering;

/// A `resourceVersion`. Kubernetes documents it as a whole number of any length, which says of two objects (or lists)
/// of one resource which is newer. A server that writes something else is believed as it comes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ResourceVersion(String);

impl ResourceVersion {
    /// A version as the server writes it; empty where it writes none.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the server wrote it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a watch may go on from here: whether it is a version as Kubernetes documents it, and not the `0` that
    /// means "whatever you have".
    pub(super) fn can_resume(&self) -> bool {
        self.digits().is_some_and(|digits| !digits.is_empty())
    }

    /// Which of the two is newer; `None` where that can't be said.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        let (one, other) = (self.digits()?, other.digits()?);
        Some(one.len().cmp(&other.len()).then_with(|| one.cmp(other)))
    }

    /// Whether it is known to be older than `other`.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.compare(other) == Some(Ordering::Less)
    }

    /// Whether it is known to be as old as `other`, or older.
    pub(super) fn is_no_newer_than(&self, other: &Self) -> bool {
        matches!(self.compare(other), Some(Ordering::Less | Ordering::Equal))
    }

    /// Its digits without leading zeros, if it is a number.
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
    fn what_is_no_number_is_neither_newer_nor_older_and_no_place_to_resume_from() {
        for text in ["", "...", "1a", "-1"] {
            assert_eq!(compare(text, "1"), None, "{text}");
            assert!(!ResourceVersion::new(text).can_resume(), "{text}");
        }
        assert!(!ResourceVersion::new("0").can_resume());
        assert!(ResourceVersion::new("7").can_resume());
    }
}
