//! A route with `files` and a pool: what is a file is answered here, and everything else is the app's.

use std::path::Path;

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Message;

/// `files` of a directory `public`, with these further keys, and these further keys of the route.
async fn rig(files: &str, route: &str, pool: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("public");
    make_site(&root);
    let (backends, port) = backends(1).await;
    let tables = format!(
        "http2 = true\n[[route]]\nname = \"site\"\npool = \"app\"\nfiles = {{ root = {root:?}{files} }}\n{route}"
    );
    let pool = format!(
        "[[pool.backend]]\nname = \"b1\"\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n\
         interval = \"50ms\"\nfast_interval = \"10ms\"\n{pool}",
        backends[0].address
    );
    std::fs::write(dir.path().join("users"), super::guards::ANN).unwrap();
    Rig::start(dir, "", &tables, &pool, backends).await
}

fn make_site(root: &Path) {
    for (path, text) in [
        ("robots.txt", "robots"),
        ("assets/app.js", "script"),
        ("docs/index.html", "docs"),
        (".env", "secret"),
    ] {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// What the app gets and its client is told, where the app is asked.
async fn of_app(rig: &Rig, request: &str) -> (Message, Message) {
    let mut client = rig.ask(request).await;
    let mut app = rig.backends[0].accept().await;
    let seen = app.request().await;
    app.answer_and_close("app").await;
    let answer = client.response().await;
    assert_eq!(answer.text(), "app", "{request}: {}", answer.head);
    (seen, answer)
}

#[lameduck_rig::test]
async fn file_is_answered_here_and_everything_else_is_the_apps() {
    let rig = rig("", "", "").await;
    let mut client = rig.client().await;
    for (line, status, text) in [
        ("GET /robots.txt", 200, "robots"),
        ("GET /assets/app.js?v=2", 200, "script"),
        ("GET /docs/", 200, "docs"),
    ] {
        client.send(request(line, "")).await;
        let answer = client.response().await;
        assert_eq!((answer.status(), answer.text()), (status, text), "{line}");
        assert!(answer.has("Accept-Ranges: bytes"), "{}", answer.head);
    }
    // A directory with an index is one of the files.
    client.send(request("GET /docs?x", "")).await;
    let moved = client.response().await;
    assert_eq!(
        (moved.status(), moved.field("location")),
        (301, Some("/docs/?x"))
    );
    client
        .send(request("GET /robots.txt", "Range: bytes=1-2\r\n"))
        .await;
    let part = client.response().await;
    assert_eq!((part.status(), part.text()), (206, "ob"));
    client.send(request("HEAD /robots.txt", "")).await;
    assert!(client.head().await.contains("Content-Length: 6"));
    assert!(
        !rig.backends[0]
            .is_called(std::time::Duration::from_millis(50))
            .await
    );
    for line in [
        // No file, nothing that could be one, and directories without an index.
        "GET /",
        "GET /assets",
        "GET /assets/",
        "GET /users/1",
        "GET /.env",
        "GET /robots.txt/",
        "GET /repo%2Fname/x",
        "GET /caf%C3%A9",
        "GET /%zz",
        "GET /nul%00",
        "HEAD /users/1",
        // Files are for GET and HEAD.
        "DELETE /robots.txt",
        "OPTIONS /robots.txt",
    ] {
        if line.starts_with("HEAD") {
            let mut client = rig.ask(request(line, "")).await;
            let mut app = rig.backends[0].accept().await;
            app.request().await;
            app.answer_and_close("").await;
            assert!(client.head().await.starts_with("HTTP/1.1 200"));
            continue;
        }
        let (seen, _) = of_app(&rig, &request(line, "")).await;
        assert!(
            seen.head.starts_with(&format!("{line} HTTP/1.1\r\n")),
            "{}",
            seen.head
        );
    }
    let (seen, _) = of_app(
        &rig,
        &(request("POST /robots.txt", "Content-Length: 4\r\n") + "body"),
    )
    .await;
    assert_eq!(seen.text(), "body");
    let (seen, _) = of_app(
        &rig,
        &(request("GET /search", "Content-Length: 4\r\n") + "body"),
    )
    .await;
    assert_eq!(seen.text(), "body");
    let log = rig.access_log(21).await;
    let pool_of = |target: &str| {
        let line = log.iter().find(|line| line["target"] == target).unwrap();
        (line["pool"].clone(), line["route"].clone())
    };
    assert_eq!(pool_of("/docs/"), ("".into(), "site".into()));
    assert_eq!(pool_of("/users/1"), ("app".into(), "site".into()));
}

#[lameduck_rig::test]
async fn steps_of_try_come_first_and_their_end_is_the_app() {
    let rig = rig(
        ", try = [\"{path}/index.html\", \"{path}\", \"/assets{path}\"]",
        "",
        "",
    )
    .await;
    for (target, text) in [
        ("/docs", "docs"),
        ("/docs/", "docs"),
        ("/robots.txt", "robots"),
        ("/app.js", "script"),
    ] {
        let answer = rig
            .ask(request(&format!("GET {target}"), ""))
            .await
            .response()
            .await;
        assert_eq!(answer.text(), text, "{target}");
    }
    of_app(&rig, &request("GET /assets", "")).await;
    of_app(&rig, &request("GET /other.js", "")).await;
}

/// Guards are for files, too; what a route changes on the way is changed for both.
#[lameduck_rig::test]
async fn guards_rewrites_and_fields_are_for_files_and_app_alike() {
    let rig = rig(
        "",
        "path_prefix = \"/site\"\nstrip_prefix = \"/site\"\nauth = { basic = \"users\" }\nallow = [\"127.0.0.0/8\"]\n\
         response_headers = { set = { X-Mark = \"{method}\" } }\n",
        "",
    )
    .await;
    let refused = rig
        .ask(request("GET /site/robots.txt", ""))
        .await
        .response()
        .await;
    assert_eq!(refused.status(), 401);
    let ann = "Authorization: Basic YW5uOmE=\r\n";
    let file = rig
        .ask(request("GET /site/robots.txt", ann))
        .await
        .response()
        .await;
    assert_eq!((file.status(), file.text()), (200, "robots"));
    assert!(file.has("X-Mark: GET"));
    let (seen, answer) = of_app(&rig, &request("GET /site/users", ann)).await;
    assert!(
        seen.head.starts_with("GET /users HTTP/1.1"),
        "{}",
        seen.head
    );
    assert!(answer.has("X-Mark: GET"));
    let refused = rig
        .ask(request("GET /site/users", ""))
        .await
        .response()
        .await;
    assert_eq!(refused.status(), 401);
}

/// A drained app holds what is its own, and files are served meanwhile; a root that isn't there leaves all to the app.
#[lameduck_rig::test]
async fn drain_holds_what_is_the_apps_and_serves_files_meanwhile() {
    let rig = rig("", "", "").await;
    rig.begin_drain(0, "10s", "resumed").await;
    let mut held = rig.ask(request("GET /users/1", "")).await;
    rig.until("a held request", |pool| pool.held == 1).await;
    let file = rig
        .ask(request("GET /robots.txt", ""))
        .await
        .response()
        .await;
    assert_eq!(file.text(), "robots");
    // Routed anew while it waits, with the same files and with others.
    let (status, said) = rig.reload("name = \"site\"", "name = \"site-2\"").await;
    assert_eq!(status, 200, "{said}");
    let (status, said) = rig.reload("/public\"", "/nowhere\"").await;
    assert_ne!(status, 200, "{said}");
    assert!(said.contains("nowhere"), "{said}");
    rig.rewrite("/nowhere\"", "/public\"");
    rig.until("a held request", |pool| pool.held == 1).await;
    rig.resume(0).await;
    let mut app = rig.backends[0].accept().await;
    app.request().await;
    app.answer_and_close("app").await;
    assert_eq!(held.response().await.text(), "app");
    let log = rig.log();
    let root = std::fs::read_dir(rig.socket.parent().unwrap()).unwrap();
    assert!(root.count() > 0, "{log}");
    std::fs::remove_dir_all(rig.socket.with_file_name("public")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    of_app(&rig, &request("GET /robots.txt", "")).await;
}

/// What waits when a reload makes its path a file's is answered with the file.
#[lameduck_rig::test]
async fn held_request_whose_route_gets_other_files_is_answered_with_its_file() {
    let rig = rig(", try = [\"/none\"]", "", "").await;
    rig.begin_drain(0, "10s", "resumed").await;
    let mut held = rig.ask(request("GET /robots.txt", "")).await;
    rig.until("a held request", |pool| pool.held == 1).await;
    let (status, said) = rig.reload(", try = [\"/none\"]", "").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(held.response().await.text(), "robots");
    rig.until("no held request", |pool| pool.held == 0).await;
}
