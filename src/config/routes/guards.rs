//! What a route asks of its clients, as the file has it: the forms of its values, and what fits together.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::conditions::check_header_name;
use crate::config::forms::{CustomForm, KeyContext, SpannedProblems, ValueForm, custom};
use crate::config::health::is_token;
use crate::config::print;
use crate::config::reader::{ConfigFindings, ValueError, describe};
use crate::config::section_traits::ConfigSection as _;
use crate::config::values::{Read, integer, quoted, text, wrong};
use crate::config::{ClientAuth, Config, Route, RouteAuth};

/// So many requests in each second, minute or hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestRate {
    /// Requests.
    pub count: NonZeroU32,
    /// In each of these.
    pub period: Duration,
}

/// What requests are counted by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// The client's address; of IPv6, its first 64 bits.
    #[default]
    Client,
    /// All requests of the route together.
    Route,
    /// A header field's value.
    Header(String),
    /// A cookie's value.
    Cookie(String),
}

/// How many requests of one key may be served at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionLimit {
    /// So many.
    pub limit: NonZeroU32,
    /// Of what.
    pub key: LimitKey,
}

/// What a route asks of its clients' certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CertificateDemand {
    /// The subject, as `X-Client-Cert-Subject` tells it. `None`: any.
    pub subject: Option<String>,
    /// One of the alternative names is one of these, as `X-Client-Cert-San` tells them. Empty: any.
    pub san: Vec<String>,
}

/// Where an authentication server is: `http://HOST:PORT/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardAddress {
    /// Host and port, as `Host` has them.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

/// The periods of rates.
const PERIODS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

/// More than any server answers.
const MAX_RATE: u32 = 1_000_000;

/// The form of a [`RequestRate`].
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

fn read_rate(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<RequestRate> {
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

/// The form of a [`LimitKey`].
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

fn read_limit_key(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<LimitKey> {
    let written = text(key.name, value, "client")?;
    let wrong = |why: &str, remedy: &str| Err(wrong(key.name, quoted(written), why, remedy));
    match written.split_once(':') {
        None if written == "client" => Ok(LimitKey::Client),
        None if written == "route" => Ok(LimitKey::Route),
        Some(("header", name)) if name.eq_ignore_ascii_case("cookie") => {
            wrong("cookies are counted by name", "write \"cookie:NAME\"")
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
        _ => wrong(
            "that is no key",
            "write \"client\", \"route\", \"header:NAME\" or \"cookie:NAME\"",
        ),
    }
}

/// `0`, a number, or `{ limit = 20, key = "header:X-Api-Key" }`.
pub(in crate::config) struct ConnectionForm;

const MOST_CONNECTIONS: std::ops::RangeInclusive<i64> = 0..=1_000_000;

impl ValueForm<Option<ConnectionLimit>> for ConnectionForm {
    fn name(&self) -> String {
        "integer, or table".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<ConnectionLimit>> {
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
            let read = self.read(key, value.get_ref());
            return read
                .map_err(|problem| problems.push((value.span(), problem)))
                .ok();
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
                    unknown(key.name, other, "`limit` and `key` are its keys"),
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

fn unknown(key: &str, other: &str, remedy: &str) -> ValueError {
    ValueError::new(format!("`{key}` has no key {}", quoted(other)), remedy)
}

/// `"off"`, `"required"`, or `{ subject = "CN=…", san = ["DNS:…"] }`.
pub(in crate::config) struct CertificateForm;

/// What is written for a demand of a certificate.
const CERTIFICATE_EXAMPLE: &str =
    "write `client_certificate = \"required\"`, or `{ subject = \"CN=…\", san = [\"DNS:…\"] }`";

/// The kinds of alternative names.
const SAN_KINDS: [&str; 4] = ["DNS:", "URI:", "IP:", "email:"];

impl ValueForm<Option<CertificateDemand>> for CertificateForm {
    fn name(&self) -> String {
        "\"off\", \"required\", or table".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<CertificateDemand>> {
        match text(key.name, value, "required")? {
            "off" => Ok(None),
            "required" => Ok(Some(CertificateDemand::default())),
            "optional" => Err(wrong(
                key.name,
                "\"optional\"",
                "a route that takes requests without a certificate asks for nothing",
                "leave it out, or write \"required\"",
            )),
            other => Err(wrong(
                key.name,
                quoted(other),
                "it is neither \"off\" nor \"required\"",
                CERTIFICATE_EXAMPLE,
            )),
        }
    }

    fn print(&self, demand: &Option<CertificateDemand>) -> String {
        let Some(CertificateDemand { subject, san }) = demand else {
            return print::text("off");
        };
        let mut parts = Vec::new();
        if let Some(subject) = subject {
            parts.push(format!("subject = {}", print::text(subject)));
        }
        if !san.is_empty() {
            let names = print::texts_of(san.iter().map(|name| print::text(name)));
            parts.push(format!("san = {names}"));
        }
        match parts.is_empty() {
            true => print::text("required"),
            false => format!("{{ {} }}", parts.join(", ")),
        }
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Option<CertificateDemand>> {
        let DeValue::Table(table) = value.get_ref() else {
            let read = self.read(key, value.get_ref());
            return read
                .map_err(|problem| problems.push((value.span(), problem)))
                .ok();
        };
        let before = problems.len();
        let mut demand = CertificateDemand::default();
        for (name, value) in table {
            match &**name.get_ref() {
                "subject" => match read_subject(value.get_ref()) {
                    Ok(subject) => demand.subject = Some(subject),
                    Err(problem) => problems.push((value.span(), problem)),
                },
                "san" => read_names(value, &mut demand.san, problems),
                other => problems.push((
                    name.span(),
                    unknown(key.name, other, "`subject` and `san` are its keys"),
                )),
            }
        }
        if problems.len() == before && demand == CertificateDemand::default() {
            let problem = ValueError::new(
                format!("`{}` is an empty table", key.name),
                CERTIFICATE_EXAMPLE,
            );
            problems.push((value.span(), problem));
        }
        (problems.len() == before).then_some(Some(demand))
    }
}

fn read_subject(value: &DeValue<'_>) -> Read<String> {
    let subject = text("subject", value, "CN=admin,O=Example")?;
    let is_one = subject.contains('=') && subject.bytes().all(|b| matches!(b, b' '..=b'~'));
    match is_one {
        true => Ok(subject.into()),
        false => Err(wrong(
            "subject",
            quoted(subject),
            "it is no subject as X-Client-Cert-Subject tells it",
            "write it as RFC 4514 has it, such as \"CN=admin,O=Example\"",
        )),
    }
}

fn read_names(
    value: &Spanned<DeValue<'_>>,
    names: &mut Vec<String>,
    problems: &mut Vec<(Range<usize>, ValueError)>,
) {
    let remedy = "write `san = [\"DNS:client.example.org\"]`; kinds are DNS, URI, IP and email";
    let DeValue::Array(items) = value.get_ref() else {
        let message = format!("`san` is {}, but must be a list", describe(value.get_ref()));
        problems.push((value.span(), ValueError::new(message, remedy)));
        return;
    };
    if items.is_empty() {
        let message = "`san` is empty: no certificate would do";
        problems.push((value.span(), ValueError::new(message, remedy)));
    }
    for item in items.iter() {
        match text("san", item.get_ref(), "DNS:client.example.org") {
            Ok(name)
                if SAN_KINDS
                    .iter()
                    .any(|kind| name.len() > kind.len() && name.starts_with(kind))
                    && name.bytes().all(|b| matches!(b, b'!'..=b'~')) =>
            {
                names.push(name.into());
            }
            Ok(name) => {
                let message = format!(
                    "`san` has {}: it is no name as X-Client-Cert-San tells it",
                    quoted(name)
                );
                problems.push((item.span(), ValueError::new(message, remedy)));
            }
            Err(problem) => problems.push((item.span(), problem)),
        }
    }
}

/// The form of a [`ForwardAddress`].
pub(in crate::config) fn forward_address() -> CustomForm<ForwardAddress> {
    custom("URL", read_forward, |address| {
        print::text(&format!("http://{}{}", address.authority, address.target))
    })
}

fn read_forward(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<ForwardAddress> {
    let example = "http://127.0.0.1:4180/verify";
    let url = text(key.name, value, example)?;
    // A password in it is not repeated.
    let shown = if url.contains('@') {
        "\"…\"".into()
    } else {
        quoted(url)
    };
    let wrong = |why: &str, remedy: String| Err(wrong(key.name, shown.clone(), why, remedy));
    let write = || format!("write `{} = \"{example}\"`", key.name);
    if url.starts_with("https://") {
        let why = "authentication servers are not asked over TLS in this version";
        let remedy = "write an http:// address; put a TLS proxy on this host where the server is on another one";
        return wrong(why, remedy.into());
    }
    if url.starts_with("unix:") {
        return wrong("authentication servers are asked over TCP", write());
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return wrong("it is no http:// URL", write());
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.contains('@') {
        let why = "a URL with a user in it";
        return wrong(why, "leave out what stands before the `@`".into());
    }
    if target.contains('#') || authority.contains('#') {
        return wrong("a fragment is sent to nobody", "remove it".into());
    }
    let visible = |b: u8| matches!(b, b'!'..=b'~');
    if !target.bytes().all(visible) || target.starts_with('?') {
        let remedy =
            "write a path, percent-encoded where need be: \"http://127.0.0.1:4180/verify\"";
        return wrong(
            "it has no path, or characters that no path has",
            remedy.into(),
        );
    }
    let host = authority
        .parse::<http::uri::Authority>()
        .ok()
        .filter(|authority| !authority.host().is_empty());
    let Some(host) = host else {
        return wrong("it names no host", write());
    };
    let has_port = host.as_str().len() > host.host().len();
    if has_port && host.port_u16().is_none_or(|port| port == 0) {
        return wrong("its port is none", write());
    }
    Ok(ForwardAddress {
        authority: authority.into(),
        target: if target.is_empty() { "/" } else { target }.into(),
    })
}

/// A header field that the app gets from lameduck.
pub(in crate::config) fn copied_name(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<String> {
    let name = text(key.name, value, "X-User")?;
    let problem = |why: &str, remedy: &str| {
        let message = format!("`{}` has {}: {why}", key.name, quoted(name));
        Err(ValueError::new(message, remedy))
    };
    if !is_token(name) {
        let remedy = "write letters, digits and dashes only";
        return problem("such a name can't be", remedy);
    }
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let is_ours = lower.starts_with("x-forwarded-")
        || ["forwarded", "x-real-ip", "x-request-id", "via"].contains(&&*lower);
    if is_ours {
        let why = "lameduck writes that field by itself";
        return problem(why, "name another one, such as \"X-User\"");
    }
    if ["cookie", "set-cookie", "content-type", "date"].contains(&&*lower) {
        let why = "it is the client's or the answer's own";
        return problem(why, "name another one, such as \"X-User\"");
    }
    match check_header_name(name) {
        Ok(()) => Ok(name.into()),
        Err((why, _)) => problem(why, "name another one, such as \"X-User\""),
    }
}

/// The form of a realm.
pub(in crate::config) fn realm() -> CustomForm<String> {
    custom("text", read_realm, |realm| print::text(realm))
}

fn read_realm(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<String> {
    let realm = text(key.name, value, "admin")?;
    let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    if realm.is_empty() || realm.len() > 200 || !realm.bytes().all(is_plain) {
        return Err(wrong(
            key.name,
            quoted(realm),
            "it must be 1 to 200 printable ASCII characters, without quotes and backslashes",
            "write what people shall read, such as `realm = \"admin\"`",
        ));
    }
    Ok(realm.into())
}

impl Route {
    /// Whether something is asked of its clients before anything is done, or settings of the pool or the server are other
    /// ones here.
    pub fn is_guarded(&self) -> bool {
        let has_own_settings = self.max_body.is_some()
            || self.total_timeout.is_some()
            || self.read_timeout.is_some()
            || self.request_buffering.is_some()
            || self.retry.is_some()
            || self.hold.is_some();
        self.has_guards() || has_own_settings
    }

    /// Whether something is asked of its clients before anything is done.
    pub fn has_guards(&self) -> bool {
        !self.allow.is_empty()
            || !self.deny.is_empty()
            || self.rate.is_some()
            || self.connections.is_some()
            || self.auth.is_some()
            || self.client_certificate.is_some()
    }
}

/// How a route's guards fit together.
pub(super) fn validate_guards(config: &Config, f: &mut ConfigFindings) {
    for (i, route) in config.routes.iter().enumerate() {
        let at = |key: &str| format!("route[{i}].{key}");
        auth(route, i, f);
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

fn auth(route: &Route, i: usize, f: &mut ConfigFindings) {
    let at = |key: &str| format!("route[{i}].auth.{key}");
    let Some(auth) = &route.auth else {
        return;
    };
    if !f.sound(&[&at("basic"), &at("forward")]) {
        return;
    }
    let usual = RouteAuth::unwritten();
    let of_other: &[(&str, bool)] = match (&auth.basic, &auth.forward) {
        (None, None) => {
            f.error(
                f.place(&format!("route[{i}].auth")),
                "`auth` says neither `basic` nor `forward`: who may come?",
                "write `auth = { basic = \"/etc/lameduck/htpasswd\" }`, or `auth = { forward = \"http://…\" }`",
            );
            return;
        }
        (Some(_), Some(_)) => {
            let first = f.place(&at("basic"));
            f.error(
                f.place(&at("forward")),
                "`auth` has `basic` or `forward`, and not both",
                "remove one of them",
            )
            .also(first, "the other one");
            return;
        }
        (Some(_), None) => &[
            ("copy", auth.copy != usual.copy),
            ("timeout", auth.timeout != usual.timeout),
        ],
        (None, Some(_)) => &[
            ("realm", auth.realm != usual.realm),
            ("user_header", auth.user_header != usual.user_header),
            ("keep_authorization", auth.keep_authorization),
        ],
    };
    let (one, other) = match auth.basic {
        Some(_) => ("basic", "forward"),
        None => ("forward", "basic"),
    };
    for (key, is_unusual) in of_other {
        if *is_unusual && f.written(&at(key)) {
            f.error(
                f.place(&at(key)),
                format!("`{key}` goes with `{other}`, and this is `{one}`"),
                "remove it",
            );
        }
    }
}
