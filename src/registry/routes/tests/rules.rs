//! Routes with conditions, beside a naive reading of their order.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::config::{FieldMatch, MatchedPath, Route, TextMatch};
use crate::registry::routes::{RouteTable, RoutedRequest};

#[derive(Debug, Clone)]
pub(super) struct Asked {
    method: &'static str,
    host: String,
    path: String,
    query: String,
    fields: Vec<(&'static str, &'static str)>,
    client: Option<IpAddr>,
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
}

pub(super) fn asked(host: &str, path: &str) -> Asked {
    Asked {
        method: "GET",
        host: host.into(),
        path: path.into(),
        query: String::new(),
        fields: Vec::new(),
        client: None,
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

/// The pool of a request, by whichever table has its route.
fn found(table: &RouteTable, asked: &Asked) -> Option<usize> {
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

fn is(name: &str, value: &str) -> FieldMatch {
    let value = TextMatch::Exact(value.into());
    FieldMatch {
        name: name.into(),
        value,
    }
}

fn has(name: &str, regex: &str) -> FieldMatch {
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
    // The highest is for all paths: it hides all but an equal one.
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

/// The page's order once more: all that fit, sorted.
fn oracle(routes: &[Route], asked: &Asked) -> Option<usize> {
    let host = asked
        .host
        .strip_suffix('.')
        .unwrap_or(&asked.host)
        .to_lowercase();
    let (path, dotted) = super::spelled(&asked.path);
    let mut candidates = Vec::new();
    let mut ambiguous = Vec::new();
    for (order, route) in routes.iter().enumerate() {
        for pattern in route.each_host() {
            let (fits, host_rank) = match pattern {
                None => (true, (2, 0)),
                Some(pattern) => match pattern.strip_prefix('*') {
                    Some(rest) => (
                        host.len() > rest.len() && host.ends_with(rest),
                        (1, usize::MAX - rest.len()),
                    ),
                    None => (pattern == host, (0, 0)),
                },
            };
            if !fits {
                continue;
            }
            let (path_fits, path_rank) = match route.matched_path() {
                MatchedPath::Exact(exact) => (exact == path, (0, 0)),
                MatchedPath::Prefix("/") => (true, (3, 0)),
                MatchedPath::Prefix(prefix) => (
                    path == prefix || path.starts_with(&format!("{prefix}/")),
                    (1, usize::MAX - prefix.len()),
                ),
                MatchedPath::Regex(regex) => (
                    regex::Regex::new(regex).unwrap().is_match(&path),
                    (2, usize::MAX - regex.len()),
                ),
            };
            if dotted && path_rank.0 != 3 {
                ambiguous.push(host_rank);
            }
            let holds = |fields: &[FieldMatch], values: &[(&str, &str)]| {
                fields.iter().all(|field| {
                    values.iter().any(|(name, value)| {
                        field.name.eq_ignore_ascii_case(name)
                            && match &field.value {
                                TextMatch::Exact(text) => text == value,
                                TextMatch::Regex(regex) => {
                                    regex::Regex::new(regex).unwrap().is_match(value)
                                }
                            }
                    })
                })
            };
            let query: Vec<_> = asked
                .query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .collect();
            let method =
                route.methods.is_empty() || route.methods.iter().any(|m| m == asked.method);
            let client = route.clients.is_empty()
                || asked
                    .client
                    .is_some_and(|ip| route.clients.iter().any(|n| n.contains(&ip)));
            if path_fits
                && method
                && client
                && holds(&route.headers, &asked.fields)
                && holds(&route.query, &query)
            {
                let more = |length: usize| usize::MAX - length;
                candidates.push((
                    (host_rank, -route.priority, path_rank),
                    (
                        route.methods.is_empty(),
                        more(route.headers.len()),
                        more(route.query.len()),
                        route.clients.is_empty(),
                    ),
                    order,
                ));
            }
        }
    }
    // A dot segment ends the search at the first host whose routes differ by path.
    let best = candidates.into_iter().min();
    let end = ambiguous.into_iter().min();
    let best = best.filter(|best| end.is_none_or(|end| best.0.0 < end))?;
    routes[best.2].pool.as_ref()?.parse().ok()
}

fn some_route() -> impl Strategy<Value = Route> {
    let hosts = prop::collection::vec(
        prop::sample::select(&["a.b.c", "*.b.c", "*.c", "b.c"][..]),
        0..3,
    );
    let path = prop_oneof![
        prop::sample::select(&["/", "/a", "/a/b", "/b"][..]).prop_map(|path| prefix(path, 0)),
        prop::sample::select(&["/", "/a", "/a/", "/a/b"][..]).prop_map(|path| exact(path, 0)),
        prop::sample::select(&["^/a", "b$", "/[ab]+/", "^/a/b?$"][..])
            .prop_map(|path| regex(path, 0)),
    ];
    let methods = prop::sample::subsequence(vec!["GET", "PUT"], 0..=2);
    let headers = prop::sample::subsequence(
        vec![is("X-A", "1"), is("x-b", "2"), has("x-c", "^[12]$")],
        0..=3,
    );
    let query = prop::sample::subsequence(vec![is("p", "1"), has("q", "1")], 0..=2);
    let clients = prop::sample::subsequence(vec!["10.0.0.0/8", "10.1.0.0/16"], 0..=1);
    let priority = prop::sample::select(&[0, 0, 0, 1, -1, 7][..]);
    let asked = (methods, headers, query, clients, priority);
    (hosts, path, asked, 0usize..20).prop_map(
        |(hosts, path, (methods, headers, query, clients, priority), pool)| Route {
            priority,
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            clients: clients.into_iter().map(|n| n.parse().unwrap()).collect(),
            pool: Some(pool.to_string()),
            name: Some("x".into()),
            ..path
        },
    )
}

/// As [`some_route`], of those that ask for nothing but hosts and a prefix. Some of them are more than a pool.
fn some_route_by_prefix() -> impl Strategy<Value = Route> {
    let path = prop::sample::select(&["/", "/a", "/a/b", "/b"][..]);
    (some_route(), path, any::<bool>()).prop_map(|(route, path, is_named)| Route {
        hosts: route.hosts,
        pool: route.pool,
        name: is_named.then(|| "x".into()),
        ..prefix(path, 0)
    })
}

fn some_request() -> impl Strategy<Value = Asked> {
    let fields = prop::sample::subsequence(
        vec![("X-A", "1"), ("X-B", "2"), ("X-C", "1"), ("x-a", "3")],
        0..=4,
    );
    let query = prop::sample::subsequence(vec!["p=1", "q=21", "p=2"], 0..=3);
    (
        prop::sample::select(&["GET", "PUT", "HEAD"][..]),
        "([aA]\\.)?([bB]\\.)?c\\.?",
        "(/(a|b|ab|%61|\\.|\\.\\.|)){0,3}/?",
        query,
        fields,
        prop::sample::select(&[None, Some("10.1.2.3"), Some("10.2.2.3"), Some("192.0.2.1")][..]),
    )
        .prop_map(|(method, host, path, query, fields, client)| Asked {
            method,
            host,
            path,
            query: query.join("&"),
            fields,
            client: client.map(|client| client.parse().unwrap()),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn agrees_with_a_naive_reading_of_the_order(
        routes in prop::collection::vec(some_route(), 1..12),
        requests in prop::collection::vec(some_request(), 1..20),
    ) {
        let table = table(&routes);
        for request in &requests {
            prop_assert_eq!(found(&table, request), oracle(&routes, request), "{:?}", request);
        }
    }

    /// Whatever else they do. One more route, of another host, that puts all of them among the rules changes nothing.
    #[test]
    fn routes_that_ask_for_prefixes_alone_agree_with_a_naive_reading(
        routes in prop::collection::vec(some_route_by_prefix(), 1..12),
        requests in prop::collection::vec(some_request(), 1..20),
    ) {
        let plain = table(&routes);
        let other = Route {
            hosts: vec!["elsewhere".into()],
            methods: vec!["GET".into()],
            ..prefix("/", 0)
        };
        let among_rules = table(&[routes.clone(), vec![other]].concat());
        prop_assert!(!plain.asks_for_more() && among_rules.asks_for_more());
        for request in &requests {
            let pool = oracle(&routes, request);
            prop_assert_eq!([found(&plain, request), found(&among_rules, request)], [pool; 2]);
        }
    }
}
