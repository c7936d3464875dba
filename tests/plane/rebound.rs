//! Reloads from one address to another that overlaps it, under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bounds::app;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::PATIENCE;

const CLIENTS: usize = 6;

/// Clients that come one after the other, each with a connection of its own.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let clients = (0..CLIENTS).map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let asked = tokio::time::timeout(PATIENCE, ask(address)).await;
                    asked.expect("in time").expect("an answer");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self {
            clients: clients.collect(),
            stop,
            answered,
        }
    }

    /// Waits until so many more have been answered.
    async fn goes_on(&self) {
        let wanted = self.answered.load(Ordering::Relaxed) + 50;
        let going = async {
            while self.answered.load(Ordering::Relaxed) < wanted {
                assert!(self.clients.iter().all(|client| !client.is_finished()));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, going)
            .await
            .expect("the load goes on");
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("no request was lost");
        }
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok") {
        true => Ok(()),
        false => Err(std::io::Error::other(answer)),
    }
}

async fn proxy() -> Rig {
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nrise = 1\n",
        app().await
    );
    let dir = tempfile::tempdir().unwrap();
    Rig::start(dir, "", "", &pool, Vec::new()).await
}

fn listener(address: &str) -> String {
    format!("[[listener]]\naddress = \"{address}\"")
}

#[lameduck_rig::test(threads = 2)]
async fn reload_between_overlapping_addresses_loses_no_request() {
    let rig = proxy().await;
    let port = rig.address.port();
    let load = Load::on(rig.address);
    load.goes_on().await;
    let mut now = "127.0.0.1:0".to_owned();
    let one = format!("127.0.0.1:{port}");
    for next in [
        format!("0.0.0.0:{port}"),
        one.clone(),
        format!("[::]:{port}"),
        format!("0.0.0.0:{port}"),
        one,
    ] {
        if next.starts_with('[') && std::net::TcpListener::bind("[::]:0").is_err() {
            continue;
        }
        let (status, body) = rig.reload(&listener(&now), &listener(&next)).await;
        assert_eq!(status, 200, "{now} -> {next}: {body}\n{}", rig.log());
        load.goes_on().await;
        now = next;
    }
    load.end().await;
}

#[lameduck_rig::test(threads = 2)]
async fn refused_reload_to_an_overlapping_address_leaves_everything_as_it_was() {
    let rig = proxy().await;
    let port = rig.address.port();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let load = Load::on(rig.address);
    load.goes_on().await;
    let both = format!(
        "{}\n{}",
        listener(&format!("0.0.0.0:{port}")),
        listener(&taken.local_addr().unwrap().to_string())
    );
    for _ in 0..3 {
        let (status, body) = rig.reload(&listener("127.0.0.1:0"), &both).await;
        assert_ne!(status, 200, "{body}");
        assert!(body.contains("can't listen on"), "{body}");
        rig.rewrite(&both, &listener("127.0.0.1:0"));
        load.goes_on().await;
    }
    // And the next one is applied.
    let next = listener(&format!("0.0.0.0:{port}"));
    let (status, body) = rig.reload(&listener("127.0.0.1:0"), &next).await;
    assert_eq!(status, 200, "{body}");
    load.goes_on().await;
    load.end().await;
}

/// As `listen 80; listen [::]:80;` in nginx: each takes its own family. Alone, `[::]` takes both, before and after.
#[lameduck_rig::test(threads = 2)]
async fn both_families_of_a_port_are_listened_on_beside_each_other() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return lameduck_rig::setting::skip("both families of a port", "IPv6");
    }
    let rig = proxy().await;
    let port = rig.address.port();
    let four = listener(&format!("0.0.0.0:{port}"));
    let six = listener(&format!("[::]:{port}"));
    let load = Load::on(rig.address);
    load.goes_on().await;
    let mut now = listener("127.0.0.1:0");
    let over_six = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
    for (next, has_six) in [
        (format!("{four}\n{six}"), true),
        (four.clone(), false),
        (format!("{six}\n{four}"), true),
        (six.clone(), true),
        (
            format!("{six}\n{}", listener(&format!("127.0.0.1:{port}"))),
            true,
        ),
    ] {
        let (status, body) = rig.reload(&now, &next).await;
        assert_eq!(status, 200, "{now} -> {next}: {body}\n{}", rig.log());
        load.goes_on().await;
        assert_eq!(ask(over_six).await.is_ok(), has_six, "{next}");
        now = next;
    }
    load.end().await;
}

#[lameduck_rig::test(threads = 2)]
async fn both_families_of_a_port_are_listened_on_from_the_start() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return lameduck_rig::setting::skip("both families of a port", "IPv6");
    }
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nrise = 1\n",
        app().await
    );
    for order in [["0.0.0.0", "[::]"], ["[::]", "127.0.0.1"]] {
        let port = lameduck_rig::ports::free_address().port();
        let listeners = order.map(|ip| listener(&format!("{ip}:{port}"))).join("\n");
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir, "", &listeners, &pool, Vec::new()).await;
        for to in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            ask(to.parse().unwrap())
                .await
                .unwrap_or_else(|error| panic!("{order:?} {to}: {error}\n{}", rig.log()));
        }
    }
}
