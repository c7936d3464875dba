//! App servers that serve one connection at a time, or few: checks must not occupy them.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::process::{Child, Command};

use lameduck_rig::ports::free_address;
use lameduck_rig::proxy::Rig;
use lameduck_rig::setting::{proving, say, skip};
use lameduck_rig::wire::Wire;

/// Requests to each server, one at a time.
const REQUESTS: usize = 200;

/// A server with the words that start it; `{port}` is where.
const SERVERS: [(&str, &str); 7] = [
    (
        "gunicorn sync",
        "target/apps-venv/bin/gunicorn -b 127.0.0.1:{port} --chdir tests/apps sequential:wsgi",
    ),
    (
        "gunicorn gthread",
        "target/apps-venv/bin/gunicorn -k gthread --threads 1 -b 127.0.0.1:{port} --chdir tests/apps sequential:wsgi",
    ),
    (
        "uvicorn",
        "target/apps-venv/bin/uvicorn --port {port} --app-dir tests/apps sequential:asgi",
    ),
    ("wsgiref", "python3 tests/apps/sequential.py {port}"),
    (
        "php -S",
        "php -S 127.0.0.1:{port} tests/apps/sequential.php",
    ),
    ("WEBrick", "ruby tests/apps/sequential.rb {port}"),
    (
        "puma",
        "puma -q -t 1:1 -b tcp://127.0.0.1:{port} tests/apps/sequential.ru",
    ),
];

/// Whether a program can be started by this name.
fn is_installed(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Starts a server on a port that was free a moment ago; `None` if somebody else took it in between.
async fn start(command: &str) -> Option<(Child, u16)> {
    let port = free_address().port();
    let command = command.replace("{port}", &port.to_string());
    let mut words = command.split(' ');
    let mut child = Command::new(words.next()?)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..2000 {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            return Some((child, port));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// The slowest of the requests, each on a connection of its own.
async fn slowest(health: &str, port: u16) -> Duration {
    let pool = format!("[[pool.backend]]\naddress = \"127.0.0.1:{port}\"\n{health}");
    let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
    rig.until("ready", |pool| pool.backends[0].state == "ready")
        .await;
    let mut slowest = Duration::ZERO;
    for _ in 0..REQUESTS {
        let began = Instant::now();
        let mut client: Wire = rig
            .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        let (answer, _ended) = client.rest().await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

/// Both kinds of checks of one server, one after the other.
async fn checks_do_not_occupy(name: &str, command: &str) {
    let program = command.split(' ').next().unwrap_or_default();
    if !is_installed(program) {
        return skip("app_servers", name);
    }
    let mut started = None;
    for _ in 0..3 {
        started = start(command).await;
        if started.is_some() {
            break;
        }
    }
    let (_server, port) = started.unwrap_or_else(|| panic!("{name} does not start"));
    for (check, health) in [
        ("by default", ""),
        (
            "tcp",
            "[pool.health]\ntype = \"tcp\"\ninterval = \"50ms\"\n",
        ),
    ] {
        let slowest = slowest(health, port).await;
        say(&format!(
            "{name}, check {check}: slowest of {REQUESTS} GETs {slowest:?}"
        ));
        // What the fault cost is 27 s and more; the shorter bound is for a quiet machine.
        let bound = if proving() {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(12)
        };
        assert!(slowest < bound, "{name}, check {check}: {slowest:?}");
    }
}

/// A connection that a check kept open, and on which nothing was ever sent, made GETs of 30 s here.
#[lameduck_rig::test]
async fn checks_do_not_occupy_servers_of_one_connection() {
    let servers = SERVERS.map(|(name, command)| checks_do_not_occupy(name, command));
    if proving() {
        for server in servers {
            server.await;
        }
    } else {
        join_all(servers).await;
    }
}
