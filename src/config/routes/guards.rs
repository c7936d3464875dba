//! Requirements of a route on its clients, as written in the file: the forms of its values, and checks in
//! combination.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::conditions::check_header_name;
use crate::config::forms::{CustomForm, KeyContext, SpannedProblems, ValueForm, custom};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::{ConfigFindings, ValueError, describe};
use crate::config::values::{ValueResult, integer, quoted, text, wrong};
use crate::config::{ClientAuth, Config, Route};

/// A number of requests in each second, minute or hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRate {
    /// Number of requests.
    pub count: NonZeroU32,
    /// Length of the period.
    pub period: Duration,
}

/// Key by which requests are counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// The client's address; of IPv6, its first 64 bits.
    #[default]
    Client,
    /// All requests of the route together.
    Route,
    /// The value of this header field.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
}

/// Limit of the concurrent requests with the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionLimit {
    /// Most concurrent requests.
    pub limit: NonZeroU32,
    /// Key.
    pub key: LimitKey,
}

/// The periods of rates, in seconds.
const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// Largest rate: more than any server answers.
const MAX_RATE: u32 = 1_000_000;

/// Returns the form of a [`RequestRate`].
pub(in crate::config) fn request_rate() -> CustomForm<RequestRate> {
    let print = |rate: &RequestRate| {
        let seconds = rate.period.as_secs();
        let unit = PERIODS.iter().find(|(_, length)| *length == seconds);
        print::text(&format!(
            "{}/{}",
            rate.count,
            unit.map_or("s", |(unit, _)| unit)
        ))
    };
    custom("requests per s, m or h", read_rate, print)
}

fn read_rate(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<RequestRate> {
    let written = text(key.name, value, "10/s")?;
    let wrong = |why: String, remedy: String| Err(wrong(key.name, quoted(written), why, remedy));
    let example = "write a number and a unit, such as \"10/s\", \"300/m\" or \"1000/h\"";
    let Some((count, unit)) = written.split_once('/') else {
        return wrong("it has no unit".into(), example.into());
    };
    let (count, unit) = (count.trim(), unit.trim());
    let Some((_, seconds)) = PERIODS.iter().find(|(name, _)| *name == unit) else {
        let why = format!("`{unit}` is not a unit of rates");
        let near = match unit {
            "sec" | "second" | "seconds" => Some("s"),
            "min" | "minute" | "minutes" => Some("m"),
            "hour" | "hours" => Some("h"),
            _ => None,
        };
        let remedy = near.map_or(example.into(), |unit| format!("write \"{count}/{unit}\""));
        return wrong(why, remedy);
    };
    let remedy = || format!("write a whole number from 1 to {MAX_RATE}");
    match count.parse::<u32>() {
        Ok(0) => wrong(
            "no request could ever pass".into(),
            "write `respond` or `deny` to refuse all of them".into(),
        ),
        Ok(number) if number > MAX_RATE => wrong(format!("{number} are too many"), remedy()),
        Ok(number) => Ok(RequestRate {
            count: NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN),
            period: Duration::from_secs(*seconds),
        }),
        Err(_) => wrong(format!("`{count}` is no number of requests"), remedy()),
    }
}

/// Returns the form of a [`LimitKey`].
pub(in crate::config) fn limit_key() -> CustomForm<LimitKey> {
    custom(
        "\"client\", \"route\", \"header:NAME\" or \"cookie:NAME\"",
        read_limit_key,
        |key| print::text(&key.to_string()),
    )
}

impl std::fmt::Display for LimitKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Route => f.write_str("route"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

fn read_limit_key(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<LimitKey> {
    read_request_key(
        key,
        value,
        "write \"client\", \"route\", \"header:NAME\" or \"cookie:NAME\"",
    )
}

/// Reads a property by which requests are grouped. `ways`: the permitted forms, for advice.
pub(in crate::config) fn read_request_key(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
    ways: &str,
) -> ValueResult<LimitKey> {
    let written = text(key.name, value, "client")?;
    let wrong = |why: &str, remedy: &str| Err(wrong(key.name, quoted(written), why, remedy));
    match written.split_once(':') {
        None if written == "client" => Ok(LimitKey::Client),
        None if written == "route" => Ok(LimitKey::Route),
        Some(("header", name)) if name.eq_ignore_ascii_case("cookie") => {
            wrong("cookies are told apart by name", "write \"cookie:NAME\"")
        }
        Some(("header", name)) if is_token(name) => match check_header_name(name) {
            Ok(()) => Ok(LimitKey::Header(name.into())),
            Err((why, _)) => wrong(
                why,
                "name another header field, such as \"header:X-Api-Key\"",
            ),
        },
        Some(("cookie", name)) if is_token(name) => Ok(LimitKey::Cookie(name.into())),
        Some(("header" | "cookie", _)) => wrong(
            "such a name can't be",
            "write letters, digits, dashes and underscores behind the colon",
        ),
        None if ["ip", "address", "remote_addr", "client_ip"].contains(&written) => {
            wrong("that is no key", "write \"client\"")
        }
        _ => wrong("that is no key", ways),
    }
}

/// Form of `0`, a number, or `{ limit = 20, key = "header:X-Api-Key" }`.
pub(in crate::config) struct ConnectionForm;

const MOST_CONNECTIONS: std::ops::RangeInclusive<i64> = 0..=1_000_000;

impl ValueForm<Option<ConnectionLimit>> for ConnectionForm {
    fn name(&self) -> String {
        "integer, or table".into()
    }

    fn read(
        &self,
        key: &KeyContext<'_>,
        value: &DeValue<'_>,
    ) -> ValueResult<Option<ConnectionLimit>> {
        if !matches!(value, DeValue::Integer(_)) {
            return Err(ValueError::new(
                format!(
                    "`{}` is {}, but must be a number or a table",
                    key.name,
                    describe(value)
                ),
                "write `connections = 20`, or `connections = { limit = 20, key = \"header:X-Api-Key\" }`",
            ));
        }
        let number = integer(key.name, value, &MOST_CONNECTIONS)?;
        let limit = u32::try_from(number).ok().and_then(NonZeroU32::new);
        Ok(limit.map(|limit| ConnectionLimit {
            limit,
            key: LimitKey::Client,
        }))
    }

    fn print(&self, limit: &Option<ConnectionLimit>) -> String {
        match limit {
            None => "0".into(),
            Some(ConnectionLimit {
                limit,
                key: LimitKey::Client,
            }) => limit.to_string(),
            Some(ConnectionLimit { limit, key }) => format!(
                "{{ limit = {limit}, key = {} }}",
                print::text(&key.to_string())
            ),
        }
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Option<ConnectionLimit>> {
        let DeValue::Table(table) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        let before = problems.len();
        let (mut limit, mut counted) = (None, LimitKey::Client);
        for (name, value) in table {
            let below = KeyContext {
                name: name.get_ref(),
                ..*key
            };
            let problem = match &**name.get_ref() {
                "limit" => match integer(below.name, value.get_ref(), &(1..=1_000_000)) {
                    Ok(number) => {
                        limit = u32::try_from(number).ok().and_then(NonZeroU32::new);
                        continue;
                    }
                    Err(problem) => (value.span(), problem),
                },
                "key" => match read_limit_key(&below, value.get_ref()) {
                    Ok(read) => {
                        counted = read;
                        continue;
                    }
                    Err(problem) => (value.span(), problem),
                },
                other => (
                    name.span(),
                    unknown_key(key.name, other, "`limit` and `key` are its keys"),
                ),
            };
            problems.push(problem);
        }
        match limit {
            Some(limit) => Some(Some(ConnectionLimit {
                limit,
                key: counted,
            })),
            None => {
                if problems.len() == before {
                    let problem = ValueError::new(
                        format!("`{}` has no `limit`", key.name),
                        "add `limit = 20`: how many requests of one key may be served at once",
                    );
                    problems.push((value.span(), problem));
                }
                None
            }
        }
    }
}

pub(super) fn unknown_key(key: &str, other: &str, remedy: &str) -> ValueError {
    ValueError::new(format!("`{key}` has no key {}", quoted(other)), remedy)
}

impl Route {
    /// Whether the route has requirements on its clients that are checked first, or overrides settings of the pool or
    /// the server.
    pub fn is_guarded(&self) -> bool {
        let has_own_settings = self.max_body.is_some()
            || self.total_timeout.is_some()
            || self.read_timeout.is_some()
            || self.request_buffering.is_some()
            || self.retry.is_some()
            || self.hold.is_some();
        self.is_stopped_before_pool() || has_own_settings
    }

    /// Whether guards, a redirect to HTTPS or files come before its pool.
    pub fn is_stopped_before_pool(&self) -> bool {
        self.has_guards() || self.redirect_https.is_some() || self.has_files_before_pool()
    }

    /// Whether the route has requirements on its clients that are checked first.
    pub fn has_guards(&self) -> bool {
        !self.allow.is_empty()
            || !self.deny.is_empty()
            || self.rate.is_some()
            || self.connections.is_some()
            || self.auth.is_some()
            || self.client_certificate.is_some()
    }
}

/// Checks a route's guards in combination.
pub(super) fn validate_guards(config: &Config, f: &mut ConfigFindings) {
    for (i, route) in config.routes.iter().enumerate() {
        let at = |key: &str| format!("route[{i}].{key}");
        super::authentication::validate_auth(route, i, f);
        if route.client_certificate.is_some()
            && f.sound(&[&at("client_certificate"), "listener"])
            && (0..config.listeners.len())
                .all(|n| f.sound(&[&format!("listener[{n}].tls.client_auth")]))
            && !config.listeners.iter().any(|listener| {
                let tls = listener.tls.as_ref();
                tls.is_some_and(|tls| tls.client_auth != ClientAuth::Off)
            })
        {
            f.error(
                f.place(&at("client_certificate")),
                "no listener asks clients for certificates: every request of this route would get 403",
                "write `client_auth = \"optional\"` and `client_ca` into a [listener.tls]",
            );
        }
        for (j, network) in route.deny.iter().enumerate() {
            let covers = |allowed: &&ipnet::IpNet| network.contains(*allowed);
            if f.sound(&[&at("allow"), &at("deny")])
                && !route.allow.is_empty()
                && route.allow.iter().all(|allowed| covers(&allowed))
            {
                let place = f.place(&at("deny"));
                f.error(
                    place,
                    format!(
                        "`deny` has \"{}\", and with it all of `allow`: nobody would get in",
                        route.deny[j]
                    ),
                    "`deny` wins over `allow`: remove the one or the other; what no `allow` has is refused anyway",
                );
                break;
            }
        }
    }
}
