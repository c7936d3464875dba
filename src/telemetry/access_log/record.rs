//! What a line tells. `src/proxy/transaction/record.rs` fills it, `format.rs` writes it.
//!
//! The compiler asks for a new field in the former, for requests, and in `room` of the latter. A field that `format.rs`
//! does not write, it passes over; the tests don't.

use std::time::Duration;

use crate::core::Time;

/// One request, as the data plane saw it. Everything is borrowed; an empty or zero field is "not known".
#[derive(Debug, Clone, Default)]
pub struct AccessRecord<'a> {
    /// When the request's first byte was read, on [`crate::rt::clock`].
    pub time: Time,
    /// The client's IP address; behind trusted proxies, the one that they tell of.
    pub client: &'a str,
    /// As sent; may be any bytes.
    pub method: &'a [u8],
    /// The request target, as sent.
    pub target: &'a [u8],
    /// The `Host` field or the target's authority.
    pub host: &'a [u8],
    /// `HTTP/1.1` and so on.
    pub version: &'static str,
    /// The status that was sent; 0: none.
    pub status: u16,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// From [`AccessRecord::time`] to the last byte.
    pub duration: Duration,
    /// Of that, waiting for a backend's first byte (all attempts together).
    pub upstream: Duration,
    /// Of that, on hold because nothing was eligible.
    pub held: Duration,
    /// The user that a password has told.
    pub user: &'a str,
    /// The name of the route, if it has one.
    pub route: &'a str,
    /// The pool.
    pub pool: &'a str,
    /// The backend that answered, or was tried last.
    pub backend: &'a str,
    /// How many backends or connections were tried.
    pub attempts: u32,
    /// Why it was tried again.
    pub retry_reason: &'a str,
    /// What has become of its session: `new`, `kept` or `moved`.
    pub sticky: &'a str,
    /// `X-Request-Id`.
    pub request_id: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `Referer`.
    pub referer: &'a [u8],
    /// How it ended, where not well: `client_closed`, `cut`, `upstream_died`, `timeout`, …
    pub end: &'a str,
    /// Why lameduck answered by itself.
    pub cause: &'a str,
    /// What it was to restarts of backends, such as `ID:served,ID:retried`.
    pub restarts: &'a str,
    /// The trace that it belongs to; 0: none.
    pub trace_id: u128,
}
