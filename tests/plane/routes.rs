//! Routes by more than host and path prefix, with real requests.

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::Wire;

/// The pools that the tests' routes lead to, in this order; each has one backend, which answers with its pool's name.
const POOLS: [&str; 3] = ["app", "one", "two"];

async fn rig(tables: &str) -> Rig {
    rig_in(tempfile::tempdir().unwrap(), tables).await
}

async fn rig_in(dir: tempfile::TempDir, tables: &str) -> Rig {
    let (backends, port) = backends(POOLS.len()).await;
    let pool = |n: usize| {
        let address = &backends[n].address;
        format!(
            "[[pool.backend]]\nname = \"b\"\naddress = \"{address}\"\n[pool.health]\nport = {port}\n\
             path = \"/health\"\nrise = 1\nfast_interval = \"10ms\"\n"
        )
    };
    let pools = format!(
        "{}[[pool]]\nname = \"one\"\n{}[[pool]]\nname = \"two\"\n{}",
        pool(0),
        pool(1),
        pool(2)
    );
    Rig::start(dir, "", tables, &pools, backends).await
}

async fn serve(rig: &Rig, index: usize) {
    let mut backend = rig.backends[index].accept().await;
    while backend.head_or_end().await.is_some() {
        backend.answer(POOLS[index]).await;
    }
}

/// What answers each head; a status for what no pool does.
async fn expect(rig: &Rig, cases: &[(&str, &str)]) {
    let asking = async {
        let mut client: Wire = rig.client().await;
        for (head, answer) in cases {
            client.send(format!("{head}\r\n\r\n")).await;
            let response = client.response().await;
            let got = match response.status() {
                200 => response.text().to_owned(),
                status => status.to_string(),
            };
            assert_eq!(got, *answer, "{head}");
        }
    };
    tokio::select! {
        () = asking => {}
        ((), (), ()) = async { tokio::join!(serve(rig, 0), serve(rig, 1), serve(rig, 2)) } => {
            unreachable!("the proxy closed all")
        }
    }
}

#[lameduck_rig::test]
async fn every_condition_leads_requests_to_its_pool() {
    let rig = rig("[[route]]\npool = \"app\"\n\
         [[route]]\nhost = [\"a.test\", \"*.b.test\"]\npath = \"/login\"\npool = \"one\"\n\
         [[route]]\nhost = \"a.test\"\npath_prefix = \"/login\"\npool = \"two\"\n\
         [[route]]\npath_regex = '^/v\\d+/'\npool = \"one\"\n\
         [[route]]\nmethods = [\"PUT\", \"PURGE\"]\npool = \"two\"\n\
         [[route]]\nheaders = { \"X-Canary\" = \"always\" }\npool = \"one\"\n\
         [[route]]\nheaders = { \"X-Canary\" = \"always\", \"X-Version\" = { regex = \"^[2-9]$\" } }\npool = \"two\"\n\
         [[route]]\nquery = { beta = \"1\" }\npool = \"two\"\n\
         [[route]]\ncookies = { group = { regex = \"^b\" } }\npool = \"one\"\n")
    .await;
    expect(
        &rig,
        &[
            ("GET / HTTP/1.1\r\nHost: x", "app"),
            ("GET /login HTTP/1.1\r\nHost: a.test", "one"),
            ("GET /login?x=/y HTTP/1.1\r\nHost: a.test", "one"),
            ("GET /login/ HTTP/1.1\r\nHost: a.test", "two"),
            ("GET /login HTTP/1.1\r\nHost: c.b.test", "one"),
            ("GET /login HTTP/1.1\r\nHost: b.test", "app"),
            ("GET /v12/x HTTP/1.1\r\nHost: x", "one"),
            ("GET /vx/ HTTP/1.1\r\nHost: x", "app"),
            ("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0", "two"),
            ("PURGE / HTTP/1.1\r\nHost: x", "two"),
            ("GET / HTTP/1.1\r\nHost: x\r\nx-canary: always", "one"),
            ("GET / HTTP/1.1\r\nHost: x\r\nX-Canary: Always", "app"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Canary: always\r\nX-Version: 3",
                "two",
            ),
            ("GET /?a=b&%62eta=%31 HTTP/1.1\r\nHost: x", "two"),
            ("GET /?a=beta=1 HTTP/1.1\r\nHost: x", "app"),
            ("GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1; group=b7", "one"),
            // A field that the client has taken back is not sent to the app, and doesn't count.
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Canary: always\r\nConnection: X-Canary",
                "app",
            ),
        ],
    )
    .await;
}

/// Spellings that mean the same request don't get around a route.
#[lameduck_rig::test]
async fn no_spelling_of_host_or_path_slips_past_a_route() {
    let rig = rig("[[route]]\nhost = \"*\"\npool = \"app\"\n\
         [[route]]\nhost = \"a.test\"\npath = \"/admin\"\npool = \"one\"\n\
         [[route]]\nhost = \"a.test\"\npath_regex = \"^/secret/[a-z]+$\"\npool = \"two\"\n")
    .await;
    expect(
        &rig,
        &[
            ("GET /admin HTTP/1.1\r\nHost: a.test", "one"),
            ("GET /admin HTTP/1.1\r\nHost: A.TEST", "one"),
            ("GET /admin HTTP/1.1\r\nHost: a.test.", "one"),
            ("GET /admin HTTP/1.1\r\nHost: A.test.:8080", "one"),
            ("GET http://a.test:80/admin HTTP/1.1\r\nHost: other", "one"),
            ("GET HTTP://A.Test/admin?x HTTP/1.1\r\nHost: other", "one"),
            ("GET //admin HTTP/1.1\r\nHost: a.test", "one"),
            ("GET /%61dmi%6E HTTP/1.1\r\nHost: a.test", "one"),
            ("GET ///secret//%78yz HTTP/1.1\r\nHost: a.test", "two"),
            ("GET /x/../admin HTTP/1.1\r\nHost: a.test", "404"),
            ("GET /secret/%2e%2E/admin HTTP/1.1\r\nHost: a.test", "404"),
            ("GET /..;/admin HTTP/1.1\r\nHost: a.test", "404"),
            ("GET /admin HTTP/1.1\r\nHost: b.test", "app"),
        ],
    )
    .await;
}

/// The client is the one behind trusted proxies; nobody else can claim to be another one.
#[lameduck_rig::test]
async fn clients_are_those_behind_trusted_proxies() {
    let routes = "[[route]]\npool = \"app\"\n\
         [[route]]\nclients = [\"192.0.2.0/24\"]\npool = \"one\"\n\
         [[route]]\nclients = [\"127.0.0.0/8\"]\npool = \"two\"\n\
         [[route]]\nheaders = { \"X-Forwarded-Proto\" = \"https\" }\npool = \"one\"\n";
    let trusting = rig(&format!("[headers]\ntrusted = [\"127.0.0.0/8\"]\n{routes}")).await;
    expect(
        &trusting,
        &[
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9",
                "one",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9, 198.51.100.1",
                "app",
            ),
            ("GET / HTTP/1.1\r\nHost: x", "two"),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https",
                "one",
            ),
        ],
    )
    .await;
    let wary = rig(routes).await;
    expect(
        &wary,
        &[
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9",
                "two",
            ),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https",
                "two",
            ),
        ],
    )
    .await;
}

#[lameduck_rig::test]
async fn the_log_has_the_route_and_a_reload_changes_it() {
    let rig = rig("[[route]]\nname = \"front\"\npool = \"app\"\n[[route]]\nhost = \"a.test\"\npool = \"one\"\n").await;
    let ask = [
        "GET /1 HTTP/1.1\r\nHost: x",
        "GET /2 HTTP/1.1\r\nHost: a.test",
    ];
    expect(&rig, &[(ask[0], "app"), (ask[1], "one")]).await;
    let (status, said) = rig
        .reload(
            "name = \"front\"\npool = \"app\"",
            "name = \"back\"\npath_regex = \"^/1\"\npool = \"two\"",
        )
        .await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("* ~ ^/1"), "{said}");
    expect(
        &rig,
        &[
            ("GET /1 HTTP/1.1\r\nHost: x", "two"),
            ("GET /3 HTTP/1.1\r\nHost: x", "404"),
        ],
    )
    .await;
    let log = rig.access_log(4).await;
    let route = |target: &str, nth: usize| {
        let mut lines = log.iter().filter(|line| line["target"] == target);
        lines.nth(nth).map(|line| line["route"].clone()).unwrap()
    };
    assert_eq!(route("/1", 0), "front");
    assert!(route("/2", 0).is_null());
    assert_eq!(route("/1", 1), "back");
    assert!(route("/3", 0).is_null());
}

/// By the route's name and the class of the status, whoever answered; a reload goes on counting, and a route that is gone
/// is told of no more.
#[lameduck_rig::test]
async fn requests_of_named_routes_are_counted_by_the_class_of_their_answer() {
    let rig = Rig::new(Setup {
        tables: "[[route]]\nname = \"own\"\npath_prefix = \"/own\"\nrespond = { body = \"x\" }\n\
                 [[route]]\nname = \"gone\"\npath_prefix = \"/gone\"\nrespond = { status = 410 }\n\
                 [[route]]\npath_prefix = \"/unnamed\"\nrespond = { body = \"x\" }\n\
                 [[route]]\nname = \"app\"\npool = \"app\"\n",
        ..Setup::default()
    })
    .await;
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        rig.ask(request).await.response().await.status()
    };
    assert_eq!(get("/own").await, 200);
    assert_eq!(get("/own/x").await, 200);
    assert_eq!(get("/gone").await, 410);
    assert_eq!(get("/unnamed").await, 200);
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status(), 503);
    let series = |route: &str, class: &str| {
        format!("lameduck_route_requests_total{{code=\"{class}\",route=\"{route}\"}}")
    };
    let other = |route: &str, class: &str| {
        format!("lameduck_route_requests_total{{route=\"{route}\",code=\"{class}\"}}")
    };
    let count = async |route: &str, class: &str| {
        let found = rig.metric(&series(route, class)).await;
        found.or(rig.metric(&other(route, class)).await)
    };
    // A request is counted when its answer is out: whoever has read that may be earlier.
    let reached = async |route: &str, class: &str, expected: u64| {
        for _ in 0..4000 {
            if count(route, class).await == Some(expected) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(count(route, class).await, Some(expected), "{route} {class}");
    };
    reached("app", "5xx", 1).await;
    reached("own", "2xx", 2).await;
    reached("gone", "4xx", 1).await;
    assert_eq!(count("own", "4xx").await, None);
    assert_eq!(
        rig.metrics()
            .await
            .matches("lameduck_route_requests_total{")
            .count(),
        3
    );
    let (status, said) = rig.reload("name = \"gone\"", "name = \"new\"").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(get("/own").await, 200);
    reached("own", "2xx", 3).await;
    assert_eq!(count("gone", "4xx").await, None);
}

/// A route without `listeners` holds at each of them, and is less than one that names them.
#[lameduck_rig::test]
async fn route_holds_at_the_listeners_that_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http");
    let unix = format!("unix:{}", path.display());
    let tables = format!(
        "[[listener]]\naddress = \"{unix}\"\n\
         [[route]]\npool = \"app\"\n\
         [[route]]\npath_prefix = \"/both\"\npool = \"one\"\n\
         [[route]]\nlisteners = [\"{unix}\"]\npool = \"two\"\n\
         [[route]]\nlisteners = [\"{unix}\", \"127.0.0.1:0\"]\npath = \"/named\"\npool = \"two\"\n"
    );
    let rig = rig_in(dir, &tables).await;
    let at = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a");
    let asking = async {
        let unix = Wire::unix(tokio::net::UnixStream::connect(&path).await.unwrap());
        let clients = [rig.client().await, unix];
        for (mut client, answers) in clients
            .into_iter()
            .zip([["app", "one", "two"], ["two", "one", "two"]])
        {
            for (path, answer) in ["/", "/both", "/named"].into_iter().zip(answers) {
                client.send(format!("{}\r\n\r\n", at(path))).await;
                assert_eq!(client.response().await.text(), answer, "{path}");
            }
        }
    };
    tokio::select! {
        () = asking => {}
        ((), (), ()) = async { tokio::join!(serve(&rig, 0), serve(&rig, 1), serve(&rig, 2)) } => {
            unreachable!("the proxy closed all")
        }
    }
}
