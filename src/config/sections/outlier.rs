//! `[pool.outlier]`.

use super::retry::read_share;
use crate::config::declare::section;
use crate::config::forms::{KeyContext, custom, integer, some_time};
use crate::config::reader::{ConfigFindings, ValueError, describe};
use crate::config::values::{ValueResult, wrong};
use std::time::Duration;
use toml::de::DeValue;

section! {
    /// Backends that do much worse than the others get no requests for a while ([outliers](outlier.md)). Leave the section
    /// out and only probes decide; an empty one has these defaults.
    [pool.outlier]
    #[derive(Debug, Clone, PartialEq)]
    pub struct OutlierConfig {
        /// So many errors in a row eject a backend, while another one does better. `0`: they don't.
        consecutive_errors: u32 = 5, integer(0..=10_000).told();
        /// So does this share of errors among its requests in `window`. `0`: it doesn't.
        error_rate: f64 = 0.5, custom("number, 0 to 1", read_share, print_number).public();
        /// So does a median time to the answer of so many times the pool's, and 20 ms more at least; three backends have to
        /// have enough requests for that. `0`: it doesn't.
        latency_factor: f64 = 5.0, custom("number, 1.5 to 1000, or 0", read_factor, print_number).public();
        /// `error_rate` and `latency_factor` count for backends with so many requests in `window`.
        min_requests: u32 = 20, integer(1..=1_000_000).told();
        /// How far back `error_rate` and `latency_factor` look. A second or more.
        window: Duration = "10s", some_time();
        /// The share of the pool that may be ejected, together with what is drained, down or starting. One may be in any
        /// case, and never the last that is ready.
        max_ejected: f64 = 0.3, custom("number, above 0 to 1", read_most, print_number).public();
        /// How long the first ejection lasts; each further one lasts so much longer.
        ejection: Duration = "30s", some_time();
        /// No ejection lasts longer.
        max_ejection: Duration = "5m", some_time();
    }
}

fn print_number(number: &f64) -> String {
    format!("{number:?}")
}

fn read_most(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<f64> {
    let is_number = matches!(value, DeValue::Float(_) | DeValue::Integer(_));
    match read_share(key, value) {
        Ok(share) if share > 0.0 => Ok(share),
        Ok(_) | Err(_) if is_number => Err(ValueError::new(
            format!(
                "`{}` is no share of the pool: nobody could be ejected by it",
                key.name
            ),
            format!(
                "write a number above 0, up to 1: `{} = 0.3` is 30 %",
                key.name
            ),
        )),
        other => other,
    }
}

fn read_factor(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<f64> {
    let key = key.name;
    let written = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        other => {
            return Err(ValueError::new(
                format!("`{key}` is {}, but must be a number", describe(other)),
                format!("write how many times slower is too slow, without quotes: `{key} = 5`"),
            ));
        }
    };
    match written.parse::<f64>() {
        Ok(factor) if factor == 0.0 || (1.5..=1000.0).contains(&factor) => Ok(factor.abs()),
        _ => Err(wrong(
            key,
            written,
            "it is how many times the pool's median is too slow, from 1.5 to 1000",
            format!("write `{key} = 5`, or `{key} = 0` if slow backends shall stay"),
        )),
    }
}

/// Checks the values in combination.
pub(in crate::config) fn validate(path: &str, outlier: &OutlierConfig, f: &mut ConfigFindings) {
    let key = |name: &str| format!("{path}.{name}");
    let (window, ejection, longest) = (key("window"), key("ejection"), key("max_ejection"));
    if outlier.window < Duration::from_secs(1) && f.sound(&[&window]) {
        f.error(
            f.place(&window),
            "`window` is shorter than a second: chance would decide".to_owned(),
            "write a time such as \"10s\", in which each backend gets `min_requests` and more",
        );
    }
    if outlier.max_ejection < outlier.ejection && f.sound(&[&ejection, &longest]) {
        let (at, also) = (f.place(&longest), f.place(&ejection));
        f.error(
            at,
            "`max_ejection` is shorter than `ejection`: the first one would be too long already"
                .to_owned(),
            "make `max_ejection` as long as `ejection`, or longer",
        )
        .also(also, "and this is how long the first one lasts");
    }
    let is_idle = outlier.consecutive_errors == 0
        && outlier.error_rate == 0.0
        && outlier.latency_factor == 0.0;
    if is_idle {
        f.warning(
            f.place(path),
            "`consecutive_errors`, `error_rate` and `latency_factor` are all 0: nobody is ever ejected".to_owned(),
            "leave the section out, or let one of them be more than 0",
        );
    }
}
