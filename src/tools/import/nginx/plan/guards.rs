//! Restrictions of access and rate of a location: as keys of its routes, or as a reason to close it.

use super::pools::PassTarget;
use crate::tools::import::draft::{DraftKeys, toml_list, toml_table, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::scope::NginxScope;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

/// Protocols that lameduck doesn't support.
const FOREIGN_CONTENTS: [&str; 16] = [
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "js_content",
    "content_by_lua_block",
    "content_by_lua_file",
    "perl",
    "mp4",
    "flv",
    "hls",
    "stub_status",
    "status",
    "api",
    "empty_gif",
    "dav_methods",
];

/// Restrictions of a location.
#[derive(Debug, Default)]
pub(super) struct GuardKeys {
    pub keys: DraftKeys,
    pub notices: Vec<ImportNotice>,
    /// Request fields that the authentication sets, in lower case.
    pub passed: Vec<String>,
}

/// Restrictions of a location, which must not be left open.
///
/// # Errors
/// Reason why lameduck can't restrict access in this way.
pub(super) fn read_guards(
    site: &NginxSite<'_>,
    server: &NginxServer<'_>,
    scope: &NginxScope<'_>,
    head: &str,
) -> Result<GuardKeys, ImportNotice> {
    let refuse = |directive: &NginxDirective, why: &str| {
        let text = format!("{head}: `{}`: {why}", directive.line());
        ImportNotice::left_out(&directive.place, text)
    };
    let mut guards = GuardKeys::default();
    let authenticated = |name: &str| scope.last(name).filter(|d| d.arg(0) != "off");
    let addresses = scope.all_of(&["allow", "deny"]);
    let is_any = |d: &&NginxDirective| (d.name(), d.arg(0)) == ("allow", "all");
    let has_addresses = !addresses.iter().all(is_any);
    if scope.value("satisfy") == "any"
        && has_addresses
        && let Some(auth) = authenticated("auth_basic").or_else(|| authenticated("auth_request"))
    {
        return Err(refuse(
            auth,
            "`satisfy any`: lameduck asks for both, or for neither",
        ));
    }
    if let Some(directive) = authenticated("auth_jwt") {
        return Err(refuse(directive, "lameduck reads no JSON web tokens"));
    }
    if let Some(directive) = scope
        .last_that(is_foreign_guard)
        .filter(|d| d.arg(0) != "off")
    {
        return Err(refuse(
            directive,
            "it may keep somebody out, and lameduck has no such module",
        ));
    }
    if let Some(directive) = authenticated("auth_basic") {
        let file = scope.value("auth_basic_user_file");
        if !offered::has_route_key("auth") {
            return Err(refuse(directive, "lameduck asks nobody for credentials"));
        }
        if authenticated("auth_request").is_some()
            || file.is_empty()
            || file.contains('$')
            || directive.arg(0).contains('$')
        {
            return Err(refuse(
                directive,
                "lameduck asks for one kind of credentials, kept in one file",
            ));
        }
        let fields = [
            ("basic".to_owned(), toml_text(file)),
            ("realm".to_owned(), toml_text(directive.arg(0))),
            // nginx passes it on, too.
            ("keep_authorization".to_owned(), "true".to_owned()),
        ];
        guards.keys.push(("auth", toml_table(&fields)));
    } else if let Some(directive) = authenticated("auth_request") {
        if !offered::has_route_key("auth") {
            return Err(refuse(directive, "lameduck asks nobody for credentials"));
        }
        let found = forward_auth(site, server, scope, directive, &mut guards);
        found.map_err(|why| refuse(directive, &why))?;
    }
    if let Some(first) = addresses.iter().find(|d| !is_any(d)) {
        let keys = read_addresses(&addresses)
            .ok_or_else(|| refuse(first, "lameduck has no list of addresses in this order"))?;
        for (key, _) in &keys {
            if !offered::has_route_key(key) {
                return Err(refuse(
                    first,
                    "lameduck has no lists of addresses that may come",
                ));
            }
        }
        guards.keys.extend(keys);
    }
    if let Some(directive) = scope.last("internal") {
        return Err(refuse(directive, "it is not for clients"));
    }
    for (name, off) in [
        ("proxy_method", ""),
        ("proxy_set_body", ""),
        ("proxy_pass_request_body", "on"),
        ("proxy_pass_request_headers", "on"),
    ] {
        if let Some(directive) = scope.last(name).filter(|d| d.arg(0) != off) {
            return Err(refuse(directive, "lameduck passes requests as they are"));
        }
    }
    read_limits(site, scope, &mut guards);
    Ok(guards)
}

/// Whether a directive belongs to a third-party module that restricts access.
fn is_foreign_guard(name: &str) -> bool {
    let scripts = ["access_by_lua", "rewrite_by_lua"];
    scripts.iter().any(|script| name.starts_with(script))
        || name.starts_with("auth_") && super::row_of(name).is_none()
}

/// Keys for `allow` and `deny`; the first one that matches decides.
fn read_addresses(rules: &[&NginxDirective]) -> Option<DraftKeys> {
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for (n, rule) in rules.iter().enumerate() {
        let address = rule.arg(0);
        if address == "all" {
            // Later rules have no effect.
            return match rule.name() {
                "allow" if allowed.is_empty() => Some(vec![("deny", toml_list(&denied))]),
                "allow" => None,
                _ if n == 0 => Some(vec![(
                    "deny",
                    toml_list(&["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
                )]),
                _ if allowed.is_empty() => Some(vec![(
                    "deny",
                    toml_list(&["0.0.0.0/0".to_owned(), "::/0".to_owned()]),
                )]),
                _ => {
                    let mut keys = vec![("allow", toml_list(&allowed))];
                    if !denied.is_empty() {
                        keys.push(("deny", toml_list(&denied)));
                    }
                    Some(keys)
                }
            };
        }
        let network = address
            .parse::<ipnet::IpNet>()
            .map(|net| net.trunc().to_string());
        let network =
            network.or_else(|_| address.parse::<std::net::IpAddr>().map(|ip| ip.to_string()));
        let network = network.ok()?;
        match rule.name() {
            "allow" => allowed.push(network),
            // In lameduck it would be checked before the allowed network that precedes it.
            _ if !allowed.is_empty() => return None,
            _ => denied.push(network),
        }
    }
    // All other clients are allowed.
    (allowed.is_empty() && !denied.is_empty()).then(|| vec![("deny", toml_list(&denied))])
}

/// Whether a guard refuses all clients.
pub(super) fn is_for_nobody(key: &(&'static str, String)) -> bool {
    let everybody = toml_list(&["0.0.0.0/0".to_owned(), "::/0".to_owned()]);
    key.0 == "deny" && key.1 == everybody
}

/// Plans `auth_request` to a location that passes requests on to an authentication server.
fn forward_auth(
    site: &NginxSite<'_>,
    server: &NginxServer<'_>,
    scope: &NginxScope<'_>,
    directive: &NginxDirective,
    guards: &mut GuardKeys,
) -> Result<(), String> {
    let uri = directive.arg(0);
    let locations = server.locations.iter();
    let fits = |location: &&NginxLocation<'_>| match location.kind {
        LocationKind::Exact => location.path == uri,
        LocationKind::Prefix | LocationKind::FirmPrefix => uri.starts_with(location.path),
        _ => false,
    };
    let location = locations
        .filter(fits)
        .max_by_key(|location| (location.kind == LocationKind::Exact, location.path.len()))
        .ok_or("there is no location for it")?;
    let pass = location
        .scope
        .own_directive("proxy_pass")
        .ok_or("its location passes requests to nobody")?;
    let target = PassTarget::read(pass)?;
    let address = match site.upstream(&target.to) {
        None => target.to.clone(),
        Some(upstream) => {
            let mut servers = upstream.inner().iter().filter(|d| d.name() == "server");
            let first = servers.next().ok_or("its upstream has no server")?;
            if servers.next().is_some() {
                return Err(
                    "its upstream has several servers, and lameduck asks one address".into(),
                );
            }
            first.arg(0).to_owned()
        }
    };
    let scheme = if target.tls { "https" } else { "http" };
    let path = target.path.as_deref().unwrap_or(uri);
    let mut fields = vec![(
        "forward".to_owned(),
        toml_text(&format!("{scheme}://{address}{path}")),
    )];
    let mut copied = Vec::new();
    for set in scope.all("auth_request_set") {
        let Some(field) = set.arg(1).strip_prefix("$upstream_http_") else {
            if !set.arg(1).starts_with("$upstream_") {
                guards
                    .notices
                    .push(set.refusal("only fields of the answer are carried over"));
            }
            continue;
        };
        let field = super::values::field_name(field);
        let headers = scope.all("proxy_set_header");
        let mut senders = headers.iter().filter(|header| header.arg(1) == set.arg(0));
        if let Some(header) = senders.next() {
            match header.arg(0).eq_ignore_ascii_case(&field) {
                true => {
                    guards.passed.push(field.to_ascii_lowercase());
                    copied.push(field);
                }
                false => {
                    guards.passed.push(header.arg(0).to_ascii_lowercase());
                    let why = format!("the app gets it as {field}, if at all");
                    guards.notices.push(header.refusal(&why));
                }
            }
        }
    }
    if !copied.is_empty() {
        fields.push(("copy".to_owned(), toml_list(&copied)));
    }
    let page = scope.all("error_page");
    for page in page
        .iter()
        .filter(|d| d.args().iter().any(|word| word == "401"))
    {
        guards
            .notices
            .push(page.difference("who is not let in gets the answer of the one who was asked"));
    }
    guards.keys.push(("auth", toml_table(&fields)));
    Ok(())
}

/// Plans `limit_req` and `limit_conn`.
fn read_limits(site: &NginxSite<'_>, scope: &NginxScope<'_>, guards: &mut GuardKeys) {
    let counted = |name: &str| match scope.value(&format!("{name}_dry_run")) {
        "on" => Vec::new(),
        _ => scope.all(name),
    };
    for (n, limit) in counted("limit_req").into_iter().enumerate() {
        match (n, read_rate(site, limit)) {
            (_, Err(why)) => guards.notices.push(limit.refusal(&why)),
            (0, Ok(value)) => {
                guards.keys.push(("rate", value));
                let mut says =
                    String::from("each route counts for itself; who comes too often gets 429");
                if !limit.args().iter().any(|word| word == "nodelay") {
                    says.push_str(", and nobody is delayed");
                }
                guards.notices.push(limit.difference(&says));
            }
            (_, Ok(_)) => guards.notices.push(limit.refusal("a route has one rate")),
        }
    }
    for (n, limit) in counted("limit_conn").into_iter().enumerate() {
        let zone = zone_of(site, "limit_conn_zone", limit.arg(0));
        let is_client = zone.is_some_and(|zone| is_client_key(zone.arg(0)));
        let value = limit.arg(1).to_owned();
        match offered::check_key("connections", &value) {
            Ok(()) if is_client && n == 0 => {
                guards.keys.push(("connections", value));
                guards.notices.push(limit.difference(
                    "it counts requests, each route for itself; who has too many gets 429",
                ));
            }
            Ok(()) => guards
                .notices
                .push(limit.refusal("a route counts by client, once")),
            Err(_) if !offered::has_route_key("connections") => {
                guards.notices.push(
                    limit.refusal("`[server] max_connections_per_client` is all that lameduck has"),
                );
            }
            Err(why) => guards.notices.push(limit.refusal(&why)),
        }
    }
}

fn zone_of<'a>(site: &NginxSite<'a>, kind: &str, name: &str) -> Option<&'a NginxDirective> {
    let is_it = |d: &&NginxDirective| {
        let named = |word: &String| {
            word.strip_prefix("zone=")
                .is_some_and(|zone| zone.split(':').next() == Some(name))
        };
        d.name() == kind && d.args().iter().any(named)
    };
    site.level.iter().find(is_it)
}

fn is_client_key(key: &str) -> bool {
    [
        "$binary_remote_addr",
        "$remote_addr",
        "${binary_remote_addr}",
    ]
    .contains(&key)
}

fn read_rate(site: &NginxSite<'_>, limit: &NginxDirective) -> Result<String, String> {
    if !offered::has_route_key("rate") {
        return Err("`[server] max_connections_per_client` is all that lameduck has".into());
    }
    let word = |directive: &NginxDirective, name: &str| {
        let found = directive
            .args()
            .iter()
            .find_map(|word| word.strip_prefix(name));
        found.map(str::to_owned)
    };
    let name = word(limit, "zone=").ok_or("it names no zone")?;
    let zone = zone_of(site, "limit_req_zone", &name).ok_or("there is no such zone")?;
    let key = match zone.arg(0) {
        key if is_client_key(key) => "client".to_owned(),
        key => match key.strip_prefix("$http_") {
            Some(field) => format!("header:{}", super::values::field_name(field)),
            None => return Err(format!("lameduck does not count by {key}")),
        },
    };
    let rate = word(zone, "rate=").ok_or("its zone has no rate")?;
    let limit_value = match (rate.strip_suffix("r/s"), rate.strip_suffix("r/m")) {
        (Some(number), _) => format!("{number}/s"),
        (_, Some(number)) => format!("{number}/m"),
        _ => return Err(format!("{rate} is not a rate")),
    };
    let burst = word(limit, "burst=").unwrap_or_else(|| "0".into());
    let burst: u32 = burst.parse::<u32>().map_err(|_| "its burst is no number")?;
    let fields = [
        ("limit".to_owned(), toml_text(&limit_value)),
        // nginx's burst does not include the first request.
        ("burst".to_owned(), burst.saturating_add(1).to_string()),
        ("key".to_owned(), toml_text(&key)),
    ];
    let value = toml_table(&fields);
    offered::check_key("rate", &value).map(|()| value)
}

/// Notice for a location without `proxy_pass`, with the reason why it is left out.
pub(super) fn contentless(location: &NginxLocation<'_>, head: &str) -> ImportNotice {
    let inner = location.directive.inner();
    if let Some(directive) = foreign_content(inner) {
        let text = format!("{head}: `{}`: lameduck speaks HTTP only", directive.line());
        return ImportNotice::left_out(&directive.place, text);
    }
    let unknown = inner.iter().find(|d| super::row_of(d.name()).is_none());
    let files = ["alias", "try_files", "root"]
        .into_iter()
        .find_map(|name| location.scope.last(name));
    match (unknown, files) {
        (Some(directive), _) => ImportNotice::left_out(
            &directive.place,
            format!("{head}: `{}`: lameduck does not know it", directive.line()),
        ),
        (None, Some(directive)) => ImportNotice::left_out(
            &location.directive.place,
            format!("{head}: `{}`: lameduck serves no files", directive.line()),
        ),
        (None, None) => ImportNotice::left_out(
            &location.directive.place,
            format!("{head}: lameduck serves no files"),
        ),
    }
}

/// Directive with which a location uses another protocol than HTTP, or one that lameduck lacks.
pub(super) fn foreign_content(inner: &[NginxDirective]) -> Option<&NginxDirective> {
    inner.iter().find(|d| FOREIGN_CONTENTS.contains(&d.name()))
}
