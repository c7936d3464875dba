//! Restrictions of access and rate: as keys of routes, or as a reason to close the routes.

use super::settings::{AnnotationReader, plain_text, split_url};
use crate::tools::import::draft::{toml_list, toml_table, toml_text};
use crate::tools::import::ingress::model::Annotation;
use crate::tools::import::offered;

/// Directives in snippets that restrict no access.
const HARMLESS_DIRECTIVES: [&str; 22] = [
    "more_set_headers",
    "more_clear_headers",
    "more_set_input_headers",
    "more_clear_input_headers",
    "add_header",
    "proxy_set_header",
    "proxy_hide_header",
    "proxy_pass_header",
    "expires",
    "etag",
    "gzip",
    "gzip_types",
    "gzip_min_length",
    "sub_filter",
    "sub_filter_once",
    "sub_filter_types",
    "proxy_buffering",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "client_body_buffer_size",
    "proxy_cookie_path",
];

/// Reads the restrictions of access and rate.
pub(super) fn read_guards(reader: &mut AnnotationReader<'_>) {
    read_snippets(reader);
    read_addresses(reader);
    read_auth(reader);
    read_client_certificates(reader);
    read_limits(reader);
}

fn read_snippets(reader: &mut AnnotationReader<'_>) {
    for name in ["server-snippet", "configuration-snippet"] {
        let Some(snippet) = reader.get(name) else {
            continue;
        };
        if is_harmless(&snippet.value) {
            reader.refuse(snippet, "lameduck runs no snippets of nginx's; write it as `request_headers` and `response_headers`");
            continue;
        }
        let why = "lameduck runs no snippets of nginx's, and this one may keep somebody out";
        match name {
            "server-snippet" => reader.close_host(snippet, why),
            _ => reader.close(snippet, why),
        }
    }
}

/// Whether all statements of a snippet are known to restrict no access.
fn is_harmless(snippet: &str) -> bool {
    // A `;` in quotes makes a statement that begins with an unknown word, which errs on the safe side.
    let lines = snippet
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join(" ");
    !text.contains(['{', '}'])
        && text
            .split(';')
            .map(str::trim)
            .filter(|statement| !statement.is_empty())
            .all(|statement| {
                let word = statement.split_whitespace().next().unwrap_or_default();
                HARMLESS_DIRECTIVES.contains(&word)
            })
}

fn read_addresses(reader: &mut AnnotationReader<'_>) {
    let lists = [
        (
            "allow",
            ["allowlist-source-range", "whitelist-source-range"],
        ),
        ("deny", ["denylist-source-range", "denylist-source-range"]),
    ];
    for (key, names) in lists {
        // ingress-nginx also prefers the newer name.
        let Some(annotation) = names.iter().find_map(|name| reader.get(name)) else {
            continue;
        };
        reader.out.is_guarded = true;
        let words = annotation
            .value
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let networks: Option<Vec<String>> = words.map(read_network).collect();
        match networks {
            Some(networks) if !networks.is_empty() => {
                reader.out.keys.push((key, toml_list(&networks)))
            }
            _ => reader.close(annotation, "it is not a list of networks"),
        }
    }
}

fn read_network(word: &str) -> Option<String> {
    let network = word
        .parse::<ipnet::IpNet>()
        .map(|network| network.trunc().to_string());
    network
        .or_else(|_| {
            word.parse::<std::net::IpAddr>()
                .map(|address| address.to_string())
        })
        .ok()
}

fn read_auth(reader: &mut AnnotationReader<'_>) {
    let kind = reader.get("auth-type");
    let url = reader.get("auth-url");
    let Some(first) = kind.or(url) else {
        // If only one of the two is set, that is a mistake, which may have been meant to restrict access.
        if let Some(secret) = reader.get("auth-secret") {
            reader.close(secret, "there is no `auth-type` beside it");
        }
        return;
    };
    reader.out.is_guarded = true;
    let has_addresses = reader
        .out
        .keys
        .iter()
        .any(|(key, _)| ["allow", "deny"].contains(key));
    if reader.ingress.text("satisfy").eq_ignore_ascii_case("any") && has_addresses {
        reader.close(first, "`satisfy: any`: lameduck asks for both");
        return;
    }
    match (kind, url) {
        (Some(kind), Some(_)) => reader.close(
            kind,
            "`auth-url` beside it: lameduck asks for one kind of credentials",
        ),
        (Some(kind), None) => read_basic(reader, kind),
        (None, Some(url)) => read_forward(reader, url),
        (None, None) => {}
    }
}

fn read_basic(reader: &mut AnnotationReader<'_>, kind: &Annotation) {
    if kind.value.trim() != "basic" {
        reader.close(kind, "lameduck asks for `basic` only");
        return;
    }
    let Some(secret) = reader.get("auth-secret") else {
        reader.close(kind, "there is no `auth-secret`");
        return;
    };
    let file = secret_path(reader, "auth", secret.value.trim());
    let realm = match reader.ingress.text("auth-realm") {
        "" => "restricted",
        realm => realm,
    };
    let value = toml_table(&[
        ("basic".into(), toml_text(&file)),
        ("realm".into(), toml_text(realm)),
    ]);
    let form = match reader.ingress.text("auth-secret-type") {
        "auth-map" => "a line `user:hash` for each of its keys",
        _ => "what its key `auth` has",
    };
    let pools = "in place of `pool = \"left-out\"` the pool of its Service";
    reader.close(
        secret,
        &format!("a Secret is not read: write {form} to {file}, then give its routes `auth = {value}` and {pools}"),
    );
}

fn read_forward(reader: &mut AnnotationReader<'_>, url: &Annotation) {
    if let Some(method) = reader
        .get("auth-method")
        .filter(|method| method.value.trim() != "GET")
    {
        reader.close(method, "lameduck asks with GET");
        return;
    }
    let value = url.value.trim();
    if value.contains('$') {
        reader.close(url, "lameduck asks one address: write the Service's, such as `http://oauth2-proxy.auth.svc:4180/oauth2/auth`, as `auth = { forward = \"…\" }`");
        return;
    }
    if split_url(value).is_none() {
        reader.close(url, "it is not a URL that lameduck can ask");
        return;
    }
    let mut fields = vec![("forward".to_owned(), toml_text(value))];
    let copied = reader
        .ingress
        .text("auth-response-headers")
        .split(',')
        .map(|name| name.trim().to_owned());
    let copied: Vec<String> = copied.filter(|name| !name.is_empty()).collect();
    if !copied.is_empty() {
        fields.push(("copy".into(), toml_list(&copied)));
    }
    let value = toml_table(&fields);
    match offered::check_key("auth", &value) {
        Ok(()) => reader.out.keys.push(("auth", value)),
        Err(why) => reader.close(url, &why),
    }
}

/// Path at which the file of a Secret has to be put.
pub(super) fn secret_path(reader: &AnnotationReader<'_>, folder: &str, named: &str) -> String {
    let (namespace, name) = named
        .split_once('/')
        .unwrap_or((&reader.ingress.namespace, named));
    format!("/etc/lameduck/{folder}/{namespace}-{name}")
}

fn read_client_certificates(reader: &mut AnnotationReader<'_>) {
    let Some(secret) = reader.get("auth-tls-secret") else {
        return;
    };
    let verify = reader.get("auth-tls-verify-client");
    match verify.map_or("on", |verify| verify.value.trim()) {
        "off" => return,
        "on" => {
            reader.out.is_guarded = true;
            reader
                .out
                .keys
                .push(("client_certificate", toml_text("required")));
        }
        "optional" => {}
        _ => {
            reader.close_host(
                verify.unwrap_or(secret),
                "lameduck believes no certificate that nobody has signed",
            );
            return;
        }
    }
    let file = format!("{}/ca.crt", secret_path(reader, "tls", secret.value.trim()));
    reader.refuse(
        secret,
        &format!("a Secret is not read: write its `ca.crt` to {file}"),
    );
    reader.out.client_ca = Some((file, secret.clone()));
}

fn read_limits(reader: &mut AnnotationReader<'_>) {
    let multiplier = reader
        .number::<u32>("limit-burst-multiplier")
        .filter(|number| *number > 0)
        .unwrap_or(5);
    let mut is_taken = false;
    for (name, unit) in [("limit-rps", "s"), ("limit-rpm", "m")] {
        let Some(annotation) = reader.get(name) else {
            continue;
        };
        let Some(limit) = reader.number::<u32>(name).filter(|limit| *limit > 0) else {
            continue;
        };
        if is_taken {
            reader.refuse(annotation, "a route has one rate, and `limit-rps` is it");
            continue;
        }
        // nginx's burst does not include the first request.
        let burst = limit.saturating_mul(multiplier).saturating_add(1);
        let value = toml_table(&[
            ("limit".into(), toml_text(&format!("{limit}/{unit}"))),
            ("burst".into(), burst.to_string()),
        ]);
        match offered::check_key("rate", &value) {
            Ok(()) => {
                is_taken = true;
                reader.out.keys.push(("rate", value));
                reader.differ(annotation, "each route counts for itself; who comes too often gets 429, and 503 in ingress-nginx");
            }
            Err(why) => reader.refuse(annotation, &why),
        }
    }
    let Some(annotation) = reader.get("limit-connections") else {
        return;
    };
    let Some(limit) = reader
        .number::<u32>("limit-connections")
        .filter(|limit| *limit > 0)
    else {
        return;
    };
    match offered::check_key("connections", &limit.to_string()) {
        Ok(()) => {
            reader.out.keys.push(("connections", limit.to_string()));
            reader.differ(
                annotation,
                "it counts requests, each route for itself; who has too many gets 429",
            );
        }
        Err(why) => reader.refuse(annotation, &plain_text(&why)),
    }
}

#[cfg(test)]
mod tests {
    use super::is_harmless;

    #[test]
    fn snippets_that_may_keep_somebody_out_are_not_harmless() {
        assert!(is_harmless(
            "more_set_headers \"X-A: b\";\n# deny all;\nadd_header X-B c;"
        ));
        for guarding in [
            "deny all;",
            "more_set_headers \"X-A: b\";\nif ($http_x = y) { return 403; }",
            "access_by_lua_block { ngx.exit(403) }",
            "auth_basic x;",
            "add_header X-A 'b;' always; deny all;",
            "Deny all;",
        ] {
            assert!(!is_harmless(guarding), "{guarding}");
        }
    }
}
