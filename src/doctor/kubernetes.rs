//! Kubernetes manifests: every pod template in them, and the Services.

use super::checks as check;
use super::finding::Findings;
use super::judge::{self, Assumed};
use super::model::{Hook, Kill, Place, Probe, Process, Supervisor};
use super::proxy::Proxy;
use super::tree::{Entry, Node};
use super::words::{Line, Role};

/// Whether an image's name says that it is lameduck's.
pub(super) fn image_is_ours(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split([':', '@']).next() == Some("lameduck")
}

/// The configuration that a ConfigMap of these documents carries.
pub(super) fn embedded(documents: &[Node]) -> Option<(&Node, &str)> {
    objects(documents)
        .into_iter()
        .filter(|object| object.text_of("kind") == Some("ConfigMap"))
        .find_map(|map| {
            let entries = map.get("data")?.entries();
            let config = entries
                .iter()
                .find(|entry| entry.key.ends_with("lameduck.toml"))?;
            Some((&config.value, config.value.text()?))
        })
}

/// The objects, those in Lists too.
fn objects(documents: &[Node]) -> Vec<&Node> {
    documents
        .iter()
        .flat_map(|document| match document.text_of("kind") {
            Some("List") => document.get("items").map_or(&[][..], Node::items),
            _ => std::slice::from_ref(document),
        })
        .collect()
}

fn pod_spec(object: &Node) -> Option<&Node> {
    match object.text_of("kind")? {
        "Pod" => object.get("spec"),
        "CronJob" => object.at(&["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => object.at(&["spec", "template", "spec"]),
    }
}

/// Judges what only a manifest has; returns the processes for the common checks.
pub(super) fn read(
    file: usize,
    documents: &[Node],
    proxy: &Proxy,
    assumed: Assumed,
    found: &mut Findings,
) -> Vec<Process> {
    let mut all = Vec::new();
    for object in objects(documents) {
        if object.text_of("kind") == Some("Service") {
            service(file, object, found);
        }
        if let Some(spec) = pod_spec(object) {
            let pod = Pod {
                file,
                spec,
                proxy,
                assumed,
            };
            all.extend(pod.read(found));
        }
    }
    all
}

fn service(file: usize, object: &Node, found: &mut Findings) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    // Headless ones are for peers that must find each other before they are ready.
    let headless = spec.text_of("clusterIP") == Some("None");
    if spec.flag("publishNotReadyAddresses") == Some(true)
        && !headless
        && let Some(entry) = spec.entry("publishNotReadyAddresses")
    {
        let place = Place {
            file,
            span: entry.place(),
        };
        found.error(
            check::NOT_READY_ADDRESSES,
            &place,
            "the Service publishes pods that are not ready",
            "publishNotReadyAddresses: false",
        );
    }
}

struct Pod<'p> {
    file: usize,
    spec: &'p Node,
    proxy: &'p Proxy,
    assumed: Assumed,
}

/// A container with what it does.
struct Container<'p> {
    node: &'p Node,
    process: Process,
    role: Role,
    /// In `initContainers`, with `restartPolicy: Always`.
    native: bool,
    init: bool,
}

impl<'p> Pod<'p> {
    fn place(&self, entry: &Entry) -> Place {
        Place {
            file: self.file,
            span: entry.place(),
        }
    }

    fn containers(&self) -> Vec<Container<'p>> {
        let list = |key: &str| self.spec.get(key).map_or(&[][..], Node::items);
        let main = list("containers")
            .iter()
            .map(|node| self.container(node, false));
        main.chain(
            list("initContainers")
                .iter()
                .map(|node| self.container(node, true)),
        )
        .collect()
    }

    fn container(&self, node: &'p Node, init: bool) -> Container<'p> {
        let words = |key: &str| {
            let items = node.get(key).map_or(&[][..], Node::items);
            items
                .iter()
                .filter_map(Node::text)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut line = words("command");
        if line.is_empty() && node.text_of("image").is_some_and(image_is_ours) {
            line.push("lameduck".into());
        }
        line.extend(words("args"));
        let here = Place {
            file: self.file,
            span: node.entry("name").map_or(node.span.clone(), Entry::place),
        };
        let at = |key: &str| {
            node.entry(key)
                .map_or(here.clone(), |entry| self.place(entry))
        };
        let env = node.get("env").map_or(&[][..], Node::items);
        let grace = self.spec.entry("terminationGracePeriodSeconds");
        let seconds = grace.and_then(|grace| grace.value.text()?.parse().ok());
        let process = Process {
            supervisor: Supervisor::Kubernetes,
            name: node.text_of("name").unwrap_or("container").to_owned(),
            line: Line::from_words(line),
            command_place: at(if node.get("args").is_some() {
                "args"
            } else {
                "command"
            }),
            env: env
                .iter()
                .filter_map(|e| {
                    Some((
                        e.text_of("name")?.to_owned(),
                        e.text_of("value")?.to_owned(),
                    ))
                })
                .collect(),
            kill: Kill {
                after: Some(seconds.map_or(
                    Supervisor::Kubernetes.default_kill(),
                    std::time::Duration::from_secs,
                )),
                written: seconds.is_some(),
                place: grace.map_or(here.clone(), |entry| self.place(entry)),
            },
            signal: None,
            hooks: self.pre_stop(node, &here),
            probes: Vec::new(),
            instances: None,
            place: here.clone(),
        };
        Container {
            role: process.role(),
            native: init && node.text_of("restartPolicy") == Some("Always"),
            node,
            process,
            init,
        }
    }

    /// The preStop hook, if it calls lameduck.
    fn pre_stop(&self, node: &Node, here: &Place) -> Vec<Hook> {
        let Some(exec) = node.at(&["lifecycle", "preStop", "exec"]) else {
            return Vec::new();
        };
        match command(exec).role(&[]) {
            Role::Hook(call) => {
                let place = exec
                    .entry("command")
                    .map_or(here.clone(), |entry| self.place(entry));
                vec![Hook { call, place }]
            }
            _ => Vec::new(),
        }
    }

    fn read(&self, found: &mut Findings) -> Vec<Process> {
        let containers = self.containers();
        let has_proxy = containers
            .iter()
            .any(|container| container.role == Role::Proxy);
        let main = |c: &&Container<'_>| !c.init && c.role != Role::Proxy;
        let apps: Vec<_> = containers.iter().filter(main).collect();
        let sidecar = has_proxy && !apps.is_empty();
        for container in &containers {
            self.loopback(container, found);
            if container.role == Role::Proxy {
                self.proxy_probes(container, sidecar, found);
                if sidecar {
                    self.sidecar(container, found);
                }
            }
        }
        let mut processes = Vec::new();
        for container in &containers {
            let is_app = !container.init && container.role != Role::Proxy;
            if is_app {
                self.app(container, sidecar, &apps, found);
            }
            // The sidecar's own time is not its config's deadline: it stops when nothing is left to do.
            if is_app || (container.role == Role::Proxy && !sidecar) {
                let mut process = container.process.clone();
                process.probes = self.liveness(container);
                processes.push(process);
            }
        }
        processes
    }

    /// What beside the app's container is true of the proxy's.
    fn sidecar(&self, container: &Container<'_>, found: &mut Findings) {
        let Container { process, .. } = container;
        if !container.native {
            let what = format!(
                "`{}` is an ordinary container beside the app's",
                process.name
            );
            let what = if container.init {
                format!(
                    "`{}` in initContainers never ends, so the app never starts",
                    process.name
                )
            } else {
                what
            };
            found.error(check::NOT_NATIVE, &process.place, what, "move it to `initContainers:` and add `restartPolicy: Always` (native sidecar, Kubernetes 1.29 and later)");
        }
        for hook in &process.hooks {
            let what = format!("`{}` drains in its own preStop hook", process.name);
            found.error(
                check::SIDECAR_PRESTOP,
                &hook.place,
                what,
                "the app's container under `lameduck exec`, or the hook in the app's container",
            );
        }
    }

    fn proxy_probes(&self, container: &Container<'_>, sidecar: bool, found: &mut Findings) {
        let name = &container.process.name;
        for (probe, right) in [("startupProbe", "/-/started"), ("livenessProbe", "/-/live")] {
            let Some(node) = container.node.get(probe) else {
                continue;
            };
            let path = node.at(&["httpGet"]).and_then(|get| get.entry("path"));
            let through = path.filter(|path| {
                let text = path.value.text().unwrap_or_default();
                let text = text.split('?').next().unwrap_or(text);
                // `/-/live` and `/-/started` never wait for an app; everything else goes to it, or to the pools' state.
                !["/-/live", "/-/started"].contains(&text)
            });
            let exec = node
                .get("exec")
                .filter(|exec| matches!(command(exec).role(&[]), Role::Health));
            let place = match (through, exec.and_then(|exec| exec.entry("command"))) {
                (Some(entry), _) | (None, Some(entry)) => self.place(entry),
                (None, None) => continue,
            };
            let check = if probe == "startupProbe" {
                check::STARTUP_DEADLOCK
            } else {
                check::LIVENESS_READY
            };
            if check == check::STARTUP_DEADLOCK && !sidecar {
                continue;
            }
            let what = format!(
                "the {probe} of `{name}` depends on {}",
                if sidecar { "the app" } else { "its backends" }
            );
            found.error(check, &place, what, format!("path: {right}"));
        }
    }

    /// `httpGet` of probes and hooks at the admin API's loopback door.
    fn loopback(&self, container: &Container<'_>, found: &mut Findings) {
        let node = container.node;
        let door = match self.proxy.config() {
            Some(config) => config
                .admin
                .http
                .filter(|at| at.ip().is_loopback())
                .map(|at| at.port()),
            None => Some(9901),
        };
        let Some(port) = door.map(|port| port.to_string()) else {
            return;
        };
        let places: [&[&str]; 5] = [
            &["startupProbe", "httpGet"],
            &["livenessProbe", "httpGet"],
            &["readinessProbe", "httpGet"],
            &["lifecycle", "preStop", "httpGet"],
            &["lifecycle", "postStart", "httpGet"],
        ];
        let named = |name: &str| {
            let ports = node.get("ports").map_or(&[][..], Node::items);
            ports
                .iter()
                .find(|p| p.text_of("name") == Some(name))
                .and_then(|p| p.text_of("containerPort"))
        };
        for get in places.iter().filter_map(|path| node.at(path)) {
            let Some(entry) = get.entry("port") else {
                continue;
            };
            let text = entry.value.text().unwrap_or_default();
            if named(text).unwrap_or(text) == port {
                let what = format!(
                    "the kubelet can't reach port {port}: the admin API listens on loopback only"
                );
                found.error(check::LOOPBACK, &self.place(entry), what, "`probes = \"0.0.0.0:9902\"` below [admin], and port: 9902; a hook as `exec` of `lameduck drain`");
            }
        }
    }

    /// What is true of an app's container.
    fn app(
        &self,
        container: &Container<'_>,
        sidecar: bool,
        apps: &[&Container<'_>],
        found: &mut Findings,
    ) {
        let process = &container.process;
        if let Some(hook) = process.hooks.iter().find(|hook| hook.call.verb == "drain") {
            if !hook.call.no_wait {
                judge::grace_with_hook(process, &hook.call, self.proxy, self.assumed, found);
            }
            if sidecar && hook.call.lame_duck.is_zero() {
                let what = format!(
                    "`{}` is drained the moment its pod is deleted",
                    process.name
                );
                found.warning(
                    check::LAME_DUCK,
                    &hook.place,
                    what,
                    "--lame-duck 8s, with the 8 s added to the grace period",
                );
            }
            return;
        }
        match &container.role {
            Role::Launcher(launch) if sidecar && !launch.no_port && launch.lame_duck.is_zero() => {
                let what = format!(
                    "`{}` is drained the moment its pod is deleted",
                    process.name
                );
                found.warning(
                    check::LAME_DUCK,
                    &process.command_place,
                    what,
                    "--lame-duck 8s, with the 8 s added to the grace period",
                );
            }
            Role::Other if sidecar => {
                // With several main containers, those without a port may be workers.
                let coordinated = |c: &&&Container<'_>| {
                    matches!(c.role, Role::Launcher(_)) || !c.process.hooks.is_empty()
                };
                let alone = apps.len() == 1 || !apps.iter().any(|app| coordinated(&app));
                if alone {
                    let what = format!(
                        "`{}` gets SIGTERM at once when the pod is deleted, while requests still come",
                        process.name
                    );
                    let pool = self
                        .proxy
                        .pools()
                        .first()
                        .map_or("POOL", |pool| pool.name.as_str());
                    found.error(check::UNCOORDINATED, &process.place, what, format!("command: [\"lameduck\", \"exec\", \"--pool\", \"{pool}\", \"--lame-duck\", \"8s\", \"--drain-timeout\", \"30s\", \"--\", …]"));
                }
            }
            _ => {}
        }
    }

    /// The liveness probe's path.
    fn liveness(&self, container: &Container<'_>) -> Vec<Probe> {
        if container.role == Role::Proxy {
            return Vec::new();
        }
        let get = container.node.at(&["livenessProbe", "httpGet"]);
        let path = get.and_then(|get| get.entry("path"));
        let of = |entry: &Entry| {
            Some(Probe {
                path: entry.value.text()?.to_owned(),
                place: self.place(entry),
            })
        };
        path.and_then(of).into_iter().collect()
    }
}

fn command(exec: &Node) -> Line {
    let items = exec.get("command").map_or(&[][..], Node::items);
    Line::from_words(
        items
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect(),
    )
}
