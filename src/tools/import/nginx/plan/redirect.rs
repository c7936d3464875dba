//! Servers that only redirect clients to HTTPS.

use crate::tools::import::draft::RouteGroup;
use crate::tools::import::nginx::model::{LocationKind, NginxServer};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeKind};

/// A server that only redirects to HTTPS.
#[derive(Debug)]
pub(super) struct HttpsRedirect {
    /// Port of `https://`.
    pub port: u16,
    /// Notices about differences.
    pub notices: Vec<ImportNotice>,
}

/// Reads a server as one that only redirects to HTTPS; `None`: it does something else.
pub(super) fn read_redirect(server: &NginxServer<'_>) -> Option<HttpsRedirect> {
    let level = server.directive.inner();
    // A listener can't express another response for some requests.
    if level.iter().any(|d| d.name() == "if" && !is_host_test(d)) {
        return None;
    }
    if let Some(end) = server
        .scope
        .own_directive("return")
        .or_else(|| whole_rewrite(level))
    {
        // The form that certbot writes: an `if` for each name, and 404 for other names.
        if end.name() == "return" && read_target(end, server).is_none() {
            let mut ends = level
                .iter()
                .filter(|d| d.name() == "if" && is_host_test(d))
                .flat_map(|d| d.inner());
            let (_, mut redirect) =
                ends.find_map(|d| read_target(d, server).map(|found| (d, found)))?;
            redirect.notices.push(ImportNotice::differs(
                &end.place,
                format!(
                    "`{}`: who asks for another host is redirected, too",
                    end.line()
                ),
            ));
            return Some(redirect);
        }
        return read_target(end, server);
    }
    // The form `location / { return … }`, beside which there are only directives that are reported as left out.
    let mut redirect = None;
    let mut others = Vec::new();
    for location in &server.locations {
        let end = location
            .scope
            .own_directive("return")
            .or_else(|| whole_rewrite(location.directive.inner()));
        match end.and_then(|end| read_target(end, server)) {
            Some(found) if location.path == "/" && location.kind != LocationKind::Exact => {
                redirect = Some(found)
            }
            Some(_) => {}
            None if location.scope.own_directive("proxy_pass").is_some() => return None,
            None => others.push(ImportNotice::left_out(
                &location.directive.place,
                format!(
                    "location {}: it is redirected with all the rest",
                    location.directive.args().join(" ")
                ),
            )),
        }
    }
    let mut redirect = redirect?;
    redirect.notices.extend(others);
    Some(redirect)
}

/// An `if` that redirects all requests without TLS to HTTPS, by a field of a load balancer or by the connection.
pub(super) fn read_test(test: &NginxDirective, server: &NginxServer<'_>) -> Option<HttpsRedirect> {
    let words = test.args().join(" ");
    let words = words.trim_start_matches('(').trim_end_matches(')').trim();
    let (variable, rest) = words.split_once(' ')?;
    let rest: String = rest.chars().filter(|c| !" \"'".contains(*c)).collect();
    let is_open = server.listens.iter().any(|(_, listen)| !listen.ssl);
    let holds = match variable {
        "$http_x_forwarded_proto" => rest == "!=https",
        "$scheme" => is_open && ["!=https", "=http"].contains(&&*rest),
        "$https" => is_open && ["=", "!=on"].contains(&&*rest),
        _ => false,
    };
    let [end] = test.inner() else {
        return None;
    };
    let redirect = read_target(end, server).filter(|_| holds)?;
    let is_told = |notice: &ImportNotice| notice.kind == NoticeKind::LeftOut;
    (!redirect.notices.iter().any(is_told)).then_some(redirect)
}

/// Redirects all clients of a server's routes that come without TLS to HTTPS.
pub(super) fn send_to_https(group: &mut RouteGroup, port: u16) {
    let value = match port {
        443 => "true".to_owned(),
        port => port.to_string(),
    };
    for route in group
        .routes
        .iter_mut()
        .filter(|route| !route.keys.is_empty())
    {
        route.keys.push(("redirect_https", value.clone()));
    }
}

/// Directive with which a server rejects all clients, such as `return 444`.
pub(super) fn turns_away<'a>(server: &NginxServer<'a>) -> Option<&'a NginxDirective> {
    let end = server.scope.own_directive("return")?;
    let code: u16 = end.arg(0).parse().ok()?;
    (400..600).contains(&code).then_some(end)
}

/// A `rewrite` that matches every request and ends as a redirect.
pub(super) fn whole_rewrite(level: &[NginxDirective]) -> Option<&NginxDirective> {
    level.iter().find(|d| {
        d.name() == "rewrite"
            && [
                "^", ".*", "^.*", "^.*$", "^(.*)$", "^(.*)", "(.*)", "^/(.*)$", "^/(.*)", "^(/.*)$",
            ]
            .contains(&d.arg(0))
            && (["permanent", "redirect"].contains(&d.arg(2)) || d.arg(1).contains("://"))
    })
}

fn is_host_test(directive: &NginxDirective) -> bool {
    let test = directive.args().join(" ");
    let test = test.trim_start_matches('(').trim_end_matches(')').trim();
    test.starts_with("$host =")
        || test.starts_with("$scheme = http")
        || test.starts_with("$http_host =")
}

/// Target of a `return` or `rewrite`, if it is the same URL with HTTPS.
fn read_target(end: &NginxDirective, server: &NginxServer<'_>) -> Option<HttpsRedirect> {
    let (code, target) = match end.name() {
        "return" => match (end.arg(0), end.arg(1)) {
            (code @ ("301" | "302" | "303" | "307" | "308"), target) => (code, target),
            (target, "") => ("302", target),
            _ => return None,
        },
        "rewrite" => (
            if end.arg(2) == "permanent" {
                "301"
            } else {
                "302"
            },
            end.arg(1),
        ),
        _ => return None,
    };
    let rest = target.strip_prefix("https://")?;
    let end_of_host = rest
        .char_indices()
        .skip(1)
        .find(|(_, c)| ['/', '$'].contains(c));
    let (authority, path) = rest.split_at(end_of_host.map_or(rest.len(), |(at, _)| at));
    let keeps_path = match end.name() {
        "return" => path == "$request_uri",
        _ => ["$request_uri?", "$1", "/$1", "$uri"].contains(&path),
    };
    if !keeps_path {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 443),
    };
    let mut notices = Vec::new();
    let is_same_host = ["$host", "$http_host", "$server_name"].contains(&host)
        || server.hosts.iter().all(|name| name == host) && !server.hosts.is_empty();
    if !is_same_host {
        notices.push(ImportNotice::left_out(
            &end.place,
            format!(
                "`{}`: `redirect_https` keeps the host, and does not lead to {host}",
                end.line()
            ),
        ));
    }
    notices.push(ImportNotice::differs(
        &end.place,
        format!("`{}`: GET and HEAD are redirected with 301, other methods with 308; nginx says {code} to all", end.line()),
    ));
    Some(HttpsRedirect { port, notices })
}
