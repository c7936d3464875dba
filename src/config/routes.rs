//! `[[route]]`: hosts and path prefixes in the one form in which they are compared.

use super::forms::KeyContext;
use super::reader::ConfigFindings;
use super::values::{Read, quoted, text, wrong};
use super::{Config, PoolConfig};
use std::collections::{HashMap, HashSet};
use toml::de::DeValue;

/// Longest prefix: a request's path is compared in a buffer of this size, without allocating.
pub(crate) const MAX_PREFIX: usize = 512;

/// The host of a route; `None`: any.
pub(super) fn read_host(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<Option<String>> {
    let text = text(key.name, value, "www.example.org")?;
    host(text).map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
}

/// The path prefix of a route.
pub(super) fn read_prefix(key: &KeyContext<'_>, value: &DeValue<'_>) -> Read<String> {
    let text = text(key.name, value, "/api")?;
    prefix(text).map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
}

/// How the routes fit the pools.
pub(super) fn validate(config: &Config, f: &mut ConfigFindings) {
    let names_sound = (0..config.pools.len()).all(|i| f.sound(&[&format!("pool[{i}].name")]))
        && f.sound(&["pool"]);
    let names: HashSet<&str> = config.pools.iter().map(|pool| &*pool.name).collect();
    // The first route for each host and path.
    let mut first = HashMap::new();
    for (i, route) in config.routes.iter().enumerate() {
        let at = |key: &str| format!("route[{i}].{key}");
        let pool = at("pool");
        if names_sound && f.sound(&[&pool]) && !names.contains(&*route.pool) {
            f.error(
                f.place(&pool),
                format!("there is no pool \"{}\"", route.pool),
                other_pool(&route.pool, &config.pools),
            );
        }
        if !f.sound(&[&at("host"), &at("path_prefix")]) {
            continue;
        }
        let matched = (route.host.as_deref(), &*route.path_prefix);
        let j = *first.entry(matched).or_insert(i);
        if j != i {
            let first = f.place(&format!("route[{j}]"));
            f.error(
                f.place(&format!("route[{i}]")),
                format!(
                    "two routes match {}{}",
                    route.host.as_deref().unwrap_or("any host, "),
                    route.path_prefix
                ),
                "remove one of them, or change its `host` or `path_prefix`",
            )
            .also(first, "the other one");
        }
    }
    // Where a route leads nowhere, or two pools have one name, the rest would be an echo.
    if !names_sound
        || !f.sound(&["route"])
        || names.len() != config.pools.len()
        || !config
            .routes
            .iter()
            .all(|route| names.contains(&*route.pool))
    {
        return;
    }
    if config.routes.is_empty() && config.pools.len() > 1 {
        f.error(
            f.place("pool[1]"),
            format!(
                "there are {} pools and no [[route]]: which one is a request for?",
                config.pools.len()
            ),
            "add a [[route]] with `pool`, and a `host` or `path_prefix`, for each pool",
        );
    } else if !config.routes.is_empty() {
        let routed: HashSet<&str> = config.routes.iter().map(|route| &*route.pool).collect();
        for (i, pool) in config.pools.iter().enumerate() {
            if !routed.contains(&*pool.name) {
                f.warning(
                    f.place(&format!("pool[{i}].name")),
                    format!(
                        "no route leads to pool \"{}\": it gets no request",
                        pool.name
                    ),
                    format!(
                        "add a [[route]] with `pool = \"{}\"`, or remove the pool",
                        pool.name
                    ),
                );
            }
        }
    }
}

/// Pools that advice looks at: to compare a wrong name with all of very many would take longer than it helps.
const ADVISED: usize = 100;

/// What to write in place of a pool that isn't there.
fn other_pool(wrong: &str, pools: &[PoolConfig]) -> String {
    let names = || pools.iter().take(ADVISED).map(|pool| pool.name.as_str());
    if let Some(near) = super::suggest::nearest(wrong, names()) {
        return format!("did you mean \"{near}\"?");
    }
    match pools.len() {
        0 => "add the [[pool]]".into(),
        1..=LISTED => {
            let all: Vec<_> = names().collect();
            format!("the pools are \"{}\"", all.join("\", \""))
        }
        many => format!("write the name of one of the {many} pools"),
    }
}

/// Pools that are all named.
const LISTED: usize = 20;

/// What is wrong, and what to write.
type RouteError = (&'static str, String);

fn host(text: &str) -> Result<Option<String>, RouteError> {
    if text.is_empty() || text == "*" {
        return Ok(None);
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or(rest);
        return Err((
            "it is a URL, but only the host belongs here",
            format!("write \"{host}\""),
        ));
    }
    if let Some(v6) = text.strip_prefix('[') {
        return match v6.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(ip)) => Ok(Some(format!("[{ip}]"))),
            _ => Err((
                "it is not an IPv6 address in brackets",
                "write \"[2001:db8::1]\", without a port".into(),
            )),
        };
    }
    if let Some((host, rest)) = text.split_once('/') {
        let path = format!("/{rest}");
        return Err((
            "it has a path in it",
            format!("write `host = \"{host}\"` and `path_prefix = \"{path}\"`"),
        ));
    }
    if let Some((host, _)) = text.split_once(':') {
        return Err((
            "a host is compared without its port",
            format!("write \"{host}\""),
        ));
    }
    if !text.is_ascii() {
        return Err((
            "clients send such names in Punycode",
            "write the form that begins with `xn--`".into(),
        ));
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    let bare = lower.strip_prefix("*.").unwrap_or(lower);
    if bare.contains('*') {
        return Err((
            "`*` stands for whole labels, at the beginning",
            "write \"*.example.org\", or \"*\" for any host".into(),
        ));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if bare.len() > 253 || !bare.split('.').all(label) {
        return Err((
            "it is not a host name",
            "write letters, digits, `-`, `_` and dots, such as \"www.example.org\"".into(),
        ));
    }
    Ok(Some(lower.to_string()))
}

fn prefix(text: &str) -> Result<String, RouteError> {
    if let Some(at) = text.find("://") {
        let rest = &text[at + 3..];
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return Err((
            "it is a URL, but only the path belongs here",
            format!("write \"{path}\""),
        ));
    }
    if !text.starts_with('/') {
        return Err(("it must begin with a slash", format!("write \"/{text}\"")));
    }
    if let Some(at) = text.find('*') {
        let remedy = match text[..at].trim_end_matches('/') {
            "" => "/",
            prefix => prefix,
        };
        return Err((
            "a prefix needs no `*`: it matches everything below it",
            format!("write \"{remedy}\""),
        ));
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err((
            "routes look at the path only",
            format!("write \"{}\"", &text[..at]),
        ));
    }
    if text.len() > MAX_PREFIX {
        return Err(("it has more than 512 bytes", "use a shorter prefix".into()));
    }
    if text.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'\\') {
        return Err((
            "it has a character that a path can't have",
            "percent-encode it: a space is %20".into(),
        ));
    }
    if text.contains("//") {
        let mut one = text.to_string();
        while one.contains("//") {
            one = one.replace("//", "/");
        }
        return Err((
            "an empty segment never matches: runs of slashes count as one",
            format!("write \"{one}\""),
        ));
    }
    canonical_percents(text)?;
    if text
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return Err((
            "a path with `.` or `..` in it is never routed by its prefix",
            "write the path that is meant".into(),
        ));
    }
    let bare = text.trim_end_matches('/');
    let bare = upper_percents(bare);
    Ok(if bare.is_empty() { "/".into() } else { bare })
}

/// Percent-encoding where it is needed, and there only: so that equal prefixes look equal.
fn canonical_percents(text: &str) -> Result<(), RouteError> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let hex = text
                .get(i + 1..i + 3)
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
            let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match byte {
                None => {
                    return Err((
                        "`%` must be followed by two hexadecimal digits",
                        "write a percent sign itself as %25".into(),
                    ));
                }
                Some(b) if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => {
                    let plain = text.replace(&text[i..i + 3], &char::from(b).to_string());
                    return Err((
                        "it encodes a character that needs no encoding",
                        format!("write \"{plain}\""),
                    ));
                }
                Some(_) => i += 3,
            }
        } else {
            i += 1;
        }
    }
    Ok(())
}

/// `%2f` and `%2F` are the same (RFC 3986, section 6.2.2.1).
fn upper_percents(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out: String = parts.next().unwrap_or_default().into();
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        out.extend(["%", &digits.to_ascii_uppercase(), rest]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_have_one_form() {
        assert_eq!(
            host("WWW.Example.org.").unwrap().unwrap(),
            "www.example.org"
        );
        assert_eq!(host("*.Example.org").unwrap().unwrap(), "*.example.org");
        assert_eq!(host("[2001:DB8:0::1]").unwrap().unwrap(), "[2001:db8::1]");
        assert_eq!(host("*").unwrap(), None);
        for bad in [
            "a:80",
            "http://a/",
            "a/b",
            "*a.b",
            "a.*",
            "a..b",
            ".",
            "[::1]:80",
            "ä.de",
            "a b",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_have_one_form() {
        assert_eq!(prefix("/").unwrap(), "/");
        assert_eq!(prefix("/api/").unwrap(), "/api");
        assert_eq!(prefix("/a%2fb").unwrap(), "/a%2Fb");
        for bad in [
            "api",
            "/api/*",
            "/a?b",
            "/a//b",
            "/a/../b",
            "/%61pi",
            "/a%2",
            "/a b",
            "/ä",
            "http://x/y",
        ] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
        assert_eq!(prefix("/api/*").unwrap_err().1, "write \"/api\"");
        assert_eq!(prefix("/*").unwrap_err().1, "write \"/\"");
        assert_eq!(prefix("https://x.org/api").unwrap_err().1, "write \"/api\"");
    }

    proptest! {
        #[test]
        fn never_panics_and_is_stable(text in "[/a%.*é0-9?]{0,12}") {
            if let Ok(once) = prefix(&text) {
                prop_assert_eq!(prefix(&once).unwrap(), once);
            }
            if let Ok(Some(once)) = host(&text) {
                prop_assert_eq!(host(&once).unwrap().unwrap(), once);
            }
        }
    }
}
