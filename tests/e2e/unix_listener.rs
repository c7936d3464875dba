//! The promise, to clients of a unix socket: those of a proxy in front on the same machine.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lameduck::tools::demo::load::Load;
use lameduck::tools::demo::oracle::LoadAccount;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::{admin, roll};
use lameduck_rig::oracle;
use tokio::net::{TcpListener, UnixStream};

use super::service::activated;
use crate::harness::apps::App;
use crate::harness::{Bench, exe, turn, until, usual_load};

const PATIENCE: Duration = Duration::from_secs(20);

/// A front that passes each connection on to the socket, byte for byte: the load speaks TCP.
async fn relay(path: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let path = path.clone();
            tokio::spawn(async move {
                // Who is refused sees its connection end without an answer, which the oracle calls a loss.
                let Ok(mut proxy) = UnixStream::connect(&path).await else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut proxy).await;
            });
        }
    });
    address
}

fn settings(path: &Path, more: &str) -> ProxySettings {
    ProxySettings {
        listener: format!(
            "[[listener]]\naddress = \"unix:{}\"\n{more}",
            path.display()
        ),
        server: "lame_duck = \"300ms\"".into(),
        ..ProxySettings::default()
    }
}

async fn sent(load: &Load, more: u64) {
    let enough = load.progress().sent + more;
    until("requests to be sent", PATIENCE, async || {
        load.progress().sent >= enough
    })
    .await;
}

async fn account(load: Load, bench: &Bench) -> LoadAccount {
    oracle::account(load.stop().await, oracle::lives_of(&bench.instances))
}

#[lameduck_rig::test]
async fn rolling_restart_costs_clients_of_a_unix_socket_no_request() {
    let _turn = turn().await;
    let mut bench = Bench::start("unix-roll", App::BuiltIn, 3).await.unwrap();
    let path = bench.scratch.path().join("http");
    let dir = bench.scratch.path().to_owned();
    let settings = settings(&path, "");
    let mut proxy = DemoProxy::start(exe(), "proxy", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let load = Load::start(usual_load(relay(path).await));
    sent(&load, 100).await;
    for instance in &mut bench.instances {
        roll::restart(instance, &proxy, Duration::from_secs(5), &|_, _| {})
            .await
            .unwrap();
        sent(&load, 100).await;
    }
    let account = account(load, &bench).await;
    assert!(account.is_clean(), "{account}");
    assert_eq!(account.stops, 3);
    println!("{} requests, 0 lost", account.sent);
}

/// `reuse_port`: whoever starts last has the path, and nobody is refused in between.
#[lameduck_rig::test]
async fn second_proxy_takes_a_unix_socket_over_and_no_request_is_lost() {
    let _turn = turn().await;
    let bench = Bench::start("unix-next", App::BuiltIn, 2).await.unwrap();
    let path = bench.scratch.path().join("http");
    let dir = bench.scratch.path().to_owned();
    let settings = settings(&path, "reuse_port = true");
    let mut old = DemoProxy::start(exe(), "old", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    old.eligible().await.unwrap();
    let load = Load::start(usual_load(relay(path.clone()).await));
    for round in 0..3 {
        sent(&load, 100).await;
        let name = format!("new{round}");
        let mut new = DemoProxy::start(exe(), &name, &dir, &settings, &bench.instances)
            .await
            .unwrap();
        new.eligible().await.unwrap();
        old.process().signal(libc::SIGTERM).unwrap();
        let (status, _) = old.process().wait(PATIENCE).await.unwrap();
        assert!(status.success(), "{status}{}", old.process().last_words());
        old = new;
    }
    sent(&load, 100).await;
    let account = account(load, &bench).await;
    assert!(account.is_clean(), "{account}");
    old.process().signal(libc::SIGTERM).unwrap();
    old.process().wait(PATIENCE).await.unwrap();
    assert!(!path.exists(), "the last one takes its file along");
    println!("{} requests, 0 lost", account.sent);
}

/// A socket of the supervisor's outlives each process, and its file stays.
#[lameduck_rig::test]
async fn restart_on_an_activated_unix_socket_refuses_nobody() {
    let _turn = turn().await;
    let bench = Bench::start("unix-activation", App::BuiltIn, 2)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    let path = dir.join("http");
    let listener = UnixListener::bind(&path).unwrap();
    // Its name is enough where the path is another way to the same place.
    let link = dir.join("link");
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let (config, socket) = (dir.join("proxy.toml"), dir.join("proxy.sock"));
    let backends: Vec<_> = bench
        .instances
        .iter()
        .map(|one| (one.name().to_owned(), one.address()))
        .collect();
    let settings = settings(&link.join("http"), "mode = \"0600\"");
    std::fs::write(&config, settings.toml(&socket, &backends)).unwrap();
    let start = async |name: &str| {
        let log = dir.join(format!("{name}.log"));
        let command = activated(&config, &listener, "http");
        let mut process =
            lameduck::tools::demo::process::ChildProcess::start("proxy", command, &log).unwrap();
        process.ignore_output();
        until("ready", PATIENCE, async || {
            process.check().unwrap();
            let ready = admin::request(&socket, "GET", "/-/ready?pool=app", None).await;
            matches!(ready, Ok((200, _)))
        })
        .await;
        process
    };
    let mut proxy = start("one").await;
    let load = Load::start(usual_load(relay(path.clone()).await));
    for name in ["two", "three"] {
        sent(&load, 100).await;
        proxy.signal(libc::SIGTERM).unwrap();
        assert!(proxy.wait(PATIENCE).await.unwrap().0.success());
        assert!(path.exists());
        proxy = start(name).await;
    }
    sent(&load, 100).await;
    let account = account(load, &bench).await;
    assert!(account.is_clean(), "{account}");
    proxy.signal(libc::SIGTERM).unwrap();
    proxy.wait(PATIENCE).await.unwrap();
    assert!(path.exists());
}
