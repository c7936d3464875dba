//! `[pool.slow_start]`.

use crate::config::declare::section;
use std::time::Duration;

section! {
    /// A gentle start.
    [pool.slow_start]
    #[derive(Debug, Clone, PartialEq)]
    pub struct SlowStart {
        /// How long a backend that became ready takes to reach its full share. `"0s"`: at once.
        window: Duration = "0s";
    }
}
