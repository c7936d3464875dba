//! What a reload changes, as people read it.

use lameduck::config::{Config, ConfigChange, diff, parse};

const BASE: &str = r#"
[server]
deadline = "30s"
[[listener]]
address = "0.0.0.0:8080"
[[pool]]
name = "web"
[[pool.backend]]
name = "a"
address = "127.0.0.1:3000"
[[pool.backend]]
name = "b"
address = "127.0.0.1:3001"
[[pool]]
name = "api"
[[route]]
pool = "web"
[[route]]
path_prefix = "/api"
pool = "api"
"#;

fn config(text: &str) -> Config {
    parse("x.toml", text)
        .unwrap_or_else(|error| panic!("{error}"))
        .config
}

/// The changes from the base to the base with replacements, one line each.
fn changes(replacements: &[(&str, &str)]) -> String {
    let mut text = BASE.to_string();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    diff(&config(BASE), &config(&text)).to_string()
}

#[test]
fn equal_configurations_have_no_difference() {
    let same = diff(&config(BASE), &config(BASE));
    assert!(same.is_empty());
    assert_eq!(same.to_string(), "");
    // Writing a default down, or in other words, changes nothing.
    assert_eq!(
        changes(&[("deadline = \"30s\"", "deadline = \"0.5m\"\nthreads = 0")]),
        ""
    );
}

#[test]
fn each_change_has_its_line() {
    for (replacements, lines) in [
        (
            &[("127.0.0.1:3001", "127.0.0.1:4001")][..],
            "backend web/b: 127.0.0.1:3001 → 127.0.0.1:4001; the old one drains\n",
        ),
        (
            &[("\"127.0.0.1:3001\"", "\"unix:/b\"\nweight = 3")],
            "backend web/b: 127.0.0.1:3001 → unix:/b; the old one drains; weight 1 → 3\n",
        ),
        (
            &[("\"127.0.0.1:3001\"", "\"127.0.0.1:3001\"\nweight = 2")],
            "backend web/b: weight 1 → 2\n",
        ),
        (
            &[("name = \"b\"", "name = \"c\"")],
            "backend web/b: removed (127.0.0.1:3001); it drains first\nbackend web/c: added at 127.0.0.1:3001\n",
        ),
        (
            &[
                ("name = \"api\"", "name = \"v2\""),
                ("pool = \"api\"", "pool = \"v2\""),
            ],
            "pool api: removed\npool v2: added\nroute */api: pool api → pool v2\n",
        ),
        (
            &[("name = \"api\"", "name = \"api\"\nbalance = \"random\"")],
            "pool api: [[pool]] balance: \"least_requests\" → \"random\"\n",
        ),
        (
            &[(
                "name = \"api\"",
                "name = \"api\"\n[pool.drain]\ndeadline = \"1m\"",
            )],
            "pool api: [pool.drain] deadline: \"30s\" → \"1m\"\n",
        ),
        (
            &[("name = \"api\"", "name = \"api\"\n[pool.health]")],
            "pool api: [pool.health] is written: the check no longer falls back to TCP\n",
        ),
        (
            &[(
                "path_prefix = \"/api\"",
                "host = \"a.org\"\npath_prefix = \"/api\"",
            )],
            "route */api: removed (was to pool api)\nroute a.org/api: added, to pool api\n",
        ),
        (
            &[(
                "path_prefix = \"/api\"",
                "name = \"v\"\nhost = [\"a.org\", \"b.org\"]\npath_regex = \"^/v\"\nmethods = [\"PUT\"]\n\
                 query = { a = \"1\" }\nclients = [\"::1\"]",
            )],
            "route */api: removed (was to pool api)\n\
             route a.org,b.org ~ ^/v, PUT, query a = \"1\", from ::1/128: added, to pool api\n",
        ),
        (
            &[("0.0.0.0:8080", "0.0.0.0:80")],
            "listener 0.0.0.0:8080: removed\nlistener 0.0.0.0:80: added\n",
        ),
        (
            &[("0.0.0.0:8080\"", "0.0.0.0:8080\"\nreuse_port = true")],
            "listener 0.0.0.0:8080: reuse_port = true (needs a restart)\n",
        ),
        (
            &[(
                "[[listener]]",
                "[headers]\ntrusted = [\"10.0.0.1\"]\n[[listener]]\nproxy_protocol = true",
            )],
            "[headers] trusted: [] → [\"10.0.0.1/32\"]\nlistener 0.0.0.0:8080: proxy_protocol = true\n",
        ),
        (
            &[("\"30s\"", "\"1m\"")],
            "[server] deadline: \"30s\" → \"1m\"\n",
        ),
        (
            &[("\"30s\"", "\"30s\"\nthreads = 4")],
            "[server] threads: 0 → 4 (needs a restart)\n",
        ),
        (
            &[("[server]", "[admin]\nhttp = \"\"\n[server]")],
            "[admin] http: \"127.0.0.1:9901\" → \"\" (needs a restart)\n",
        ),
    ] {
        assert_eq!(changes(replacements), lines, "{replacements:?}");
    }
}

#[test]
fn a_check_of_another_kind_shows_what_no_longer_applies() {
    let lines = changes(&[(
        "name = \"api\"",
        "name = \"api\"\n[pool.health]\ntype = \"tcp\"",
    )]);
    assert!(
        lines.contains("[pool.health] type: \"http\" → \"tcp\"\n"),
        "{lines}"
    );
    assert!(
        lines.contains("[pool.health] path: \"/health\" → (none)\n"),
        "{lines}"
    );
}

#[test]
fn order_of_backends_and_routes_is_no_change() {
    let mut other = config(BASE);
    other.pools.reverse();
    other.routes.reverse();
    for pool in &mut other.pools {
        pool.backends.reverse();
    }
    assert!(diff(&config(BASE), &other).is_empty());
}

/// Where more than host and path counts, the order decides between equal routes.
#[test]
fn order_name_and_pool_of_routes_with_conditions_are_changes() {
    let route = |name: &str, field: &str, pool: &str| {
        format!("[[route]]\n{name}headers = {{ {field} = \"1\" }}\npool = \"{pool}\"\n")
    };
    let with = |routes: [String; 2]| config(&format!("{BASE}{}{}", routes[0], routes[1]));
    let (a, b) = (route("", "a", "web"), route("", "b", "api"));
    let old = with([a.clone(), b.clone()]);
    let lines = |routes| diff(&old, &with(routes)).to_string();
    assert_eq!(lines([a.clone(), b.clone()]), "");
    assert_eq!(
        lines([b.clone(), a.clone()]),
        "routes: another order, which counts between equal ones\n"
    );
    assert_eq!(
        lines([route("name = \"x\"\n", "A", "api"), b]),
        "route */, header A = \"1\": pool web → pool api\nroute */, header A = \"1\": name (none) → x\n"
    );
}

#[test]
fn what_a_route_does_and_changes_is_told() {
    let with = |keys: &str| {
        let route = format!("[[route]]\npath = \"/x\"\n{keys}\n");
        config(&format!("{BASE}{route}"))
    };
    let old = with("pool = \"api\"\nrequest_headers = { set = { X-A = \"1\" } }");
    let lines = |keys: &str| diff(&old, &with(keys)).to_string();
    assert_eq!(
        lines("pool = \"api\"\nstrip_prefix = \"/x\"\nrequest_headers = { set = { X-A = \"2\" } }"),
        "route * = /x: strip_prefix \"\" → \"/x\"\n\
         route * = /x: [route.request_headers] set { \"X-A\" = \"1\" } → { \"X-A\" = \"2\" }\n"
    );
    let moved = lines("respond = { status = 404 }");
    assert!(
        moved.starts_with("route * = /x: pool api → a fixed answer (404)\n"),
        "{moved}"
    );
    assert!(moved.contains("[route.request_headers] set"), "{moved}");
}

#[test]
fn change_that_needs_a_restart_is_marked() {
    let text = BASE.replace("[server]", "[server]\nthreads = 2\nidle_timeout = \"9s\"");
    let changes = diff(&config(BASE), &config(&text));
    let restart: Vec<_> = changes.needs_restart().collect();
    assert_eq!(changes.changes.len(), 2);
    assert!(matches!(restart[..], [ConfigChange::Setting(setting)] if setting.key == "threads"));
}

/// The log's file is opened once: a reload must not claim to have taken another one.
#[test]
fn another_access_log_needs_a_restart() {
    let text = format!("{BASE}\n[access_log]\nformat = \"combined\"\n");
    let changes = diff(&config(BASE), &config(&text));
    assert_eq!(changes.needs_restart().count(), 1, "{changes}");
}

/// Reading and comparing take time in proportion to what there is. With a search of one list for each entry of the
/// other, this test would take minutes, and a reload of a thousand backends a few milliseconds of the registry's time.
#[test]
fn many_backends_and_routes_are_compared_in_one_pass() {
    const COUNT: usize = 20_000;
    let text = |changed: usize| {
        let mut text = BASE.to_string();
        for n in 0..COUNT {
            let to = if n == changed { "web" } else { "api" };
            text += &format!("[[route]]\nhost = \"h{n}.example\"\npool = \"{to}\"\n");
        }
        text += "[[pool]]\nname = \"many\"\n";
        for n in 0..COUNT {
            let port = if n == changed { 81 } else { 80 };
            text += &format!(
                "[[pool.backend]]\nname = \"b{n}\"\naddress = \"10.0.{}.{}:{port}\"\n",
                n / 250,
                n % 250
            );
        }
        text + "[[route]]\nhost = \"many.example\"\npool = \"many\"\n"
    };
    let changes = diff(&config(&text(7)), &config(&text(COUNT - 1)));
    assert_eq!(changes.changes.len(), 4, "{changes}");
    let told = changes.to_string();
    for line in [
        "backend many/b7: 10.0.0.7:81 → 10.0.0.7:80",
        "backend many/b19999: 10.0.79.249:80 → 10.0.79.249:81",
        "route h7.example/: pool web → pool api",
        "route h19999.example/: pool api → pool web",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
}
