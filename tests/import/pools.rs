//! Where requests go when nginx chooses among several, and what is sent along.

use super::import_text;

const APPS: &str =
    "upstream app { server 127.0.0.1:3000; } upstream next { server 127.0.0.1:3001; }";

/// What becomes of these lines of `http` and of a server.
fn imported(http: &str, server: &str) -> (String, String) {
    let (_, out, err) = import_text(&format!(
        "http {{ {APPS} {http} server {{ listen 80; server_name a.example.org; {server} }} }}"
    ));
    let parsed = lameduck::config::parse("x.toml", &out);
    parsed.unwrap_or_else(|error| panic!("{}\n{out}", error.render(false)));
    (out, err)
}

const BY_VARIABLE: &str = "location / { proxy_pass http://$to; proxy_set_header Host $host; }";

#[test]
fn split_clients_becomes_a_split_with_its_weights_and_its_key() {
    for (source, share, split, on) in [
        (
            "$request_id",
            "10%",
            "split = { next = 10, app = 90 }",
            None,
        ),
        (
            "${remote_addr}AAA",
            "0.5%",
            "split = { next = 50, app = 9950 }",
            Some("split_on = \"client\""),
        ),
        (
            "$cookie_sid",
            "25%",
            "split = { next = 25, app = 75 }",
            Some("split_on = \"cookie:sid\""),
        ),
    ] {
        let http = format!("split_clients \"{source}\" $to {{ {share} next; * app; }}");
        let (out, err) = imported(&http, BY_VARIABLE);
        assert!(out.contains(split), "{out}");
        assert_eq!(on.is_some(), out.contains("split_on"), "{out}");
        assert!(on.is_none_or(|on| out.contains(on)), "{out}");
        assert!(!err.contains("left out"), "{err}");
    }
    // What it can't choose by closes the place, and says so.
    let (out, err) = imported(
        "split_clients $ssl_session_id $to { 10% next; * app; }",
        BY_VARIABLE,
    );
    assert!(
        !out.contains("split =") && err.contains("can't choose by"),
        "{err}"
    );
}

#[test]
fn map_in_proxy_pass_becomes_a_route_for_each_of_its_values() {
    for (map, route) in [
        (
            "map $http_x_canary $to { default app; always next; }",
            r#"headers = { X-Canary = { regex = "(?i)^always$" } }"#,
        ),
        (
            "map $cookie_beta $to { default app; ~^y next; }",
            r#"cookies = { beta = { regex = "^y" } }"#,
        ),
        (
            "map $request_method $to { default app; POST next; }",
            r#"methods = ["POST"]"#,
        ),
    ] {
        let (out, err) = imported(map, BY_VARIABLE);
        assert!(out.contains(route), "{out}");
        let at = out.find(route).unwrap();
        assert!(out[at..].contains("pool = \"next\""), "{out}");
        assert!(
            out.contains("[[route]]\npool = \"app\"") && err.is_empty(),
            "{out}{err}"
        );
    }
    // Guards and rules of the place hold for each of them.
    let (out, _) = imported(
        "map $http_x $to { default app; a next; }",
        "location / { deny 10.0.0.0/8; proxy_pass http://$to; proxy_set_header Host $host; }",
    );
    assert_eq!(out.matches("deny = [\"10.0.0.0/8\"]").count(), 2, "{out}");
    for map in [
        "map $http_x $to { a next; }",
        "map $ssl_x $to { default app; a next; }",
    ] {
        let (out, err) = imported(map, BY_VARIABLE);
        assert!(
            !out.contains("pool = \"app\"") && err.contains("left out"),
            "{err}"
        );
    }
}

#[test]
fn mirror_becomes_the_route_s_and_nothing_of_it_is_dropped_in_silence() {
    let app = "location / { mirror /copy; proxy_pass http://app; proxy_set_header Host $host; }";
    let copy = "location = /copy { internal; proxy_pass http://next$request_uri; proxy_set_header Host $host; }";
    let (out, err) = imported("", &format!("{app} {copy}"));
    assert!(out.contains("mirror = { pool = \"next\" }"), "{out}");
    assert!(!err.contains("left out"), "{err}");
    for (location, says) in [
        (
            "location = /copy { internal; if ($x) { return 400; } proxy_pass http://next; }",
            "write `percent`",
        ),
        (
            "location = /copy { internal; return 200; }",
            "chooses among its copies",
        ),
        ("", "would go to the same app"),
    ] {
        let (out, err) = imported("", &format!("{app} {location}"));
        assert!(!out.contains("mirror ="), "{out}");
        assert!(err.contains(says), "{location}: {err}");
    }
    let off = app.replace("mirror /copy;", "mirror /copy; mirror_request_body off;");
    let (_, err) = imported("", &format!("{off} {copy}"));
    assert!(err.contains("copies have their body"), "{err}");
}

#[test]
fn hash_of_an_upstream_becomes_the_pool_s_and_says_what_moves() {
    let place = "location / { proxy_pass http://app2; proxy_set_header Host $host; }";
    let servers = "server 127.0.0.1:1; server 127.0.0.1:2;";
    for (directive, balance, hash_on, says) in [
        (
            "hash $request_uri consistent;",
            "ketama_nginx",
            Some("uri"),
            None,
        ),
        (
            "hash $remote_addr consistent;",
            "ketama_nginx",
            Some("client"),
            None,
        ),
        (
            "hash ${cookie_sid} consistent;",
            "ketama_nginx",
            Some("cookie:sid"),
            None,
        ),
        (
            "hash $http_x_tenant consistent;",
            "ketama_nginx",
            Some("header:X-Tenant"),
            None,
        ),
        (
            "hash $binary_remote_addr consistent;",
            "ketama_nginx",
            Some("client"),
            Some("hashed as text"),
        ),
        (
            "hash $scheme$proxy_host$request_uri consistent;",
            "ketama_nginx",
            Some("uri"),
            Some("shared out anew"),
        ),
        ("hash $uri;", "hash", Some("path"), Some("shared out anew")),
        ("ip_hash;", "hash", Some("client"), Some("shared out anew")),
        (
            "hash $arg_id consistent;",
            "round_robin",
            None,
            Some("`hash_on`"),
        ),
        (
            "hash $remote_addr$arg_id;",
            "round_robin",
            None,
            Some("`hash_on`"),
        ),
        (
            "least_time header;",
            "peak_ewma",
            None,
            Some("head of the answer"),
        ),
    ] {
        let (out, err) = imported(&format!("upstream app2 {{ {directive} {servers} }}"), place);
        assert!(
            out.contains(&format!("balance = \"{balance}\"")),
            "{directive}: {out}"
        );
        let hashed = hash_on.map(|key| format!("hash_on = \"{key}\""));
        assert_eq!(
            hashed.is_some(),
            out.contains("hash_on = "),
            "{directive}: {out}"
        );
        assert!(
            hashed.is_none_or(|key| out.contains(&key)),
            "{directive}: {out}"
        );
        match says {
            Some(says) => assert!(err.contains(says), "{directive}: {err}"),
            None => assert!(!err.contains("hash"), "{directive}: {err}"),
        }
    }
    // nginx hashes the name alone where there is no port.
    let (_, err) = imported(
        "upstream app2 { hash $request_uri consistent; server 10.0.0.1; server unix:/run/a.sock; }",
        place,
    );
    assert_eq!(err.matches("nginx hashes it without").count(), 1, "{err}");
}

#[test]
fn backups_stand_by_and_are_the_only_ones_where_nobody_else_is() {
    let app = "location / { proxy_pass http://app2; proxy_set_header Host $host; }";
    let (out, err) = imported(
        "upstream app2 { server 127.0.0.1:1; server 127.0.0.1:2 backup; }",
        app,
    );
    assert!(
        out.contains("address = \"127.0.0.1:2\"\nbackup = true"),
        "{out}"
    );
    assert!(!err.contains("backup"), "{err}");
    let (out, _) = imported(
        "upstream app2 { server 127.0.0.1:1 down; server 127.0.0.1:2 backup; }",
        app,
    );
    assert!(!out.contains("backup = true"), "{out}");
}

#[test]
fn places_of_nginx_s_own_and_one_file_keep_their_answers() {
    let (out, err) = imported(
        "",
        "location / { proxy_pass http://app; proxy_set_header Host $host; }
         location /inside/ { internal; alias /srv/files/; }
         location = /robots.txt { alias /srv/app/robots.txt; }
         location /closed/ { deny all; }
         location /assets/ { root /srv/app; expires max; gzip_static on; }",
    );
    assert!(err.contains("`X-Accel-Redirect`"), "{err}");
    assert!(
        out.contains("path_prefix = \"/inside\"\nrespond = { status = 404 }"),
        "{out}"
    );
    assert!(
        out.contains("root = \"/srv/app\", index = [\"index.html\"], try = [\"/robots.txt\"]"),
        "{out}"
    );
    assert!(
        out.contains("path_prefix = \"/closed\"\nrespond = { status = 403 }"),
        "{out}"
    );
    assert!(
        out.contains("precompressed = true, cache = \"365d\""),
        "{out}"
    );
}

#[test]
fn condition_on_what_proxies_tell_says_whom_it_believes() {
    let (_, err) = imported(
        "",
        "location / { if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; } proxy_pass http://app; proxy_set_header Host $host; }",
    );
    assert!(err.contains("`[headers] trusted`"), "{err}");
}

/// As nginx 1.31 reads them: without `expires` the cookie ends with the browser, and it says neither `SameSite` nor `Secure`.
#[test]
fn sticky_cookie_becomes_a_section_with_what_nginx_says_of_its_cookie() {
    let sticky = |line: &str| {
        let (_, out, err) = import_text(&format!(
            "http {{ upstream app {{ server 127.0.0.1:3000; server 127.0.0.1:3001; {line}; }} server {{ listen 80; \
             location / {{ proxy_pass http://app; }} }} }}"
        ));
        let parsed = lameduck::config::parse("x.toml", &out);
        let config = parsed
            .unwrap_or_else(|error| panic!("{}\n{out}", error.render(false)))
            .config;
        (config.pools[0].sticky.clone(), err)
    };
    let (plain, err) = sticky("sticky cookie srv_id");
    let plain = plain.unwrap();
    assert_eq!(
        (plain.cookie.as_str(), plain.path.as_str()),
        ("srv_id", "/")
    );
    assert!(plain.max_age.is_zero() && plain.secure == Some(false));
    assert_eq!(plain.same_site, lameduck::config::SameSite::Off);
    assert!(
        err.contains("begins a new session once") && !err.contains("left out"),
        "{err}"
    );
    let all = "expires=1h domain=.example.org path=/shop secure httponly samesite=strict";
    let (full, err) = sticky(&format!("sticky cookie srv_id {all}"));
    let full = full.unwrap();
    assert_eq!(
        (full.domain.as_deref(), full.path.as_str()),
        (Some("example.org"), "/shop")
    );
    assert_eq!((full.max_age.as_secs(), full.secure), (3600, Some(true)));
    assert_eq!(full.same_site, lameduck::config::SameSite::Strict);
    assert!(!err.contains("left out"), "{err}");
    // What can't be kept is named, and the cookie is kept where it can.
    for (line, kept, words) in [
        (
            "sticky cookie srv_id domain=$host",
            true,
            "`domain=$host` is left out",
        ),
        (
            "sticky cookie srv_id samesite=none",
            true,
            "browsers refuse",
        ),
        (
            "sticky cookie srv_id expires=0",
            true,
            "until the browser ends",
        ),
        ("sticky cookie $name", false, "no fixed name"),
        ("sticky route $cookie_a", false, "follows none of the app's"),
        (
            "sticky learn create=$upstream_cookie_a lookup=$cookie_a zone=c:1m",
            false,
            "follows none of the app's",
        ),
    ] {
        let (section, err) = sticky(line);
        assert_eq!(section.is_some(), kept, "{line}: {err}");
        assert!(
            err.contains("left out") && err.contains(words),
            "{line}: {err}"
        );
    }
}
