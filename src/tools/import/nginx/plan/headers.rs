//! Header fields that lameduck sends by itself, and those that it can't.

use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// Whether the value of `proxy_set_header Host` is what the client sent.
pub(super) fn is_client_host(value: &str) -> bool {
    [
        "$host",
        "$http_host",
        "$host:$server_port",
        "${host}",
        "${http_host}",
    ]
    .contains(&value)
}

/// Says what of a `proxy_set_header` or `grpc_set_header` is left out.
pub(super) fn judge_request_header(directive: &NginxDirective) -> Option<ImportNotice> {
    let (name, value) = (directive.arg(0).to_ascii_lowercase(), directive.arg(1));
    let refuse = |why: &str| {
        Some(ImportNotice::left_out(
            &directive.place,
            format!("`{}`: {why}", directive.line()),
        ))
    };
    let is_same = match name.as_str() {
        "host" => is_client_host(value) || value == "$proxy_host",
        "x-forwarded-for" => ["$proxy_add_x_forwarded_for", "$remote_addr"].contains(&value),
        "x-forwarded-proto" => value == "$scheme",
        "x-forwarded-host" => is_client_host(value),
        "x-request-id" => value == "$request_id",
        // lameduck passes upgrades on by itself, and keeps connections.
        "upgrade" => value.starts_with('$') || value.eq_ignore_ascii_case("websocket"),
        "connection" => {
            let known = ["", "upgrade", "close", "keep-alive"];
            value.starts_with('$') || known.contains(&value.to_ascii_lowercase().as_str())
        }
        _ => false,
    };
    match name.as_str() {
        _ if is_same => None,
        "host" => refuse("lameduck sends the client's Host or the backend's address, nothing else"),
        "x-real-ip" => refuse("lameduck tells the client's address in X-Forwarded-For only"),
        name if name.starts_with("x-forwarded-") => refuse(
            "lameduck sends X-Forwarded-For, -Proto and -Host by itself, with its own values",
        ),
        _ => refuse("lameduck sets no headers of requests"),
    }
}

/// Says what of an `add_header` is left out.
pub(super) fn judge_response_header(directive: &NginxDirective) -> Option<ImportNotice> {
    if !directive
        .arg(0)
        .eq_ignore_ascii_case("strict-transport-security")
    {
        let text = format!(
            "`{}`: lameduck adds no headers to answers",
            directive.line()
        );
        return Some(ImportNotice::left_out(&directive.place, text));
    }
    match read_max_age(directive.arg(1)) {
        None => Some(ImportNotice::left_out(
            &directive.place,
            format!("`{}`: it has no max-age", directive.line()),
        )),
        Some((_, true)) => Some(ImportNotice::left_out(
            &directive.place,
            "Strict-Transport-Security: `hsts` sends max-age, not includeSubDomains or preload",
        )),
        Some((_, false)) => None,
    }
}

/// Seconds, and whether there is more.
pub(super) fn read_max_age(value: &str) -> Option<(u64, bool)> {
    let mut age = None;
    let mut more = false;
    for part in value
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.to_ascii_lowercase().strip_prefix("max-age=") {
            Some(number) => age = number.trim_matches('"').parse().ok(),
            None => more = true,
        }
    }
    Some((age?, more))
}
