//! Files, beside nginx with the same tree: 2,000 requests get the same answers.
//!
//! Known differences, which are not asked for here: names that begin with a dot (nginx serves them), an encoded slash
//! (nginx takes it for one), `If-None-Match` together with `If-Modified-Since` (nginx wants both to hold, RFC 9110 the
//! first only), other methods where there is no file (405 here, before anything is looked for), and the types' `charset`.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use lameduck_rig::backend::backends;
use lameduck_rig::peers::Kind;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Message, Wire};
use lameduck_rig::{setting, wait};
use tokio::net::UnixStream;

const TARGETS: [&str; 22] = [
    "/",
    "/index.html",
    "/hello.txt",
    "/hello.txt?a=b",
    "/empty.css",
    "/docs",
    "/docs/",
    "/docs?x=1",
    "/docs/index.html",
    "/docs/deep/page.html",
    "/docs/../hello.txt",
    "/docs/./deep//page.html",
    "/%68ello.txt",
    "/with%20space.txt",
    "/bare",
    "/bare/",
    "/nothing",
    "/hello.txt/",
    "/hello.txt/x",
    "/../hello.txt",
    "/%2e%2e/x",
    "/big.bin",
];

const FIELDS: [&str; 34] = [
    "",
    "",
    "",
    "Range: bytes=0-0\r\n",
    "Range: bytes=0-4\r\n",
    "Range: bytes=5-\r\n",
    "Range: bytes=-3\r\n",
    "Range: bytes=-0\r\n",
    "Range: bytes=-99999999\r\n",
    "Range: bytes=3-2\r\n",
    "Range: bytes=99999999-\r\n",
    "Range: bytes=0-1,3-4\r\n",
    "Range: bytes=0-1, -2\r\n",
    "Range: bytes=0-99999999,0-99999999\r\n",
    "Range: bytes=abc\r\n",
    "Range: bytes=1\r\n",
    "Range: lines=0-1\r\n",
    "Range: bytes=\r\n",
    "If-None-Match: \"6aec6fc0-b\"\r\n",
    "If-None-Match: W/\"6aec6fc0-b\", \"y\"\r\n",
    "If-None-Match: \"x\"\r\n",
    "If-None-Match: *\r\n",
    "If-Match: \"6aec6fc0-b\"\r\n",
    "If-Match: \"x\"\r\n",
    "If-Match: *\r\n",
    "If-Modified-Since: Thu, 05 Nov 2026 12:00:00 GMT\r\n",
    "If-Modified-Since: Thu, 05 Nov 2026 11:00:00 GMT\r\n",
    "If-Modified-Since: Thu, 05 Nov 2026 13:00:00 GMT\r\n",
    "If-Modified-Since: yesterday\r\n",
    "If-Unmodified-Since: Thu, 05 Nov 2026 12:00:00 GMT\r\n",
    "If-Unmodified-Since: Thu, 05 Nov 2026 11:00:00 GMT\r\n",
    "Range: bytes=0-1\r\nIf-Range: \"6aec6fc0-b\"\r\n",
    "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n",
    "Range: bytes=0-1\r\nIf-Range: Thu, 05 Nov 2026 12:00:00 GMT\r\n",
];

async fn ask(client: &mut Wire, method: &str, target: &str, fields: &str) -> Message {
    client
        .send(format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        ))
        .await;
    match method {
        "HEAD" => Message {
            head: client.head().await,
            body: Vec::new(),
            trailers: String::new(),
        },
        _ => client.response().await,
    }
}

/// What has to be the same of an answer.
fn compared(answer: &Message) -> String {
    let status = answer.status();
    let mut shown = status.to_string();
    let names: &[&str] = match status {
        200 | 206 | 304 => &[
            "content-length",
            "content-type",
            "content-range",
            "etag",
            "last-modified",
        ],
        301 => &["location"],
        416 => &["content-range"],
        _ => &[],
    };
    let kind = answer.field("content-type").unwrap_or_default();
    let boundary = kind
        .split_once("boundary=")
        .map(|(_, boundary)| boundary.to_owned());
    for name in names {
        let value = answer.field(name).unwrap_or_default();
        let value = value.split(';').next().unwrap_or_default();
        shown += &format!("\n{name}: {value}");
    }
    if status == 200 || status == 206 {
        let body = String::from_utf8_lossy(&answer.body).replace("; charset=utf-8", "");
        let body = boundary.map_or(body.clone(), |boundary| body.replace(&boundary, "BOUNDARY"));
        // With the types' charset, parts differ in length.
        if body.contains("BOUNDARY") || kind.starts_with("multipart") {
            shown = shown
                .lines()
                .filter(|line| !line.starts_with("content-length"))
                .collect::<Vec<_>>()
                .join("\n");
        }
        shown += &format!(
            "\n{} bytes {:?}",
            body.len(),
            body.chars().take(400).collect::<String>()
        );
    }
    shown
}

#[lameduck_rig::test]
async fn two_thousand_requests_get_the_answers_that_nginx_gives() {
    let Some(nginx) = Kind::Nginx.binary() else {
        setting::skip("plane", "nginx in target/peers-venv (tests/setup.sh)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("site");
    let big: Vec<u8> = (0..200_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    for (path, content) in [
        ("index.html", &b"<h1>home</h1>"[..]),
        ("hello.txt", b"hello world"),
        ("empty.css", b""),
        ("docs/index.html", b"docs"),
        ("docs/deep/page.html", b"page"),
        ("bare/x.txt", b"x"),
        ("with space.txt", b"space"),
        ("big.bin", &big),
    ] {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_880_000))
            .unwrap();
    }
    let (socket, config) = (dir.path().join("nginx.sock"), dir.path().join("nginx.conf"));
    let text = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit; events {{}}\n\
         http {{ access_log off; absolute_redirect off; default_type application/octet-stream;\n\
         client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         types {{ text/html html; text/plain txt; text/css css; }}\n\
         server {{ listen unix:{1}; root {2}; index index.html; location / {{ try_files $uri $uri/ =404; }} }} }}\n",
        dir.path().display(),
        socket.display(),
        root.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command: Command = Kind::Nginx.command(&nginx, dir.path(), &config);
    let mut peer = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait::until("nginx to listen", async || {
        UnixStream::connect(&socket).await.is_ok()
    })
    .await;
    let (backends, port) = backends(1).await;
    let tables = format!(
        "[[route]]\nfiles = {{ root = {root:?} }}\n[[route]]\nhost = \"app.test\"\npool = \"app\"\n"
    );
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1",
        backends[0].address
    );
    let rig = Rig::start(dir, "", &tables, &pool, backends).await;
    let mut random = fastrand::Rng::with_seed(14);
    let mut wrong = Vec::new();
    for _ in 0..2_000 {
        let target = TARGETS[random.usize(..TARGETS.len())];
        let fields = FIELDS[random.usize(..FIELDS.len())];
        let method = ["GET", "GET", "GET", "HEAD", "POST"][random.usize(..5)];
        let (target, fields) = match method {
            // Elsewhere nginx looks for the file first.
            "POST" => ("/hello.txt", "Content-Length: 0\r\n"),
            _ => (target, fields),
        };
        let mut theirs = Wire::unix(UnixStream::connect(&socket).await.unwrap());
        let theirs = compared(&ask(&mut theirs, method, target, fields).await);
        let ours = compared(&ask(&mut rig.client().await, method, target, fields).await);
        if ours != theirs {
            wrong.push(format!(
                "{method} {target} {fields:?}\nours: {ours}\nnginx: {theirs}\n"
            ));
        }
    }
    peer.kill().unwrap();
    peer.wait().unwrap();
    wrong.sort();
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
