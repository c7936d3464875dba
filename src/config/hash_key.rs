//! Key of balancing by hash: `hash_on` and `hash_load`.

use toml::de::DeValue;

use super::LimitKey;
use super::forms::{CustomForm, KeyContext, custom};
use super::print;
use super::reader::ConfigFindings;
use super::routes::read_request_key;
use super::sections::{BalanceConfig, PoolConfig};
use super::values::{self, ValueResult, wrong};

/// The property by which requests are assigned to backends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashKey {
    /// The client's address.
    #[default]
    Client,
    /// The path with its query, as it was sent.
    Uri,
    /// The path without its query, as it was sent.
    Path,
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Uri => f.write_str("uri"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

/// Returns the form of a [`HashKey`].
pub(super) fn hash_key() -> CustomForm<HashKey> {
    custom(
        "\"client\", \"uri\", \"path\", \"header:NAME\" or \"cookie:NAME\"",
        read_hash_key,
        |key| print::text(&key.to_string()),
    )
}

fn read_hash_key(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<HashKey> {
    const WAYS: &str = "write \"client\", \"uri\", \"path\", \"header:NAME\" or \"cookie:NAME\"";
    let written = values::text(key.name, value, "client")?;
    let refused = |remedy: &str| {
        Err(wrong(
            key.name,
            values::quoted(written),
            "there is nothing of that name to hash",
            remedy,
        ))
    };
    match written {
        "uri" => Ok(HashKey::Uri),
        "path" => Ok(HashKey::Path),
        "url" | "request_uri" | "$request_uri" => refused("write \"uri\""),
        "$uri" => refused("write \"path\""),
        "route" => refused(WAYS),
        _ => Ok(match read_request_key(key, value, WAYS)? {
            LimitKey::Header(name) => HashKey::Header(name),
            LimitKey::Cookie(name) => HashKey::Cookie(name),
            LimitKey::Client | LimitKey::Route => HashKey::Client,
        }),
    }
}

/// Returns the form of a backend's largest number of requests in flight, as a factor of its share: `1.25`, or `0` for
/// no limit.
pub(super) fn hash_load() -> CustomForm<f64> {
    custom("factor, 1 to 100, or 0", read_load, |load| {
        format!("{load:?}")
    })
    .public()
}

fn read_load(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<f64> {
    let remedy = format!(
        "write a factor without quotes, such as `{} = 1.25`; 0 is no bound",
        key.name
    );
    let written = values::decimal(key.name, value, &remedy)?;
    let why = match written.parse::<f64>() {
        Ok(load) if load == 0.0 || (1.0..=100.0).contains(&load) => return Ok(load.abs()),
        Ok(load) if load > 0.0 && load < 1.0 => {
            "less than its part for each backend would leave requests without any"
        }
        _ => "it must be from 1 to 100, or 0",
    };
    Err(wrong(key.name, written, why, remedy))
}

/// Warns about keys for balancing by hash if the algorithm does not hash.
pub(super) fn validate_hash(path: &str, pool: &PoolConfig, f: &mut ConfigFindings) {
    let hashes = matches!(
        pool.balance,
        BalanceConfig::Hash | BalanceConfig::KetamaNginx
    );
    let default = PoolConfig::named("app");
    // Does not check whether they are written, because `check --print` writes the defaults, too.
    for (key, is_default, is_used) in [
        ("hash_on", pool.hash_on == default.hash_on, hashes),
        (
            "hash_load",
            pool.hash_load == default.hash_load,
            pool.balance == BalanceConfig::Hash,
        ),
    ] {
        let at = format!("{path}.{key}");
        if !is_default && !is_used && f.sound(&[&at, &format!("{path}.balance")]) {
            let remedy = match hashes {
                true => "remove it, or write `balance = \"hash\"`: nginx knows no bound",
                false => "add `balance = \"hash\"`, or remove it",
            };
            let balance = pool.balance.as_str();
            f.warning(
                f.place(&at),
                format!("`{key}` says nothing with `balance = \"{balance}\"`"),
                remedy,
            );
        }
    }
}
