//! The proxies, each with a listener in cleartext and one with TLS before the same apps, and how one process of it takes the
//! place of another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lameduck::rt::syscall::kill;
use lameduck::tools::demo::process::ChildProcess;

use super::super::{text, upgraded, view};
use crate::harness::front::Kind;
use crate::harness::{Bench, exe, get, until};
use lameduck_rig::place::venvs;
use lameduck_rig::ports::free_address;
use lameduck_rig::process::{descriptors, is_running, status_kib};

const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy, and how it is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Lameduck,
    Nginx,
    HaProxy,
    Envoy,
    Caddy,
}

impl Peer {
    pub const ALL: [Self; 5] = [
        Self::Lameduck,
        Self::Nginx,
        Self::HaProxy,
        Self::Envoy,
        Self::Caddy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Lameduck => "lameduck",
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
        }
    }

    pub fn means(self) -> &'static str {
        match self {
            Self::Lameduck => "`lameduck upgrade`",
            Self::Nginx => "`USR2`, `WINCH`, `QUIT`",
            Self::HaProxy => "`-sf`, `-x`",
            Self::Envoy => "hot restart",
            Self::Caddy => "`reload` (the same process)",
        }
    }

    fn binary(self) -> Option<PathBuf> {
        match self {
            Self::Lameduck => Some(exe().to_owned()),
            Self::Nginx => Kind::Nginx.binary(),
            Self::HaProxy => Kind::HaProxy.binary(),
            Self::Caddy => Some(venvs().join("bench-venv/bin/caddy")).filter(|path| path.is_file()),
            Self::Envoy => {
                let pythons = venvs().join("bench-venv/lib").read_dir().ok()?.flatten();
                let mut paths =
                    pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
                paths.find(|path| path.is_file())
            }
        }
    }
}

/// What a proxy takes: all of its processes together.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    pub processes: usize,
    pub kib: u64,
    pub descriptors: u64,
}

/// A running proxy.
pub struct Site {
    peer: Peer,
    binary: PathBuf,
    dir: PathBuf,
    config: PathBuf,
    pub plain: SocketAddr,
    pub encrypted: SocketAddr,
    started: Vec<ChildProcess>,
    /// The master that the last upgrade of nginx took the place of.
    replaced: Option<u32>,
}

impl Site {
    /// `None`: it isn't here.
    pub async fn start(peer: Peer, bench: &Bench, grpc: SocketAddr) -> Option<Self> {
        let binary = peer.binary()?;
        let dir = bench.scratch.path().to_owned();
        let (plain, encrypted) = (free_address(), free_address());
        let apps: Vec<_> = bench.instances.iter().map(|one| one.address()).collect();
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        let both = [&cert, &key].map(|path| std::fs::read_to_string(path).unwrap());
        std::fs::write(dir.join("both.pem"), both.concat()).unwrap();
        let config = dir.join(match peer {
            Peer::Lameduck => "site.toml",
            Peer::Envoy => "envoy.yaml",
            _ => "site.conf",
        });
        std::fs::write(
            &config,
            configuration(peer, &dir, plain, encrypted, &apps, grpc),
        )
        .unwrap();
        let mut site = Self {
            peer,
            binary,
            dir,
            config,
            plain,
            encrypted,
            started: Vec::new(),
            replaced: None,
        };
        site.run(&[]);
        until("the proxy to serve", PATIENCE, async || {
            // nginx has gone into the background: a master that kept its first parent would ignore USR2.
            assert!(
                peer == Peer::Nginx || site.started[0].check().is_ok(),
                "{}",
                site.started[0].last_words()
            );
            matches!(get(plain, "/").await, Ok((200, _)))
        })
        .await;
        Some(site)
    }

    pub fn title(&self) -> String {
        match self.peer {
            Peer::Lameduck => "lameduck".to_owned(),
            Peer::Nginx => Kind::Nginx.title(),
            Peer::HaProxy => Kind::HaProxy.title(),
            Peer::Envoy | Peer::Caddy => {
                let flag = if self.peer == Peer::Envoy {
                    "--version"
                } else {
                    "version"
                };
                let said = Command::new(&self.binary)
                    .arg(flag)
                    .output()
                    .unwrap()
                    .stdout;
                let said = String::from_utf8_lossy(&said).into_owned();
                let version = said.split(|c: char| c == '/' || c.is_whitespace());
                let version = version.map(|word| word.trim_start_matches('v'));
                let mut version = version.filter(|word| {
                    word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
                });
                format!(
                    "{} {}",
                    self.peer.name(),
                    version.next().unwrap_or_default()
                )
            }
        }
    }

    /// The admin socket of lameduck.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("s.sock")
    }

    fn run(&mut self, more: &[String]) {
        let mut command = Command::new(&self.binary);
        let config = text(&self.config);
        match self.peer {
            Peer::Lameduck => command
                .args(["run", "-c", config])
                .env_remove("LAMEDUCK_ADMIN"),
            Peer::Nginx => command.args(["-p", text(&self.dir), "-e", "stderr", "-c", config]),
            Peer::HaProxy => command.args(["-db", "-f", config]),
            Peer::Envoy => command
                .args(["-c", config, "--concurrency", "2", "-l", "error"])
                .args(["--base-id", &(std::process::id() % 60_000 + 1).to_string()])
                .args(["--drain-time-s", "3", "--parent-shutdown-time-s", "5"]),
            Peer::Caddy => command
                .args(["run", "--adapter", "caddyfile", "--config", config])
                .env("HOME", &self.dir),
        };
        command.args(more).current_dir(&self.dir);
        let name = format!("{}-{}", self.peer.name(), self.started.len());
        let log = self.dir.join(format!("{name}.log"));
        let mut process = ChildProcess::start(&name, command, &log).unwrap();
        process.ignore_output();
        self.started.push(process);
    }

    /// Another process takes over; returns when it serves, and the old one has been told to go.
    pub async fn upgrade(&mut self) {
        match self.peer {
            Peer::Lameduck => drop(upgraded(&self.socket()).await),
            Peer::Nginx => self.upgrade_nginx().await,
            Peer::HaProxy => {
                let old = self.started.last().unwrap().pid().to_string();
                let socket = self.dir.join("h.sock").display().to_string();
                self.run(&["-x".to_owned(), socket, "-sf".to_owned(), old]);
                // It tells the old one when it serves.
                self.settle().await;
            }
            Peer::Envoy => {
                let epoch = self.started.len().to_string();
                self.run(&["--restart-epoch".to_owned(), epoch]);
                // An epoch may begin only when the one before the last has ended.
                let before = self.started.len() - 2;
                let old = self.started[before].pid();
                until("the parent to end", PATIENCE, async || !is_running(old)).await;
            }
            Peer::Caddy => {
                let output = tokio::process::Command::new(&self.binary)
                    .args([
                        "reload",
                        "--force",
                        "--adapter",
                        "caddyfile",
                        "--config",
                        text(&self.config),
                    ])
                    .args(["--address", &format!("unix/{}", self.socket().display())])
                    .env("HOME", &self.dir)
                    .output()
                    .await
                    .unwrap();
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }

    async fn settle(&mut self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let newest = self.started.last_mut().unwrap();
        assert!(newest.check().is_ok(), "{}", newest.last_words());
    }

    async fn upgrade_nginx(&mut self) {
        let file = self.dir.join("nginx.pid");
        let master = || {
            let pid = std::fs::read_to_string(&file).ok()?;
            pid.trim().parse::<u32>().ok()
        };
        // A master takes no USR2 while the one before it is there, which is so until its last worker ends.
        if let Some(before) = self.replaced {
            until("the master before to end", PATIENCE, async || {
                !is_running(before)
            })
            .await;
        }
        let old = master().unwrap();
        self.replaced = Some(old);
        kill(old, libc::SIGUSR2).unwrap();
        until("the new master", PATIENCE, async || {
            master().is_some_and(|pid| pid != old)
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill(old, libc::SIGWINCH).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill(old, libc::SIGQUIT).unwrap();
    }

    /// All processes that this site has started: they work in its directory, whoever their parent is by now.
    fn processes(&self) -> Vec<u32> {
        let (program, dir) = (
            self.binary.canonicalize().unwrap(),
            self.dir.canonicalize().unwrap(),
        );
        let link = |pid: u32, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}"));
        let is_own = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            link(*pid, "exe").is_ok_and(|exe| exe == program)
                && link(*pid, "cwd").is_ok_and(|cwd| cwd == dir)
                && !String::from_utf8_lossy(&line).contains("demo-app")
                && is_running(*pid)
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(is_own)
            .collect()
    }

    pub fn footprint(&self) -> Footprint {
        let all = self.processes();
        let sum = |of: fn(u32) -> Option<u64>| all.iter().filter_map(|pid| of(*pid)).sum();
        Footprint {
            processes: all.len(),
            kib: sum(|pid| status_kib(pid, "RssAnon")),
            descriptors: sum(descriptors),
        }
    }

    /// Ends all of its processes.
    pub async fn stop(mut self) {
        if self.peer == Peer::Lameduck {
            let serving = view(&self.socket()).await.pid;
            let _ = kill(serving, libc::SIGKILL);
        }
        for pid in self.processes() {
            let _ = kill(pid, libc::SIGKILL);
        }
        until("its processes to end", PATIENCE, async || {
            self.processes().is_empty()
        })
        .await;
        self.started.clear();
    }
}

fn configuration(
    peer: Peer,
    dir: &Path,
    plain: SocketAddr,
    encrypted: SocketAddr,
    apps: &[SocketAddr],
    grpc: SocketAddr,
) -> String {
    let each = |line: &dyn Fn(&SocketAddr) -> String| apps.iter().map(line).collect::<String>();
    let (here, cert, key) = (dir.display(), dir.join("cert.pem"), dir.join("key.pem"));
    let (cert, key) = (cert.display(), key.display());
    match peer {
        Peer::Lameduck => format!(
            "[server]\nlame_duck = \"1s\"\ndeadline = \"6s\"\n[admin]\nsocket = \"{here}/s.sock\"\nhttp = \"\"\n\
             [access_log]\npath = \"off\"\n[[listener]]\naddress = \"{plain}\"\n[[listener]]\naddress = \"{encrypted}\"\n\
             [listener.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n\
             [[route]]\npath_prefix = \"/grpc.Nothing\"\npool = \"grpc\"\n[[route]]\npool = \"app\"\n\
             [[pool]]\nname = \"app\"\n{}[[pool]]\nname = \"grpc\"\n[[pool.backend]]\naddress = \"{grpc}\"\n\
             [pool.health]\ntype = \"tcp\"\n[pool.upstream]\nhttp2 = true\n",
            each(&|app| format!("[[pool.backend]]\naddress = \"{app}\"\n"))
        ),
        Peer::Nginx => format!(
            "user root; worker_processes 2; worker_shutdown_timeout 3s; pid {here}/nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 16384; }}\nhttp {{\n  access_log off;\n\
             client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f;\n\
             uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             map $http_upgrade $up {{ default upgrade; '' ''; }}\n\
             upstream app {{ {} keepalive 64; }}\n  server {{\n    listen {plain} backlog=4096;\n\
             listen {encrypted} ssl backlog=4096; http2 on; ssl_certificate {cert}; ssl_certificate_key {key};\n\
             proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $up; proxy_next_upstream error timeout;\n\
             location / {{ proxy_pass http://app; }}\n    location /grpc. {{ grpc_pass grpc://{grpc}; }}\n\
             location ~ ^/(ws|sse) {{ proxy_buffering off; proxy_read_timeout 1h; proxy_pass http://app; }}\n  }}\n}}\n",
            each(&|app| format!("server {app} max_fails=0; "))
        ),
        Peer::HaProxy => format!(
            "global\n  nbthread 2\n  maxconn 8192\n  hard-stop-after 3s\n  stats socket {here}/h.sock mode 600 level admin expose-fd listeners\n\
             defaults\n  mode http\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
             frontend public\n  bind {plain} backlog 4096\n  bind {encrypted} backlog 4096 ssl crt {here}/both.pem alpn h2,http/1.1\n\
             use_backend grpc if {{ path_beg /grpc. }}\n  default_backend app\n\
             backend app\n  balance roundrobin\n  option httpchk GET /health\n{}backend grpc\n  server g {grpc} proto h2 check\n",
            apps.iter()
                .enumerate()
                .map(|(n, app)| format!("  server a{n} {app} check inter 1s\n"))
                .collect::<String>()
        ),
        Peer::Caddy => format!(
            "{{\n  admin unix/{here}/s.sock\n  auto_https off\n  persist_config off\n  default_sni localhost\n}}\n\
             (site) {{\n  @grpc path /grpc.*\n  reverse_proxy @grpc h2c://{grpc}\n\
             reverse_proxy {} {{\n    flush_interval -1\n    stream_close_delay 1h\n    health_uri /health\n    health_interval 1s\n  }}\n}}\n\
             http://localhost:{}, http://127.0.0.1:{} {{\n  bind 127.0.0.1\n  import site\n}}\n\
             https://localhost:{}, https://127.0.0.1:{} {{\n  bind 127.0.0.1\n  tls {cert} {key}\n  import site\n}}\n",
            each(&|app| format!("{app} ")),
            plain.port(),
            plain.port(),
            encrypted.port(),
            encrypted.port()
        ),
        Peer::Envoy => envoy(
            &cert.to_string(),
            &key.to_string(),
            plain,
            encrypted,
            apps,
            grpc,
        ),
    }
}

fn envoy(
    cert: &str,
    key: &str,
    plain: SocketAddr,
    encrypted: SocketAddr,
    apps: &[SocketAddr],
    grpc: SocketAddr,
) -> String {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    let at = |address: &SocketAddr| {
        format!(
            "{{socket_address: {{address: {}, port_value: {}}}}}",
            address.ip(),
            address.port()
        )
    };
    let listener = |name: &str, address: &SocketAddr, tls: &str| {
        format!(
            "  - name: {name}\n    address: {}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \
             \"@type\": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager\n          stat_prefix: {name}\n          drain_timeout: 1s\n          \
             upgrade_configs: [ {{ upgrade_type: websocket }} ]\n          stream_idle_timeout: 0s\n          \
             route_config: {{ virtual_hosts: [ {{ name: all, domains: [\"*\"], routes: [ {{ match: {{ prefix: \"/grpc.\" }}, route: {{ cluster: grpc, timeout: 0s }} }}, {{ match: {{ prefix: \"/\" }}, route: {{ cluster: app, timeout: 0s }} }} ] }} ] }}\n          \
             http_filters: [ {{ name: router, typed_config: {{ \"@type\": {TYPES}.filters.http.router.v3.Router }} }} ]\n{tls}",
            at(address)
        )
    };
    let tls = format!(
        "      transport_socket: {{ name: tls, typed_config: {{ \"@type\": {TYPES}.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {{ alpn_protocols: [h2, http/1.1], tls_certificates: [ {{ certificate_chain: {{ filename: \"{cert}\" }}, private_key: {{ filename: \"{key}\" }} }} ] }} }} }}\n"
    );
    let endpoint = |address: &SocketAddr| format!("{{endpoint: {{address: {}}}}}", at(address));
    let endpoints: Vec<_> = apps.iter().map(endpoint).collect();
    let most = "circuit_breakers: { thresholds: [ { max_connections: 30000, max_pending_requests: 30000, max_requests: 30000 } ] }";
    format!(
        "static_resources:\n  listeners:\n{}{}  clusters:\n  - name: app\n    type: STATIC\n    connect_timeout: 1s\n    {most}\n    \
         load_assignment: {{ cluster_name: app, endpoints: [ {{ lb_endpoints: [ {} ] }} ] }}\n\
         \x20 - name: grpc\n    type: STATIC\n    connect_timeout: 1s\n    {most}\n    typed_extension_protocol_options: {{ envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{ \"@type\": {TYPES}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{ http2_protocol_options: {{}} }} }} }}\n    \
         load_assignment: {{ cluster_name: grpc, endpoints: [ {{ lb_endpoints: [ {} ] }} ] }}\n",
        listener("plain", &plain, ""),
        listener("encrypted", &encrypted, &tls),
        endpoints.join(", "),
        endpoint(&grpc)
    )
}
