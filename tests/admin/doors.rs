//! Who may do what, through which listener.

use std::net::SocketAddr;

use crate::http::{Answer, Http};
use crate::server::{Doors, Server};

async fn ask(at: SocketAddr, method: &str, path: &str, token: Option<&str>) -> Answer {
    let request = Http::new(method, path);
    match token {
        Some(token) => request.header(&format!("authorization: Bearer {token}")),
        None => request,
    }
    .over_tcp(at)
    .await
}

const RESUME: &str = "/v1/pools/app/backends/app-1/resume";
const CHANGES: [(&str, &str); 6] = [
    ("POST", RESUME),
    ("POST", "/v1/pools/app/backends/app-1/drain"),
    ("DELETE", "/v1/pools/app/backends/app-1"),
    ("POST", "/v1/lame-duck"),
    ("POST", "/v1/config/reload"),
    ("BREW", "/no/such/path"),
];

#[lameduck_rig::test]
async fn on_loopback_reading_is_free_and_changes_need_the_token() {
    let doors = Doors {
        http: Some("127.0.0.1:0"),
        token: true,
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let http = server.http.unwrap();
    let before = server.world().await;
    for path in ["/-/live", "/-/ready", "/metrics", "/v1/pools", "/v1/config"] {
        assert_eq!(ask(http, "GET", path, None).await.status, 200, "{path}");
    }
    for (method, path) in CHANGES {
        let answer = ask(http, method, path, None).await;
        answer.problem(401, "token-required");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Bearer realm=\"lameduck\"")
        );
        for wrong in ["wrong", "s3cre", "s3cret2"] {
            let answer = ask(http, method, path, Some(wrong)).await;
            answer.problem(401, "token-required");
            assert!(
                answer
                    .header("www-authenticate")
                    .unwrap()
                    .contains("invalid_token")
            );
        }
    }
    assert_eq!(server.world().await, before);
    assert!(
        !server
            .process
            .lame
            .load(std::sync::atomic::Ordering::SeqCst)
    );

    assert_eq!(ask(http, "POST", RESUME, Some("s3cret")).await.status, 200);
    std::fs::write(&server.token_file, "another\n").unwrap();
    ask(http, "POST", RESUME, Some("s3cret"))
        .await
        .problem(401, "token-required");
    assert_eq!(ask(http, "POST", RESUME, Some("another")).await.status, 200);
    std::fs::remove_file(&server.token_file).unwrap();
    let problem = ask(http, "POST", RESUME, Some("another")).await;
    let problem = problem.problem(403, "no-token-configured");
    // A stranger need not know where the file would be.
    assert!(!problem["detail"].as_str().unwrap().contains("/token"));
    server.stop().await;
}

#[lameduck_rig::test]
async fn without_a_token_file_changes_over_tcp_are_refused_with_a_remedy() {
    let doors = Doors {
        http: Some("127.0.0.1:0"),
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let http = server.http.unwrap();
    for token in [None, Some("s3cret")] {
        for (method, path) in CHANGES {
            let problem = ask(http, method, path, token)
                .await
                .problem(403, "no-token-configured");
            assert!(
                problem["detail"]
                    .as_str()
                    .unwrap()
                    .contains("[admin] token_file")
            );
        }
    }
    assert_eq!(ask(http, "GET", "/v1/pools", None).await.status, 200);
    // The same through the socket needs no token.
    assert_eq!(server.ask("POST", RESUME, None).await.status, 200);
    server.stop().await;
}

#[lameduck_rig::test]
async fn off_loopback_only_the_probes_are_free() {
    let doors = Doors {
        http: Some("0.0.0.0:0"),
        token: true,
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let http = SocketAddr::from(([127, 0, 0, 1], server.http.unwrap().port()));
    for path in ["/-/live", "/-/started", "/-/ready?pool=app"] {
        assert_eq!(ask(http, "GET", path, None).await.status, 200, "{path}");
    }
    for path in [
        "/metrics",
        "/v1/pools",
        "/v1/events",
        "/no/such/path",
        "/-/../v1/pools",
    ] {
        let answer = ask(http, "GET", path, None).await;
        assert!(
            matches!(answer.status, 401 | 404),
            "{path}: {}",
            answer.body
        );
        assert!(!answer.body.contains("app-1"), "{path}: {}", answer.body);
    }
    assert_eq!(
        ask(http, "GET", "/v1/pools", Some("s3cret")).await.status,
        200
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn the_listener_for_probes_serves_nothing_else() {
    let doors = Doors {
        probes: true,
        token: true,
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let probes = server.probes.unwrap();
    for path in [
        "/-/live",
        "/-/started",
        "/-/ready",
        "/-/ready?pool=app",
        "/metrics",
    ] {
        assert_eq!(ask(probes, "GET", path, None).await.status, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/pools"),
        ("GET", "/v1/config"),
        ("GET", "/v1/openapi.json"),
        ("POST", RESUME),
        ("POST", "/v1/lame-duck"),
    ] {
        let problem = ask(probes, method, path, Some("s3cret")).await;
        let problem = problem.problem(404, "no-such-path");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("[admin] probes")
        );
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn over_tcp_the_api_answers_only_its_own_hosts_and_pages() {
    let doors = Doors {
        http: Some("127.0.0.1:0"),
        probes: true,
        token: true,
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let http = server.http.unwrap();
    let port = http.port();
    let get = |host: Option<&str>, header: Option<&str>| {
        let request = Http::new("GET", "/v1/pools").host(host);
        let request = match header {
            Some(line) => request.header(line),
            None => request,
        };
        request.over_tcp(http)
    };
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "10.0.0.1",
        "127.1",
    ] {
        let problem = get(Some(host), None).await.problem(421, "foreign-host");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("[admin] hosts")
        );
    }
    get(None, None).await.problem(421, "foreign-host");
    let good = [
        format!("localhost:{port}"),
        "DUCK.example.".to_owned(),
        http.to_string(),
    ];
    for host in &good {
        let answer = get(Some(host), None).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let host = Some(good[0].as_str());
    for line in [
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
    ] {
        get(host, Some(line)).await.problem(403, "foreign-origin");
    }
    let own = format!("Origin: http://localhost:{port}");
    assert_eq!(get(host, Some(&own)).await.status, 200);
    // The token is no way around it, nor is a lease, nor a preflight.
    for (method, path) in [
        ("POST", RESUME),
        ("POST", "/v1/pools/app/backends/x/lease"),
        ("OPTIONS", RESUME),
    ] {
        let request = Http::new(method, path)
            .host(host)
            .header("Origin: http://evil.example")
            .header("Access-Control-Request-Method: POST")
            .header("authorization: Bearer s3cret");
        let answer = request.over_tcp(http).await;
        answer.problem(403, "foreign-origin");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    // The listener for probes is no API: Prometheus and load balancers call it by whatever name they have.
    for path in ["/-/ready", "/metrics"] {
        let request = Http::new("GET", path).host(Some("lameduck.shop.svc:9902"));
        let answer = request.over_tcp(server.probes.unwrap()).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn dashboard_is_free_where_there_is_an_api_and_runs_nothing_but_itself() {
    let doors = Doors {
        http: Some("0.0.0.0:0"),
        probes: true,
        token: true,
        apps: true,
    };
    let server = Server::with(doors).await;
    let http = SocketAddr::from(([127, 0, 0, 1], server.http.unwrap().port()));
    for path in ["/", "/dashboard/page.js", "/dashboard/style.css"] {
        let answers = [
            ask(http, "GET", path, None).await,
            server.ask("GET", path, None).await,
        ];
        for answer in answers {
            assert_eq!(answer.status, 200, "{path}");
            let field = |name| answer.header(name).unwrap_or_default();
            let policy = field("content-security-policy");
            for part in [
                "default-src 'none'",
                "script-src 'self';",
                "style-src 'self';",
                "connect-src 'self';",
                "frame-ancestors 'none'",
                "form-action 'none'",
            ] {
                assert!(policy.contains(part), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(field("x-content-type-options"), "nosniff");
            assert_eq!(field("cache-control"), "no-store");
            assert!(!answer.body.contains("app-1"), "{path}");
        }
        assert_eq!(
            ask(server.probes.unwrap(), "GET", path, None).await.status,
            404
        );
    }
    let by_link = Http::new("GET", "/").header("sec-fetch-site: cross-site");
    assert_eq!(by_link.over_tcp(http).await.status, 200);
    ask(http, "POST", "/", None)
        .await
        .problem(401, "token-required");

    // What may be done, the page is told before anybody clicks.
    for (token, read, change, word) in [
        (None, false, false, "missing"),
        (Some("wrong"), false, false, "wrong"),
        (Some("s3cret"), true, true, "accepted"),
    ] {
        let access = ask(http, "GET", "/v1/access", token).await.json();
        let wanted = serde_json::json!({ "read": read, "change": change, "token": word });
        assert_eq!(access, wanted);
    }
    let access = server.ask("GET", "/v1/access", None).await.json();
    assert_eq!(access["token"], "not_needed");
    server.stop().await;
}

#[lameduck_rig::test]
async fn page_of_another_site_that_is_led_to_the_socket_is_refused() {
    let server = Server::start().await;
    let before = server.world().await;
    for field in [
        "origin: http://evil.example",
        "origin: null",
        "sec-fetch-site: cross-site",
    ] {
        let form = Http::new("POST", RESUME).host(Some("localhost:9901"));
        form.header(field)
            .over_unix(&server.socket)
            .await
            .problem(403, "foreign-origin");
    }
    assert_eq!(server.world().await, before);
    // No browser's: any name will do, as it did.
    assert_eq!(server.ask("POST", RESUME, None).await.status, 200);
    server.stop().await;
}
