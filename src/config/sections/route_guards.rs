//! Requirements of a route on its clients that are checked first, and settings that override those of its pool:
//! `[route.rate]`, `[route.auth]`, `[route.retry]` and `[route.hold]`.

use super::hold::OnEmptyConfig;
use crate::config::built_client::BuiltClient;
use crate::config::declare::section;
use crate::config::forms::{EmptyIsNone, FilePath, OrAuto, custom, integer, list, some_time};
use crate::config::print;
use crate::config::routes::{
    ForwardAddress, LimitKey, RequestRate, copied_name, forward_address, limit_key, realm,
    request_rate,
};
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// How fast requests of one key may come; the others get 429: see [Limits of a route](limits.md#limits-of-a-route).
    [route.rate]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RouteRate {
        /// Requests per second (`/s`), minute (`/m`) or hour (`/h`).
        #[no_default(needed)]
        limit: RequestRate = "10/s", request_rate();
        /// Requests that may come at once. `0`: as many as `limit` has in its second, minute or hour.
        burst: u32 = 0, integer(0..=1_000_000).told();
        /// What is counted: each `"client"`, each value of `"header:X-Api-Key"` or `"cookie:NAME"`, or the whole
        /// `"route"`. Requests without that header field or cookie count for their client.
        key: LimitKey = "client", limit_key();
    }
}

section! {
    /// Who may come. `basic` or `forward`. See [Authentication](limits.md#authentication).
    [route.auth]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RouteAuth {
        /// A file of users and hashes of their passwords, as `htpasswd -B` writes it. Read at each reload.
        #[no_default(optional)]
        basic: Option<PathBuf> = "/etc/lameduck/htpasswd", FilePath;
        /// What browsers show when they ask for the password.
        realm: String = "restricted", realm();
        /// The request header field by which the app learns the user's name. `""`: it doesn't.
        user_header: Option<String> = "", EmptyIsNone("X-User", custom("header field", copied_name, |name| print::text(name)));
        /// Whether the app gets the `Authorization` that `basic` has checked.
        keep_authorization: bool = false;
        /// A server that is asked about each request, such as `"http://127.0.0.1:4180/oauth2/auth"`: 2xx lets it pass, any
        /// other answer is the client's.
        forward: Option<ForwardAddress> = "", EmptyIsNone("http://127.0.0.1:4180/verify", forward_address());
        /// Header fields of that server's 2xx answer that the app gets, such as `["X-User"]`; the client's own are removed.
        copy: Vec<String> = [], list("list of header fields", "[\"X-User\"]", custom("header field", copied_name, |name| print::text(name)));
        /// How long that server may take; then the client gets 504.
        timeout: Duration = "5s", some_time();
    }
    state {
        /// The users, ready for use; `None` until the file has been read.
        users: Option<BuiltClient> = None, |_| None;
    }
}

section! {
    /// The pool's `[pool.retry]`, for this route's requests. `"auto"`: as the pool has it.
    [route.retry]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RouteRetry {
        /// As `attempts` in `[pool.retry]`.
        attempts: Option<u32> = "auto", OrAuto(integer(1..=100).told());
        /// As `idempotency_key` in `[pool.retry]`.
        idempotency_key: Option<bool> = "auto", OrAuto(bool::form());
    }
}

section! {
    /// The pool's `[pool.hold]`, for this route's requests. `"auto"`: as the pool has it.
    [route.hold]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RouteHold {
        /// As `on_empty` in `[pool.hold]`.
        on_empty: Option<OnEmptyConfig> = "auto", OrAuto(OnEmptyConfig::form());
        /// As `timeout` in `[pool.hold]`.
        timeout: Option<Duration> = "auto", OrAuto(some_time());
    }
}
