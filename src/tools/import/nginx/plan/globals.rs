//! Settings that lameduck has once for all routes: limits and time-outs of clients, the access log, trusted proxies.

use std::time::Duration;

use crate::config::{duration, size};
use crate::tools::import::draft::{ConfigDraft, toml_text};
use crate::tools::import::nginx::model::NginxSite;
use crate::tools::import::nginx::scope::{NginxScope, read_size, read_time};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeList};
use crate::tools::import::offered;

/// Plans `[server]`, `[access_log]` and `[headers]`. `scopes` are all places where requests are handled.
pub(super) fn plan(
    site: &NginxSite<'_>,
    scopes: &[NginxScope<'_>],
    trusted: &[String],
    draft: &mut ConfigDraft,
) {
    plan_limits(scopes, draft);
    plan_log(site, scopes, draft);
    plan_headers(scopes, trusted, draft);
}

/// All directives of this name that are in effect anywhere, each once.
pub(super) fn in_effect<'a>(scopes: &[NginxScope<'a>], name: &str) -> Vec<&'a NginxDirective> {
    let mut found: Vec<&NginxDirective> = Vec::new();
    for directive in scopes.iter().filter_map(|scope| scope.last(name)) {
        if !found.iter().any(|known| std::ptr::eq(*known, directive)) {
            found.push(directive);
        }
    }
    found
}

fn plan_limits(scopes: &[NginxScope<'_>], draft: &mut ConfigDraft) {
    let times: [(&'static str, &[&str]); 3] = [
        ("header_timeout", &["client_header_timeout"]),
        ("idle_timeout", &["keepalive_timeout"]),
        ("body_timeout", &["client_body_timeout", "send_timeout"]),
    ];
    for (key, names) in times {
        let all: Vec<_> = names
            .iter()
            .flat_map(|name| in_effect(scopes, name))
            .collect();
        let real = |time: &Duration| !time.is_zero() && *time <= Duration::from_secs(365 * 86_400);
        let longest = all
            .iter()
            .filter_map(|d| read_time(d.arg(0)))
            .filter(real)
            .max();
        for directive in &all {
            match read_time(directive.arg(0)) {
                time if time.is_some() && time == longest => {}
                _ => draft.notices.leave_out(
                    &directive.place,
                    format!(
                        "`{}`: lameduck has one for all, the longest, and never 0",
                        directive.line()
                    ),
                ),
            }
        }
        if let Some(time) = longest {
            draft.server.push((key, toml_text(&duration::format(time))));
        }
    }
    let requests = in_effect(scopes, "keepalive_requests");
    if let Some(most) = requests
        .iter()
        .filter_map(|d| d.arg(0).parse::<u32>().ok())
        .max()
    {
        draft
            .server
            .push(("max_requests_per_connection", most.to_string()));
    }
    let heads = in_effect(scopes, "large_client_header_buffers");
    let bytes = |d: &&NginxDirective| Some((d.arg(0).parse::<u64>().ok()?, read_size(d.arg(1))?));
    if let Some((number, each)) = heads.iter().filter_map(bytes).max() {
        let fit = |bytes: u64| toml_text(&size::format(bytes.clamp(1 << 10, 1 << 20)));
        draft.server.push(("max_uri", fit(each)));
        draft
            .server
            .push(("max_header", fit(number.saturating_mul(each))));
    }
    plan_max_body(scopes, draft);
}

/// Largest body in a scope: nginx's default is 1 MiB, and 0 means no limit.
pub(super) fn body_limit(scope: &NginxScope<'_>) -> u64 {
    const UNWRITTEN: u64 = 1 << 20;
    let written = scope
        .last("client_max_body_size")
        .and_then(|d| read_size(d.arg(0)));
    match written.unwrap_or(UNWRITTEN) {
        0 => u64::MAX,
        bytes => bytes,
    }
}

/// Uses the largest limit of all places; routes have the smaller ones.
fn plan_max_body(scopes: &[NginxScope<'_>], draft: &mut ConfigDraft) {
    let Some(largest) = scopes.iter().map(body_limit).max() else {
        return;
    };
    let shown = if largest == u64::MAX { 0 } else { largest };
    draft
        .server
        .push(("max_body", toml_text(&size::format(shown))));
    if offered::has_route_key("max_body") {
        return;
    }
    for directive in in_effect(scopes, "client_max_body_size") {
        let here =
            read_size(directive.arg(0)).map(|bytes| if bytes == 0 { u64::MAX } else { bytes });
        if here != Some(largest) {
            let notice = directive.refusal("`max_body` is one for all, the largest");
            draft.notices.push(notice);
        }
    }
    let smaller = scopes
        .iter()
        .any(|scope| scope.last("client_max_body_size").is_none());
    if smaller && largest > 1 << 20 {
        let mut places = scopes.iter();
        let place = places.find_map(|scope| scope.last("client_max_body_size"));
        draft.notices.extend(place.map(|directive| {
            ImportNotice::differs(
                &directive.place,
                "`max_body` is one for all, the largest: elsewhere nginx has 1m",
            )
        }));
    }
}

fn plan_log(site: &NginxSite<'_>, scopes: &[NginxScope<'_>], draft: &mut ConfigDraft) {
    let all = in_effect(scopes, "access_log");
    let main = site.scope.last("access_log");
    let Some(chosen) = main.or_else(|| all.first().copied()) else {
        return;
    };
    for other in all.iter().filter(|d| d.args() != chosen.args()) {
        draft.notices.leave_out(
            &other.place,
            format!("`{}`: lameduck has one access log", other.line()),
        );
    }
    let path = chosen.arg(0);
    if path.is_empty() || path.contains('$') || path.starts_with("syslog:") {
        let text = format!(
            "`{}`: the access log is a file or standard output",
            chosen.line()
        );
        draft.notices.leave_out(&chosen.place, text);
        return;
    }
    let shown = match path {
        "/dev/stdout" => "stdout",
        path => path,
    };
    draft.access_log.push(("path", toml_text(shown)));
    if path == "off" {
        return;
    }
    let format = chosen.arg(1);
    draft.access_log.push(("format", toml_text("combined")));
    if !["", "combined"].contains(&format) && !format.contains('=') {
        let text = format!(
            "access_log: the format {format} is not carried over: lines are combined's, with lameduck's fields"
        );
        draft.notices.leave_out(&chosen.place, text);
    }
}

fn plan_headers(scopes: &[NginxScope<'_>], trusted: &[String], draft: &mut ConfigDraft) {
    let sends = |wanted: &str| {
        let all = scopes
            .iter()
            .flat_map(|scope| scope.all("proxy_set_header"));
        let mut names = all.chain(scopes.iter().flat_map(|scope| scope.all("grpc_set_header")));
        names.any(|d| d.arg(0).to_ascii_lowercase().starts_with(wanted))
    };
    if !trusted.is_empty() {
        let list: Vec<_> = trusted.iter().map(|network| toml_text(network)).collect();
        draft
            .headers
            .push(("trusted", format!("[{}]", list.join(", "))));
    }
    draft.headers.push((
        "x_forwarded",
        (sends("x-forwarded-") || sends("x-real-ip")).to_string(),
    ));
    draft
        .headers
        .push(("request_id", sends("x-request-id").to_string()));
}

/// Networks of `set_real_ip_from`, with notices for those that are left out.
pub(super) fn trusted_networks(
    site: &NginxSite<'_>,
    scopes: &[NginxScope<'_>],
    notices: &mut Vec<ImportNotice>,
) -> Vec<String> {
    let scopes = scopes.iter().chain(std::iter::once(&site.scope));
    let Some(scope) = scopes
        .clone()
        .find(|scope| scope.last("set_real_ip_from").is_some())
    else {
        return Vec::new();
    };
    let from = scope.all("set_real_ip_from");
    let header = scope.value("real_ip_header");
    let Some(first) = from.first() else {
        return Vec::new();
    };
    let is_known = header.eq_ignore_ascii_case("x-forwarded-for") || header == "proxy_protocol";
    if !is_known {
        let name = if header.is_empty() {
            "X-Real-IP"
        } else {
            header
        };
        let text = format!(
            "set_real_ip_from: lameduck takes the client's address from X-Forwarded-For, not from {name}"
        );
        notices.leave_out(&first.place, text);
        return Vec::new();
    }
    if header != "proxy_protocol" && scope.value("real_ip_recursive") != "on" {
        notices.tell_difference(
            &first.place,
            "lameduck goes through X-Forwarded-For from its end past all who are trusted, as real_ip_recursive on",
        );
    }
    for other in scopes
        .clone()
        .flat_map(|scope| scope.all("set_real_ip_from"))
    {
        if !from.iter().any(|known| known.args() == other.args()) {
            let text = format!(
                "`{}`: whom lameduck trusts is the same for all servers",
                other.line()
            );
            notices.leave_out(&other.place, text);
        }
    }
    let mut networks = Vec::new();
    for directive in from {
        let text = directive.arg(0);
        let network = text.parse::<ipnet::IpNet>().ok();
        let network = network.or_else(|| {
            text.parse::<std::net::IpAddr>()
                .ok()
                .map(ipnet::IpNet::from)
        });
        match network {
            Some(network) => networks.push(network.trunc().to_string()),
            None => notices.leave_out(
                &directive.place,
                format!(
                    "`{}`: whom lameduck trusts is an IP network",
                    directive.line()
                ),
            ),
        }
    }
    networks
}
