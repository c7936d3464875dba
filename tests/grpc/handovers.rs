//! The proxy's own end under gRPC: another one takes over the address, and clients go where GOAWAY sends them.

use std::path::Path;
use std::time::Duration;

use lameduck::tools::demo::oracle::LoadAccount;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck::tools::demo::scratch::ScratchDir;
use serde_json::Value;

use super::programs::{App, Language, PATIENCE, POOL, ended, load, none_failed, python};
use super::proving;
use lameduck_rig::place::exe;
use lameduck_rig::results::{Row, record};
use lameduck_rig::wait::until_within;

/// Apps, and proxies in front of them, one after the other.
struct Stand {
    apps: Vec<App>,
    settings: ProxySettings,
    scratch: ScratchDir,
    started: usize,
}

impl Stand {
    fn new(python: &Path, server: &str) -> Self {
        Self {
            apps: (0..2).map(|index| App::new(python, index)).collect(),
            settings: ProxySettings {
                reuse_port: true,
                server: server.to_owned(),
                listener: "http2 = true".to_owned(),
                pool: POOL.to_owned(),
                ..ProxySettings::default()
            },
            scratch: ScratchDir::new("lameduck-grpc").unwrap(),
            started: 0,
        }
    }

    /// Starts the next proxy, where the one before listens.
    async fn proxy(&mut self) -> DemoProxy {
        let at = |app: &App| (app.name.clone(), ([127, 0, 0, 1], app.port).into());
        let backends: Vec<_> = self.apps.iter().map(at).collect();
        self.started += 1;
        let name = format!("proxy-{}", self.started);
        let dir = self.scratch.path();
        let mut proxy = DemoProxy::start_with(exe(), &name, dir, &self.settings, &backends)
            .await
            .unwrap();
        proxy.eligible().await.unwrap();
        self.settings.listen = proxy.address();
        proxy
    }
}

/// Waits until the backends of this proxy show what is wanted: of all requests, and of those in flight.
async fn until_seen(proxy: &DemoProxy, what: &str, wanted: impl Fn(u64, u32) -> bool) {
    until_within(what, PATIENCE, async || {
        let backends = proxy.pool().await.unwrap().backends;
        let requests = backends.iter().map(|view| view.requests).sum();
        wanted(requests, backends.iter().map(|view| view.in_flight).sum())
    })
    .await;
}

/// Calls of all four kinds by real clients that have no retry policy.
#[lameduck_rig::test(threads = 2)]
async fn the_proxys_own_end_costs_no_call() {
    let Some(python) = python() else { return };
    if !Language::Node.is_there() {
        return;
    }
    // The next one listens already. As long as both accept, a client that is told to go may meet the old one again, and
    // grpc-js puts a call that it has not sent on another connection once, not twice. `unsent`: what a client has queued
    // when GOAWAY comes, it moves; no server ever hears of it.
    let mut stand = Stand::new(&python, "lame_duck = \"0s\"");
    let mut old = stand.proxy().await;
    let languages = [Language::Python, Language::Node];
    let loads = languages.map(|language| load(old.address(), language, &python, &["unsent"]));
    let (rounds, calls) = if proving() { (20, 1000) } else { (3, 400) };
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        until_seen(&old, "calls", |requests, _| requests >= calls).await;
        let new = stand.proxy().await;
        let signalled = old.process().signal(libc::SIGTERM).unwrap();
        let (status, exited) = old.process().wait(Duration::from_secs(20)).await.unwrap();
        assert!(status.success(), "{status}{}", old.process().last_words());
        slowest = slowest.max(Duration::from_nanos(exited - signalled));
        old = new;
    }
    // The clients are all here.
    until_seen(&old, "calls", |requests, _| requests >= calls).await;
    for (load, language) in loads.into_iter().zip(languages) {
        let log = || old.process().last_words();
        let calls = none_failed(load, 50, log).await;
        println!("{language:?}: {calls} calls, {rounds} hand-overs, {slowest:?} at most");
        record(Row {
            test: "own SIGTERM, gRPC",
            proxy: "lameduck".into(),
            app: format!("grpcio, client in {language:?}"),
            account: LoadAccount {
                sent: calls,
                answered: calls,
                ..LoadAccount::default()
            },
            notes: vec![format!(
                "{rounds} hand-overs; SIGTERM to exit at most {slowest:?}; latencies not measured"
            )],
        });
    }
}

/// Calls that outlive the shutdown's deadline are told so, whatever their kind, and however little they have got.
async fn long_calls(language: Language) {
    let Some(python) = python() else { return };
    if !language.is_there() {
        return;
    }
    let mut stand = Stand::new(&python, "lame_duck = \"100ms\"\ndeadline = \"2s\"");
    let mut proxy = stand.proxy().await;
    let mut client = language.client("long", &python, &[&proxy.address().to_string()]);
    assert_eq!(client.line(), "open");
    until_seen(&proxy, "four calls", |_, in_flight| in_flight == 4).await;
    proxy.process().signal(libc::SIGTERM).unwrap();
    proxy.process().wait(Duration::from_secs(20)).await.unwrap();
    let end: Value = serde_json::from_str(ended(client).await.trim()).unwrap();
    for (kind, messages) in [("unary", 0), ("client", 0), ("server", 1), ("both", 1)] {
        let of = &end[kind];
        assert_eq!(of["code"], "UNAVAILABLE", "{kind}: {end}");
        assert_eq!(of["details"], "lameduck is shutting down", "{kind}: {end}");
        assert!(of["messages"].as_u64().unwrap() >= messages, "{end}");
    }
}

#[lameduck_rig::test]
async fn long_calls_of_grpcio_end_unavailable() {
    long_calls(Language::Python).await;
}

#[lameduck_rig::test]
async fn long_calls_of_grpc_js_end_unavailable() {
    long_calls(Language::Node).await;
}
