//! The part that a request had in a restart. The proxy counts by these and writes them into the access log; `lameduck
//! report` recomputes the counts from the log by the same names.

use std::fmt;

/// The part that a request had in one restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartRole {
    /// The backend answered it while it took no new requests.
    Served,
    /// Its stream or upgraded connection was closed in good order.
    Closed,
    /// An attempt on the backend failed, and another was made.
    Retried,
    /// It waited because nothing in the pool took requests.
    Held,
    /// Its session went to another backend.
    Moved,
    /// The drain's deadline cut it, and its client noticed. Also lost.
    Cut,
    /// Its client did not get the app's whole answer: see [`is_loss`].
    Lost,
}

impl RestartRole {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 7] = [
        Self::Served,
        Self::Closed,
        Self::Retried,
        Self::Held,
        Self::Moved,
        Self::Cut,
        Self::Lost,
    ];

    /// As the log and the API write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Closed => "closed",
            Self::Retried => "retried",
            Self::Held => "held",
            Self::Moved => "moved",
            Self::Cut => "cut",
            Self::Lost => "lost",
        }
    }

    /// The reverse of [`RestartRole::as_str`].
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Several roles of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestartRoles(u8);

impl RestartRoles {
    /// One more.
    pub fn add(&mut self, role: RestartRole) {
        self.0 |= role.bit();
    }

    /// Whether it is one of them.
    pub const fn has(self, role: RestartRole) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = RestartRole> {
        RestartRole::ALL
            .into_iter()
            .filter(move |role| self.has(*role))
    }

    /// Reads `served+held`. `None`: there is a word that is none of them, or none at all.
    pub fn read(text: &str) -> Option<Self> {
        let mut roles = Self::default();
        for word in text.split('+') {
            roles.add(RestartRole::named(word)?);
        }
        Some(roles)
    }
}

impl fmt::Display for RestartRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, role) in self.each().enumerate() {
            let plus = if place > 0 { "+" } else { "" };
            write!(f, "{plus}{}", role.as_str())?;
        }
        Ok(())
    }
}

/// How a request ended, in the words of its log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd<'a> {
    /// The status that its client was sent; 0: none.
    pub status: u16,
    /// The field `end`; empty: well.
    pub end: &'a str,
    /// There is a `cause`: lameduck answered by itself.
    pub is_ours: bool,
}

/// Ends that the client sees as a loss, whatever its status was: the answer, or the connection, broke off.
const BROKEN_ENDS: [&str; 4] = ["cut", "upstream_died", "truncated", "broken"];

/// Whether a request is lost: its client did not get the app's whole answer, by no fault of its own. An answer of 502, 503
/// or 504 that lameduck made is a loss, and so is an answer, stream or upgraded connection that broke off. A client that
/// went away has lost nothing, and neither has one whose app has answered, whatever the app has said.
pub fn is_loss(seen: SeenEnd<'_>) -> bool {
    if seen.end == "client_closed" || seen.end == "paused" {
        return false;
    }
    BROKEN_ENDS.contains(&seen.end) || (seen.is_ours && matches!(seen.status, 502..=504))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: u16, end: &str, is_ours: bool) -> bool {
        is_loss(SeenEnd {
            status,
            end,
            is_ours,
        })
    }

    #[test]
    fn every_word_for_roles_is_read_as_it_was_written() {
        for bits in 1_u8..1 << RestartRole::ALL.len() {
            let roles = RestartRoles(bits);
            assert_eq!(RestartRoles::read(&roles.to_string()), Some(roles));
        }
        assert_eq!(RestartRoles::read(""), None);
        assert_eq!(RestartRoles::read("served+stolen"), None);
    }

    #[test]
    fn an_answer_of_ours_and_one_that_broke_off_are_lost_and_the_apps_own_error_is_not() {
        assert!(end(502, "upstream_died", true));
        assert!(end(503, "hold.timeout", true));
        assert!(end(504, "timeout", true));
        assert!(end(200, "truncated", false));
        assert!(end(101, "cut", false));
        assert!(!end(503, "", false));
        assert!(!end(200, "closed_orderly", false));
        assert!(!end(0, "client_closed", false));
        assert!(!end(503, "paused", true));
        assert!(!end(413, "max_body_size", true));
    }
}
