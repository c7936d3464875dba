//! Whatever is wrong with a request: a problem document comes back, and nothing has changed.

use crate::http::Http;
use crate::server::Server;

const DRAIN: &str = "/v1/pools/app/backends/app-1/drain";
const RESUME: &str = "/v1/pools/app/backends/app-1/resume";
const NEW: &str = "/v1/pools/app/backends/new";

/// Method, path, body; then status, slug, and what the detail must contain.
type Mistake<'a> = (&'a str, &'a str, &'a str, u16, &'a str, &'a str);

#[rustfmt::skip]
const MISTAKES: &[Mistake<'static>] = &[
    // Paths and methods.
    ("GET", "/index.html", "", 404, "no-such-path", "/v1/openapi.json"),
    ("POST", "/v1/pools/app/", "", 404, "no-such-path", "/v1/openapi.json"),
    ("DELETE", "/v1/pools", "", 405, "method-not-allowed", "GET, HEAD"),
    ("PATCH", DRAIN, "{}", 405, "method-not-allowed", "POST"),
    ("BREW", "/-/live", "", 405, "method-not-allowed", "GET, HEAD"),
    // Names.
    ("GET", "/v1/pools/nope", "", 404, "unknown-pool", "known pools: app"),
    ("GET", "/-/ready?pool=nope", "", 404, "unknown-pool", "known pools: app"),
    ("GET", "/v1/events?pool=nope", "", 404, "unknown-pool", "known pools: app"),
    ("POST", "/v1/pools/nope/backends/app-1/drain", "", 404, "unknown-pool", "app"),
    ("POST", "/v1/pools/app/backends/nope/drain", "", 404, "unknown-backend", "app-1, app-2"),
    ("POST", "/v1/pools/app/backends/app-1~2/resume", "", 404, "unknown-backend", "app-1"),
    ("DELETE", "/v1/pools/app/backends/nope", "", 404, "unknown-backend", "app-1, app-2"),
    ("GET", "/v1/pools/%ff", "", 400, "bad-path", "UTF-8"),
    ("PUT", "/v1/pools/app/backends/a%20b", r#"{"address":"127.0.0.1:1"}"#, 422, "invalid-value", "no spaces"),
    // Bodies.
    ("POST", DRAIN, "{", 400, "bad-json", "line 1 column 1"),
    ("POST", DRAIN, "[]", 400, "bad-json", "expected an object"),
    ("POST", DRAIN, "{} {}", 400, "bad-json", "trailing characters"),
    ("POST", DRAIN, "\u{0}", 400, "bad-json", "line 1 column 1"),
    ("POST", DRAIN, r#"{"tiemout":"1s"}"#, 400, "bad-json", "unknown field `tiemout`"),
    ("POST", DRAIN, r#"{"wait":"no"}"#, 400, "bad-json", "expected a boolean"),
    ("POST", DRAIN, r#"{"timeout":30}"#, 400, "bad-json", "expected a string"),
    ("POST", RESUME, r#"{"everything":true}"#, 400, "bad-json", "unknown field `everything`"),
    ("PUT", NEW, "", 400, "bad-json", "missing field `address`"),
    ("PUT", NEW, r#"{"address":"127.0.0.1:1","weight":-1}"#, 400, "bad-json", "expected u32"),
    ("POST", "/v1/lame-duck", r#"{"on":true}"#, 400, "bad-json", "unknown field `on`"),
    // Values.
    ("POST", DRAIN, r#"{"timeout":"soon"}"#, 422, "invalid-value", "soon"),
    ("POST", DRAIN, r#"{"timeout":"-1s"}"#, 422, "invalid-value", "-1s"),
    ("POST", DRAIN, r#"{"timeout":""}"#, 422, "invalid-value", "30s"),
    ("POST", DRAIN, r#"{"timeout":"18446744073709551615s"}"#, 422, "invalid-value", "a year"),
    ("POST", DRAIN, r#"{"expires":"9999999999d"}"#, 422, "invalid-value", "a year"),
    ("POST", DRAIN, r#"{"until":"tomorrow"}"#, 422, "invalid-value", "restarted"),
    ("POST", DRAIN, r#"{"until":"restarted","restarted_when":"luck"}"#, 422, "invalid-value", "new-process"),
    ("POST", DRAIN, r#"{"restarted_when":"exit"}"#, 422, "invalid-value", "until"),
    ("POST", DRAIN, r#"{"actor":"app"}"#, 422, "invalid-value", "supervisor"),
    ("POST", RESUME, r#"{"wait":"18446744073709551615s"}"#, 422, "invalid-value", "a year"),
    ("PUT", NEW, r#"{"address":"nowhere"}"#, 422, "invalid-value", "nowhere"),
    ("PUT", NEW, r#"{"address":"127.0.0.1:99999"}"#, 422, "invalid-value", "99999"),
    ("PUT", NEW, r#"{"address":"127.0.0.1:1","weight":100000}"#, 422, "invalid-value", "100000"),
    ("PUT", NEW, r#"{"address":"127.0.0.1:1","wait":"x"}"#, 422, "invalid-value", "30s"),
    ("DELETE", "/v1/pools/app/backends/app-1?timeout=x", "", 422, "invalid-value", "30s"),
    // Against the configuration.
    ("PUT", "/v1/pools/app/backends/app-1", r#"{"address":"127.0.0.1:9"}"#, 409, "conflict", "app/app-1"),
    ("DELETE", "/v1/pools/app/backends/app-1", "", 409, "conflict", "reload"),
    // Queries.
    ("DELETE", "/v1/pools/app/backends/app-1?force=1", "", 400, "bad-query", "force"),
    ("GET", "/-/ready?poll=app", "", 400, "bad-query", "poll"),
];

#[lameduck_rig::test]
async fn mistakes_are_told_and_change_nothing() {
    let server = Server::start().await;
    let before = server.world().await;
    for &(method, path, body, status, slug, says) in MISTAKES {
        let request = Http::new(method, path);
        let request = if body.is_empty() {
            request
        } else {
            request.json(body)
        };
        let answer = request.over_unix(&server.socket).await;
        let problem = answer.problem(status, slug);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{method} {path} {body}: {detail}");
        let asked = path.split('?').next().unwrap();
        assert_eq!(problem["instance"], asked);
    }
    assert_eq!(server.world().await, before);
    server.stop().await;
}

#[lameduck_rig::test]
async fn bodies_that_are_not_json_by_their_type_are_refused() {
    let server = Server::start().await;
    let before = server.world().await;
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/jsonp",
    ] {
        let request = Http::new("POST", DRAIN).header(&format!("content-type: {kind}"));
        let answer = request.body("{}").over_unix(&server.socket).await;
        answer.problem(415, "not-json");
        assert_eq!(answer.header("accept"), Some("application/json"));
    }
    let answer = Http::new("POST", DRAIN)
        .body("{}")
        .over_unix(&server.socket)
        .await;
    answer.problem(415, "not-json");
    assert_eq!(server.world().await, before);
    server.stop().await;
}

#[lameduck_rig::test]
async fn bad_json_names_line_and_column() {
    let server = Server::start().await;
    let request = Http::new("POST", DRAIN).json("{\n  \"timeout\": \"1s\",\n  oops\n}");
    let problem = request
        .over_unix(&server.socket)
        .await
        .problem(400, "bad-json");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&3.into(), &3.into())
    );
    server.stop().await;
}

/// The router's methods are those that the description has: asked for through its own 405.
#[lameduck_rig::test]
async fn openapi_and_router_have_the_same_methods() {
    let server = Server::start().await;
    let document = server.ask("GET", "/v1/openapi.json", None).await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        let asked = path
            .replace("{pool}", "app")
            .replace("{name}", "app-1")
            .replace("{lease}", "x");
        let answer = server.ask("BREW", &asked, None).await;
        answer.problem(405, "method-not-allowed");
        let allow = answer.header("allow").unwrap();
        let mut routed: Vec<_> = allow
            .split(',')
            .filter(|method| *method != "HEAD")
            .collect();
        routed.sort_unstable();
        let methods = ["delete", "get", "patch", "post", "put"];
        let described: Vec<_> = methods
            .into_iter()
            .filter(|method| item.get(method).is_some())
            .map(str::to_uppercase)
            .collect();
        assert_eq!(routed, described, "{path}");
    }
    server.stop().await;
}
