//! Counters of limits on client connections that were reached.

use std::sync::atomic::{AtomicU64, Ordering};

/// A limit of `[server]`, named by its key in metrics and the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerLimit {
    /// `max_connections`: 503.
    Connections,
    /// `max_connections_per_client`: 429.
    ConnectionsPerClient,
    /// `max_requests_per_connection`: the response says `Connection: close`.
    Requests,
    /// `header_timeout`: 408.
    HeaderTimeout,
    /// `idle_timeout`: closed without an answer.
    IdleTimeout,
    /// `body_timeout`: 408, or cut.
    BodyTimeout,
    /// `min_body_rate`: 408, or cut.
    BodyRate,
    /// `min_response_rate`: cut.
    ResponseRate,
    /// `total_timeout`: 408, 503, 504, or cut.
    TotalTimeout,
    /// `max_header`: 431.
    Header,
    /// `max_uri`: 414.
    Uri,
    /// `max_body`: 413.
    Body,
    /// `max_memory`: 408, 503, a short answer instead of a page, or a refused HTTP/2 stream.
    Memory,
    /// `max_memory_per_connection`: refused; the client may send it again.
    ConnectionMemory,
}

/// All limits.
pub(crate) const LIMITS: [ServerLimit; 14] = [
    ServerLimit::Connections,
    ServerLimit::ConnectionsPerClient,
    ServerLimit::Requests,
    ServerLimit::HeaderTimeout,
    ServerLimit::IdleTimeout,
    ServerLimit::BodyTimeout,
    ServerLimit::BodyRate,
    ServerLimit::ResponseRate,
    ServerLimit::TotalTimeout,
    ServerLimit::Header,
    ServerLimit::Uri,
    ServerLimit::Body,
    ServerLimit::Memory,
    ServerLimit::ConnectionMemory,
];

impl ServerLimit {
    /// Its key in `[server]`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::ConnectionsPerClient => "max_connections_per_client",
            Self::Requests => "max_requests_per_connection",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyRate => "min_body_rate",
            Self::ResponseRate => "min_response_rate",
            Self::TotalTimeout => "total_timeout",
            Self::Header => "max_header",
            Self::Uri => "max_uri",
            Self::Body => "max_body",
            Self::Memory => "max_memory",
            Self::ConnectionMemory => "max_memory_per_connection",
        }
    }
}

/// A counter for each limit.
#[derive(Debug, Default)]
pub(crate) struct LimitCounters([AtomicU64; LIMITS.len()]);

impl LimitCounters {
    pub(crate) fn add(&self, limit: ServerLimit) {
        // The array has an entry for each variant, and a test checks that the list has their order.
        if let Some(count) = self.0.get(limit as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Limits with their counts, including zeros: only a series that exists from the start can be alerted on.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        LIMITS.iter().map(|limit| limit.key()).zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    #[test]
    fn each_limit_has_its_own_count_and_is_a_key_of_the_configuration() {
        let limited = LimitCounters::default();
        for (place, limit) in LIMITS.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
            limited.add(limit);
        }
        let server = schema::SECTIONS
            .iter()
            .find(|section| section.name == "server");
        for (key, count) in limited.read() {
            assert_eq!(count, 1, "{key}");
            assert!(
                server.is_some_and(|server| server.key(key).is_some()),
                "{key}"
            );
        }
    }
}
