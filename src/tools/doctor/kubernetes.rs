//! Kubernetes manifests: checks every pod template in them, and the Services.

use super::checks as check;
use super::command_line::{CommandLine, CommandRole, seconds};
use super::finding::DoctorFindings;
use super::kubernetes_access::{judge_account, judge_roles};
use super::model::{
    CommandForm, ExpectedDrain, FindingPlace, StopHook, SupervisedProcess, Supervisor,
    SupervisorProbe, kill,
};
use super::oxfile::url_in;
use super::programs::ServesRequests;
use super::proxy::ProxySide;
use crate::tools::tree::{Node, TreeEntry};

/// Words that a container runs, as far as the manifest tells. Only lameduck's image has known defaults.
pub(super) fn container_words(
    image: &str,
    entry_point: Vec<String>,
    command: Vec<String>,
) -> Vec<String> {
    let mut words = entry_point;
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_ours = name.split([':', '@']).next() == Some("lameduck");
    if words.is_empty() && is_ours {
        words.push("lameduck".into());
    }
    words.extend(command);
    if is_ours && words.len() == 1 {
        words.push("run".into());
    }
    words
}

/// Configuration of lameduck in a ConfigMap of these documents.
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

/// All objects, including those in Lists.
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

/// Whether the pods of an object end by themselves.
fn ends(object: &Node) -> bool {
    matches!(object.text_of("kind"), Some("Job" | "CronJob"))
}

/// Makes the checks that only concern manifests; returns the processes for the common checks.
pub(super) fn read(
    file: usize,
    documents: &[Node],
    proxy: &ProxySide,
    found: &mut DoctorFindings,
) -> Vec<SupervisedProcess> {
    let mut all = Vec::new();
    let objects = objects(documents);
    judge_roles(file, &objects, proxy, found);
    for object in objects {
        if object.text_of("kind") == Some("Service") {
            service(file, object, found);
        }
        if let Some(spec) = pod_spec(object) {
            let pod = Pod {
                file,
                spec,
                proxy,
                ends: ends(object),
                owner: object
                    .at(&["metadata", "name"])
                    .and_then(Node::text)
                    .unwrap_or_default(),
            };
            all.extend(pod.read(found));
        }
    }
    all
}

fn service(file: usize, object: &Node, found: &mut DoctorFindings) {
    let Some(spec) = object.get("spec") else {
        return;
    };
    // Headless Services are for peers that must find each other before they are ready.
    let headless = spec.text_of("clusterIP") == Some("None");
    if spec.flag("publishNotReadyAddresses") == Some(true)
        && !headless
        && let Some(entry) = spec.entry("publishNotReadyAddresses")
    {
        let place = FindingPlace {
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
    proxy: &'p ProxySide,
    /// Whether it belongs to a Job.
    ends: bool,
    /// Name of the object.
    owner: &'p str,
}

/// A container with its role.
struct Container<'p> {
    node: &'p Node,
    process: SupervisedProcess,
    role: CommandRole,
    /// Whether it is in `initContainers`, with `restartPolicy: Always`.
    native: bool,
    init: bool,
}

impl<'p> Pod<'p> {
    fn place(&self, entry: &TreeEntry) -> FindingPlace {
        FindingPlace {
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
        let here = FindingPlace {
            file: self.file,
            span: node
                .entry("name")
                .map_or(node.span.clone(), TreeEntry::place),
        };
        let at = |key: &str| {
            node.entry(key)
                .map_or(here.clone(), |entry| self.place(entry))
        };
        let name = node.text_of("name").unwrap_or("container");
        let form = CommandForm::Container {
            command: node.get("command").is_some(),
        };
        let mut process = SupervisedProcess::new(Supervisor::Kubernetes, form, name, here.clone());
        process.image = node.text_of("image").unwrap_or_default().to_owned();
        let (command, arguments) = (texts(node.get("command")), texts(node.get("args")));
        process.line = CommandLine::from_words(container_words(&process.image, command, arguments));
        process.command_place = at(if node.get("args").is_some() {
            "args"
        } else {
            "command"
        });
        process.env = node
            .get("env")
            .map_or(&[][..], Node::items)
            .iter()
            .filter_map(|e| {
                Some((
                    e.text_of("name")?.to_owned(),
                    e.text_of("value").unwrap_or("$").to_owned(),
                ))
            })
            .collect();
        let ports = node.get("ports").map_or(&[][..], Node::items);
        process.port = ports
            .iter()
            .find_map(|port| port.text_of("containerPort")?.parse().ok());
        let grace = self.spec.entry("terminationGracePeriodSeconds");
        process.kill = kill(
            Supervisor::Kubernetes,
            grace.and_then(|grace| grace.value.text()),
            |text| Some(std::time::Duration::from_secs(text.parse().ok()?)),
            grace.map_or(here.clone(), |entry| self.place(entry)),
        );
        process.expected = ExpectedDrain::Nothing;
        self.pre_stop(node, &mut process);
        process.probes = self.liveness(node);
        Container {
            role: process.role(),
            native: init && node.text_of("restartPolicy") == Some("Always"),
            node,
            process,
            init,
        }
    }

    /// The preStop hook: its call of lameduck, and its sleep.
    fn pre_stop(&self, node: &Node, process: &mut SupervisedProcess) {
        let Some(pre_stop) = node.at(&["lifecycle", "preStop"]) else {
            return;
        };
        if let Some(entry) = pre_stop
            .get("sleep")
            .and_then(|sleep| sleep.entry("seconds"))
        {
            process.slept = entry.value.text().and_then(seconds).unwrap_or_default();
            process.sleep_place = Some(self.place(entry));
        }
        let Some(exec) = pre_stop.get("exec") else {
            return;
        };
        let line = command(exec);
        let place = exec
            .entry("command")
            .map_or(process.place.clone(), |entry| self.place(entry));
        match line.role(&[]) {
            // A sleep in the same line is the lame duck of the hook.
            CommandRole::Hook(call) => process.hooks.push(StopHook {
                call,
                words: line.argv,
                key: "command",
                fails: false,
                reopened: true,
                place,
            }),
            _ if !line.slept().is_zero() => {
                process.slept += line.slept();
                process.sleep_place = Some(place);
            }
            _ => {}
        }
    }

    fn read(&self, found: &mut DoctorFindings) -> Vec<SupervisedProcess> {
        let containers = self.containers();
        let has_proxy = containers
            .iter()
            .any(|container| container.role == CommandRole::Proxy);
        let main = |c: &&Container<'_>| !c.init && c.role != CommandRole::Proxy;
        let apps: Vec<_> = containers.iter().filter(main).collect();
        let sidecar = has_proxy && !apps.is_empty();
        if has_proxy {
            judge_account(self.file, self.spec, self.proxy, found);
        }
        for container in &containers {
            self.loopback(container, found);
            if container.role == CommandRole::Proxy {
                self.proxy_probes(container, sidecar, found);
                if sidecar {
                    self.sidecar(container, found);
                }
            }
        }
        let mut processes = Vec::new();
        for container in &containers {
            let is_app = !container.init && container.role != CommandRole::Proxy;
            // The sidecar needs less than its configured deadline: it stops when nothing is left to do.
            if !(is_app || (container.role == CommandRole::Proxy && !sidecar)) {
                continue;
            }
            let mut process = container.process.clone();
            process.sidecar = sidecar && is_app && !self.ends;
            if is_app && !self.ends {
                process.expected = self.expected(container, sidecar, &apps);
            }
            if is_app
                && !sidecar
                && process.expected == ExpectedDrain::Drain
                && self.proxy.pool_of(&process.name).is_none()
            {
                process.name = self.owner.to_owned();
            }
            processes.push(process);
        }
        processes
    }

    /// Checks a proxy's container beside that of the app.
    fn sidecar(&self, container: &Container<'_>, found: &mut DoctorFindings) {
        let Container { process, .. } = container;
        if !container.native {
            let what = match (container.init, self.ends) {
                (true, _) => format!(
                    "`{}` in initContainers never ends, so the app never starts",
                    process.name
                ),
                (false, true) => format!(
                    "`{}` is an ordinary container, which never ends, so the Job never completes",
                    process.name
                ),
                (false, false) => format!(
                    "`{}` is an ordinary container beside the app's",
                    process.name
                ),
            };
            let right = match container.init {
                true => "restartPolicy: Always",
                false => {
                    "# move it to `initContainers:` (a native sidecar, Kubernetes 1.29 and later), with\nrestartPolicy: Always"
                }
            };
            found.error(check::SIDECAR_NOT_NATIVE, &process.place, what, right);
        }
        for hook in &process.hooks {
            let what = format!("`{}` drains in its own preStop hook", process.name);
            found.error(
                check::SIDECAR_PRESTOP,
                &hook.place,
                what,
                "# no `lifecycle` here; the app's container under `lameduck exec`, or the hook there",
            );
        }
    }

    fn proxy_probes(&self, container: &Container<'_>, sidecar: bool, found: &mut DoctorFindings) {
        let name = &container.process.name;
        for (probe, right) in [("startupProbe", "/-/started"), ("livenessProbe", "/-/live")] {
            let Some(node) = container.node.get(probe) else {
                continue;
            };
            let path = node.at(&["httpGet"]).and_then(|get| get.entry("path"));
            let through = path.filter(|path| {
                let text = path.value.text().unwrap_or_default();
                let text = text.split('?').next().unwrap_or(text);
                // `/-/live` and `/-/started` never wait for an app; every other path goes to the app or depends on the
                // pools.
                !["/-/live", "/-/started"].contains(&text)
            });
            let exec = node
                .get("exec")
                .filter(|exec| matches!(command(exec).role(&[]), CommandRole::Health));
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
            let instead = match through {
                Some(_) => format!("path: {right}"),
                None => format!("httpGet: {{ path: {right}, port: 9902 }}   # in place of `exec`"),
            };
            found.error(check, &place, what, instead);
        }
    }

    /// Checks probes and hooks with `httpGet`, which can't reach the admin API on loopback.
    fn loopback(&self, container: &Container<'_>, found: &mut DoctorFindings) {
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
                found.error(check::LOOPBACK_ADMIN, &self.place(entry), what, "port: 9902\n# with `probes = \"0.0.0.0:9902\"` below [admin]; a hook is an `exec` of `lameduck drain`");
            }
        }
    }

    /// What an app's container needs before its signal.
    fn expected(
        &self,
        container: &Container<'_>,
        sidecar: bool,
        apps: &[&Container<'_>],
    ) -> ExpectedDrain {
        let process = &container.process;
        // A sleep lets the Services remove the pod, which is all that a plain pod can do.
        let is_ours = container.role != CommandRole::Other;
        if is_ours || !process.hooks.is_empty() || !process.slept.is_zero() {
            return ExpectedDrain::Nothing;
        }
        if sidecar {
            // With several main containers, those without a port may be workers.
            let coordinated = |c: &&Container<'_>| {
                matches!(c.role, CommandRole::Launcher(_))
                    || !c.process.hooks.is_empty()
                    || !c.process.slept.is_zero()
            };
            let alone = apps.len() == 1 || !apps.iter().any(coordinated);
            let infrastructure = apps.len() > 1 && process.serves() == ServesRequests::No;
            return match alone && !infrastructure {
                true => ExpectedDrain::PodDrain,
                false => ExpectedDrain::Nothing,
            };
        }
        let named =
            self.proxy.pool_of(&process.name).is_some() || self.proxy.pool_of(self.owner).is_some();
        let told = process.env.iter().any(|(key, _)| key == "PORT");
        match (named || told) && process.serves() != ServesRequests::No {
            true => ExpectedDrain::Drain,
            false => ExpectedDrain::Nothing,
        }
    }

    /// Path of the liveness probe: in the probe itself, or in its command.
    fn liveness(&self, node: &Node) -> Vec<SupervisorProbe> {
        let Some(probe) = node.get("livenessProbe") else {
            return Vec::new();
        };
        if let Some(get) = probe.entry("httpGet") {
            let path = get.value.entry("path");
            return vec![SupervisorProbe {
                // The default path.
                path: path
                    .and_then(|path| path.value.text())
                    .unwrap_or("/")
                    .to_owned(),
                command: false,
                place: self.place(path.unwrap_or(get)),
            }];
        }
        let exec = probe
            .get("exec")
            .and_then(|exec| exec.entry("command").map(|entry| (exec, entry)));
        let of = |(exec, entry): (&Node, &TreeEntry)| {
            Some(SupervisorProbe {
                path: url_in(command(exec).commands.iter().flatten())?,
                command: true,
                place: self.place(entry),
            })
        };
        exec.and_then(of).into_iter().collect()
    }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    node.map_or_else(Vec::new, Node::texts)
}

fn command(exec: &Node) -> CommandLine {
    CommandLine::from_words(texts(exec.get("command")))
}
