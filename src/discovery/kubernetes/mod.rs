//! Backends from Kubernetes' EndpointSlices.
//!
//! `follow` asks the API server through `access`; `store` keeps the slices, by `version`; `join` makes one set of
//! endpoints from all `slice`s. States in Kubernetes have these effects:
//!
//! * `terminating`: the backend drains at once, whether or not it is still `serving`. lameduck does not wait until the
//!   endpoint is removed.
//! * `serving` is false, and it isn't terminating: the pod's own readiness probe fails. A pod that was ready drains
//!   until it is ready again, without cutting its requests in flight. A pod that was not ready yet is no backend yet.
//! * Otherwise it is a backend, and lameduck's own health checks decide, as for any other.
//! * An endpoint that is in no slice any more is removed, which is also a drain, if it wasn't terminating before.

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

/// Label with the name of the Service that a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Source of the EndpointSlices of a Service, or with certain labels.
#[derive(Debug)]
pub struct KubernetesSource {
    what: FollowedSlices,
    times: FollowTimes,
}

impl KubernetesSource {
    /// A source for this section of the configuration.
    ///
    /// # Errors
    /// The section names neither a Service nor labels.
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

    /// A source with other time limits.
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

/// Converts endpoints to the form of the registry.
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
