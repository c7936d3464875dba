//! What the data plane and the judges of backends know goes along: what clients have used of their rates, who is left out,
//! what is down, how much was sent where, and the key of sessions.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lameduck::registry::view::{BackendView, PoolView};
use lameduck::rt::syscall;
use lameduck::tools::demo::admin;
use lameduck_rig::backend::backends;
use lameduck_rig::ports::free_address;
use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::{Message, Wire};

use super::{EndOnDrop, PATIENCE, text, upgrade, upgraded};
use crate::harness::{exe, until};

/// A rig of three whose pool is sticky and judges its backends, and which limits clients at /limited.
async fn begin() -> Rig {
    let (backends, port) = backends(3).await;
    let mut pool = String::new();
    for backend in &backends {
        let (name, address) = (&backend.name, backend.address);
        pool += &format!("[[pool.backend]]\nname = {name:?}\naddress = \"{address}\"\n");
    }
    pool += &format!(
        "[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\nfall = 1\ninterval = \"200ms\"\n\
         fast_interval = \"10ms\"\ntimeout = \"20s\"\n\
         [pool.outlier]\nconsecutive_errors = 1\nejection = \"60s\"\n[pool.sticky]\non_drain = \"finish\"\n"
    );
    let tables = "[[route]]\npath_prefix = \"/limited\"\npool = \"app\"\nrate = { limit = \"2/h\", burst = 3 }\n\
                  [[route]]\npool = \"app\"\n";
    let dir = tempfile::tempdir().unwrap();
    Rig::start(dir, "lame_duck = \"0s\"", tables, &pool, backends).await
}

/// One request, answered with this status by the backend that gets it: which that is, and what the client has got.
async fn ask(rig: &Rig, request: &str, status: impl Fn(usize) -> u16) -> (usize, Message) {
    let mut client = rig.ask(request).await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    let status = status(index);
    backend
        .send(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
        .await;
    (index, client.response().await)
}

fn counted(pool: &PoolView) -> Vec<(&str, u64)> {
    let all = pool.backends.iter();
    all.map(|one| (one.name.as_str(), one.requests)).collect()
}

#[lameduck_rig::test]
async fn rates_ejections_counts_and_what_is_down_go_along() {
    let rig = begin().await;
    // One is left out…
    let mut bad: Option<BackendView> = None;
    for _ in 0..200 {
        ask(&rig, GET, |index| if index == 0 { 500 } else { 200 }).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        bad = Some(rig.view(0).await).filter(|view| view.ejected.is_some());
        if bad.is_some() {
            break;
        }
    }
    let ejected = bad.expect("it is never left out").ejected.unwrap();
    // …another one is down, and its next probe hangs…
    rig.backends[2].set_health(500);
    rig.until_state(2, "down").await;
    rig.backends[2].set_health(0);
    // …and a client has used two of its three.
    const LIMITED: &str = "GET /limited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(ask(&rig, LIMITED, |_| 200).await.1.status(), 200);
    }
    let before = rig.pool().await;
    assert!(counted(&before).iter().any(|(_, requests)| *requests > 1));

    for _ in 0..2 {
        let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
        let (status, why) = admin::request(&rig.socket, "GET", "/-/ready", None)
            .await
            .unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&why));
        let after = rig.pool().await;
        assert_eq!(counted(&after), counted(&before));
        assert_eq!(rig.view(0).await.ejected.as_ref(), Some(&ejected));
        assert_eq!(rig.view(2).await.state, "down");
        std::mem::forget(_ended);
    }
    let (index, answer) = ask(&rig, LIMITED, |_| 200).await;
    assert_eq!((index, answer.status()), (1, 200));
    let mut fourth = rig.ask(LIMITED).await;
    assert_eq!(fourth.response().await.status(), 429, "its bucket is full");
    // The count goes on from there.
    let after = rig.view(1).await.requests;
    assert_eq!(after, before.backends[1].requests + 1);
    let pid = super::view(&rig.socket).await.pid;
    drop(EndOnDrop(pid));
}

/// What the old process still sends counts, too, as long as it finishes.
#[lameduck_rig::test]
async fn request_of_the_old_process_is_counted_in_the_new_ones_view() {
    let rig = begin().await;
    let mut client = rig.client().await;
    client.send(GET).await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    let before = rig.view(index).await.requests;
    assert_eq!(before, 1);
    let report = upgraded(&rig.socket).await;
    let _ended = EndOnDrop::of(&report);
    assert_eq!(report["left"], 1, "{report}");
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    assert_eq!(rig.view(index).await.requests, 1);
}

/// The key of sessions is on the disk once a process with a directory for it has taken over, for this user alone: a killed
/// proxy's clients find their backend again.
#[lameduck_rig::test]
async fn key_of_sessions_is_kept_by_the_process_that_takes_over_and_outlives_a_kill() {
    let rig = begin().await;
    let (home, answer) = ask(&rig, GET, |_| 200).await;
    let cookie = answer
        .field("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let dir = tempfile::tempdir().unwrap();
    let (config, state) = (dir.path().join("next.toml"), dir.path().join("state"));
    let address = free_address();
    let old = std::fs::read_to_string(rig.socket.with_file_name("c.toml")).unwrap();
    let new = old
        .replacen(
            "[server]\n",
            &format!("[server]\nstate_dir = {state:?}\n"),
            1,
        )
        .replacen("127.0.0.1:0", &address.to_string(), 1);
    std::fs::write(&config, new).unwrap();
    let output = upgrade(&rig.socket, &["-c", text(&config), "--json"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mode = std::fs::metadata(state.join("sticky.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let pid = super::view(&rig.socket).await.pid;
    syscall::kill(pid, libc::SIGKILL).unwrap();
    let _next = start(&config, &rig.socket, pid).await;
    for _ in 0..4 {
        let mut client = Wire::connect(address).await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        let (index, mut backend) = rig.first().await;
        backend.head().await;
        backend.answer_and_close("again").await;
        let answer = client.response().await;
        assert_eq!((index, answer.text()), (home, "again"));
        assert_eq!(answer.field("set-cookie"), None, "{}", answer.head);
    }
}

/// A drain that lets sessions finish goes on doing so: whoever has one goes there after the upgrade, too, and the drain waits.
#[lameduck_rig::test]
async fn drain_that_finishes_sessions_waits_for_them_after_an_upgrade() {
    let rig = begin().await;
    let (home, answer) = ask(&rig, GET, |_| 200).await;
    let cookie = answer
        .field("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let with_cookie =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(&rig, &with_cookie, |_| 200).await.0, home);
    let sessions = rig.view(home).await.sessions;
    assert_eq!(sessions, Some(1));
    let drain = rig.begin_drain(home, "60s", "resumed").await;
    for _ in 0..2 {
        let report = upgraded(&rig.socket).await;
        let view = rig.view(home).await;
        assert_eq!(
            (view.state.as_str(), view.sessions),
            ("draining", sessions),
            "{report}"
        );
        assert_eq!(ask(&rig, &with_cookie, |_| 200).await.0, home);
        let others = ask(&rig, GET, |_| 200).await.0;
        assert_ne!(others, home, "nobody else goes there");
    }
    drop(drain);
    let pid = super::view(&rig.socket).await.pid;
    drop(EndOnDrop(pid));
}

/// Another process with this configuration, once it is ready.
async fn start(config: &Path, socket: &Path, before: u32) -> tokio::process::Child {
    until("the killed one to be gone", PATIENCE, async || {
        !lameduck_rig::process::is_running(before)
    })
    .await;
    let errors = config.with_extension("errors");
    let begin = || {
        tokio::process::Command::new(exe())
            .args(["run", "-c", text(config)])
            .env_remove("LAMEDUCK_ADMIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    };
    let mut child = begin();
    until("the next one to be ready", PATIENCE, async || {
        // Somebody else may have had its port for a moment: nobody held it since the kill.
        if child.try_wait().unwrap().is_some() {
            let said = std::fs::read_to_string(&errors).unwrap();
            assert!(said.contains("in use"), "{said}");
            child = begin();
        }
        let answer = admin::request(socket, "GET", "/-/ready", None).await;
        matches!(answer, Ok((200, _)))
    })
    .await;
    child
}
