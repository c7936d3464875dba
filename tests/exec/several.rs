//! Two proxies before the same launchers: one is killed, restarted, cut off and upgraded while instances are rolled.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use lameduck_rig::certificates::Authority;
use lameduck_rig::ports::free_address;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Launched, PATIENCE, Rig, exe, figure, turn, until};

/// Passes connections on to `to`; while it is cut, those that are open stand still, and new ones do, too.
struct Forwarder {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Forwarder {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let passing = async {
                        if let Ok(mut far) = TcpStream::connect(to).await {
                            let _ = copy_bidirectional(&mut near, &mut far).await;
                        }
                    };
                    let mut passing = std::pin::pin!(passing);
                    loop {
                        let pause = tokio::time::sleep(Duration::from_millis(5));
                        match is_cut.load(Ordering::SeqCst) {
                            true => pause.await,
                            false => tokio::select! {
                                () = &mut passing => return,
                                () = pause => {}
                            },
                        }
                    }
                });
            }
        });
        Self { address, cut }
    }
}

/// The second proxy, with its admin API over TCP.
struct Second {
    proxy: DemoProxy,
    settings: ProxySettings,
    dir: PathBuf,
}

impl Second {
    async fn start(rig: &Rig, http: SocketAddr) -> Self {
        let dir = rig.scratch.path().to_owned();
        let token = dir.join("token");
        std::fs::write(&token, "secret\n").unwrap();
        let mut settings = ProxySettings {
            admin: format!("http = \"{http}\"\ntoken_file = {token:?}"),
            server: "lame_duck = \"0s\"".into(),
            ..ProxySettings::default()
        };
        let proxy = DemoProxy::start(exe(), "second", &dir, &settings, &[])
            .await
            .unwrap();
        settings.listen = proxy.address();
        Self {
            proxy,
            settings,
            dir,
        }
    }

    async fn again(&mut self, signal: i32) {
        self.proxy.process().signal(signal).unwrap();
        self.proxy.process().wait(PATIENCE).await.unwrap();
        self.proxy = DemoProxy::start(exe(), "second", &self.dir, &self.settings, &[])
            .await
            .unwrap();
    }

    /// Another process takes over, and the one that was started stays as its stand-in.
    async fn upgraded(&self) {
        let mut upgrade = tokio::process::Command::new(exe());
        upgrade
            .arg("upgrade")
            .arg("--admin")
            .arg(self.proxy.socket());
        let done = tokio::time::timeout(PATIENCE, upgrade.kill_on_drop(true).output());
        let done = done.await.unwrap().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    async fn has_ready(&self, count: usize) {
        let what = format!("the second proxy has {count} ready");
        until(&what, async || {
            let pool = self.proxy.pool().await.unwrap();
            let ready = pool.backends.iter().filter(|one| one.state == "ready");
            ready.count() == count
        })
        .await;
    }
}

/// Requests through the second proxy, whatever becomes of them.
fn trickle(to: SocketAddr) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Ok(mut connection) = LoadConnection::open(to).await {
                let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
                let _ = connection.exchange(request.as_bytes()).await;
            }
        }
    })
}

#[lameduck_rig::test]
async fn rolls_lose_nothing_through_the_other_while_one_proxy_is_killed_restarted_cut_off_and_upgraded()
 {
    let _turn = turn().await;
    let mut rig = Rig::start().await;
    let http = free_address();
    let mut second = Second::start(&rig, http).await;
    let way = Forwarder::start(http).await;
    let token = rig.scratch.path().join("token");
    let both = format!("{},http://{}", rig.through.display(), way.address);
    let options = [
        "--admin",
        &both,
        "--token-file",
        token.to_str().unwrap(),
        "--drain-timeout",
        "5s",
    ];
    let names: Vec<_> = (0..6).map(|n| format!("api-{n}")).collect();
    let mut running: Vec<Launched> = Vec::new();
    for name in &names {
        running.push(rig.launch(name, &options));
    }
    for name in &names {
        rig.ready(name).await;
    }
    second.has_ready(6).await;
    let load = Load::start(LoadPlan {
        // Shorter than the drain's deadline, cut off or not.
        slow: Duration::from_millis(500),
        ..LoadPlan::new(rig.proxy.address(), 100)
    });
    let beside = trickle(second.proxy.address());
    let mishaps = ["killed", "restarted", "cut off", "upgraded"];
    for (round, what) in mishaps.into_iter().enumerate() {
        match what {
            "killed" => second.again(libc::SIGKILL).await,
            "restarted" => second.again(libc::SIGTERM).await,
            "cut off" => way.cut.store(true, Ordering::SeqCst),
            _ => {}
        }
        for n in [2 * round % names.len(), (2 * round + 1) % names.len()] {
            let old = &mut running[n];
            let begun = Instant::now();
            let ended = match what {
                // Each stop has an upgrade of its own, which begins with it.
                "upgraded" => tokio::join!(old.stop(), second.upgraded()).0,
                _ => old.stop().await,
            };
            assert!(ended.success(), "{}", old.said());
            let took = begun.elapsed();
            figure(&format!(
                "stop of {} with one proxy {what}: {took:?}",
                names[n]
            ));
            assert!(
                took < Duration::from_secs(9),
                "{what}: {took:?}\n{}",
                old.said()
            );
            if what == "cut off" {
                let name = format!("http://{}", way.address);
                let said = old.said();
                assert!(
                    said.contains(&name) && said.contains("not waited for"),
                    "{said}"
                );
            }
            rig.gone(&names[n]).await;
            running[n] = rig.launch(&names[n], &options);
            rig.ready(&names[n]).await;
        }
        way.cut.store(false, Ordering::SeqCst);
        // Whoever was away learns of all of them.
        second.has_ready(6).await;
    }
    beside.abort();
    // Both processes of the last upgrade end with that.
    second.again(libc::SIGTERM).await;
    second.has_ready(6).await;
    let account = rig.account(load.stop().await);
    assert!(account.is_clean(), "{account}");
    assert_eq!(
        (account.delivered_twice, account.app_errors),
        (0, 0),
        "{account}"
    );
    assert_eq!(account.stops, 8, "{account}");
}

fn lameduck(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(exe())
        .args(arguments)
        .env_remove("LAMEDUCK_ADMIN")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[lameduck_rig::test(threads = 2)]
async fn commands_speak_to_all_proxies_over_tls_and_name_the_one_that_is_away() {
    let _turn = turn().await;
    let rig = Rig::start().await;
    let dir = rig.scratch.path().to_owned();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let path = |name: &str| dir.join(name).display().to_string();
    let (cert, key) = (dir.join("server.pem"), dir.join("server.key"));
    authority
        .sign(&["127.0.0.1", "lb.internal"])
        .write(&cert, &key);
    let (client, client_key) = (dir.join("client.pem"), dir.join("client.key"));
    authority.sign(&["operator"]).write(&client, &client_key);
    for (name, authority) in [("ca.pem", &authority), ("other.pem", &stranger)] {
        std::fs::write(dir.join(name), &authority.pem).unwrap();
    }
    let http = free_address();
    let settings = ProxySettings {
        admin: format!(
            "http = \"{http}\"\ntls = {{ cert = {cert:?}, key = {key:?}, client_ca = {:?} }}",
            path("ca.pem")
        ),
        pool: "[[pool.backend]]\nname = \"api-0\"\naddress = \"127.0.0.1:9\"".into(),
        ..ProxySettings::default()
    };
    let mut second = DemoProxy::start(exe(), "second", &dir, &settings, &[])
        .await
        .unwrap();
    let mut third = ProxySettings {
        pool: settings.pool.clone(),
        ..ProxySettings::default()
    };
    third.admin = "http = \"\"".into();
    let third = DemoProxy::start(exe(), "third", &dir, &third, &[])
        .await
        .unwrap();
    let url = format!("https://{http}");
    let (ca, other) = (path("ca.pem"), path("other.pem"));
    let (client, client_key) = (path("client.pem"), path("client.key"));
    let own = [
        "--admin-ca",
        &ca,
        "--admin-cert",
        &client,
        "--admin-key",
        &client_key,
    ];

    // Reading on loopback is free, once the certificate is believed.
    let (code, said, errors) = lameduck(&["status", "--admin", &url, "--admin-ca", &ca]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("api-0"), "{said}");
    let (code, _, errors) = lameduck(&["status", "--admin", &url, "--admin-ca", &other]);
    assert_eq!(code, Some(5), "{errors}");
    assert!(errors.contains("TLS: "), "{errors}");
    // Changes need a token or a certificate.
    let drain = ["drain", "app/api-0", "--timeout", "5s", "--admin", &url];
    let (code, _, errors) = lameduck(&[&drain[..], &["--admin-ca", &ca]].concat());
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("token"), "{errors}");
    // With both proxies, and one that isn't there.
    let third_socket = third.socket().display().to_string();
    let away = path("away.sock");
    let both = ["--admin", &third_socket, "--json"];
    let (code, said, errors) = lameduck(&[&drain[..], &own, &both].concat());
    assert_eq!(code, Some(0), "{errors}");
    let answers: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answers[0]["proxy"], *url, "{said}");
    assert_eq!(answers[1]["answer"]["outcome"], "drained", "{said}");
    let all = ["--admin", &url, "--admin", &third_socket, "--admin", &away];
    let (code, said, errors) = lameduck(&[&["status"], &own[..], &all].concat());
    assert_eq!(code, Some(5), "the picture is not whole: {said}");
    assert!(
        said.contains(&format!("{url}: ")) && errors.contains(&away),
        "{said}{errors}"
    );
    let (code, _, errors) = lameduck(&[&["drain", "app/api-0"], &own[..], &all].concat());
    assert_eq!(code, Some(0), "a stop does not wait: {errors}");
    assert!(
        errors.contains("warning: ") && errors.contains(&away),
        "{errors}"
    );
    let (code, said, errors) = lameduck(&[&["resume", "app/api-0"], &own[..], &all].concat());
    assert_eq!(code, Some(5), "{said}{errors}");
    for socket in [second.socket(), third.socket()] {
        let socket = socket.display().to_string();
        let (_, said, _) = lameduck(&["status", "--admin", &socket, "--json"]);
        let pools: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            pools[0]["backends"][0]["drains"],
            serde_json::json!([]),
            "{said}"
        );
    }
    second.stop(PATIENCE).await.unwrap();
}
