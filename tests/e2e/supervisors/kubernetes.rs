//! Kubernetes' order of things, replayed with the shipped manifests and the real binaries: init containers one after
//! the other, the native sidecar until its startup probe passes, then the app; at the end preStop, SIGTERM to the app,
//! and only when that has exited, SIGTERM to the sidecar, all of it within the grace period. Clients come through a
//! stand-in of a Service, which hears of endpoints late and never breaks a connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command as StdCommand;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::process::ChildProcess;
use lameduck::tools::demo::scratch::ScratchDir;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::{Fleet, PATIENCE, account, free_addresses, journals, run};
use crate::harness::{exe, get, proving, skip, turn, until};
use lameduck_rig::results::{Row, record};

/// How long it takes until clients no longer come to a pod that is to end.
const PROPAGATION: Duration = Duration::from_secs(2);

/// What the cluster keeps for one Deployment.
struct Manifest {
    config: String,
    spec: Value,
}

impl Manifest {
    /// Read as the API server would; `None` without the tools for it.
    fn read(file: &str) -> Option<Self> {
        let python = lameduck_rig::place::in_venv("schemas-venv", "python")?;
        let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
        let path = lameduck_rig::place::root().join("deploy/kubernetes");
        let output = StdCommand::new(python)
            .args(["-c", script])
            .arg(path.join(file))
            .output()
            .ok()?;
        let documents: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        let of = |kind: &str| documents.iter().find(|d| d["kind"] == kind).unwrap();
        let config = of("ConfigMap")["data"]["lameduck.toml"].as_str().unwrap();
        Some(Self {
            config: config.to_owned(),
            spec: of("Deployment")["spec"]["template"]["spec"].clone(),
        })
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(self.spec["terminationGracePeriodSeconds"].as_u64().unwrap())
    }
}

/// A pod's processes, with the pod's paths and ports replaced by this machine's.
struct Pod {
    sidecar: ChildProcess,
    app: ChildProcess,
    pre_stop: Option<Value>,
    place: Place,
    address: SocketAddr,
}

/// Where a pod's volumes and ports are.
#[derive(Clone)]
struct Place {
    dir: PathBuf,
    replaced: Vec<(String, String)>,
    journals: PathBuf,
}

impl Place {
    fn new(scratch: &ScratchDir, number: usize) -> (Self, SocketAddr) {
        let dir = scratch.path().join(format!("pod-{number}"));
        let volume = |name: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let ports = free_addresses(3);
        let replaced = vec![
            ("/run/lameduck".to_owned(), volume("run")),
            ("/opt/lameduck".to_owned(), volume("bin")),
            ("/etc/lameduck".to_owned(), volume("etc")),
            ("0.0.0.0:8080".to_owned(), ports[0].to_string()),
            ("0.0.0.0:9902".to_owned(), ports[1].to_string()),
            ("127.0.0.1:3000".to_owned(), ports[2].to_string()),
        ];
        let place = Self {
            dir,
            replaced,
            journals: journals(scratch),
        };
        (place, ports[0])
    }

    fn here(&self, text: &str) -> String {
        let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
        self.replaced.iter().fold(text.to_owned(), replace)
    }

    /// Where a named port of the manifest is.
    fn port(&self, shipped: &str) -> SocketAddr {
        self.here(shipped).parse().unwrap()
    }

    /// A container's command: lameduck's image starts the binary, the app's image the demo app.
    fn command(&self, container: &Value) -> StdCommand {
        let words = |key: &str| strings(&container[key]);
        let image = container["image"].as_str().unwrap();
        let entry = match image.starts_with("lameduck:") {
            true => vec![exe().display().to_string()],
            false => Vec::new(),
        };
        let demo = || {
            let journals = self.journals.display();
            let line = format!("{} demo-app --journals {journals}", exe().display());
            line.split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let mut line = if words("command").is_empty() {
            entry
        } else {
            words("command")
        };
        match words("args") {
            // The app, in the words of the manifest or in its image's.
            args if args.iter().any(|word| word.ends_with("app.mjs")) => line.extend(demo()),
            args if args.is_empty() && line.is_empty() => line = demo(),
            args => line.extend(args),
        }
        let mut command = self.exec(&line);
        for variable in container["env"].as_array().into_iter().flatten() {
            let (name, value) = (
                variable["name"].as_str().unwrap(),
                variable["value"].as_str().unwrap(),
            );
            assert_eq!((name, value), ("PORT", "3000"));
            command.env(name, self.port("127.0.0.1:3000").port().to_string());
        }
        command
    }

    fn exec(&self, words: &[String]) -> StdCommand {
        let mut command = StdCommand::new(self.here(&words[0]));
        command
            .args(words[1..].iter().map(|word| self.here(word)))
            .env("LAMEDUCK_ADMIN", self.here("/run/lameduck/lameduck.sock"));
        command
    }

    fn start(&self, container: &Value) -> ChildProcess {
        let name = container["name"].as_str().unwrap();
        let log = self.dir.join(format!("{name}.log"));
        let mut process = ChildProcess::start(name, self.command(container), &log).unwrap();
        process.ignore_output();
        process
    }

    /// Waits until an HTTP probe passes.
    async fn passes(&self, probe: &Value) {
        let get_it = &probe["httpGet"];
        assert_eq!(get_it["port"], "probes");
        let (address, path) = (self.port("0.0.0.0:9902"), get_it["path"].as_str().unwrap());
        until(path, PATIENCE, async || {
            matches!(get(address, path).await, Ok((200, _)))
        })
        .await;
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

impl Pod {
    async fn start(manifest: &Manifest, scratch: &ScratchDir, number: usize) -> Self {
        let (place, address) = Place::new(scratch, number);
        let config = place.here("/etc/lameduck/lameduck.toml");
        std::fs::write(config, place.here(&manifest.config)).unwrap();
        let mut sidecar = None;
        for container in manifest.spec["initContainers"].as_array().unwrap() {
            if container["restartPolicy"] == "Always" {
                let process = place.start(container);
                place.passes(&container["startupProbe"]).await;
                sidecar = Some((process, container));
            } else {
                run(&mut place.command(container)).await;
            }
        }
        let (sidecar, its_container) = sidecar.unwrap();
        let container = &manifest.spec["containers"][0];
        let app = place.start(container);
        let hook = |name: &str| Some(container["lifecycle"][name]["exec"]["command"].clone());
        if let Some(words) = hook("postStart").filter(|words| !words.is_null()) {
            run(&mut place.exec(&strings(&words))).await;
        }
        place.passes(&its_container["readinessProbe"]).await;
        Self {
            sidecar,
            app,
            pre_stop: hook("preStop").filter(|words| !words.is_null()),
            place,
            address,
        }
    }

    /// The end of a pod. One clock runs for all of it; the hook's time is part of it.
    async fn terminate(mut self, grace: Duration) {
        let begun = Instant::now();
        if let Some(words) = &self.pre_stop {
            run(&mut self.place.exec(&strings(words))).await;
        }
        self.app.signal(libc::SIGTERM).unwrap();
        let left = |begun: Instant| grace.saturating_sub(begun.elapsed());
        let (status, _) = self.app.wait(left(begun)).await.unwrap();
        assert!(
            status.success(),
            "the app: {status}{}",
            self.app.last_words()
        );
        self.sidecar.signal(libc::SIGTERM).unwrap();
        let (status, _) = self.sidecar.wait(left(begun)).await.unwrap();
        assert!(
            status.success(),
            "the sidecar: {status}{}",
            self.sidecar.last_words()
        );
    }
}

/// A Service: new connections go to the endpoints that it knows of, in turn; what is connected stays connected.
struct Service {
    address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoints = Arc::new(Mutex::new(Vec::new()));
        let known = endpoints.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                let (mut client, _) = listener.accept().await.unwrap();
                let endpoint = {
                    let known: &Vec<SocketAddr> = &known.lock();
                    known[turn % known.len()]
                };
                tokio::spawn(async move {
                    let mut pod = TcpStream::connect(endpoint).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut pod).await
                });
            }
        });
        Self { address, endpoints }
    }

    fn add(&self, pod: SocketAddr) {
        self.endpoints.lock().push(pod);
    }

    /// It hears of that late, while the pod is ending already.
    fn remove_soon(&self, pod: SocketAddr) {
        let endpoints = self.endpoints.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PROPAGATION).await;
            endpoints.lock().retain(|address| *address != pod);
        });
    }
}

async fn rolling_update(file: &str) {
    let _turn = turn().await;
    let Some(manifest) = Manifest::read(file) else {
        return skip(file, "python3 with PyYAML (run tests/setup.sh)");
    };
    let scratch = Fleet::scratch();
    let service = Service::start().await;
    let mut pods: HashMap<usize, Pod> = HashMap::new();
    for number in 0..2 {
        let pod = Pod::start(&manifest, &scratch, number).await;
        service.add(pod.address);
        pods.insert(number, pod);
    }
    let load = Load::start(LoadPlan::new(service.address, 300));
    // Until slow requests are in flight everywhere.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let replaced = if proving() { 6 } else { 1 };
    for number in 0..replaced {
        // maxSurge 1, maxUnavailable 0: the new one is ready before an old one ends.
        let new = Pod::start(&manifest, &scratch, number + 2).await;
        service.add(new.address);
        pods.insert(number + 2, new);
        let old = pods.remove(&number).unwrap();
        service.remove_soon(old.address);
        old.terminate(manifest.grace()).await;
    }
    let account = account(load.stop().await, &scratch);
    assert!(account.is_clean(), "{file}:\n{account}");
    assert_eq!(
        (account.delivered_twice, account.stops),
        (0, replaced as u64),
        "{file}:\n{account}"
    );
    record(Row {
        test: "supervisor",
        proxy: "lameduck".to_owned(),
        app: format!("Kubernetes, {file}"),
        account,
        notes: Vec::new(),
    });
}

#[lameduck_rig::test]
async fn sidecar_with_the_launcher() {
    rolling_update("sidecar.yaml").await;
}

#[lameduck_rig::test]
async fn sidecar_with_a_pre_stop_hook() {
    rolling_update("sidecar-prestop.yaml").await;
}
