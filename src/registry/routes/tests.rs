use crate::core::uri::is_unreserved;
mod cost;
mod order;
mod rules;

use super::*;
use crate::config::MAX_PREFIX;
use proptest::prelude::*;

fn route(host: &str, path: &str, pool: &str) -> Route {
    Route {
        hosts: (!host.is_empty())
            .then(|| host.to_string())
            .into_iter()
            .collect(),
        path_prefix: path.into(),
        ..Route::to_pool(pool)
    }
}

/// Returns a table whose pools are named by their index, so that a route's pool shows which one is expected.
fn table(routes: &[(&str, &str, usize)]) -> RouteTable {
    let pools: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let routes: Vec<Route> = routes
        .iter()
        .map(|(host, path, pool)| route(host, path, &pool.to_string()))
        .collect();
    RouteTable::new(&routes, &pools)
}

fn pool_of(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
    let target = table.lookup(host.as_bytes(), path.as_bytes());
    target.and_then(RouteTarget::pool)
}

#[track_caller]
fn check(table: &RouteTable, host: &str, path: &str, pool: Option<usize>) {
    assert_eq!(pool_of(table, host, path), pool, "{host} {path}");
}

#[test]
fn one_pool_and_no_route_takes_everything() {
    let one = RouteTable::new(&[], &["app"]);
    for path in ["/", "/x", "*", "", "/a/../b", "//"] {
        check(&one, "h", path, Some(0));
    }
    check(&RouteTable::new(&[], &["a", "b"]), "h", "/", None);
    check(
        &RouteTable::new(&[route("", "/", "gone")], &["a"]),
        "h",
        "/",
        None,
    );
}

#[test]
fn prefixes_match_whole_segments_and_the_longest_wins() {
    let t = table(&[
        ("", "/", 0),
        ("", "/api", 1),
        ("", "/api/v2/", 2),
        ("", "/api/v2/x/y", 3),
    ]);
    for (path, pool) in [
        ("/", 0),
        ("/apis", 0),
        ("/ap", 0),
        ("/API", 0),
        ("api", 0),
        ("/api", 1),
        ("/api/", 1),
        ("/api?x=/api/v2", 1),
        ("/api#/v2", 1),
        ("/api/v", 1),
        ("/api/v22/x", 1),
        ("/api/v2", 2),
        ("/api/v2/x", 2),
        ("/api/v2/x/yz", 2),
        ("/api/v2/x/y/z/1/2/3/4", 3),
    ] {
        check(&t, "h", path, Some(pool));
    }
    check(&table(&[("", "/api", 1)]), "h", "/", None);
    check(&table(&[("", "/api", 1)]), "h", "*", None);
}

#[test]
fn the_most_specific_host_wins() {
    let t = table(&[
        ("", "/", 0),
        ("www.example.org", "/", 1),
        ("*.example.org", "/", 2),
        ("*.b.example.org", "/", 3),
        ("www.example.org", "/api", 4),
        ("[::1]", "/", 5),
    ]);
    for (host, path, pool) in [
        ("", "/", 0),
        ("example.org", "/", 0),
        (".example.org", "/", 0),
        ("WWW.Example.ORG", "/", 1),
        ("www.example.org.", "/", 1),
        ("www.example.org", "/api/x", 4),
        ("a.example.org", "/api", 2),
        ("x.y.example.org", "/", 2),
        ("b.example.org", "/", 2),
        ("a.b.example.org", "/", 3),
        ("z.a.b.example.org", "/", 3),
        ("xwww.example.org.evil.com", "/", 0),
        ("[::1]", "/", 5),
    ] {
        check(&t, host, path, Some(pool));
    }
    check(&t, &"a.".repeat(500), "/", Some(0));
    check(
        &t,
        &format!("{}.example.org", "a".repeat(244)),
        "/",
        Some(0),
    );
    check(
        &t,
        &format!("{}.example.org", "a".repeat(240)),
        "/",
        Some(2),
    );
}

#[test]
fn a_host_without_a_matching_prefix_leaves_the_request_to_the_next() {
    let t = table(&[("a.org", "/api", 1), ("*.org", "/", 2), ("", "/", 0)]);
    check(&t, "a.org", "/api", Some(1));
    check(&t, "a.org", "/x", Some(2));
    check(&t, "a.com", "/api", Some(0));
}

#[test]
fn spellings_that_mean_the_same_are_the_same() {
    let t = table(&[("", "/", 0), ("", "/api/v1", 1), ("", "/a%2fb", 2)]);
    for path in [
        "/api/v1",
        "//api///v1",
        "/%61pi/v%31/x",
        "/api/v1;x",
        "/a%2fb",
        "/a%2Fb/c",
    ] {
        let pool = match path {
            "/api/v1;x" => 0,
            _ if path.contains("%2") => 2,
            _ => 1,
        };
        check(&t, "h", path, Some(pool));
    }
    check(&t, "h", "/api%2Fv1", Some(0));
    check(&t, "h", "/a/b", Some(0));
    check(&t, "h", "/%", Some(0));
    check(&t, "h", "/%6", Some(0));
    check(&t, "h", "/%zz", Some(0));
}

#[test]
fn dot_segments_match_nothing_where_paths_decide() {
    let divided = table(&[("", "/", 0), ("", "/api", 1)]);
    let whole = table(&[("", "/", 0)]);
    for path in [
        "/api/../admin",
        "/..",
        "/.",
        "/./api",
        "/api/%2e%2E/admin",
        "/api/.%2e/admin",
        "/api/..%2fadmin",
        "/api/..%5cadmin",
        "/api\\..\\admin",
        "/api/..;x=1/admin",
        "/api/..?x",
        "..",
    ] {
        check(&divided, "h", path, None);
        check(&whole, "h", path, Some(0));
    }
    for path in [
        "/api/.hidden",
        "/api/...",
        "/api/a..",
        "/api/a.b",
        "/api?x=/../",
        "/api/%252e",
    ] {
        check(&divided, "h", path, Some(1));
    }
}

#[test]
fn long_paths_and_long_prefixes_meet() {
    let prefix = format!("/{}", "a".repeat(MAX_PREFIX - 1));
    let t = table(&[("", "/", 0), ("", &prefix, 1)]);
    check(&t, "h", &prefix, Some(1));
    check(&t, "h", &format!("{prefix}/x"), Some(1));
    check(&t, "h", &format!("{prefix}x"), Some(0));
    check(&t, "h", &format!("{prefix}xy"), Some(0));
    check(&t, "h", &format!("{prefix}/{}/..", "y".repeat(9000)), None);
    check(&t, "h", &"/".repeat(100_000), Some(0));
}

/// The rules once more, linear and with strings.
fn oracle(routes: &[(&str, &str, usize)], host: &str, path: &str) -> Option<usize> {
    let host = host.strip_suffix('.').unwrap_or(host).to_lowercase();
    let (normal, dotted) = spelled(path);
    let matches = |pattern: &str| match pattern.strip_prefix("*.") {
        Some(rest) => host
            .strip_suffix(rest)
            .is_some_and(|label| label.len() > 1 && label.ends_with('.')),
        None => pattern.is_empty() || pattern == host,
    };
    // Exact hosts first, then wildcards by length, then any host.
    let rank = |pattern: &str| match pattern.strip_prefix("*.") {
        Some(rest) => (1, usize::MAX - rest.len()),
        None if pattern.is_empty() => (2, 0),
        None => (0, 0),
    };
    let mut hosts: Vec<&str> = routes
        .iter()
        .map(|route| route.0)
        .filter(|host| matches(host))
        .collect();
    hosts.sort_by_key(|host| rank(host));
    hosts.dedup();
    for host in hosts {
        let own: Vec<_> = routes.iter().filter(|route| route.0 == host).collect();
        if dotted && own.iter().any(|route| route.1 != "/") {
            return None;
        }
        let fits = |prefix: &str| {
            prefix == "/" || normal == prefix || normal.starts_with(&format!("{prefix}/"))
        };
        // Of equal routes the first, as in the table: reversed, because `max_by_key` takes the last.
        if let Some(best) = own
            .into_iter()
            .rev()
            .filter(|route| fits(route.1))
            .max_by_key(|route| route.1.len())
        {
            return Some(best.2);
        }
    }
    None
}

/// Returns the compared form of a path, and whether it has a dot segment.
pub(super) fn spelled(path: &str) -> (String, bool) {
    let path = path.split(['?', '#']).next().unwrap();
    let (mut same, mut decoded) = (String::new(), String::new());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let byte = rest
            .get(1..3)
            .filter(|_| c == '%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = byte.filter(|_| !rest[1..].starts_with('+')) {
            let plain = char::from(byte);
            decoded.push(plain);
            if is_unreserved(byte) {
                same.push(plain);
            } else {
                same.push_str(&rest[..3].to_uppercase());
            }
            rest = &rest[3..];
        } else {
            decoded.push(c);
            same.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    while same.contains("//") {
        same = same.replace("//", "/");
    }
    let dotted = decoded.split(['/', '\\']).any(|segment| {
        let name = segment.split(';').next().unwrap();
        name == "." || name == ".."
    });
    (same, dotted)
}

const HOSTS: [&str; 6] = ["", "a.b.c", "*.b.c", "*.c", "b.c", "*.a.b.c"];
const PREFIXES: [&str; 7] = ["/", "/a", "/a/b", "/b", "/a/b/a", "/ab", "/a%2Fb"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_the_oracle(
        routes in prop::collection::vec((prop::sample::select(&HOSTS[..]), prop::sample::select(&PREFIXES[..]), 0usize..10), 1..12),
        requests in prop::collection::vec((
            prop_oneof!["([aA]\\.)?([bB]\\.)?c\\.?", "[abc.]{0,8}"],
            prop_oneof!["(/(a|b|ab|a%2[fF]b|%61|\\.|))*/?", "[/ab.;%?\\\\]{0,4}(%2[ef]|%61|/|\\.\\.)*[/ab.;%?é]{0,4}"],
        ), 1..20),
    ) {
        let table = table(&routes);
        for (host, path) in &requests {
            prop_assert_eq!(pool_of(&table, host, path), oracle(&routes, host, path), "{} {}", host, path);
        }
    }

    #[test]
    fn any_bytes_are_looked_up_without_panic(host in prop::collection::vec(any::<u8>(), 0..300), path in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = table(&[("*.b", "/a", 1), ("a", "/b/c", 2), ("", "/", 0)]).lookup(&host, &path);
    }
}

#[test]
fn the_cost_does_not_grow_with_the_number_of_routes() {
    let time = |count: usize| {
        let routes: Vec<Route> = (0..count)
            .map(|i| route(&format!("h{i}.example.org"), &format!("/p/{i}"), "0"))
            .collect();
        let table = RouteTable::new(&routes, &["0"]);
        let (host, path) = (
            format!("h{}.example.org", count - 1),
            format!("/p/{}/x", count - 1),
        );
        // The shortest of several: other load on the machine only makes it longer.
        (0..20)
            .map(|_| {
                let start = std::time::Instant::now();
                for _ in 0..500 {
                    assert_eq!(pool_of(std::hint::black_box(&table), &host, &path), Some(0));
                }
                start.elapsed()
            })
            .min()
            .unwrap()
    };
    let (few, many) = (time(2), time(20_000));
    assert!(many < few * 20, "{few:?} for 2 routes, {many:?} for 20,000");
}
