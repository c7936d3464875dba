//! From nginx to lameduck and back under load: both listen on one port by SO_REUSEPORT, and the one that leaves quits
//! gracefully.
//!
//! All of it in a network namespace of its own, with `tcp_migrate_req`: without it, the kernel resets what waits in the
//! queue of a listener that nginx closes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};

use crate::harness::apps::App;
use crate::harness::front::{Front, Kind};
use crate::harness::{Bench, exe, proving, skip, turn_alone, until, usual_load};
use lameduck_rig::results::{Row, record};

const PATIENCE: Duration = Duration::from_secs(30);

/// nginx as docs/from-nginx.md tells it to be for a cut-over.
fn nginx(bench: &Bench, binary: &Path, listen: SocketAddr, round: usize) -> ChildProcess {
    let root = bench.scratch.path();
    let dir = root.join(format!("nginx-{round}"));
    std::fs::create_dir_all(&dir).unwrap();
    let servers: String = bench
        .instances
        .iter()
        .map(|instance| format!("server {}; ", instance.address()))
        .collect();
    let place = dir.display();
    let text = format!(
        "user root; daemon off; worker_processes 2; pid {place}/pid; error_log stderr warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n\
         fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
         keepalive_min_timeout 2s;\n\
         upstream app {{ zone app 64k; {servers} keepalive 64; }}\n\
         server {{ listen {listen} reuseport backlog=4096; location / {{ proxy_pass http://app; proxy_http_version 1.1;\n\
         proxy_set_header Connection ''; proxy_set_header Host $host; }} }} }}\n"
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text).unwrap();
    let command = Kind::Nginx.command(binary, &dir, &config);
    let mut process = ChildProcess::start("nginx", command, &dir.join("log")).unwrap();
    process.ignore_output();
    process
}

/// How many sockets listen on a port of this thread's network namespace.
fn listeners(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let suffix = format!(":{port:04X}");
    let listens = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|local| local.ends_with(&suffix)) && words.get(3) == Some(&"0A")
    };
    table.lines().filter(listens).count()
}

/// Puts this thread, and what it starts, into a network namespace of its own; `false`: it may not.
fn enter_namespace() -> bool {
    let entered = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
    if entered.is_err() {
        return false;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    up.is_ok_and(|status| status.success())
        // Which namespace's file it is depends on the thread that opens it.
        && std::fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1").is_ok()
}

#[lameduck_rig::test]
async fn cut_over_from_nginx_and_back_on_one_port_loses_nothing() {
    let Some(binary) = Kind::Nginx.binary() else {
        return skip("cut_over", "nginx (run tests/setup.sh)");
    };
    let _turn = turn_alone().await;
    // A thread of its own: the namespace is the thread's, and goes with it.
    let run = std::thread::spawn(move || {
        if !enter_namespace() {
            return skip("cut_over", "root, ip(8) and a kernel with tcp_migrate_req");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(cut_over(&binary));
    });
    let ended = tokio::task::spawn_blocking(move || run.join())
        .await
        .unwrap();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

async fn cut_over(binary: &Path) {
    let bench = Bench::start("cut-over", App::BuiltIn, 2).await.unwrap();
    let listen: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let settings = ProxySettings {
        listen,
        reuse_port: true,
        server: "lame_duck = \"1s\"".into(),
        ..ProxySettings::default()
    };
    let mut old = nginx(&bench, binary, listen, 0);
    until("nginx", PATIENCE, async || listeners(8080) == 2).await;
    let mut plan = usual_load(listen);
    // Half of the connections are new ones: those are what a closed listener could lose.
    plan.max_idle = Duration::from_millis(20);
    let load = Load::start(plan);
    let more = async |count: u64| {
        let before = load.progress().sent;
        until("requests", PATIENCE, async || {
            load.progress().sent > before + count
        })
        .await;
    };
    let rounds = if proving() { 20 } else { 2 };
    let mut last = None;
    for round in 1..=rounds {
        more(200).await;
        let name = format!("lameduck-{round}");
        let mut new = DemoProxy::start(
            exe(),
            &name,
            bench.scratch.path(),
            &settings,
            &bench.instances,
        )
        .await
        .unwrap();
        more(50).await;
        old.signal(libc::SIGQUIT).unwrap();
        let (status, _) = old.wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{status}{}", old.last_words());
        more(200).await;
        if round == rounds {
            last = Some(new);
            break;
        }
        let alone = listeners(8080);
        old = nginx(&bench, binary, listen, round);
        until("nginx", PATIENCE, async || listeners(8080) == alone + 2).await;
        more(50).await;
        new.process().signal(libc::SIGTERM).unwrap();
        let (status, _) = new.process().wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{status}{}", new.process().last_words());
    }
    let front = Front::Lameduck(last.unwrap());
    let account = bench.account(load.stop().await, &front).await;
    assert!(account.is_clean(), "{account}");
    assert_eq!(account.delivered_twice, 0, "{account}");
    record(Row {
        test: "cut-over from nginx",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes: vec![format!(
            "{rounds} times to lameduck, {} times back",
            rounds - 1
        )],
    });
}
