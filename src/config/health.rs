//! `[pool.health]`, as written.

use super::reader::{Findings, Problem, Table};
use super::runtime::{Check, Health};
use super::values::{Read, choice, quoted, text, wrong};
use toml::de::DeValue;

/// Keys that mean nothing to a TCP check.
const HTTP_ONLY: [&str; 5] = ["path", "host", "method", "headers", "expect"];

const COUNT: std::ops::RangeInclusive<i64> = 1..=1000;

pub(super) fn health(t: &Table<'_>, explicit: bool, f: &mut Findings) -> Health {
    let d = Health::default();
    let tcp = t.read("type", false, f, |key, value| {
        choice(key, value, &[("http", false), ("tcp", true)])
    });
    let http = http(t, f);
    if tcp {
        for key in HTTP_ONLY {
            if f.written(&t.at(key)) {
                f.error(
                    f.place(&t.at(key)),
                    format!("`{key}` says something of a request, and `type = \"tcp\"` sends none"),
                    format!("remove `{key}`, or write `type = \"http\"`"),
                );
            }
        }
    }
    Health {
        check: if tcp { Check::Tcp } else { http },
        explicit,
        port: Some(t.number("port", 0u16, 0..=65535, f)).filter(|port| *port != 0),
        interval: t.some_time("interval", d.interval, f),
        timeout: t.some_time("timeout", d.timeout, f),
        fast_interval: t.some_time("fast_interval", d.fast_interval, f),
        rise: t.number("rise", d.rise, COUNT, f),
        fall: t.number("fall", d.fall, COUNT, f),
        fall_timeout: t.number("fall_timeout", d.fall_timeout, COUNT, f),
        absent_after: t.duration("absent_after", d.absent_after, f),
    }
}

fn http(t: &Table<'_>, f: &mut Findings) -> Check {
    Check::Http {
        path: t.read("path", "/health".into(), f, |key, value| {
            let text = text(key, value, "/health")?;
            check_path(text)
                .map(|()| text.to_string())
                .map_err(|(why, remedy)| wrong(key, quoted(text), why, remedy))
        }),
        host: t.read("host", None, f, |key, value| {
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
        }),
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
