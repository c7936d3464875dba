//! `[pool.hold]`.

use crate::config::declare::{section, words};
use crate::config::forms::{
    ByteSize, COUNT, KeyContext, ValueForm as _, custom, integer, some_time,
};
use crate::config::reader::ValueError;
use crate::config::values::ValueResult;
use std::time::Duration;
use toml::de::DeValue;

section! {
    /// What happens to requests while no backend is ready.
    [pool.hold]
    #[derive(Debug, Clone, PartialEq)]
    pub struct HoldConfig {
        /// Let them wait; answer 503 at once; or try backends that are down or drain themselves (never those that somebody
        /// else drained).
        on_empty: OnEmptyConfig = "hold";
        /// Longest wait; then 503 with `Retry-After`.
        timeout: Duration = "10s", some_time();
        /// Requests that may wait at once. As many as come in `timeout` at 1,000 a second.
        max_requests: usize = 10000, custom("integer", read_requests, usize::to_string).public();
        /// Memory for the bodies of waiting requests.
        ///
        /// In bytes.
        max_bytes: u64 = "16MiB", custom("size", read_bytes, |bytes| ByteSize.print(bytes)).public();
    }
}

words! {
    /// What to do while no backend is eligible.
    pub enum OnEmptyConfig {
        /// Hold requests.
        Hold = "hold",
        /// Answer 503 at once.
        Fail = "fail",
        /// Try backends that are down, or drained by the app itself.
        FailOpen = "fail_open",
    }
}

fn read_requests(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<usize> {
    match integer(COUNT).read(key, value)? {
        0 => Err(ValueError::new(
            format!("`{}` can't be 0: no request could wait", key.name),
            "write `on_empty = \"fail\"` instead, if none shall wait",
        )),
        number => Ok(number),
    }
}

fn read_bytes(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<u64> {
    match ByteSize.read(key, value)? {
        0 => Err(ValueError::new(
            format!(
                "`{}` can't be 0: no request with a body could wait",
                key.name
            ),
            "write a size such as \"16MiB\"",
        )),
        bytes => Ok(bytes),
    }
}
