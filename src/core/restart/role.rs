//! Roles of requests in a restart. The proxy counts by them and writes them into the access log; `lameduck report`
//! recomputes the counts from the log by the same names.

use std::fmt;

/// The role of a request in one restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartRole {
    /// The backend answered it while it took no new requests.
    Served,
    /// Its stream or upgraded connection was closed in an orderly way.
    Closed,
    /// An attempt on the backend failed, and another was made.
    Retried,
    /// It waited because no backend of the pool took requests.
    Held,
    /// Its session moved to another backend.
    Moved,
    /// It was cut at the drain's deadline, and its client noticed. It also counts as lost.
    Cut,
    /// Its client did not get the app's complete response: see [`is_loss`].
    Lost,
}

impl RestartRole {
    /// All roles, in the order in which they are written.
    pub const ALL: [Self; 7] = [
        Self::Served,
        Self::Closed,
        Self::Retried,
        Self::Held,
        Self::Moved,
        Self::Cut,
        Self::Lost,
    ];

    /// Returns the name in the log and the API.
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

    /// Returns the role with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The roles of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestartRoles(u8);

impl RestartRoles {
    /// Adds a role.
    pub fn add(&mut self, role: RestartRole) {
        self.0 |= role.bit();
    }

    /// Whether this role is included.
    pub const fn has(self, role: RestartRole) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether there is no role.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns each role.
    pub fn each(self) -> impl Iterator<Item = RestartRole> {
        RestartRole::ALL
            .into_iter()
            .filter(move |role| self.has(*role))
    }

    /// Parses `served+held`. `None`: a name is unknown, or there is none.
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

/// How a request ended, in the terms of its log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenEnd<'a> {
    /// Status code that its client got; 0: none.
    pub status: u16,
    /// Field `end`; empty: normal.
    pub end: &'a str,
    /// Whether there is a `cause`, which means that lameduck itself answered.
    pub is_ours: bool,
}

/// Values of `end` that are a loss for the client, whatever the status code: the response, or the connection, was cut
/// off.
const BROKEN_ENDS: [&str; 4] = ["cut", "upstream_died", "truncated", "broken"];

/// Whether a request is lost: its client did not get the app's complete response, through no fault of its own. A
/// response of 502, 503 or 504 that lameduck made is a loss, and so is a response, stream or upgraded connection that
/// was cut off. It is no loss if the client went away, or if the app has answered, whatever its response.
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
