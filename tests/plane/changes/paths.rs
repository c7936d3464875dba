//! What a route makes of a path: prefixes taken off, rewrites, and nothing that a client can add.

use super::{ask, get, rig};
use lameduck_rig::wire::field;

const PATHS: &str = "[[route]]\nhost = \"strip.test\"\npath_prefix = \"/api\"\nstrip_prefix = \"/api\"\npool = \"app\"\n\
     [[route]]\nhost = \"part.test\"\nstrip_prefix = \"/a/b\"\npool = \"app\"\n\
     [[route]]\nhost = \"rest.test\"\npath_prefix = \"/v1\"\nrewrite = \"/v2{rest}\"\npool = \"app\"\n\
     [[route]]\nhost = \"exact.test\"\npath = \"/one\"\nrewrite = \"/two{rest}?from={path}\"\npool = \"app\"\n\
     [[route]]\nhost = \"match.test\"\nrewrite = { regex = '^/u/([0-9]+)', to = '/users/$1' }\npool = \"app\"\n\
     [[route]]\nhost = \"inner.test\"\nrewrite = { regex = 'x(.*)y', to = '/$1' }\npool = \"app\"\n\
     [[route]]\nhost = \"group.test\"\npath_regex = '^/(\\w+)/(.*)$'\nrewrite = '/$2/$1'\npool = \"app\"\n\
     [[route]]\nhost = \"bare.test\"\nrewrite = \"{rest}\"\npool = \"app\"\n\
     [[route]]\nhost = \"field.test\"\nrewrite = \"/t/{header.X-Tenant}/{host}{path}\"\npool = \"app\"\n\
     [[route]]\nhost = \"query.test\"\nrewrite = \"/q?{query}&method={method}\"\npool = \"app\"\n\
     [[route]]\nhost = \"whole.test\"\npool = \"app\"\n";

#[lameduck_rig::test]
async fn app_gets_the_path_that_the_route_makes() {
    let rig = rig(PATHS).await;
    let cases = [
        ("strip.test", "/api", "/"),
        ("strip.test", "/api/", "/"),
        ("strip.test", "/api?x=/api", "/?x=/api"),
        ("strip.test", "/api/x/%C3%BC?y=z?", "/x/%C3%BC?y=z?"),
        ("strip.test", "//%61pi//x", "/x"),
        ("strip.test", "/api//evil.test/", "/evil.test/"),
        ("strip.test", "/api/a//b", "/a//b"),
        ("strip.test", "http://strip.test/api/x", "/x"),
        ("part.test", "/a/b/c", "/c"),
        ("part.test", "/a/bc", "/a/bc"),
        ("part.test", "/", "/"),
        ("rest.test", "/v1", "/v2"),
        ("rest.test", "/v1/x;y=1/%2Fz?q", "/v2/x;y=1/%2Fz?q"),
        ("exact.test", "/one?a=b", "/two?from=/one"),
        ("match.test", "/u/12/photo?x", "/users/12/photo?x"),
        ("match.test", "/v/12", "/v/12"),
        ("inner.test", "/ax/b/yz", "/a//b/z"),
        ("group.test", "/de/shop/cart?n=1", "/shop/cart/de?n=1"),
        ("bare.test", "//x", "/x"),
        ("query.test", "/x?a=%26", "/q?a=%26&method=GET"),
        ("whole.test", "//x/./y?z", "//x/./y?z"),
    ];
    let requests: Vec<_> = cases
        .iter()
        .map(|(host, target, _)| get(target, host, ""))
        .collect();
    for (answer, (host, target, wanted)) in ask(&rig, &requests).await.iter().zip(cases) {
        let line = answer.text().lines().next().unwrap_or_default();
        assert_eq!(line, format!("GET {wanted} HTTP/1.1"), "{host} {target}");
        assert_eq!(field(answer.text(), "host"), Some(host));
    }
    // The log has the request as the client sent it.
    let log = rig.access_log(cases.len()).await;
    for (line, (_, target, _)) in log.iter().zip(cases) {
        assert_eq!(line["target"], target);
    }
    let star = "OPTIONS * HTTP/1.1\r\nHost: field.test\r\n\r\n".to_owned();
    assert!(
        ask(&rig, &[star]).await[0]
            .text()
            .starts_with("OPTIONS * HTTP/1.1")
    );
}

/// Attempts to reach what a route's prefix keeps away: none gets to the app as another path than the route has made.
#[lameduck_rig::test]
async fn no_path_gets_out_of_what_a_route_makes_of_it() {
    let rig = rig(PATHS).await;
    let hosts = [
        "strip.test",
        "part.test",
        "rest.test",
        "match.test",
        "inner.test",
        "group.test",
        "bare.test",
    ];
    let mut requests = Vec::new();
    for target in [
        "/api/../admin",
        "/api/..",
        "/api/./x",
        "/api/%2e%2e/admin",
        "/api/%2E./admin",
        "/api/..%2fadmin",
        "/api/..%5cadmin",
        "/api\\..\\admin",
        "/api/..;/admin",
        "/api/..;x=y/admin",
        "/a/b/../admin",
        "/a/b/..",
        "/a/b/%2e%2e%2fadmin",
        "/v1/../admin",
        "/v1/.%2e/admin",
        "/u/1/../../admin",
        "/u/1/..;/admin",
        "/x..y/admin",
        "/x.y",
        "/x%2e%2ey/admin",
        "/de/../admin",
        "/de/..",
        "/..",
    ] {
        requests.extend(hosts.map(|host| (host, target, get(target, host, ""))));
    }
    let sent: Vec<_> = requests
        .iter()
        .map(|(_, _, request)| request.clone())
        .collect();
    let mut stopped = 0;
    for (answer, (host, target, _)) in ask(&rig, &sent).await.iter().zip(&requests) {
        if answer.status() != 200 {
            assert!(
                [400, 404].contains(&answer.status()),
                "{host} {target}: {}",
                answer.head
            );
            stopped += 1;
            continue;
        }
        let line = answer.text().lines().next().unwrap_or_default();
        let path = line.split(' ').nth(1).unwrap();
        // What the rule doesn't touch goes on as it came, as it does without a rule.
        let is_untouched = path == *target;
        let decoded = path
            .to_ascii_lowercase()
            .replace("%2e", ".")
            .replace("%2f", "/")
            .replace("%5c", "\\");
        let has_dots = decoded
            .split(['/', '\\'])
            .any(|segment| matches!(segment.split(';').next(), Some("." | "..")));
        assert!(is_untouched || !has_dots, "{host} {target}: {line}");
        assert!(!path.starts_with("//"), "{host} {target}: {line}");
    }
    assert!(stopped > 90, "{stopped}");
}

/// What a client writes into a field that a path is made of stays one segment.
#[lameduck_rig::test]
async fn no_field_adds_to_a_path() {
    let rig = rig(PATHS).await;
    let values = [
        "a/../../admin",
        "..",
        ".",
        "a?b=c",
        "a#b",
        "a b",
        "%2e%2e",
        "a HTTP/1.1",
        "\\..\\",
        "\u{fc}",
        "",
    ];
    let requests: Vec<_> = values
        .iter()
        .map(|value| get("/x?y", "field.test", &format!("X-Tenant: {value}\r\n")))
        .collect();
    for (answer, value) in ask(&rig, &requests).await.iter().zip(values) {
        if answer.status() != 200 {
            assert!(answer.status() == 400 && value.contains('.'), "{value}");
            continue;
        }
        let line = answer.text().lines().next().unwrap_or_default();
        let target = line
            .strip_prefix("GET /t/")
            .and_then(|line| line.strip_suffix("/field.test/x?y HTTP/1.1"));
        let segment = target.unwrap_or_else(|| panic!("{value}: {line}"));
        assert!(!segment.contains(['/', '?', '#', '\\', ' ']), "{line}");
    }
}
