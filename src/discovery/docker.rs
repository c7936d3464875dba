//! Source `type = "docker"`: running containers with a label.
//!
//! The daemon's event stream reports that something has changed; the list of containers, which is fetched after each
//! change, tells the state. A `kill` event with a stop signal, which is sent together with the signal, means that a
//! container terminates.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage};
use bollard::query_parameters::ListContainersOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{DiscoverySource, SourceError, SourceReporter};
use crate::config::{Address, DiscoveryPort, DiscoverySourceConfig, check_name};
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState, SourceAnswer};
use crate::net::docker_events::{DockerEvents, WantedEvents};
use crate::net::docker_signals::{is_stop, nanoseconds, recent_kills, subject_of};
use crate::rt::clock;

/// Label that makes a container a backend of the pool that it names.
const POOL_LABEL: &str = "lameduck.pool";
/// Labels with further settings of the backend.
const PORT_LABEL: &str = "lameduck.port";
const WEIGHT_LABEL: &str = "lameduck.weight";
/// Longest wait for an answer of the daemon, in seconds.
const ANSWER_TIMEOUT: u64 = 10;
/// Time between two lists without an event, because the stream may have lost one.
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// Events from this long before the list are requested, so that none is missed in between.
const OVERLAP: Duration = Duration::from_secs(2);

/// Source of containers.
#[derive(Debug)]
pub(super) struct DockerSource {
    socket: PathBuf,
    label: String,
    network: Option<String>,
    port: Option<u16>,
    /// Containers that were told to stop, with the event. Kept while the daemon is unreachable: it can't be asked for
    /// this again, and lists show such containers as running.
    signalled: Mutex<BTreeMap<String, EventMessage>>,
}

impl DockerSource {
    /// A source for this section of the pool.
    ///
    /// # Errors
    /// The section names what containers do not have.
    pub(super) fn new(pool: &str, config: &DiscoverySourceConfig) -> Result<Self, SourceError> {
        let port = match &config.port {
            None => None,
            Some(DiscoveryPort::Number(port)) => Some(*port),
            Some(DiscoveryPort::Name(name)) => {
                return Err(SourceError::new(format!(
                    "`port` is {name:?}, and containers' ports have numbers only"
                )));
            }
        };
        let usual = || PathBuf::from("/var/run/docker.sock");
        Ok(Self {
            socket: config.socket.clone().unwrap_or_else(usual),
            label: config
                .label
                .clone()
                .unwrap_or_else(|| format!("{POOL_LABEL}={pool}")),
            network: config.network.clone(),
            port,
            signalled: Mutex::default(),
        })
    }

    fn failed(&self, error: impl std::fmt::Display) -> SourceError {
        SourceError::new(format!("Docker at {}: {error}", self.socket.display()))
    }

    async fn reach(&self) -> Result<UnixStream, SourceError> {
        let reached = UnixStream::connect(&self.socket).await;
        reached.map_err(|error| self.failed(error))
    }

    async fn connect(&self) -> Result<Docker, SourceError> {
        // An own connect reports why it fails; the library's message does not.
        drop(self.reach().await?);
        let path = Path::new(&self.socket).to_string_lossy();
        let docker = Docker::connect_with_socket(&path, ANSWER_TIMEOUT, API_DEFAULT_VERSION);
        let docker = docker.map_err(|error| self.failed(error))?;
        let negotiated = timeout(
            Duration::from_secs(ANSWER_TIMEOUT),
            docker.negotiate_version(),
        )
        .await;
        let negotiated = negotiated.map_err(|_| self.failed("no answer"))?;
        negotiated.map_err(|error| self.failed(error))
    }

    async fn run(&self, reports: &SourceReporter) -> Result<(), SourceError> {
        let docker = self.connect().await?;
        let began = clock::since_1970(clock::wall(clock::now()));
        let wanted = WantedEvents {
            since: began.saturating_sub(OVERLAP).as_secs(),
            until: None,
            filters: HashMap::from([
                ("type", vec!["container".to_owned()]),
                ("label", vec![self.label.clone()]),
            ]),
        };
        let events = DockerEvents::open(self.reach().await?, &wanted).await;
        let mut events = events.map_err(|error| self.failed(error))?;
        self.read_back(&docker).await?;
        let mut told = BTreeSet::new();
        let mut deleted = BTreeSet::new();
        loop {
            let containers = self.list(&docker).await?;
            let set = self.backends(&containers, &self.terminating(), &mut told);
            let answer = SourceAnswer {
                set,
                deleted: std::mem::take(&mut deleted),
            };
            reports.answer(answer).await;
            // Waits until something has changed.
            loop {
                let Ok(event) = timeout(LIST_INTERVAL, events.next()).await else {
                    break;
                };
                let ended = || self.failed("its event stream has ended");
                let event = event.ok_or_else(ended)?;
                let event = event.map_err(|error| self.failed(error))?;
                let Some((name, action)) = subject_of(&event) else {
                    continue;
                };
                match action {
                    "kill" => {
                        let late = event
                            .time_nano
                            .is_some_and(|at| i128::from(at) < began.as_nanos() as i128);
                        if (!late && is_stop(&event, None))
                            || self.stops_present(&docker, &name, &event).await?
                        {
                            self.signalled.lock().insert(name, event);
                            // Reported at once, because a busy daemon may take long to list.
                            let set = self.backends(&containers, &self.terminating(), &mut told);
                            reports.answer(set).await;
                        }
                    }
                    "die" | "destroy" => {
                        self.signalled.lock().remove(&name);
                        deleted.insert(name);
                        break;
                    }
                    "start" | "restart" => {
                        self.signalled.lock().remove(&name);
                        break;
                    }
                    "rename" => {
                        let mut signalled = self.signalled.lock();
                        let kill = former_name(&event).and_then(|old| signalled.remove(old));
                        signalled.extend(kill.map(|kill| (name, kill)));
                        break;
                    }
                    "update" | "pause" | "unpause" => break,
                    _ => {}
                }
            }
        }
    }

    fn terminating(&self) -> BTreeSet<String> {
        self.signalled.lock().keys().cloned().collect()
    }

    /// Finds containers that were told to stop before this connection: those known from an earlier one, and those in
    /// the daemon's history. Containers that were started again since are left out.
    async fn read_back(&self, docker: &Docker) -> Result<(), SourceError> {
        let known = self.signalled.lock().clone();
        for (name, event) in known {
            if !self.stops_present(docker, &name, &event).await? {
                self.signalled.lock().remove(&name);
            }
        }
        for event in recent_kills(self.reach().await?, Some(&self.label)).await {
            let Some((name, _)) = subject_of(&event) else {
                continue;
            };
            let is_known = self.signalled.lock().contains_key(&name);
            if !is_known && self.stops_present(docker, &name, &event).await? {
                self.signalled.lock().insert(name, event);
            }
        }
        Ok(())
    }

    /// Whether a `kill` event stops the present process, by the stop signal of its image; an event from before the list
    /// may be about an earlier process.
    ///
    /// # Errors
    /// The daemon can't be asked. An event that may be valid must not be dropped for that.
    async fn stops_present(
        &self,
        docker: &Docker,
        name: &str,
        event: &EventMessage,
    ) -> Result<bool, SourceError> {
        let looked = docker.inspect_container(name, None);
        let looked = timeout(Duration::from_secs(ANSWER_TIMEOUT), looked).await;
        let container = match looked.map_err(|_| self.failed("no answer"))? {
            Ok(container) => container,
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(false),
            Err(error) => return Err(self.failed(error)),
        };
        let stop_signal = container.config.and_then(|config| config.stop_signal);
        if !is_stop(event, stop_signal.as_deref()) {
            return Ok(false);
        }
        let started = container.state.and_then(|state| state.started_at);
        let started = nanoseconds(&started.unwrap_or_default());
        Ok(event.time_nano.is_some_and(|at| at >= started))
    }

    async fn list(&self, docker: &Docker) -> Result<Vec<ContainerSummary>, SourceError> {
        let filters = HashMap::from([("label", vec![self.label.as_str()])]);
        let options = ListContainersOptionsBuilder::new()
            .filters(&filters)
            .build();
        let listed = docker.list_containers(Some(options));
        let listed = timeout(Duration::from_secs(ANSWER_TIMEOUT), listed).await;
        let listed = listed.map_err(|_| self.failed("no answer"))?;
        listed.map_err(|error| self.failed(error))
    }

    /// Backends for these containers. Containers that can't be one are reported once; `told` remembers them.
    fn backends(
        &self,
        containers: &[ContainerSummary],
        terminating: &BTreeSet<String>,
        told: &mut BTreeSet<String>,
    ) -> DiscoveredSet<Address> {
        let mut set = DiscoveredSet::default();
        for container in containers {
            let Some(name) = name_of(container) else {
                continue;
            };
            let address = check_name(&name).and_then(|()| self.address_of(container));
            let address = match address {
                Ok(address) => address,
                Err(why) => {
                    if told.insert(name.clone()) {
                        tracing::warn!(container = %name, "the container can't be a backend: {why}");
                    }
                    continue;
                }
            };
            told.remove(&name);
            let mut backend = DiscoveredBackend::at(address);
            let weight = label(container, WEIGHT_LABEL).and_then(|weight| weight.parse().ok());
            backend.weight = weight.filter(|weight| *weight <= 1000).unwrap_or(1);
            let stopping = container.state == Some(ContainerSummaryStateEnum::STOPPING);
            if stopping || terminating.contains(&name) {
                backend.state = DiscoveredState::Terminating;
            }
            set.insert(name, backend);
        }
        set
    }

    fn address_of(&self, container: &ContainerSummary) -> Result<Address, String> {
        let settings = container.network_settings.as_ref();
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let mut networks: Vec<_> = networks.into_iter().flatten().collect();
        networks.sort_by_key(|(name, _)| name.as_str());
        let wanted = |name: &str| self.network.as_deref().is_none_or(|wanted| wanted == name);
        let networks = networks.into_iter().filter(|(name, _)| wanted(name));
        let addresses =
            networks.flat_map(|(_, network)| [&network.ip_address, &network.global_ipv6_address]);
        let mut addresses = addresses.filter_map(|ip| ip.as_ref()?.parse::<IpAddr>().ok());
        let ip = addresses.next().ok_or_else(|| match &self.network {
            Some(network) => format!("it has no address in the network `{network}`"),
            None => "it has no address of its own: is it in the host's network?".to_owned(),
        })?;
        let labelled = label(container, PORT_LABEL).map(|port| {
            let wrong = |_| format!("its label {PORT_LABEL} is no port: {port:?}");
            port.parse::<u16>().map_err(wrong)
        });
        let exposed = container
            .ports
            .iter()
            .flatten()
            .map(|port| port.private_port)
            .min();
        let port = match (labelled, self.port) {
            (Some(port), _) => Some(port?),
            (None, Some(port)) => Some(port),
            (None, None) => exposed,
        };
        let port = port.filter(|port| *port != 0).ok_or_else(|| {
            format!("it exposes no port: write `port`, or the label {PORT_LABEL} on the container")
        })?;
        Ok(Address::Socket((ip, port).into()))
    }
}

#[async_trait]
impl DiscoverySource for DockerSource {
    async fn follow(&self, reports: &SourceReporter) -> SourceError {
        match self.run(reports).await {
            Ok(()) => self.failed("the connection has ended"),
            Err(error) => error,
        }
    }
}

fn label<'a>(container: &'a ContainerSummary, name: &str) -> Option<&'a str> {
    container.labels.as_ref()?.get(name).map(String::as_str)
}

/// Name of a container. Docker writes it as a path: `/shop-app-1`; links to it have paths of two parts.
fn name_of(container: &ContainerSummary) -> Option<String> {
    let names = container.names.iter().flatten();
    let mut plain = names.filter_map(|name| name.strip_prefix('/'));
    plain.find(|name| !name.contains('/')).map(str::to_owned)
}

/// Name of a container before a `rename`.
fn former_name(event: &EventMessage) -> Option<&str> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    let old = attributes.get("oldName")?;
    Some(old.strip_prefix('/').unwrap_or(old))
}

#[cfg(test)]
mod tests;
