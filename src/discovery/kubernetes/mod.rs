//! Backends from Kubernetes' EndpointSlices.
//!
//! `follow` asks the API server by way of `access`; `store` has what it has said, by `version`; `join` makes one
//! set of all `slice`s. What Kubernetes says of a pod is taken so:
//!
//! * `terminating`: it drains at once, whether or not it is still `serving`. Nobody waits until it is removed.
//! * `serving` is false, and it isn't terminating: its own readiness probe fails. A pod that was ready drains until it is
//!   ready again, and what is in flight on it is not cut; one that was not yet ready isn't a backend yet.
//! * otherwise it is a backend, and our own health checks decide, as for any other.
//! * one that is no longer in any slice is removed, which is a drain, too, if it wasn't terminating before.

mod access;
mod bounded_lines;
mod follow;
mod join;
mod slice;
mod store;
mod version;

#[cfg(test)]
mod join_tests;

use std::net::SocketAddr;

use async_trait::async_trait;

pub use access::ApiAccess;
pub use follow::{FollowTimes, FollowedSlices};
pub use join::{JoinRules, PortChoice};

use super::{DiscoverySource, SourceError, SourceReporter};
use crate::config::{Address, DiscoveryPort, DiscoverySourceConfig};
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState};
use join::{EndpointCondition, FoundEndpoint};

/// The label by which a slice says whose it is.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// EndpointSlices of a Service, or by labels.
#[derive(Debug)]
pub struct KubernetesSource {
    what: FollowedSlices,
    times: FollowTimes,
}

impl KubernetesSource {
    /// The source that a section describes.
    ///
    /// # Errors
    /// It names neither a Service nor labels.
    pub fn open(config: &DiscoverySourceConfig) -> Result<Self, SourceError> {
        let selector = match (&config.service, &config.selector) {
            (Some(service), _) => format!("{SERVICE_LABEL}={service}"),
            (None, Some(selector)) => selector.clone(),
            (None, None) => {
                return Err(SourceError::new(
                    "neither `service` nor `selector` is written",
                ));
            }
        };
        let access = match (&config.kubeconfig, &config.api_server) {
            (Some(path), _) => ApiAccess::Kubeconfig(path.clone()),
            (None, Some(url)) => ApiAccess::Url(url.clone()),
            (None, None) => ApiAccess::InCluster,
        };
        let port = match &config.port {
            Some(DiscoveryPort::Number(number)) => PortChoice::Number(*number),
            Some(DiscoveryPort::Name(name)) => PortChoice::Named(name.clone()),
            None => PortChoice::Only,
        };
        let what = FollowedSlices {
            access,
            namespace: config.namespace.clone(),
            selector,
            rules: JoinRules { port, family: None },
        };
        Ok(Self::new(what, FollowTimes::default()))
    }

    /// One with times of its own.
    pub fn new(what: FollowedSlices, times: FollowTimes) -> Self {
        Self { what, times }
    }
}

#[async_trait]
impl DiscoverySource for KubernetesSource {
    async fn follow(&self, reports: &SourceReporter) -> SourceError {
        match follow::follow_slices(&self.what, &self.times, reports).await {}
    }
}

/// The endpoints as the registry takes them.
fn answer_of(endpoints: Vec<FoundEndpoint>) -> DiscoveredSet<Address> {
    let backend = |found: FoundEndpoint| {
        let address: SocketAddr = found.address;
        let backend = DiscoveredBackend {
            zone: found.zone,
            state: match found.condition {
                EndpointCondition::Serving => DiscoveredState::Serving,
                EndpointCondition::NotServing => DiscoveredState::NotReady,
                EndpointCondition::Terminating => DiscoveredState::Terminating,
            },
            ..DiscoveredBackend::at(Address::Socket(address))
        };
        (found.name, backend)
    };
    endpoints.into_iter().map(backend).collect()
}
