//! What is guarded in nginx is not open in lameduck, and nothing is dropped in silence.

use super::import_text;
use lameduck::config::{self, Config};

const OPEN: &str = "location / { proxy_pass http://127.0.0.1:3000; proxy_set_header Host $host; }";

fn imported(inner: &str) -> (Config, String) {
    let (_, out, err) = import_text(&format!(
        "http {{ server {{ listen 80; server_name a.example.org; {inner} }} }}"
    ));
    let parsed = config::parse("x.toml", &out);
    (
        parsed
            .unwrap_or_else(|error| panic!("{}", error.render(false)))
            .config,
        err,
    )
}

/// The backends that a path is sent to.
fn backends(config: &Config, path: &str) -> usize {
    let fits =
        |prefix: &str| prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"));
    let route = config
        .routes
        .iter()
        .filter(|route| fits(&route.path_prefix))
        .max_by_key(|route| route.path_prefix.len());
    // A single pool takes everything where there is no route; without a matching one it is 404.
    let name = match route {
        Some(route) => route.pool.as_ref().expect("each goes to a pool"),
        None if config.routes.is_empty() => &config.pools[0].name,
        None => return 0,
    };
    let pool = config.pools.iter().find(|pool| pool.name == *name);
    pool.unwrap().backends.len()
}

#[test]
fn guarded_location_beside_an_open_one_leads_to_no_backend() {
    for guard in [
        "auth_basic x; auth_basic_user_file f;",
        "auth_request /auth;",
        "allow 10.0.0.0/8; deny all;",
        "deny all;",
        "internal;",
        "limit_except GET { deny all; }",
        "return 403;",
        "rewrite ^ /login break;",
        "proxy_method GET;",
    ] {
        for head in [
            "location /admin",
            "location /admin/",
            "location ^~ /admin",
            "location = /admin",
        ] {
            let inner = format!("{OPEN} {head} {{ {guard} proxy_pass http://127.0.0.1:3000; }}");
            let (config, err) = imported(&inner);
            assert_eq!(backends(&config, "/admin"), 0, "{inner}");
            assert_eq!(backends(&config, "/"), 1, "{inner}");
            assert!(
                err.contains("warning: left out: nginx.conf:1: location"),
                "{inner}\n{err}"
            );
        }
    }
}

#[test]
fn guard_of_a_server_holds_for_its_locations_unless_they_lift_it() {
    let (config, _) = imported(&format!(
        "auth_basic x; {OPEN} location /open {{ auth_basic off; proxy_pass http://127.0.0.1:3000; }}"
    ));
    assert_eq!((backends(&config, "/"), backends(&config, "/open")), (0, 1));
}

#[test]
fn guard_behind_try_files_closes_the_location() {
    let (config, _) = imported(
        "location / { try_files $uri @app; } location @app { auth_request /a; proxy_pass http://127.0.0.1:3000; }",
    );
    assert_eq!(backends(&config, "/"), 0);
}

/// A single pool without a route would take every request.
#[test]
fn pool_of_a_left_out_location_takes_nothing() {
    for inner in [
        "location ~ x { proxy_pass http://127.0.0.1:3000; }",
        "location = /x { proxy_pass http://127.0.0.1:3000; }",
    ] {
        let (config, _) = imported(inner);
        assert_eq!(backends(&config, "/"), 0, "{inner}");
    }
}

#[test]
fn server_of_an_inner_address_is_not_reachable_from_outside() {
    let (_, out, err) = import_text(&format!(
        "http {{ server {{ listen 80; server_name www.example.org; {OPEN} }}\n server {{ listen 127.0.0.1:81; server_name admin.example.org; location / {{ proxy_pass http://127.0.0.1:9; }} }} }}"
    ));
    assert!(!out.contains("127.0.0.1:9\""), "{out}");
    assert!(err.contains("127.0.0.1:81 (admin.example.org)"), "{err}");
}

#[test]
fn directive_that_is_not_known_is_named() {
    for (text, name) in [
        (format!("http {{ strange 1; server {{ {OPEN} }} }}"), "strange"),
        (format!("http {{ server {{ strange 1; {OPEN} }} }}"), "strange"),
        (format!("odd_block {{ x; }} http {{ server {{ {OPEN} }} }}"), "odd_block"),
        ("http { upstream u { strange 1; server 127.0.0.1:1; } server { location / { proxy_pass http://u; } } }".into(), "strange"),
    ] {
        let (code, out, err) = import_text(&text);
        assert_eq!(code, 3, "{text}");
        assert!(err.contains(&format!("`{name}")) && out.contains(&format!("`{name}")), "{err}");
    }
}

#[test]
fn comment_can_not_become_a_line_of_configuration() {
    let text = format!(
        "http {{ server {{ add_header X \"a\n[[listener]]\naddress = 1\"; server_name \"b\n[x]\"; {OPEN} }} }}"
    );
    let (code, out, _) = import_text(&text);
    assert_eq!(code, 3);
    assert_eq!(out.matches("\n[[listener]]").count(), 1, "{out}");
}
