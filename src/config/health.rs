//! `[pool.health]`: how special kinds of values are read and printed, and which keys belong to which kind of check.

use super::forms::KeyContext;
use super::print;
use super::reader::{ConfigFindings, ConfigTable, ValueError};
use super::sections::CheckKind;
use super::values::{ValueResult, no_table, quoted, text, wrong};
use toml::de::DeValue;

/// Longest name of a gRPC service, in bytes.
const MAX_SERVICE: usize = 256;

/// Reports keys that a check of this kind does not know. An empty `service` is permitted, because it changes nothing.
pub(super) fn misplaced_keys(
    t: &ConfigTable<'_>,
    kind: CheckKind,
    service: &str,
    f: &mut ConfigFindings,
) {
    for key in ["path", "host", "method", "headers", "expect", "service"] {
        let is_known = match key {
            "service" => kind == CheckKind::Grpc || service.is_empty(),
            key => kind.keys().contains(&key),
        };
        if !is_known && f.written(&t.at(key)) {
            misplaced(key, kind, t, f);
        }
    }
}

/// Reports a key that the check does not know.
fn misplaced(key: &str, kind: CheckKind, t: &ConfigTable<'_>, f: &mut ConfigFindings) {
    let (message, remedy) = match (kind, key) {
        (CheckKind::Tcp, "service") | (CheckKind::Http, _) => (
            format!("`{key}` is about gRPC's health service, and this check does not call it"),
            format!("remove `{key}`, or write `type = \"grpc\"`"),
        ),
        (CheckKind::Tcp, _) => (
            format!("`{key}` says something of a request, and `type = \"tcp\"` sends none"),
            format!("remove `{key}`, or write `type = \"http\"`"),
        ),
        (CheckKind::Grpc, _) => (
            format!(
                "`{key}` is about a request of HTTP's own, and `type = \"grpc\"` makes its call in one way"
            ),
            format!("remove `{key}`, or write `type = \"http\"`"),
        ),
    };
    f.error(f.place(&t.at(key)), message, remedy);
}

/// Reads the value of a `Host` field; `""` means none.
pub(super) fn read_host(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<Option<String>> {
    let key = key.name;
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
}

/// Reads the name of a gRPC service.
pub(super) fn read_service(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let key = key.name;
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

/// Reads the target of a request.
pub(super) fn read_path(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let text = text(key.name, value, "/health")?;
    check_path(text)
        .map(|()| text.to_string())
        .map_err(|(why, remedy)| wrong(key.name, quoted(text), why, remedy))
}

/// Checks that this can be the target of a health check. The error says why not, and what to write.
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

pub(super) fn is_token(text: &str) -> bool {
    // RFC 9110, section 5.6.2.
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Reads a method that can be used for probes.
pub(super) fn read_method(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<String> {
    let key = key.name;
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

/// Reads header fields, a table of texts.
pub(super) fn read_fields(
    key: &KeyContext<'_>,
    value: &DeValue<'_>,
) -> ValueResult<Vec<(String, String)>> {
    let key = key.name;
    let DeValue::Table(table) = value else {
        let example = "{ \"X-Probe\" = \"lameduck\" }";
        return Err(no_table(key, value, "texts", example));
    };
    let mut fields = Vec::new();
    for (name, value) in table {
        let name: &str = name.get_ref();
        if !is_token(name) {
            return Err(ValueError::new(
                format!(
                    "`{key}` has {}, which can't be the name of a header field",
                    quoted(name)
                ),
                "write letters, digits and dashes only",
            ));
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                return Err(ValueError::new(
                    format!("`{key}` sets Host, which has its own key"),
                    "write `host = \"…\"` in [pool.health]",
                ));
            }
            "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te"
            | "trailer" | "expect" => {
                return Err(ValueError::new(
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

/// Reads `200`, `"200"`, `"2xx"` or `"200-299"`, as an inclusive range.
pub(super) fn read_statuses(key: &KeyContext<'_>, value: &DeValue<'_>) -> ValueResult<(u16, u16)> {
    let key = key.name;
    let text = match value {
        DeValue::Integer(integer) => integer.to_string(),
        other => text(key, other, "2xx")?.to_string(),
    };
    let bad = |why: String| {
        ValueError::new(
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

/// Prints a range in the shortest form.
pub(super) fn print_statuses((low, high): (u16, u16)) -> String {
    if low == high {
        low.to_string()
    } else if low % 100 == 0 && high == low + 99 {
        print::text(&format!("{}xx", low / 100))
    } else {
        print::text(&format!("{low}-{high}"))
    }
}

/// Prints header fields as a table in one line.
pub(super) fn print_fields(fields: &[(String, String)]) -> String {
    let fields = fields.iter();
    print::table_of(fields.map(|(name, value)| (print::text(name), print::text(value))))
}
