//! The part of an EndpointSlice that discovery needs.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::version::ResourceVersion;

/// Address family of a slice: a Service with both has separate slices for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressFamily {
    /// `addressType: IPv4`.
    V4,
    /// `addressType: IPv6`.
    V6,
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParsedSlice {
    /// Name, unique in its namespace.
    pub name: String,
    /// Unique id, which a later slice of the same name does not have.
    pub uid: String,
    /// Version of the slice.
    pub version: ResourceVersion,
    /// Address family; `None` for `FQDN`, which Kubernetes has given up and never defined. Such a slice has no
    /// endpoints here.
    pub family: Option<AddressFamily>,
    /// TCP ports of all its endpoints; ports without a number are left out.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlicePort {
    /// Name of the Service's port; empty if it has none.
    pub name: String,
    /// Port on which the pods listen (the Service's `targetPort`).
    pub number: u16,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SliceEndpoint {
    /// Address: the first one, which kube-proxy also uses. Kubernetes defines no meaning for others.
    pub address: IpAddr,
    /// The pod, if there is one.
    pub pod: Option<PodReference>,
    /// Zone of the endpoint.
    pub zone: Option<String>,
    /// Whether it can take requests, by its own readiness probe.
    pub serving: bool,
    /// Whether its pod was told to terminate.
    pub terminating: bool,
}

/// The pod of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodReference {
    /// Name of the pod, which never changes.
    pub name: String,
    /// Unique id, which an earlier pod of the same name (of a StatefulSet) did not have; empty if unknown.
    pub uid: String,
}

impl ParsedSlice {
    /// Converts a slice of the API. Entries that can't be endpoints (without an address, or with one that is no IP
    /// address) are left out.
    pub(super) fn read(slice: EndpointSlice) -> Self {
        let family = match slice.address_type.as_str() {
            "IPv4" => Some(AddressFamily::V4),
            "IPv6" => Some(AddressFamily::V6),
            _ => None,
        };
        let endpoints = match family {
            Some(_) => slice
                .endpoints
                .into_iter()
                .filter_map(read_endpoint)
                .collect(),
            None => Vec::new(),
        };
        Self {
            name: slice.metadata.name.unwrap_or_default(),
            uid: slice.metadata.uid.unwrap_or_default(),
            version: ResourceVersion::new(slice.metadata.resource_version.unwrap_or_default()),
            family,
            ports: slice
                .ports
                .unwrap_or_default()
                .into_iter()
                .filter_map(read_port)
                .collect(),
            endpoints,
        }
    }
}

impl ParsedSlice {
    /// Names of the terminating pods in this slice.
    pub(super) fn ending_pods(&self) -> impl Iterator<Item = String> {
        let ending = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.terminating);
        ending.filter_map(|endpoint| Some(endpoint.pod.as_ref()?.name.clone()))
    }
}

/// Missing conditions have the values that the API documents: `ready` is true, `serving` is the same as `ready`, and
/// `terminating` is false.
fn read_endpoint(endpoint: Endpoint) -> Option<SliceEndpoint> {
    let address = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.unwrap_or_default();
    let pod = endpoint
        .target_ref
        .filter(|target| target.kind.as_deref().is_none_or(|kind| kind == "Pod"));
    let pod = pod.and_then(|target| {
        Some(PodReference {
            name: target.name.filter(|name| !name.is_empty())?,
            uid: target.uid.unwrap_or_default(),
        })
    });
    Some(SliceEndpoint {
        address,
        pod,
        zone: endpoint.zone.filter(|zone| !zone.is_empty()),
        serving: conditions.serving.or(conditions.ready).unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
    })
}

/// A port for HTTP: TCP, which is also the default protocol.
fn read_port(port: EndpointPort) -> Option<SlicePort> {
    if port.protocol.is_some_and(|protocol| protocol != "TCP") {
        return None;
    }
    let number = u16::try_from(port.port?)
        .ok()
        .filter(|number| *number > 0)?;
    Some(SlicePort {
        name: port.name.unwrap_or_default(),
        number,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(conditions: Value) -> SliceEndpoint {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": { "name": "app-1" },
            "addressType": "IPv4",
            "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": conditions }],
        });
        let mut slice = ParsedSlice::read(serde_json::from_value(slice).unwrap());
        slice.endpoints.remove(0)
    }

    #[test]
    fn absent_conditions_are_read_as_the_api_documents_them() {
        let facts = |conditions| {
            let endpoint = read(conditions);
            (endpoint.serving, endpoint.terminating)
        };
        assert_eq!(facts(Value::Null), (true, false));
        assert_eq!(facts(json!({})), (true, false));
        assert_eq!(
            facts(json!({ "ready": false })),
            (false, false),
            "serving is what ready is"
        );
        assert_eq!(
            facts(json!({ "ready": false, "serving": true })),
            (true, false)
        );
        assert_eq!(
            facts(json!({ "ready": true, "serving": false })),
            (false, false)
        );
        assert_eq!(facts(json!({ "terminating": true })), (true, true));
        let ending = json!({ "ready": false, "serving": true, "terminating": true });
        assert_eq!(facts(ending), (true, true));
    }

    #[test]
    fn slice_with_unusable_entries_keeps_the_others() {
        let slice = json!({
            "metadata": { "name": "app-1", "uid": "u", "resourceVersion": "7" },
            "addressType": "IPv6",
            "endpoints": [
                { "addresses": [] },
                { "addresses": ["app.internal"] },
                { "addresses": ["fd00::1", "fd00::2"], "zone": "a", "targetRef": { "kind": "Pod", "name": "p", "uid": "1" } },
                { "addresses": ["fd00::3"], "targetRef": { "kind": "Node", "name": "n" } },
            ],
            "ports": [
                { "name": "http", "port": 3000, "protocol": "TCP" },
                { "port": 3001 },
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "any" },
                { "name": "odd", "port": 70000 },
            ],
        });
        let slice = ParsedSlice::read(serde_json::from_value(slice).unwrap());
        assert_eq!(
            (slice.uid.as_str(), slice.family),
            ("u", Some(AddressFamily::V6))
        );
        let ports: Vec<_> = slice
            .ports
            .iter()
            .map(|p| (p.name.as_str(), p.number))
            .collect();
        assert_eq!(ports, [("http", 3000), ("", 3001)]);
        let endpoints: Vec<_> = slice
            .endpoints
            .iter()
            .map(|e| {
                (
                    e.address.to_string(),
                    e.pod.as_ref().map(|p| p.name.as_str()),
                    e.zone.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            endpoints,
            [
                ("fd00::1".to_owned(), Some("p"), Some("a")),
                ("fd00::3".to_owned(), None, None)
            ]
        );
    }

    #[test]
    fn a_slice_of_names_has_no_endpoints() {
        let slice = json!({
            "metadata": { "name": "app-1" },
            "addressType": "FQDN",
            "endpoints": [{ "addresses": ["10.0.0.1"] }],
        });
        let slice = ParsedSlice::read(serde_json::from_value(slice).unwrap());
        assert_eq!((slice.family, slice.endpoints.len()), (None, 0));
    }
}
