//! `[server]`.

use super::pool::name;
use crate::config::declare::section;
use crate::config::error_pages::{ErrorPages, PageTable};
use crate::config::forms::{
    ByteSize, COUNT, EmptyIsNone, FilePath, HeadSize, NamedForm, OrAuto, ZeroIsNone, integer,
    some_time,
};
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// Threads, shutdown, and the limits of client connections.
    [server]
    #[derive(Debug, Clone, PartialEq)]
    pub struct ServerConfig {
        /// Threads that carry traffic. `0`: one for each core. A change needs a restart.
        #[needs(restart)]
        threads: usize = 0, integer(0..=1024);
        /// How long to go on accepting connections after TERM, while `/-/ready` already says 503, so that whoever
        /// routes to this proxy can notice. `"auto"`: until nothing new comes any more; see
        /// [shutdown](shutdown-and-reload.md#until-nothing-new-comes).
        ///
        /// `None`: `"auto"`.
        lame_duck: Option<Duration> = "5s", OrAuto(Duration::form());
        /// The longest time of `"auto"`, here and where a launcher or a hook asks for it (`--lame-duck auto`).
        lame_duck_max: Duration = "20s", some_time();
        /// Hard end of a shutdown, counted from TERM: what is still in flight then is cut. Must be longer than
        /// `lame_duck` (`"auto"`: than `lame_duck_max`); keep it below the supervisor's kill time.
        deadline: Duration = "30s";
        /// Where drains survive a restart of the proxy. `""`: they don't. A change needs a restart.
        #[needs(restart)]
        state_dir: Option<PathBuf> = "", NamedForm("directory", FilePath);
        /// Client connections at once; further ones get a 503 and are closed. `"auto"`: half of the descriptors that
        /// the process may open, and no more than one for each 64KiB of its memory. `0`: no limit.
        ///
        /// `None`: `"auto"`.
        max_connections: Option<usize> = "auto", OrAuto(integer(COUNT));
        /// Of those, from one address (IPv6: from one /64); further ones get a 429 and are closed. The address is the
        /// peer's: everybody behind one proxy or NAT counts as one client. `0`: no limit.
        max_connections_per_client: usize = 0, integer(COUNT);
        /// Requests on one client connection; the response to the last one says `Connection: close`. `0`: no limit.
        max_requests_per_connection: u64 = 0, integer(COUNT);
        /// Requests of HTTP/2 on one client connection at once; further ones are refused, and can be sent again.
        max_concurrent_streams: u32 = 128, integer(1..=10_000).told();
        /// Requests of HTTP/2 that a client may cancel within 10 s on one connection, where these are more than half of
        /// all; then the connection is closed (rapid reset). What it makes the proxy cancel counts, too, and so does
        /// what a backend ends early on one of its sessions. `0`: no limit.
        max_stream_resets: u32 = 500, integer(COUNT);
        /// Time for a request's header block to arrive, from its first byte; then 408.
        header_timeout: Duration = "10s", some_time();
        /// How long a client connection may stay open between two requests.
        idle_timeout: Duration = "60s", some_time();
        /// Longest time without progress while a request's or response's body is on its way to or from the client; then
        /// 408, or the connection is cut.
        body_timeout: Duration = "30s", some_time();
        /// Slowest request body: the client may make the proxy wait for `rate_grace`, and one second more for each so
        /// many bytes sent; then 408. `"auto"`: 128 bytes, after `body_timeout`, for bodies with a `Content-Length`.
        /// `"0"`: no limit.
        ///
        /// Bytes a second. `None`: `"auto"`, which is [`DEFAULT_RATE`].
        min_body_rate: Option<u64> = "auto", OrAuto(NamedForm("size a second", ByteSize));
        /// Slowest taking of a response, counted the same way; then the connection is cut. `"auto"`: 128 bytes, after
        /// `body_timeout`. `"0"`: no limit.
        ///
        /// Bytes a second. `None`: `"auto"`, which is [`DEFAULT_RATE`].
        min_response_rate: Option<u64> = "auto", OrAuto(NamedForm("size a second", ByteSize));
        /// What a configured `min_body_rate` or `min_response_rate` leaves to a client that sends or takes nothing.
        rate_grace: Duration = "5s", some_time();
        /// For a whole request with its response, from its complete header block on: 408 where the client is late, 504
        /// where the backend is, cut where the response had begun. Not for upgrades and event streams. `"0s"`: no
        /// limit.
        total_timeout: Option<Duration> = "0s", ZeroIsNone(Duration::form());
        /// After so much silence the kernel asks a client or backend whether it is still there, six times at most, a
        /// sixth of it apart; one that doesn't answer is gone (2 minutes by default). Whole seconds, up to 9 hours.
        /// `"0s"`: never, and a peer that vanishes holds its WebSocket for ever.
        tcp_keepalive: Option<Duration> = "60s", ZeroIsNone(Duration::form());
        /// Largest request header block; beyond: 431. At least 1KiB, at most 1MiB.
        ///
        /// In bytes.
        max_header: usize = "64KiB", HeadSize;
        /// Longest request target; beyond: 414. At least 1KiB, at most 1MiB.
        ///
        /// In bytes.
        max_uri: usize = "16KiB", HeadSize;
        /// Largest request body; beyond: 413. `"0"`: no limit.
        ///
        /// In bytes.
        max_body: u64 = "0", ByteSize;
        /// What all clients together may make the proxy keep: long header blocks, bodies on their way, responses not
        /// taken yet. Where it is used up, the requests that have been incomplete for longest are answered with 408;
        /// small requests are always served. `"auto"`: a sixteenth of the memory that the process may use, at least
        /// 32MiB and at most 512MiB. `"0"`: no limit.
        ///
        /// In bytes. `None`: `"auto"`.
        max_memory: Option<u64> = "auto", OrAuto(ByteSize);
        /// Of that, the requests of one HTTP/2 connection, as far as they need more than 4KiB each; further ones are
        /// refused, and can be sent again. `"0"`: no limit.
        ///
        /// In bytes.
        max_memory_per_connection: u64 = "512KiB", ByteSize;
        /// Where the proxy is, such as a data centre: backends in the same [zone](balancing.md#zones) come first. `""`:
        /// nobody comes first.
        zone: Option<String> = "", EmptyIsNone("eu-1a", name());
        /// Pages for browsers in the place of lameduck's own errors: files by status or class, such as `"502"` or `"5xx"`.
        /// Routes may have others. See [error pages](error-pages.md).
        error_pages: ErrorPages = {}, PageTable;
    }
}

/// Slowest rate if none is configured, in bytes per second. It is meant for clients that are slow on purpose: clients
/// that have transferred a few KiB are far from it, and it counts only after `body_timeout`.
pub const DEFAULT_RATE: u64 = 128;

impl ServerConfig {
    /// Returns the longest lame duck of a shutdown.
    pub fn longest_lame_duck(&self) -> Duration {
        self.lame_duck.unwrap_or(self.lame_duck_max)
    }

    /// Returns the slowest rate of a request's body, and the time that the client has before it counts. A body
    /// without a length may be a stream of events, so only a configured rate counts.
    pub fn body_pace(&self, has_length: bool) -> (u64, Duration) {
        match self.min_body_rate {
            None if !has_length => (0, Duration::ZERO),
            rate => self.pace(rate),
        }
    }

    /// Returns the same for the client's reading of a response.
    pub fn response_pace(&self) -> (u64, Duration) {
        self.pace(self.min_response_rate)
    }

    fn pace(&self, configured: Option<u64>) -> (u64, Duration) {
        match configured {
            Some(rate) => (rate, self.rate_grace),
            None => (DEFAULT_RATE, self.body_timeout),
        }
    }
}
