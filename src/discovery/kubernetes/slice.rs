//! One EndpointSlice, of what discovery needs of it.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::version::ResourceVersion;

/// The family of the addresses of a slice: a Service that has both has slices of each.
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
    /// Its name, unique in its namespace.
    pub name: String,
    /// Tells it from a slice of the same name that came before it.
    pub uid: String,
    /// How new it is.
    pub version: ResourceVersion,
    /// `None`: `FQDN`, which Kubernetes has given up and never defined; such a slice has no endpoints here.
    pub family: Option<AddressFamily>,
    /// The TCP ports that all of its endpoints have. A port is `None` where the slice names one without a number.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlicePort {
    /// The name of the Service's port; empty where it has none.
    pub name: String,
    /// Where the pods listen (the Service's `targetPort`).
    pub number: u16,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SliceEndpoint {
    /// Its address: the first one, as kube-proxy takes it. Kubernetes defines no meaning for others.
    pub address: IpAddr,
    /// The pod behind it, where there is one.
    pub pod: Option<PodReference>,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// It can take requests, by its own readiness probe.
    pub serving: bool,
    /// Its pod has been told to end.
    pub terminating: bool,
}

/// A pod that an endpoint stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodReference {
    /// The pod's name, which stays for its whole life.
    pub name: String,
    /// Tells it from a pod of the same name that came before it (a StatefulSet's); empty where it isn't said.
    pub uid: String,
}

impl ParsedSlice {
    /// Reads what the API server says. What can't be an endpoint (no address, or one that is no IP address) is left out.
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
    /// The names of the pods in it that have been told to end.
    pub(super) fn ending_pods(&self) -> impl Iterator<Item = String> {
        let ending = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.terminating);
        ending.filter_map(|endpoint| Some(endpoint.pod.as_ref()?.name.clone()))
    }
}

/// Conditions that are absent are read as the API's documentation says: `ready` as true, `serving` as `ready`,
/// `terminating` as false.
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

/// A port that HTTP can be spoken on: TCP, which is also what no protocol means.
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
    fn a_slice_with_what_nobody_can_connect_to_keeps_the_rest() {
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
