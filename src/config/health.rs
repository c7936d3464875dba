//! `[pool.health]`, as written.

use super::reader::{Findings, Problem, Table};
use super::runtime::{Check, Health};
use super::values::{Read, choice, quoted, text, wrong};
use toml::de::DeValue;

/// The kinds of checks, and the keys that only some of them know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

const KEYS: [(&str, &[Kind]); 6] = [
    ("path", &[Kind::Http]),
    ("host", &[Kind::Http, Kind::Grpc]),
    ("method", &[Kind::Http]),
    ("headers", &[Kind::Http]),
    ("expect", &[Kind::Http]),
    ("service", &[Kind::Grpc]),
];

/// Longest name of a gRPC service, in bytes.
const MAX_SERVICE: usize = 256;

const COUNT: std::ops::RangeInclusive<i64> = 1..=1000;

pub(super) fn health(t: &Table<'_>, explicit: bool, f: &mut Findings) -> Health {
    let d = Health::default();
    let kind = t.read("type", Kind::Http, f, |key, value| {
        let kinds = [
            ("http", Kind::Http),
            ("tcp", Kind::Tcp),
            ("grpc", Kind::Grpc),
        ];
        choice(key, value, &kinds)
    });
    let host = host(t, f);
    let service = t.read("service", String::new(), f, service);
    let http = http(t, host.clone(), f);
    for (key, _) in KEYS.iter().filter(|(_, kinds)| !kinds.contains(&kind)) {
        // Written empty it says what holds anyway.
        let empty = *key == "service" && service.is_empty();
        if f.written(&t.at(key)) && !empty {
            misplaced(key, kind, t, f);
        }
    }
    Health {
        check: match kind {
            Kind::Http => http,
            Kind::Tcp => Check::Tcp,
            Kind::Grpc => Check::Grpc { service, host },
        },
        explicit,
        port: Some(t.number("port", 0u16, 0..=65535, f)).filter(|port| *port != 0),
        tls: t.boolean("tls", d.tls, f),
        interval: t.some_time("interval", d.interval, f),
        timeout: t.some_time("timeout", d.timeout, f),
        fast_interval: t.some_time("fast_interval", d.fast_interval, f),
        rise: t.number("rise", d.rise, COUNT, f),
        fall: t.number("fall", d.fall, COUNT, f),
        fall_timeout: t.number("fall_timeout", d.fall_timeout, COUNT, f),
        absent_after: t.duration("absent_after", d.absent_after, f),
    }
}

/// A key that the check does not know.
fn misplaced(key: &str, kind: Kind, t: &Table<'_>, f: &mut Findings) {
    let (message, remedy) = match (kind, key) {
        (Kind::Tcp, "service") | (Kind::Http, _) => (
            format!("`{key}` is about gRPC's health service, and this check does not call it"),
            format!("remove `{key}`, or write `type = \"grpc\"`"),
        ),
        (Kind::Tcp, _) => (
            format!("`{key}` says something of a request, and `type = \"tcp\"` sends none"),
            format!("remove `{key}`, or write `type = \"http\"`"),
        ),
        (Kind::Grpc, _) => (
            format!(
                "`{key}` is about a request of HTTP's own, and `type = \"grpc\"` makes its call in one way"
            ),
            format!("remove `{key}`, or write `type = \"http\"`"),
        ),
    };
    f.error(f.place(&t.at(key)), message, remedy);
}

fn host(t: &Table<'_>, f: &mut Findings) -> Option<String> {
    t.read("host", None, f, |key, value| {
        let host = text(key, value, "app.example.org")?;
        if host.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'/') {
            return Err(wrong(
                key,
                quoted(host),
                "it can't be in a Host field",
                "write a name such as \"app.example.org\"",
            ));
        }
        Ok((!host.is_empty()).then(|| host.to_string()))
    })
}

fn service(key: &str, value: &DeValue<'_>) -> Read<String> {
    let service = text(key, value, "shop.Orders")?;
    if service.len() > MAX_SERVICE || service.chars().any(|c| c.is_control() || c == '/') {
        return Err(wrong(
            key,
            quoted(service),
            "it is not the name of a service",
            "write package and service as the .proto file has them, such as \"shop.Orders\"",
        ));
    }
    Ok(service.to_owned())
}

fn http(t: &Table<'_>, host: Option<String>, f: &mut Findings) -> Check {
    Check::Http {
        path: t.read("path", "/health".into(), f, |key, value| {
            let text = text(key, value, "/health")?;
            check_path(text)
                .map(|()| text.to_string())
                .map_err(|(why, remedy)| wrong(key, quoted(text), why, remedy))
        }),
        host,
        method: t.read("method", "GET".into(), f, method),
        headers: t.read("headers", Vec::new(), f, fields),
        expect: expect(t, f),
    }
}

/// Whether this can be the target of a health check. The error says why not, and what to write.
pub(super) fn check_path(path: &str) -> Result<(), (&'static str, String)> {
    if let Some((_, rest)) = path.split_once("://") {
        let path = rest.find('/').map_or("/", |at| &rest[at..]);
        return Err((
            "it is a URL, but only the path belongs here",
            format!("write \"{path}\""),
        ));
    }
    if !path.starts_with('/') {
        return Err(("it must begin with a slash", format!("write \"/{path}\"")));
    }
    if path.contains('#') {
        return Err((
            "a fragment is never sent",
            "remove `#` and what follows".into(),
        ));
    }
    if path.bytes().any(|b| b <= b' ' || b >= 0x7f) {
        return Err((
            "it has a character that a request line can't have",
            "percent-encode it: a space is %20".into(),
        ));
    }
    Ok(())
}

fn expect(t: &Table<'_>, f: &mut Findings) -> Vec<(u16, u16)> {
    let at = t.at("expect");
    let ranges = t.list("expect", vec![(200, 299)], "[\"2xx\"]", f, statuses);
    if ranges.is_empty() && f.sound(&[&at]) {
        f.error(
            f.place(&at),
            "`expect` is empty: no answer could pass",
            "write `expect = [\"2xx\"]`, or remove it",
        );
    }
    ranges
}

fn is_token(text: &str) -> bool {
    // RFC 9110, section 5.6.2.
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn method(key: &str, value: &DeValue<'_>) -> Read<String> {
    let text = text(key, value, "GET")?;
    if !is_token(text) {
        return Err(wrong(
            key,
            quoted(text),
            "it is not a method",
            "write \"GET\" or \"HEAD\"",
        ));
    }
    if text == "CONNECT" {
        return Err(wrong(
            key,
            "\"CONNECT\"",
            "it would open a tunnel",
            "write \"GET\" or \"HEAD\"",
        ));
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        return Err(wrong(
            key,
            quoted(text),
            "methods are case-sensitive",
            format!("write \"{upper}\""),
        ));
    }
    Ok(text.to_string())
}

fn fields(key: &str, value: &DeValue<'_>) -> Read<Vec<(String, String)>> {
    let DeValue::Table(table) = value else {
        return Err(Problem::new(
            format!(
                "`{key}` is {}, but must be a table of texts",
                super::reader::describe(value)
            ),
            format!("write `{key} = {{ \"X-Probe\" = \"lameduck\" }}`"),
        ));
    };
    let mut fields = Vec::new();
    for (name, value) in table {
        let name: &str = name.get_ref();
        if !is_token(name) {
            return Err(Problem::new(
                format!(
                    "`{key}` has {}, which can't be the name of a header field",
                    quoted(name)
                ),
                "write letters, digits and dashes only",
            ));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                return Err(Problem::new(
                    format!("`{key}` sets Host, which has its own key"),
                    "write `host = \"…\"` in [pool.health]",
                ));
            }
            "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te"
            | "trailer" | "expect" => {
                return Err(Problem::new(
                    format!("`{key}` sets {name}, which lameduck itself decides"),
                    format!("remove {name}"),
                ));
            }
            _ => {}
        }
        let text = text(name, value.get_ref(), "value")?;
        if text.bytes().any(|b| (b < b' ' && b != b'\t') || b >= 0x7f) {
            return Err(wrong(
                name,
                quoted(text),
                "it has a character that a header field can't have",
                "write plain ASCII on one line",
            ));
        }
        fields.push((name.to_string(), text.to_string()));
    }
    Ok(fields)
}

/// `200`, `"200"`, `"2xx"` or `"200-299"`, as an inclusive range.
fn statuses(key: &str, value: &DeValue<'_>) -> Read<(u16, u16)> {
    let text = match value {
        DeValue::Integer(integer) => integer.to_string(),
        other => text(key, other, "2xx")?.to_string(),
    };
    let bad = |why: String| {
        Problem::new(
            format!("`{key}` has {}: {why}", quoted(&text)),
            "write statuses such as 204, \"2xx\" or \"200-299\"",
        )
    };
    let number = |part: &str| {
        let digits = part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u16>()
            .ok()
            .filter(|n| digits && (200..=599).contains(n))
    };
    let outside = || bad("it is not a final status, from 200 to 599".into());
    if let Some(class) = text.strip_suffix("xx") {
        return match class {
            "2" | "3" | "4" | "5" => {
                let first = u16::from(class.as_bytes()[0] - b'0') * 100;
                Ok((first, first + 99))
            }
            _ => Err(outside()),
        };
    }
    let (low, high) = text.split_once('-').unwrap_or((&text, &text));
    match (number(low.trim()), number(high.trim())) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        (Some(_), Some(_)) => Err(bad("it ends before it begins".into())),
        _ => Err(outside()),
    }
}
