//! `[pool.retry]`.

use crate::config::declare::section;
use crate::config::forms::{KeyContext, custom, integer};
use crate::config::values::{self, ValueResult, wrong};
use toml::de::DeValue;

section! {
    /// Second tries of requests that failed without an answer. Only what is safe is tried again.
    [pool.retry]
    #[derive(Debug, Clone, PartialEq)]
    pub struct RetryConfig {
        /// Tries of one request that may have reached an app, the first included. `1`: no retry. Those that broke after a
        /// second or more don't count, within limits.
        attempts: u32 = 3, integer(1..=100).told();
        /// Retries, as a share of the pool's requests, where it is not proven that the backend never saw the request.
        budget: f64 = 0.2, custom("number, 0 to 1", read_share, |share| format!("{share:?}")).public();
        /// Whether a request with an `Idempotency-Key` may be tried again, whatever its method.
        idempotency_key: bool = false;
    }
}

/// Reads a share, from 0 to 1.
pub(super) fn read_share(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<f64> {
    let key = key.name;
    let remedy = format!("write a share from 0 to 1, without quotes: `{key} = 0.2` is 20 %");
    let written = values::decimal(key, value, &remedy)?;
    let why = "it is a share of the requests, from 0 to 1";
    match written.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share.abs()),
        Ok(percent) if percent > 1.0 && percent <= 100.0 => {
            let remedy = format!("write `{key} = {}` for {percent} %", percent / 100.0);
            Err(wrong(key, written, why, remedy))
        }
        _ => Err(wrong(
            key,
            written,
            why,
            format!("write `{key} = 0.2` for 20 %"),
        )),
    }
}
