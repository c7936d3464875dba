//! The promise, over HTTP/2: real instances and real signals, and an oracle that knows what arrived where.

use std::time::Duration;

use lameduck::tools::demo::instance::{DemoInstance, Program};
use lameduck::tools::demo::oracle::LoadAccount;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::roll;
use lameduck::tools::demo::scratch::ScratchDir;

use lameduck_rig::oracle;
use lameduck_rig::place::exe;
use lameduck_rig::wait::until;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::load::Load;

pub const STREAMS: usize = 100;

fn settings() -> ProxySettings {
    ProxySettings {
        listener: "http2 = true".into(),
        ..ProxySettings::default()
    }
}

pub async fn instances(scratch: &ScratchDir) -> Vec<DemoInstance> {
    oracle::launch(oracle::names(3), &Program::built_in(exe()), scratch.path()).await
}

pub async fn until_more(load: &Load, count: u64) {
    let target = load.done() + count;
    until("the load to go on", async || load.done() >= target).await;
}

pub async fn account(load: Load, instances: &[DemoInstance]) -> LoadAccount {
    oracle::account(load.stop().await, oracle::lives_of(instances))
}

/// 100 streams on one connection, through the restart of every instance.
#[lameduck_rig::test(threads = 2)]
async fn a_rolling_restart_costs_no_stream() {
    roll_under_load(&settings()).await;
}

/// The same, with everything that a route can ask of its clients.
#[lameduck_rig::test(threads = 2)]
async fn rolling_restart_behind_guards_costs_no_stream() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let serving = tokio::spawn(allow_all(server));
    let guarded = ProxySettings {
        pool: format!(
            "[[route]]\nname = \"guarded\"\npool = \"app\"\nallow = [\"127.0.0.0/8\"]\ndeny = [\"192.0.2.0/24\"]\n\
             rate = {{ limit = \"1000000/s\" }}\nconnections = 1000\n\
             auth = {{ forward = \"http://{address}/\", copy = [\"X-User\"], timeout = \"20s\" }}\n\
             hold = {{ timeout = \"20s\" }}\nretry = {{ attempts = 3 }}\n"
        ),
        ..settings()
    };
    roll_under_load(&guarded).await;
    serving.abort();
}

/// An authentication server that lets everybody pass.
async fn allow_all(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(async move {
            let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                seen.extend_from_slice(&piece[..count]);
                if seen.ends_with(b"\r\n\r\n") {
                    seen.clear();
                    let ok = b"HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 0\r\n\r\n";
                    if stream.write_all(ok).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn roll_under_load(settings: &ProxySettings) {
    let scratch = ScratchDir::new("lameduck-h2").unwrap();
    let mut apps = instances(&scratch).await;
    let mut proxy = DemoProxy::start(exe(), "proxy", scratch.path(), settings, &apps)
        .await
        .unwrap();
    proxy.eligible().await.unwrap();
    let load = Load::start(proxy.address(), STREAMS);
    until_more(&load, 300).await;
    for app in &mut apps {
        roll::restart(app, &proxy, Duration::from_secs(5), &|_, _| {})
            .await
            .unwrap();
        until_more(&load, 300).await;
    }
    assert_eq!(
        load.connections(),
        1,
        "the client's connection is untouched"
    );
    let account = account(load, &apps).await;
    assert!(account.is_clean(), "{account:#?}");
    assert_eq!(account.stops, 3);
    println!("{} requests, 0 lost", account.sent);
}

/// The proxy's own end, while another takes over the address: the client goes where GOAWAY sends it.
#[lameduck_rig::test(threads = 2)]
async fn the_proxys_own_end_costs_no_stream() {
    let scratch = ScratchDir::new("lameduck-h2").unwrap();
    let apps = instances(&scratch).await;
    let mut first = ProxySettings {
        reuse_port: true,
        server: "lame_duck = \"300ms\"".into(),
        ..settings()
    };
    let mut old = DemoProxy::start(exe(), "old", scratch.path(), &first, &apps)
        .await
        .unwrap();
    old.eligible().await.unwrap();
    let load = Load::start(old.address(), STREAMS);
    first.listen = old.address();
    for round in 0..3 {
        until_more(&load, 300).await;
        let name = format!("new{round}");
        let mut new = DemoProxy::start(exe(), &name, scratch.path(), &first, &apps)
            .await
            .unwrap();
        new.eligible().await.unwrap();
        old.process().signal(libc::SIGTERM).unwrap();
        let (status, _) = old.process().wait(Duration::from_secs(20)).await.unwrap();
        assert!(status.success(), "{status}{}", old.process().last_words());
        old = new;
    }
    until_more(&load, 300).await;
    assert!(load.connections() > 3, "{} connections", load.connections());
    let account = account(load, &apps).await;
    assert!(account.is_clean(), "{account:#?}");
    println!("{} requests, 0 lost", account.sent);
}
