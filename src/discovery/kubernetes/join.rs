//! Joins all slices of a Service to a set of endpoints, each once.
//!
//! An endpoint may be in several slices for a while (the controller moves it), in one slice for each address family,
//! and in one of them with an older state. The result must not depend on the order of slices, or on how the endpoints
//! are distributed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt;
use std::net::SocketAddr;

use super::slice::{AddressFamily, ParsedSlice, PodReference, SliceEndpoint, SlicePort};
use crate::config::check_name;
use crate::discovery::names::name_address;

/// Choice of a port of the slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChoice {
    /// The only port that there is.
    Only,
    /// The Service's port with this name.
    Named(String),
    /// The pods' port with this number (the Service's `targetPort`).
    Number(u16),
}

/// Which ports and addresses of slices are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRules {
    /// Choice of the port.
    pub port: PortChoice,
    /// Address family; `None`: IPv4, unless there are only IPv6 addresses.
    pub family: Option<AddressFamily>,
}

/// State of an endpoint in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndpointCondition {
    /// Its pod is ready.
    Serving,
    /// Its readiness probe fails, or has not passed yet.
    NotServing,
    /// Its pod was told to terminate, whether or not it still answers.
    Terminating,
}

/// An endpoint of the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundEndpoint {
    /// Name of the pod, or `10.0.0.1-3000` if there is no pod or its name is not allowed for a backend.
    pub name: String,
    /// Address at which it listens.
    pub address: SocketAddr,
    /// Zone of the endpoint.
    pub zone: Option<String>,
    /// State of the endpoint.
    pub condition: EndpointCondition,
}

/// Endpoints of a Service, and problems.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct JoinedSlices {
    /// Endpoints, sorted by name.
    pub endpoints: Vec<FoundEndpoint>,
    /// Reason why the endpoints of some slices are missing.
    pub problem: Option<PortProblem>,
}

/// Some slices lack the chosen port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortProblem {
    /// Port that was chosen.
    wanted: PortChoice,
    /// Ports that the slices have.
    offered: BTreeSet<SlicePort>,
    /// Number of endpoints that are left out because of it.
    left_out: usize,
}

impl fmt::Display for PortProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered: Vec<_> = self.offered.iter().map(ToString::to_string).collect();
        let offered = match offered.is_empty() {
            true => "no TCP port".to_owned(),
            false => offered.join(", "),
        };
        let left_out = self.left_out;
        match &self.wanted {
            PortChoice::Only if self.offered.is_empty() => {
                write!(
                    f,
                    "the Service has no TCP port ({left_out} endpoints left out); write `port = …`"
                )
            }
            PortChoice::Only => write!(
                f,
                "the Service has several ports ({offered}; {left_out} endpoints left out); write which one: `port = …`"
            ),
            PortChoice::Named(name) => write!(
                f,
                "the Service has no port named {name:?}, but {offered} ({left_out} endpoints left out); correct `port`"
            ),
            PortChoice::Number(number) => write!(
                f,
                "the pods have no port {number}, but {offered} ({left_out} endpoints left out); `port` is the Service's \
                 `targetPort`, not its `port`"
            ),
        }
    }
}

impl fmt::Display for SlicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "{}", self.number),
            name => write!(f, "{name} = {}", self.number),
        }
    }
}

/// An endpoint in one slice.
#[derive(Debug, Clone, Copy)]
struct Mention<'a> {
    slice: &'a ParsedSlice,
    endpoint: &'a SliceEndpoint,
    address: SocketAddr,
    terminating: bool,
}

/// Joins the slices of a Service.
pub(super) fn join_slices<'a>(
    slices: impl IntoIterator<Item = &'a ParsedSlice>,
    rules: &JoinRules,
) -> JoinedSlices {
    let slices: Vec<_> = slices.into_iter().collect();
    let ending: BTreeSet<_> = slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.terminating)
        .map(|endpoint| {
            (
                endpoint.pod.as_ref(),
                endpoint.pod.is_none().then_some(endpoint.address),
            )
        })
        .collect();
    let family = rules.family.unwrap_or_else(|| prevailing_family(&slices));
    let mut problem: Option<PortProblem> = None;
    let mut chosen: BTreeMap<String, Mention<'a>> = BTreeMap::new();
    for slice in slices {
        if slice.family != Some(family) || slice.endpoints.is_empty() {
            continue;
        }
        let Some(port) = choose_port(&slice.ports, &rules.port) else {
            let problem = problem.get_or_insert_with(|| PortProblem {
                wanted: rules.port.clone(),
                offered: BTreeSet::new(),
                left_out: 0,
            });
            problem.offered.extend(slice.ports.iter().cloned());
            problem.left_out += slice.endpoints.len();
            continue;
        };
        for endpoint in &slice.endpoints {
            let address = SocketAddr::new(endpoint.address, port);
            let name = backend_name(endpoint.pod.as_ref(), address);
            let key = (
                endpoint.pod.as_ref(),
                endpoint.pod.is_none().then_some(endpoint.address),
            );
            let mention = Mention {
                slice,
                endpoint,
                address,
                terminating: ending.contains(&key),
            };
            match chosen.entry(name) {
                btree_map::Entry::Vacant(free) => {
                    free.insert(mention);
                }
                btree_map::Entry::Occupied(mut taken) => {
                    if mention.counts_before(taken.get()) {
                        taken.insert(mention);
                    }
                }
            }
        }
    }
    let endpoints = chosen
        .into_iter()
        .map(|(name, mention)| mention.found(name))
        .collect();
    JoinedSlices { endpoints, problem }
}

impl Mention<'_> {
    /// Which of two entries with one name counts: a live pod before a terminating one of the same name (of a
    /// StatefulSet), then the newer slice, then anything that makes the result independent of the order.
    fn counts_before(&self, other: &Self) -> bool {
        let living = other.terminating.cmp(&self.terminating);
        let newer = self
            .slice
            .version
            .compare(&other.slice.version)
            .unwrap_or(Ordering::Equal);
        let serving = self.endpoint.serving.cmp(&other.endpoint.serving);
        let rest = || {
            let key = |mention: &Self| (mention.address, mention.endpoint.zone.clone());
            key(self).cmp(&key(other))
        };
        living.then(newer).then(serving).then_with(rest) == Ordering::Greater
    }

    fn found(&self, name: String) -> FoundEndpoint {
        FoundEndpoint {
            name,
            address: self.address,
            zone: self.endpoint.zone.clone(),
            condition: match (self.terminating, self.endpoint.serving) {
                (true, _) => EndpointCondition::Terminating,
                (false, true) => EndpointCondition::Serving,
                (false, false) => EndpointCondition::NotServing,
            },
        }
    }
}

/// IPv4 if any endpoint has such an address. The choice is the same for all endpoints: a pod whose two slices arrive
/// one after the other would otherwise change its address in between.
fn prevailing_family(slices: &[&ParsedSlice]) -> AddressFamily {
    let has_v4 = slices
        .iter()
        .any(|slice| slice.family == Some(AddressFamily::V4) && !slice.endpoints.is_empty());
    match has_v4 {
        true => AddressFamily::V4,
        false => AddressFamily::V6,
    }
}

fn backend_name(pod: Option<&PodReference>, address: SocketAddr) -> String {
    match pod.filter(|pod| check_name(&pod.name).is_ok()) {
        Some(pod) => pod.name.clone(),
        None => name_address(address.ip(), address.port()),
    }
}

fn choose_port(ports: &[SlicePort], choice: &PortChoice) -> Option<u16> {
    match choice {
        PortChoice::Only => match ports {
            [port] => Some(port.number),
            _ => None,
        },
        PortChoice::Named(name) => ports
            .iter()
            .find(|port| port.name == *name)
            .map(|port| port.number),
        // A slice without ports gives no information about them.
        PortChoice::Number(number) => {
            (ports.is_empty() || ports.iter().any(|port| port.number == *number)).then_some(*number)
        }
    }
}
