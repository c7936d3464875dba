//! Hosts and paths in the form in which they are compared.

use crate::config::forms::{KeyContext, SpannedProblems, ValueForm};
use crate::config::print;
use crate::config::reader::ValueError;
use crate::config::values::{ValueResult, quoted, text, wrong};
use toml::Spanned;
use toml::de::DeValue;

/// Longest path or prefix: a request's path is compared in a buffer of this size, without allocating.
pub(crate) const MAX_PREFIX: usize = 512;

/// Form of one host, or a list of hosts. Empty: any.
pub(in crate::config) struct HostList;

impl HostList {
    fn one(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
        let text = text(key.name, value, "www.example.org")?;
        host(text).map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
    }
}

impl ValueForm<Vec<String>> for HostList {
    fn name(&self) -> String {
        "text or list of texts".into()
    }

    fn read(&self, key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Vec<String>> {
        Self::one(key, value).map(|host| host.into_iter().collect())
    }

    fn print(&self, hosts: &Vec<String>) -> String {
        match &hosts[..] {
            [] => print::text("*"),
            [host] => print::text(host),
            several => print::texts_of(several.iter().map(|host| print::text(host))),
        }
    }

    fn is_public(&self) -> bool {
        true
    }

    fn read_whole(
        &self,
        key: &KeyContext<'_>,
        value: &Spanned<DeValue<'_>>,
        problems: &mut SpannedProblems,
    ) -> Option<Vec<String>> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.read_at(key, value, problems);
        };
        if items.is_empty() {
            let problem = ValueError::new(
                format!("`{}` is empty: no host could ever match", key.name),
                "write a host, or \"*\" for any",
            );
            problems.push((value.span(), problem));
            return None;
        }
        let mut hosts: Vec<String> = Vec::new();
        for item in items.iter() {
            let mut refuse = |problem| problems.push((item.span(), problem));
            match Self::one(key, item.get_ref()) {
                Err(problem) => refuse(problem),
                Ok(None) => refuse(ValueError::new(
                    format!("`{}` has any host in its list", key.name),
                    "write `host = \"*\"` alone, or remove it from the list",
                )),
                Ok(Some(host)) if hosts.contains(&host) => refuse(ValueError::new(
                    format!("`{}` has {} twice", key.name, quoted(&host)),
                    "remove one of them",
                )),
                Ok(Some(host)) => hosts.push(host),
            }
        }
        Some(hosts)
    }
}

/// Reads the path prefix of a route.
pub(in crate::config) fn read_prefix(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let text = text(key.name, value, "/api")?;
    prefix(text).map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
}

/// Reads the whole path of a route.
pub(in crate::config) fn read_path(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<String> {
    let text = text(key.name, value, "/login")?;
    path(text).map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
}

/// What is wrong, and what to write.
type RouteError = (&'static str, String);

/// Checks that this is a host, and no pattern of hosts.
pub(super) fn check_plain_host(text: &str) -> Result<(), RouteError> {
    if text.contains('*') {
        return Err((
            "`*` is no host that anybody could be sent to",
            "write one host, such as \"www.example.org\"".into(),
        ));
    }
    host(text).map(|_| ())
}

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
    if let Some(at) = text.find('*').filter(|_| text.starts_with('/')) {
        let remedy = match text[..at].trim_end_matches('/') {
            "" => "/",
            prefix => prefix,
        };
        return Err((
            "a prefix needs no `*`: it matches everything below it",
            format!("write \"{remedy}\""),
        ));
    }
    let path = path(text)?;
    let bare = path.trim_end_matches('/');
    Ok(if bare.is_empty() {
        "/".into()
    } else {
        bare.into()
    })
}

fn path(text: &str) -> Result<String, RouteError> {
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
    if text.contains('*') {
        return Err((
            "a path has no wildcards",
            "write `path_prefix` for what is below a path, or `path_regex` for a pattern".into(),
        ));
    }
    if let Some(at) = text.find(['?', '#']) {
        return Err((
            "routes look at the path only",
            format!("write \"{}\"", &text[..at]),
        ));
    }
    if text.len() > MAX_PREFIX {
        return Err(("it has more than 512 bytes", "use a shorter one".into()));
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
            "a path with `.` or `..` in it is never routed by its path",
            "write the path that is meant".into(),
        ));
    }
    Ok(upper_percents(text))
}

/// Checks that percent-encoding is used only where it is needed, so that equal prefixes look equal.
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

/// Converts `%2f` to `%2F`, which is equivalent (RFC 3986, section 6.2.2.1).
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
            if let Ok(once) = path(&text) {
                prop_assert_eq!(path(&once).unwrap(), once);
            }
            if let Ok(Some(once)) = host(&text) {
                prop_assert_eq!(host(&once).unwrap().unwrap(), once);
            }
        }
    }
}
