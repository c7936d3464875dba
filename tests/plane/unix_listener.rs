//! Clients that come by a unix socket.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::upgrade::{SWITCHING, WEBSOCKET, bare, masked};
use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::Wire;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with a unix socket beside its address, and where that is.
async fn rig(tables: &str, listener: &str) -> (Rig, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http");
    let listener = format!("{}\n{listener}", section(&path));
    // Tables come behind the rig's own listener.
    let tables = format!("{listener}\n{tables}");
    let (backends, probes) = backends(1).await;
    let pool = format!(
        "[pool.health]\npath = \"/\"\nport = {probes}\n[[pool.backend]]\naddress = \"{}\"",
        backends[0].address
    );
    let rig = Rig::start(dir, "", &tables, &pool, backends).await;
    (rig, path)
}

fn section(path: &Path) -> String {
    format!("[[listener]]\naddress = \"unix:{}\"", path.display())
}

async fn connect(path: &Path) -> Wire {
    Wire::unix(UnixStream::connect(path).await.unwrap())
}

/// What the app gets of a request with this line: `X-Forwarded-For`, `Forwarded`; and the log's client.
async fn told(rig: &Rig, path: &Path, before: &str, line: &str, number: usize) -> [String; 3] {
    let mut client = connect(path).await;
    let request = format!("{before}GET /{number} HTTP/1.1\r\nHost: a\r\n{line}\r\n");
    client.send(request).await;
    let mut backend = rig.backends[0].accept().await;
    let request = backend.request().await;
    let ok = OK.replace("200 OK", "200 OK\r\nConnection: close");
    backend.send(ok).await;
    assert_eq!(client.response().await.status(), 200);
    drop(client);
    let log = rig.access_log(number).await;
    let target = format!("/{number}");
    let logged = log.iter().find(|line| line["target"] == target).unwrap();
    let field = |name| request.field(name).unwrap_or_default().to_owned();
    let client = logged["client"].as_str().unwrap().to_owned();
    [field("X-Forwarded-For"), field("Forwarded"), client]
}

#[lameduck_rig::test]
async fn client_of_a_unix_socket_is_unknown_whatever_it_says() {
    let (rig, path) = rig("[headers]\nforwarded = true", "").await;
    let told = async |line, number| told(&rig, &path, "", line, number).await;
    let unknown = ["unknown", "for=unknown;host=\"a\";proto=http", "unix:"];
    assert_eq!(told("", 1).await, unknown);
    let claims = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    assert_eq!(told(claims, 2).await, unknown);
    // And clients of the address beside it are known.
    let mut client = rig.ask(GET.replace("/ ", "/3 ")).await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(
        backend.request().await.field("X-Forwarded-For"),
        Some("127.0.0.1")
    );
    backend.send(OK).await;
    client.response().await;
}

#[lameduck_rig::test]
async fn trusted_front_on_a_unix_socket_tells_who_the_client_is() {
    let tables = "[headers]\nforwarded = true\ntrusted = [\"unix:\", \"10.0.0.0/8\"]";
    let (rig, path) = rig(tables, "").await;
    let told = async |line, number| told(&rig, &path, "", line, number).await;
    let [chain, forwarded, client] = told(
        "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=192.0.2.1;proto=https\r\n",
        1,
    )
    .await;
    // A hop without an address adds none: an app that reads the chain from its end would stop there.
    assert_eq!(chain, "6.6.6.6, 192.0.2.1, 10.0.0.1");
    assert_eq!(forwarded, "for=192.0.2.1;proto=https");
    assert_eq!(client, "192.0.2.1");
    let unknown = ["unknown", "for=unknown;host=\"a\";proto=http", "unix:"];
    assert_eq!(told("X-Forwarded-For: \r\n", 2).await, unknown);
}

#[lameduck_rig::test]
async fn proxy_protocol_header_names_the_client_behind_a_unix_socket() {
    let tables = "[headers]\ntrusted = [\"unix:\"]";
    let (rig, path) = rig(tables, "proxy_protocol = true").await;
    let header = "PROXY TCP4 192.0.2.9 192.0.2.1 4000 80\r\n";
    let claim = "X-Forwarded-For: 6.6.6.6\r\n";
    let [chain, _, client] = told(&rig, &path, header, claim, 1).await;
    assert_eq!((&*chain, &*client), ("192.0.2.9", "192.0.2.9"));
    let [chain, _, client] = told(&rig, &path, "PROXY UNKNOWN\r\n", claim, 2).await;
    assert_eq!((&*chain, &*client), ("unknown", "unix:"));
}

#[lameduck_rig::test]
async fn websocket_goes_through_a_unix_socket() {
    let (rig, path) = rig("", "").await;
    let mut client = connect(&path).await;
    client.send(WEBSOCKET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(SWITCHING).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    for _ in 0..3 {
        client.send(masked(1, b"hello")).await;
        backend.expect(masked(1, b"hello")).await;
        backend.send(bare(2, b"world")).await;
        client.expect(bare(2, b"world")).await;
    }
    drop(client);
    backend.gone().await;
}

#[lameduck_rig::test]
async fn http2_is_spoken_on_a_unix_socket() {
    let (rig, path) = rig("", "http2 = true").await;
    let stream = UnixStream::connect(&path).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::get("http://a/").body(()).unwrap();
        let (response, _) = send.send_request(request, true).unwrap();
        let mut backend = rig.backends[0].accept().await;
        let head = backend.head().await;
        assert!(head.contains("X-Forwarded-For: unknown\r\n"), "{head}");
        backend
            .send(OK.replace("OK\r", "OK\r\nConnection: close\r"))
            .await;
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

/// All of them would be one client: whoever is in front has many.
#[lameduck_rig::test]
async fn bound_of_connections_per_client_leaves_unix_sockets_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http");
    let pool = "[pool.hold]\non_empty = \"fail\"";
    let server = "max_connections_per_client = 2";
    let rig = Rig::start(dir, server, &section(&path), pool, Vec::new()).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = connect(&path).await;
        client.send(GET).await;
        assert_eq!(client.response().await.status(), 503);
        clients.push(client);
    }
    let mut others = Vec::new();
    for expected in [503, 503, 429] {
        let mut client = rig.ask(GET).await;
        assert_eq!(client.response().await.status(), expected);
        others.push(client);
    }
}

#[lameduck_rig::test]
async fn reload_opens_and_closes_a_unix_socket_and_changes_who_may_connect() {
    let (rig, path) = rig("", "mode = \"0600\"").await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let mut client = connect(&path).await;
    client.send(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    // Another one beside it, and another mode.
    let other = path.with_file_name("other");
    let (one, two) = (section(&path), section(&other));
    let (status, body) = rig
        .reload("mode = \"0600\"", &format!("mode = \"0606\"\n{two}\n"))
        .await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains(&format!(
            "listener unix:{}: mode = \\\"0606\\\"",
            path.display()
        )),
        "{body}"
    );
    assert_eq!((mode(&path), mode(&other)), (0o606, 0o660));
    // The first goes, with a client in a request.
    let gone = format!("{one}\nmode = \"0606\"");
    let (status, body) = rig.reload(&gone, "").await;
    assert_eq!(status, 200, "{body}");
    assert!(!path.exists());
    backend.send(OK).await;
    assert_eq!(client.response().await.status(), 200);
    assert!(UnixStream::connect(&path).await.is_err());
    connect(&other).await;
}

#[lameduck_rig::test]
async fn socket_is_removed_at_the_end_and_whoever_waits_in_its_queue_is_served() {
    let (mut rig, path) = rig("", "").await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(connect(&path).await);
    }
    rig.terminate();
    let mut late = 0;
    for client in &mut waiting {
        if client.try_send(GET).await.is_err() {
            late += 1;
        }
    }
    assert_eq!(late, 0);
    for _ in 0..20 {
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend
            .send(OK.replace("OK\r", "OK\r\nConnection: close\r"))
            .await;
    }
    for mut client in waiting {
        assert_eq!(client.response().await.status(), 200);
    }
    assert!(rig.exited().await.success());
    assert!(!path.exists());
}

/// What is said where the path can't be had.
async fn refusal(rig: &Rig, path: &Path, more: &str) -> String {
    let text = format!("{}\n{more}\n[[pool]]", section(path));
    let (status, body) = rig.reload("[[pool]]", &text).await;
    assert_ne!(status, 200, "{body}");
    rig.rewrite(&text, "[[pool]]");
    body
}

#[lameduck_rig::test]
async fn stale_socket_is_replaced_and_anything_else_is_refused_in_words() {
    let (rig, path) = rig("", "").await;
    let beside = |name: &str| path.with_file_name(name);
    std::fs::write(beside("precious"), "data").unwrap();
    let said = refusal(&rig, &beside("precious"), "").await;
    assert!(
        said.contains("is not a socket") && said.contains("[[listener]] address"),
        "{said}"
    );
    let live = std::os::unix::net::UnixListener::bind(beside("live")).unwrap();
    let said = refusal(&rig, &beside("live"), "").await;
    assert!(
        said.contains("a running process listens on the listener's socket"),
        "{said}"
    );
    let said = refusal(&rig, &beside("x"), "group = \"no-such-group\"").await;
    assert!(
        said.contains("[[listener]] group `no-such-group` is not in"),
        "{said}"
    );
    let said = refusal(&rig, Path::new("/nonexistent/http"), "").await;
    assert!(said.contains("make its directory first"), "{said}");
    // Dead now, and its file is still there.
    drop(live);
    let (status, body) = rig
        .reload(
            "[[pool]]",
            &format!("{}\n[[pool]]", section(&beside("live"))),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    let mut client = connect(&beside("live")).await;
    client.send(GET).await;
    rig.backends[0].accept().await.head().await;
}

#[lameduck_rig::test]
async fn somebody_else_s_file_in_the_place_of_the_socket_is_left_alone_at_the_end() {
    let (mut rig, path) = rig("", "").await;
    let mut client = connect(&path).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "somebody else's").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    client.send(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(OK).await;
    assert_eq!(client.response().await.status(), 200);
    drop((client, backend));
    rig.terminate();
    assert!(rig.exited().await.success());
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody else's");
}

/// All clients whom nobody knows are one for a route's limits; those that a trusted field tells of are counted apart.
#[lameduck_rig::test]
async fn unknown_clients_of_a_unix_socket_share_a_rate_and_told_ones_have_their_own() {
    let route = "[[route]]\nrate = { limit = \"1/h\", burst = 2 }\nrespond = { body = \"x\" }\n\
                 [[route]]\npath_prefix = \"/app\"\npool = \"app\"\n";
    let status = async |path: &Path, field: &str| {
        let mut client = connect(path).await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"))
            .await;
        client.response().await.status()
    };
    let (_rig, path) = rig(route, "").await;
    let told = "X-Forwarded-For: 192.0.2.1\r\n";
    let untrusted = [
        status(&path, "").await,
        status(&path, told).await,
        status(&path, "").await,
        status(&path, told).await,
    ];
    assert_eq!(untrusted, [200, 200, 429, 429]);
    let (_rig, path) = rig(&format!("[headers]\ntrusted = [\"unix:\"]\n{route}"), "").await;
    let other = "X-Forwarded-For: 192.0.2.2\r\n";
    for field in [told, other, ""] {
        let counted = [
            status(&path, field).await,
            status(&path, field).await,
            status(&path, field).await,
        ];
        assert_eq!(counted, [200, 200, 429], "{field}");
    }
}
