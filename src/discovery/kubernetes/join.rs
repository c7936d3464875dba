//! All slices of a Service → its endpoints, each once.
//!
//! An endpoint may stand in several slices for a while (the controller moves it), in one slice for each address
//! family, and with an older state in one of them. What comes out depends on what is said, and not on the order or on
//! how it is split.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt;
use std::net::SocketAddr;

use super::slice::{AddressFamily, ParsedSlice, PodReference, SliceEndpoint, SlicePort};
use crate::config::check_name;
use crate::discovery::names::name_address;

/// Which of the slices' ports is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChoice {
    /// The only one that there is.
    Only,
    /// The one of this name: of the Service's port.
    Named(String),
    /// This number: of the pods (the Service's `targetPort`).
    Number(u16),
}

/// What to take of the slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRules {
    /// Which port.
    pub port: PortChoice,
    /// Which addresses; `None`: IPv4, unless there are none but IPv6.
    pub family: Option<AddressFamily>,
}

/// What Kubernetes says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndpointCondition {
    /// Its pod is ready.
    Serving,
    /// Its readiness probe fails, or has not passed yet.
    NotServing,
    /// Its pod has been told to end, whether or not it still answers.
    Terminating,
}

/// An endpoint of the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundEndpoint {
    /// The pod's name; `10.0.0.1-3000` where no pod is named, or by a name that no backend can have.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// What Kubernetes says of it.
    pub condition: EndpointCondition,
}

/// The endpoints of a Service, and what could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct JoinedSlices {
    /// By name.
    pub endpoints: Vec<FoundEndpoint>,
    /// Why some slices' endpoints are missing.
    pub problem: Option<PortProblem>,
}

/// Some slices have no port that could be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortProblem {
    /// Which one was wanted.
    wanted: PortChoice,
    /// Those that the slices have.
    offered: BTreeSet<SlicePort>,
    /// How many endpoints are left out for it.
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

/// An endpoint as one slice has it.
#[derive(Debug, Clone, Copy)]
struct Mention<'a> {
    slice: &'a ParsedSlice,
    endpoint: &'a SliceEndpoint,
    address: SocketAddr,
    terminating: bool,
}

/// Brings the slices of a Service together.
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
    /// Which of two mentions of one name counts: a pod that lives before one of the same name that ends (a
    /// StatefulSet's), then what the newer slice says, then whatever makes it independent of the order.
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

/// IPv4, if anything has such an address. The choice is one for all: a pod whose two slices come one after the other
/// would otherwise change its address in between.
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
        // A Service without ports says nothing about them.
        PortChoice::Number(number) => {
            (ports.is_empty() || ports.iter().any(|port| port.number == *number)).then_some(*number)
        }
    }
}
