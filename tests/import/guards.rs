//! What is guarded in nginx is not open in lameduck, and nothing is dropped in silence.

use super::import_text;
use lameduck::config::{self, Config, ListenAddress};
use lameduck::registry::routes::{RouteTable, RouteTarget, RoutedRequest};
use std::net::IpAddr;

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

/// A request by a method that few places let in.
struct Asked<'a>(&'a str);

impl RoutedRequest for Asked<'_> {
    fn host(&self) -> &[u8] {
        b"a.example.org"
    }

    fn path(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn method(&self) -> &[u8] {
        b"PATCH"
    }

    fn query(&self) -> &[u8] {
        b""
    }

    fn has_field(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn listener(&self) -> Option<&ListenAddress> {
        None
    }
}

/// The backends that a path is sent to by whoever comes; none where the route asks who it is.
fn backends(config: &Config, path: &str) -> usize {
    let names: Vec<_> = config.pools.iter().map(|pool| &pool.name).collect();
    let table = RouteTable::new(&config.routes, &names);
    let found = match table.asks_for_more() {
        false => table.lookup(b"a.example.org", path.as_bytes()),
        true => table.find_rule(&Asked(path)).map(RouteTarget::Rule),
    };
    let is_guarded = |target: &RouteTarget<'_>| match target {
        RouteTarget::Pool(_) => false,
        RouteTarget::Rule(rule) => {
            let asks = format!("{:?}", rule.route);
            ["auth: Some", "allow: [1", "deny: [0"]
                .iter()
                .any(|guard| asks.contains(guard))
        }
    };
    let open = found.filter(|target| !is_guarded(target));
    let pool = open.and_then(RouteTarget::pool);
    pool.map_or(0, |pool| config.pools[pool].backends.len())
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
        "proxy_method GET;",
        "auth_jwt x;",
        "auth_digest x;",
        "access_by_lua_file x.lua;",
        "rewrite_by_lua_block { ngx.exit(403) }",
        "satisfy any; auth_basic x; allow 10.0.0.0/8; deny all;",
    ] {
        for head in [
            "location /admin",
            "location /admin/",
            "location ^~ /admin",
            "location = /admin/x",
            "location ~ ^/admin/",
            "location ~* /ADMIN",
            r"location ~ ^/admin(?!/public)",
        ] {
            let inner = format!("{OPEN} {head} {{ {guard} proxy_pass http://127.0.0.1:3000; }}");
            let (config, err) = imported(&inner);
            assert_eq!(
                backends(&config, "/admin/x"),
                0,
                "{inner}\n{:#?}",
                config.routes
            );
            assert_eq!(backends(&config, "/"), 1, "{inner}");
            let is_carried = config.routes.iter().any(|route| {
                route.pool.is_none()
                    || format!("{route:?}").contains("auth: Some")
                    || format!("{route:?}").contains("allow: [1")
                    || format!("{route:?}").contains("deny: [0")
            });
            assert!(
                is_carried || err.contains("warning: left out: nginx.conf:1: location"),
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
fn location_in_an_internal_one_is_internal() {
    let (config, _) = imported(&format!(
        "{OPEN} location /in/ {{ internal; location /in/a/ {{ proxy_pass http://127.0.0.1:3000; }} }}"
    ));
    assert_eq!(backends(&config, "/in/a/x"), 0);
}

/// nginx compares decoded paths, and routes what clients send.
#[test]
fn guard_of_a_path_that_clients_encode_holds() {
    for head in [
        "location \"/my files/\"",
        "location ^~ \"/my files\"",
        "location = \"/my files/x\"",
        "location ~ \"^/my files/\"",
        "location ~ ^/my\\ files/",
    ] {
        let inner = format!("{OPEN} {head} {{ deny all; }}");
        let (config, err) = imported(&inner);
        assert_eq!(backends(&config, "/my%20files/x"), 0, "{inner}\n{err}");
        assert_eq!(backends(&config, "/other"), 1, "{inner}\n{err}");
    }
    // One that no route can have closes the server.
    let (config, _) = imported(&format!("{OPEN} location /a//b {{ deny all; }}"));
    assert_eq!(backends(&config, "/a/b"), 0);
}

/// Its source would be sent: nginx looks for the location of an index anew.
#[test]
fn index_that_is_a_program_is_no_file() {
    let (config, err) = imported(
        r"root /srv; index index.php index.html; location / { try_files $uri $uri/ =404; }
          location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }",
    );
    let routes = format!("{:?}", config.routes);
    assert!(routes.contains("index.html"), "{routes}");
    assert!(!routes.contains("index.php"), "{routes}");
    assert!(err.contains("`index index.php`"), "{err}");
}

#[test]
fn if_that_only_breaks_is_named_where_something_follows() {
    let test = "if ($request_uri ~ ^/x/) { break; }";
    let (_, err) = imported(&format!("{test} return 301 https://$host$request_uri;"));
    assert!(err.contains("is done all the same"), "{err}");
    let (_, err) = imported(&format!("{test} {OPEN}"));
    assert!(!err.contains("$request_uri"), "{err}");
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
    assert!(err.is_empty() || !err.contains("left out"), "{err}");
    let config = config::parse("nginx.toml", &out).unwrap().config;
    let inner: ListenAddress = "127.0.0.1:81".parse().unwrap();
    let (at_inner, elsewhere): (Vec<_>, Vec<_>) =
        (config.routes.iter()).partition(|route| route.listeners == [inner.clone()]);
    assert!(
        at_inner
            .iter()
            .all(|route| route.pool.as_deref() == Some("127.0.0.1-9"))
    );
    let outer: ListenAddress = "0.0.0.0:80".parse().unwrap();
    assert!(!elsewhere.is_empty() && !at_inner.is_empty());
    for route in elsewhere {
        assert!(route.listeners == [outer.clone()] && route.pool.as_deref() != Some("127.0.0.1-9"));
    }
}

/// Who listens on all addresses can't listen on one of them besides.
#[test]
fn server_of_one_address_beside_all_of_them_is_left_out_by_name() {
    let (code, out, err) = import_text(&format!(
        "http {{ server {{ listen 80; server_name www.example.org; {OPEN} }}\n server {{ listen 10.0.0.1:80; server_name admin.example.org; location / {{ proxy_pass http://127.0.0.1:9; }} }} }}"
    ));
    assert_eq!(code, 3);
    assert!(!out.contains("127.0.0.1:9\""), "{out}");
    assert!(
        err.contains("10.0.0.1:80 (admin.example.org): it has other servers than 0.0.0.0:80"),
        "{err}"
    );
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
