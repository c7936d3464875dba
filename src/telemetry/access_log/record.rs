//! Content of a line. `src/proxy/transaction/record.rs` fills it, `format.rs` writes it.
//!
//! The compiler demands a new field in the former, for requests, and in `room` of the latter. It does not notice a
//! field that `format.rs` never writes, but the tests do.

use std::time::Duration;

use crate::core::Time;

/// One request, as the data plane saw it. All fields are borrowed; an empty or zero field means "not known".
#[derive(Debug, Clone, Default)]
pub struct AccessRecord<'a> {
    /// Time at which the request's first byte was read, on [`crate::rt::clock`].
    pub time: Time,
    /// Client's IP address; behind trusted proxies, the one that they report.
    pub client: &'a str,
    /// Method as sent; may be any bytes.
    pub method: &'a [u8],
    /// Request target as sent.
    pub target: &'a [u8],
    /// Value of the `Host` field, or the target's authority.
    pub host: &'a [u8],
    /// Protocol version, such as `HTTP/1.1`.
    pub version: &'static str,
    /// Status that was sent; 0: none.
    pub status: u16,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// Duration from [`AccessRecord::time`] to the last byte.
    pub duration: Duration,
    /// Part of the duration that was spent waiting for a backend's first byte (all attempts together).
    pub upstream: Duration,
    /// Part of the duration that was spent on hold, because no backend was eligible.
    pub held: Duration,
    /// Name of the user who has authenticated with a password.
    pub user: &'a str,
    /// Name of the route, if it has one.
    pub route: &'a str,
    /// Name of the pool.
    pub pool: &'a str,
    /// Name of the backend that answered, or that was tried last.
    pub backend: &'a str,
    /// Number of attempts on backends or connections.
    pub attempts: u32,
    /// Why the request was tried again, or was not.
    pub retry_reason: &'a str,
    /// State of a sticky session: `new`, `kept` or `moved`.
    pub sticky: &'a str,
    /// Value of `X-Request-Id`.
    pub request_id: &'a [u8],
    /// Value of `User-Agent`.
    pub user_agent: &'a [u8],
    /// Value of `Referer`.
    pub referer: &'a [u8],
    /// How the request ended, unless it ended well: `client_closed`, `cut`, `upstream_died`, `timeout`, …
    pub end: &'a str,
    /// Why lameduck answered itself, instead of a backend.
    pub cause: &'a str,
    /// Restarts that the request met, and how, such as `ID:served,ID:retried`.
    pub restarts: &'a str,
    /// Trace id; 0: there is no trace.
    pub trace_id: u128,
}
