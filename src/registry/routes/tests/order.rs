//! Routes with conditions, compared with a naive implementation of their order.

use proptest::prelude::*;

use super::rules::{Asked, exact, found, has, is, prefix, regex, table};
use crate::config::{FieldMatch, MatchedPath, Route, TextMatch};

/// The documented order once more: all matching routes, sorted.
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
            let listener = route.listeners.is_empty()
                || (asked.listener.iter()).any(|address| route.listeners.contains(address));
            if path_fits
                && (method && client && listener)
                && holds(&route.headers, &asked.fields)
                && holds(&route.query, &query)
            {
                let more = |length: usize| usize::MAX - length;
                candidates.push((
                    (host_rank, -route.priority, path_rank),
                    (
                        route.listeners.is_empty(),
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
    let listeners = prop::sample::subsequence(vec!["10.9.9.9:80", "[::]:81"], 0..=2);
    let priority = prop::sample::select(&[0, 0, 0, 1, -1, 7][..]);
    let asked = (methods, headers, query, (clients, listeners), priority);
    (hosts, path, asked, 0usize..20).prop_map(
        |(hosts, path, (methods, headers, query, (clients, listeners), priority), pool)| Route {
            priority,
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers,
            query,
            clients: clients.into_iter().map(|n| n.parse().unwrap()).collect(),
            listeners: listeners.into_iter().map(|a| a.parse().unwrap()).collect(),
            pool: Some(pool.to_string()),
            name: Some("x".into()),
            ..path
        },
    )
}

/// As [`some_route`], but with conditions on hosts and a prefix only. Some of them do more than name a pool.
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
        prop::sample::select(&[None, Some("10.9.9.9:80"), Some("[::]:81"), Some("[::]:82")][..]),
    )
        .prop_map(
            |(method, host, path, query, fields, client, listener)| Asked {
                method,
                host,
                path,
                query: query.join("&"),
                fields,
                client: client.map(|client| client.parse().unwrap()),
                listener: listener.map(|address| address.parse().unwrap()),
            },
        )
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

    /// This holds whatever else the routes do. An additional route, for another host, that moves all of them into the
    /// rule table must not change the result.
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
