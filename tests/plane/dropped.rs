//! Hosts that vanish from the network: from one moment on every packet to and from them is dropped, as when a cable is
//! pulled. Proxy, client and backend are in network namespaces of their own, with a link that goes down.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::upgrade::{SWITCHING, WEBSOCKET};
use lameduck_rig::proxy::Rig;

/// One second of silence, six questions a second apart: a peer is noticed to be gone after 7 s.
const KEEPALIVE: &str = "tcp_keepalive = \"1s\"";

/// The same for data that nobody acknowledges. Who takes nothing for less than that is still waited for: `TCP_USER_TIMEOUT`
/// is not set where `body_timeout` (a client's patience) or `read_timeout` (a backend's) is longer.
const UNACKNOWLEDGED: &str = "tcp_keepalive = \"1s\"\nbody_timeout = \"2s\"";

/// Long before any drain's default deadline (30 s), on a busy machine.
const NOTICED: Duration = Duration::from_secs(20);

/// A network namespace that lasts as long as its process, a bounded time.
struct Host(Child);

impl Host {
    fn new() -> Option<Self> {
        let sleeping = Command::new("unshare")
            .args(["--net", "sleep", "180"])
            .stderr(Stdio::null())
            .spawn();
        let mut host = Self(sleeping.ok()?);
        let own = std::fs::read_link("/proc/self/ns/net").ok()?;
        for _ in 0..1_000 {
            let ended = host.0.try_wait().ok()?.is_some();
            let theirs = std::fs::read_link(format!("/proc/{}/ns/net", host.0.id()));
            match theirs {
                Ok(theirs) if !ended && theirs != own => return Some(host),
                _ if ended => return None,
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        None
    }

    /// A command that runs there.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n"]);
        command
    }

    fn runs(&self, script: &str) -> bool {
        let status = self.command().args(["sh", "-ec", script]).status();
        status.is_ok_and(|status| status.success())
    }

    /// Runs a function on a thread that is there: sockets stay where they were made.
    fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.0.id())).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                #[allow(unsafe_code, reason = "std knows no namespaces")]
                // SAFETY: the descriptor is open, and only this thread, which ends soon, is moved.
                let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(moved, 0, "{}", std::io::Error::last_os_error());
                act()
            });
            there.join().unwrap()
        })
    }

    /// From now on nothing comes from here, and nothing arrives.
    fn vanish(&self) {
        assert!(self.runs("ip link set far down"), "the link stays up");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The proxy's host, and one each for a client and a backend, whose WebSocket is open.
struct Lab {
    rig: Rig,
    client_host: Host,
    backend_host: Host,
    client: tokio::net::TcpStream,
    backend: tokio::net::TcpStream,
    _proxy_host: Host,
}

/// Links a host with the proxy's, as `10.98.{net}.2` and `10.98.{net}.1`. That each knows the other's hardware address
/// keeps its kernel from finding out by itself that nobody answers.
fn link(proxy: &Host, host: &Host, net: u8) -> bool {
    let near = format!(
        "ip link set lo up
         ip link add near{net} address 02:00:00:00:0{net}:01 type veth \\
             peer name far address 02:00:00:00:0{net}:02 netns {}
         ip addr add 10.98.{net}.1/24 dev near{net}
         ip link set near{net} up
         ip neigh replace 10.98.{net}.2 lladdr 02:00:00:00:0{net}:02 dev near{net} nud permanent",
        host.0.id()
    );
    let far = format!(
        "ip link set lo up
         ip addr add 10.98.{net}.2/24 dev far
         ip link set far up
         ip neigh replace 10.98.{net}.1 lladdr 02:00:00:00:0{net}:01 dev far nud permanent"
    );
    proxy.runs(&near) && host.runs(&far)
}

/// Answers what is asked, and hands over what was upgraded.
async fn serve(listener: tokio::net::TcpListener, upgraded: mpsc::Sender<tokio::net::TcpStream>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let upgraded = upgraded.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            if head.starts_with(b"GET /health ") {
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            } else if stream.write_all(SWITCHING.as_bytes()).await.is_ok() {
                let _ = upgraded.send(stream).await;
            }
        });
    }
}

impl Lab {
    /// `None`: this process may not make namespaces and links.
    async fn new(test: &str, server: &str) -> Option<Self> {
        let hosts = (Host::new(), Host::new(), Host::new());
        let (Some(proxy_host), Some(client_host), Some(backend_host)) = hosts else {
            lameduck_rig::setting::skip(
                test,
                "the right to make network namespaces, and unshare(1)",
            );
            return None;
        };
        if !link(&proxy_host, &client_host, 1) || !link(&proxy_host, &backend_host, 2) {
            lameduck_rig::setting::skip(test, "ip(8), nsenter(1) and veth links");
            return None;
        }
        let listener = backend_host.within(|| TcpListener::bind("10.98.2.2:0").unwrap());
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (upgraded, mut tunnels) = mpsc::channel(1);
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        tokio::spawn(serve(listener, upgraded));
        let mut command = proxy_host.command();
        command.arg(lameduck_rig::place::exe());
        let pool = format!(
            "[[pool.backend]]\naddress = \"{address}\"\n[pool.health]\nrise = 1\n\
             [pool.drain]\nclose_spread = \"100ms\"\n[pool.upstream]\nread_timeout = \"{}\"",
            // As long as the client is waited for.
            match server.contains("body_timeout") {
                true => "2s",
                false => "60s",
            }
        );
        let rig = Rig::start_by(
            command.into(),
            tempfile::tempdir().unwrap(),
            server,
            "[[listener]]\naddress = \"10.98.1.1:0\"",
            &pool,
            Vec::new(),
        )
        .await;
        rig.until("the backend is ready", |pool| pool.eligible == 1)
            .await;
        let listeners = admin::call(&rig.socket, "GET", "/v1/listeners", None).await;
        let listeners = listeners.unwrap();
        let to: SocketAddr = listeners[1]["address"].as_str().unwrap().parse().unwrap();
        // Only the connect: this thread, which waits for it, runs the backend, too.
        let client = client_host.within(|| TcpStream::connect(to).unwrap());
        client.set_nonblocking(true).unwrap();
        let mut client = tokio::net::TcpStream::from_std(client).unwrap();
        client.write_all(WEBSOCKET.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(client.read_u8().await.unwrap());
        }
        Some(Self {
            rig,
            client_host,
            backend_host,
            client,
            backend: tunnels.recv().await.unwrap(),
            _proxy_host: proxy_host,
        })
    }

    /// Nothing is in flight any more, soon enough.
    async fn is_over(&self) {
        self.rig
            .until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
            .await;
    }

    async fn drain(&self, timeout: &str) -> Value {
        let path = "/v1/pools/app/backends/app-1/drain";
        let body = json!({ "timeout": timeout });
        admin::call(&self.rig.socket, "POST", path, Some(&body))
            .await
            .unwrap()
    }
}

/// The proxy ends this leg.
async fn ends(stream: &mut tokio::net::TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(NOTICED, stream.read_to_end(&mut rest)).await;
    let _ = ended.expect("the vanished peer is not noticed");
}

#[lameduck_rig::test]
async fn silent_tunnel_of_a_client_that_drops_off_the_network_is_ended() {
    let Some(mut lab) = Lab::new("dropped client", KEEPALIVE).await else {
        return;
    };
    lab.client_host.vanish();
    ends(&mut lab.backend).await;
    lab.is_over().await;
}

#[lameduck_rig::test]
async fn silent_tunnel_to_a_backend_that_drops_off_the_network_is_ended() {
    let Some(mut lab) = Lab::new("dropped backend", KEEPALIVE).await else {
        return;
    };
    lab.backend_host.vanish();
    ends(&mut lab.client).await;
    lab.is_over().await;
}

/// Keepalive is silent while something is unacknowledged: that has a bound of its own (`TCP_USER_TIMEOUT`).
#[lameduck_rig::test]
async fn busy_tunnel_of_a_client_that_drops_off_the_network_is_ended() {
    let Some(mut lab) = Lab::new("dropped client, busy", UNACKNOWLEDGED).await else {
        return;
    };
    lab.client_host.vanish();
    lab.backend.write_all(b"\x82\x04more").await.unwrap();
    ends(&mut lab.backend).await;
    lab.is_over().await;
}

#[lameduck_rig::test]
async fn busy_tunnel_to_a_backend_that_drops_off_the_network_is_ended() {
    let Some(mut lab) = Lab::new("dropped backend, busy", UNACKNOWLEDGED).await else {
        return;
    };
    lab.backend_host.vanish();
    lab.client.write_all(b"\x82\x84\0\0\0\0more").await.unwrap();
    ends(&mut lab.client).await;
    lab.is_over().await;
}

#[lameduck_rig::test]
async fn drain_ends_long_before_its_deadline_when_its_client_drops_off_the_network() {
    let Some(lab) = Lab::new("drain, dropped client", KEEPALIVE).await else {
        return;
    };
    lab.client_host.vanish();
    let began = Instant::now();
    let drained = lab.drain("5m").await;
    assert_eq!(drained["outcome"], "drained", "{drained}");
    assert!(began.elapsed() < NOTICED, "{drained}");
}

/// Without keepalive the deadline ends it, and waits for no answer from either peer.
#[lameduck_rig::test]
async fn drain_is_held_no_longer_than_its_deadline_by_peers_that_drop_off_the_network() {
    for is_client in [true, false] {
        let server = "tcp_keepalive = \"0s\"";
        let Some(lab) = Lab::new("drain, no keepalive", server).await else {
            return;
        };
        match is_client {
            true => lab.client_host.vanish(),
            false => lab.backend_host.vanish(),
        }
        let began = Instant::now();
        let drained = lab.drain("1s").await;
        assert!(began.elapsed() < NOTICED, "{drained}");
        lab.is_over().await;
    }
}
