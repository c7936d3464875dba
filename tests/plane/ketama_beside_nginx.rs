//! `balance = "ketama_nginx"` beside nginx's `hash … consistent`: 100,000 keys go to the same servers.

use std::process::Stdio;

use lameduck::core::balance::ketama::{KetamaPoints, KetamaServer, hash};
use lameduck::core::balance::{BalanceCandidate, Balancer, PickInput};
use lameduck_rig::peers::Kind;
use lameduck_rig::ports::free_addresses;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;
use lameduck_rig::{setting, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const KEYS: usize = 100_000;

/// Requests that are under way to nginx at once, on one connection.
const BATCH: usize = 500;

/// Of these, the proxy is asked as a whole, too.
const ASKED: usize = 500;

struct Weight(u32);

impl BalanceCandidate for Weight {
    fn in_flight(&self) -> u32 {
        0
    }
    fn weight(&self) -> u32 {
        self.0
    }
}

/// The end of an answer's head; one byte of body follows.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The number in each answer that is there with its body.
fn bodies(answers: &[u8]) -> impl Iterator<Item = usize> {
    memchr::memmem::find_iter(answers, HEAD_END)
        .filter_map(|at| answers.get(at + HEAD_END.len()))
        .map(|body| usize::from(body - b'0'))
}

/// The names of the servers that nginx chooses for these targets, in their order.
async fn ask_nginx(socket: &std::path::Path, targets: &[String]) -> Vec<usize> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let mut chosen = Vec::new();
    for batch in targets.chunks(BATCH) {
        let requests: String = batch
            .iter()
            .map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .collect();
        let (mut reader, mut writer) = stream.split();
        let mut answers = Vec::new();
        let read = async {
            // Each answer ends in its one-letter body.
            let mut ends = 0;
            while ends < batch.len() {
                // An end that came in two parts is found by its last bytes.
                let from = answers.len().saturating_sub(HEAD_END.len());
                let mut more = [0; 65536];
                let count = reader.read(&mut more).await.unwrap();
                assert!(count > 0, "nginx has closed the connection");
                answers.extend_from_slice(&more[..count]);
                ends += bodies(&answers[from..]).count();
            }
        };
        let write = async { writer.write_all(requests.as_bytes()).await.unwrap() };
        tokio::join!(read, write);
        chosen.extend(bodies(&answers));
    }
    chosen
}

#[lameduck_rig::test]
async fn hundred_thousand_keys_go_where_nginx_sends_them() {
    let Some(nginx) = Kind::Nginx.binary() else {
        setting::skip("plane", "nginx in target/peers-venv (tests/setup.sh)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let at = |file: &str| dir.path().join(file).display().to_string();
    let ports = free_addresses(3);
    let [first, second, third] = [0, 1, 2].map(|n| ports[n].port());
    let servers = [
        (format!("127.0.0.1:{first}"), 1),
        (format!("127.0.0.1:{second}"), 3),
        (format!("localhost:{third}"), 2),
        (format!("unix:{}", at("app.sock")), 1),
        (format!("127.0.0.2:{first}"), 10),
    ];
    let (mut upstream, mut apps) = (String::new(), String::new());
    for (number, (address, weight)) in servers.iter().enumerate() {
        upstream += &format!("server {address} weight={weight};\n");
        apps +=
            &format!("server {{ listen {address}; location / {{ return 200 \"{number}\"; }} }}\n");
    }
    let (socket, config) = (dir.path().join("nginx.sock"), dir.path().join("nginx.conf"));
    let text = format!(
        "daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; server_tokens off;\n\
         client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5;\n\
         upstream app {{ hash $request_uri consistent; {upstream} keepalive 16; keepalive_requests 1000000; }}\n\
         {apps}\
         server {{ listen unix:{1}; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n",
        dir.path().display(),
        socket.display(),
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Kind::Nginx.command(&nginx, dir.path(), &config);
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut peer = silent.spawn().unwrap();
    wait::until("nginx to listen", async || {
        UnixStream::connect(&socket).await.is_ok()
    })
    .await;
    let targets: Vec<String> = (0..KEYS)
        .map(|n| match n % 3 {
            0 => format!("/{n}"),
            1 => format!("/shop/{n}/?page={}", n % 7),
            _ => format!("/%61/..{n}/b?{n}&x=%2F"),
        })
        .collect();
    let theirs = ask_nginx(&socket, &targets).await;

    // The decision alone, for all of them.
    let listed: Vec<_> = servers
        .iter()
        .map(|(address, weight)| KetamaServer {
            address: address.as_str().into(),
            weight: *weight,
        })
        .collect();
    let places: Vec<_> = (0..5).map(Some).collect();
    let ring = KetamaPoints::default().prepare(&listed, &places);
    let balancer = Balancer::KetamaNginx(ring);
    let weights = servers.each_ref().map(|(_, weight)| Weight(*weight));
    for (target, theirs) in targets.iter().zip(&theirs) {
        let input = PickInput {
            key: hash(target.as_bytes()).into(),
            ..PickInput::default()
        };
        let ours = balancer.pick(&weights, input, &[]);
        assert_eq!(ours, Some(*theirs), "{target}");
    }

    // The proxy as a whole, for some.
    let mut pool = "balance = \"ketama_nginx\"\nhash_on = \"uri\"\n".to_owned();
    for (address, weight) in &servers {
        pool += &format!("[[pool.backend]]\naddress = \"{address}\"\nweight = {weight}\n");
    }
    pool += "[pool.health]\ntype = \"tcp\"\nrise = 1\nfast_interval = \"10ms\"\n";
    let rig = Rig::start(dir, "", "", &pool, Vec::new()).await;
    rig.until("all are ready", |pool| pool.eligible == servers.len())
        .await;
    let mut client: Wire = rig.client().await;
    for (target, theirs) in targets.iter().zip(&theirs).take(ASKED) {
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let ours = client.response().await;
        assert_eq!(ours.text(), theirs.to_string(), "{target}");
    }
    peer.kill().unwrap();
    peer.wait().unwrap();
}
