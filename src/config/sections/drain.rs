//! `[pool.drain]`.

use crate::config::declare::section;
use std::time::Duration;

section! {
    /// How backends leave.
    [pool.drain]
    #[derive(Debug, Clone, PartialEq)]
    pub struct DrainConfig {
        /// How long a drain may take; what is still in flight then is cut. `lameduck drain --timeout` overrides it.
        deadline: Duration = "30s";
        /// WebSockets and event streams are closed in order, spread over this long before the deadline. At most
        /// `deadline`.
        close_spread: Duration = "5s";
        /// Whether an app that says 503 of itself gets a deadline. `false`: its work is never cut, so that a database
        /// outage costs no request.
        cut_on_503: bool = false;
    }
}
