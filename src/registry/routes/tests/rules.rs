//! Routes with conditions: hand-picked cases of which route a request gets.

use std::net::IpAddr;

use crate::config::{FieldMatch, ListenAddress, Route, TextMatch};
use crate::registry::routes::{RouteTable, RoutedRequest};

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) fields: Vec<(&'static str, &'static str)>,
    pub(super) client: Option<IpAddr>,
    pub(super) listener: Option<ListenAddress>,
}

impl RoutedRequest for Asked {
    fn host(&self) -> &[u8] {
        self.host.as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }

    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn query(&self) -> &[u8] {
        self.query.as_bytes()
    }

    fn has_field(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| field.0.eq_ignore_ascii_case(name) && fits(field.1.as_bytes()))
    }

    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn listener(&self) -> Option<&ListenAddress> {
        self.listener.as_ref()
    }
}

pub(super) fn asked(host: &str, path: &str) -> Asked {
    Asked {
        method: "GET",
        host: host.into(),
        path: path.into(),
        query: String::new(),
        fields: Vec::new(),
        client: None,
        listener: None,
    }
}

pub(super) fn table(routes: &[Route]) -> RouteTable {
    let pools: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    RouteTable::new(routes, &pools)
}

#[track_caller]
fn check(table: &RouteTable, asked: &Asked, pool: Option<usize>) {
    assert_eq!(found(table, asked), pool, "{asked:?}");
}

/// Returns the pool of a request, from the table that has its route.
pub(super) fn found(table: &RouteTable, asked: &Asked) -> Option<usize> {
    let (host, path) = (asked.host.as_bytes(), asked.path.as_bytes());
    let target = table.lookup(host, path);
    match table.asks_for_more() {
        false => target?.pool(),
        true => {
            assert!(target.is_none());
            table.find_rule(asked)?.pool
        }
    }
}

pub(super) fn exact(path: &str, pool: usize) -> Route {
    Route {
        path: Some(path.into()),
        ..Route::to_pool(pool.to_string())
    }
}

pub(super) fn prefix(prefix: &str, pool: usize) -> Route {
    Route {
        path_prefix: prefix.into(),
        ..Route::to_pool(pool.to_string())
    }
}

pub(super) fn regex(regex: &str, pool: usize) -> Route {
    Route {
        path_regex: Some(regex.into()),
        ..Route::to_pool(pool.to_string())
    }
}

pub(super) fn is(name: &str, value: &str) -> FieldMatch {
    let value = TextMatch::Exact(value.into());
    FieldMatch {
        name: name.into(),
        value,
    }
}

pub(super) fn has(name: &str, regex: &str) -> FieldMatch {
    let value = TextMatch::Regex(regex.into());
    FieldMatch {
        name: name.into(),
        value,
    }
}

#[test]
fn exact_paths_come_before_prefixes_before_regexes_before_all_paths() {
    let t = table(&[
        prefix("/", 0),
        regex("^/a", 1),
        regex("^/a/[a-z]+$", 2),
        prefix("/a/b", 3),
        exact("/a/b", 4),
        prefix("/a/b/c", 5),
    ]);
    for (path, pool) in [
        ("/a/b", 4),
        ("//a/%62", 4),
        ("/a/b/", 3),
        ("/a/b/x", 3),
        ("/a/b/c/d", 5),
        ("/a/x", 2),
        ("//a//%78", 2),
        ("/a/1", 1),
        ("/%61", 1),
        ("/b", 0),
        ("/", 0),
        ("/A", 0),
    ] {
        check(&t, &asked("h", path), Some(pool));
    }
    for path in ["/a/b/../x", "/x/%2e%2e/a", "/..;/a"] {
        check(&t, &asked("h", path), None);
    }
}

#[test]
fn priority_comes_before_every_kind_of_path() {
    let of = |priority: i32, route: Route| Route { priority, ..route };
    let t = table(&[
        of(-1, exact("/a/b.php", 0)),
        prefix("/a", 1),
        of(2, regex("\\.php$", 2)),
        of(1, regex("^/a/longer/[a-z.]+$", 3)),
        of(3, prefix("/a/firm", 4)),
        of(9, prefix("/", 5)),
        of(9, prefix("/a/b/c", 6)),
    ]);
    // The route with the highest priority is for all paths: it hides all others but one of equal priority.
    check(&t, &asked("h", "/a/b.php"), Some(5));
    check(&t, &asked("h", "/a/b/c/x.php"), Some(6));
    let t = table(&[
        of(-1, exact("/a/b.php", 0)),
        prefix("/a", 1),
        of(2, regex("\\.php$", 2)),
        of(1, regex("^/a/longer/[a-z.]+$", 3)),
        of(3, prefix("/a/firm", 4)),
        prefix("/", 5),
    ]);
    for (path, pool) in [
        ("/a/b.php", 2),
        ("/a/longer/x.php", 2),
        ("/a/longer/x", 3),
        ("/a/firm/x.php", 4),
        ("/a/x", 1),
        ("/x.php", 2),
        ("/x", 5),
    ] {
        check(&t, &asked("h", path), Some(pool));
    }
}

#[test]
fn more_conditions_come_first_and_all_must_hold() {
    let t = table(&[
        Route::to_pool("0"),
        Route {
            methods: vec!["PUT".into(), "POST".into()],
            ..Route::to_pool("1")
        },
        Route {
            headers: vec![is("X-A", "1")],
            ..Route::to_pool("2")
        },
        Route {
            headers: vec![is("x-a", "1"), has("x-b", "^[0-9]+$")],
            ..Route::to_pool("3")
        },
        Route {
            query: vec![is("debug mode", "a&b")],
            ..Route::to_pool("4")
        },
        Route {
            cookies: vec![is("beta", "yes")],
            ..Route::to_pool("5")
        },
        Route {
            clients: vec!["10.0.0.0/8".parse().unwrap()],
            ..Route::to_pool("6")
        },
    ]);
    let get = asked("h", "/");
    let with = |fields: &[(&'static str, &'static str)]| Asked {
        fields: fields.to_vec(),
        ..get.clone()
    };
    check(&t, &get, Some(0));
    check(
        &t,
        &Asked {
            method: "POST",
            ..with(&[("X-A", "1"), ("X-B", "1")])
        },
        Some(1),
    );
    check(&t, &with(&[("X-A", "1")]), Some(2));
    check(&t, &with(&[("X-A", "2"), ("x-A", "1")]), Some(2));
    check(&t, &with(&[("X-A", "1"), ("X-B", "x")]), Some(2));
    check(&t, &with(&[("X-B", "77"), ("X-A", "1")]), Some(3));
    check(&t, &with(&[("X-B", "77")]), Some(0));
    for (query, pool) in [
        ("debug%20mode=a%26b", 4),
        ("x&debug+mode=a%26b&y", 4),
        ("debug+mode=no&debug+mode=%61%26b", 4),
        ("debug+mode=a&b", 0),
        ("debug%2520mode=a%26b", 0),
        ("", 0),
    ] {
        check(
            &t,
            &Asked {
                query: query.into(),
                ..get.clone()
            },
            Some(pool),
        );
    }
    check(&t, &with(&[("Cookie", "a=b; beta=yes;c")]), Some(5));
    check(&t, &with(&[("Cookie", "a=b;beta = yes ;c")]), Some(5));
    check(&t, &with(&[("Cookie", "beta=no; beta=yes")]), Some(5));
    check(
        &t,
        &with(&[("cookie", "a=b"), ("cookie", "beta=yes")]),
        Some(5),
    );
    check(
        &t,
        &with(&[("Cookie", "beta=yes2; xbeta=yes; BETA=yes")]),
        Some(0),
    );
    check(
        &t,
        &Asked {
            client: "10.1.2.3".parse().ok(),
            ..get.clone()
        },
        Some(6),
    );
    check(
        &t,
        &Asked {
            client: "11.1.2.3".parse().ok(),
            ..get.clone()
        },
        Some(0),
    );
}

#[test]
fn a_route_of_several_hosts_is_one_of_each() {
    let hosts = |hosts: &[&str], pool: usize| Route {
        hosts: hosts.iter().map(|host| host.to_string()).collect(),
        name: Some(format!("r{pool}")),
        ..Route::to_pool(pool.to_string())
    };
    let t = table(&[
        hosts(&["a.org", "*.b.org"], 1),
        hosts(&["x.b.org"], 2),
        hosts(&["*.x.b.org", "*.org"], 3),
    ]);
    for (host, pool) in [
        ("a.org", Some(1)),
        ("A.ORG.", Some(1)),
        ("y.b.org", Some(1)),
        ("x.b.org", Some(2)),
        ("y.x.b.org", Some(3)),
        ("b.org", Some(3)),
        ("org", None),
        ("a.org.evil.com", None),
        ("", None),
    ] {
        check(&t, &asked(host, "/"), pool);
    }
}

/// Two servers with one host on two ports: requests that a listener's own routes don't match go to the routes for all
/// listeners.
#[test]
fn routes_of_one_listener_come_before_those_of_all() {
    let at = |address: &str| vec![address.parse().unwrap()];
    let t = table(&[
        prefix("/", 0),
        Route {
            listeners: at("10.9.9.9:81"),
            ..prefix("/", 1)
        },
        Route {
            listeners: at("[::]:82"),
            ..prefix("/a", 2)
        },
        Route {
            methods: vec!["GET".into()],
            ..prefix("/", 3)
        },
    ]);
    for (listener, path, pool) in [
        (None, "/a", 3),
        (Some("10.9.9.9:80"), "/a", 3),
        (Some("10.9.9.9:81"), "/a", 1),
        (Some("[::]:82"), "/a", 2),
        (Some("[::]:82"), "/b", 3),
    ] {
        let listener = listener.map(|address| address.parse().unwrap());
        let asked = Asked {
            listener,
            ..asked("x", path)
        };
        check(&t, &asked, Some(pool));
    }
}
