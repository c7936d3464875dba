//! Pods, and the slices that a controller makes of them.

use std::net::IpAddr;

use serde_json::{Value, json};

/// A pod of a Service, as its endpoint shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Its zone.
    pub zone: Option<String>,
    /// Its readiness probe passes.
    pub serving: bool,
    /// It has been told to end.
    pub terminating: bool,
}

impl Pod {
    /// One that is ready.
    pub fn ready(name: impl Into<String>, address: IpAddr) -> Self {
        Self {
            name: name.into(),
            address,
            zone: None,
            serving: true,
            terminating: false,
        }
    }

    /// The same, told to end; it still answers.
    pub fn terminating(self) -> Self {
        Self {
            terminating: true,
            ..self
        }
    }

    /// The same, not ready.
    pub fn not_ready(self) -> Self {
        Self {
            serving: false,
            ..self
        }
    }

    fn endpoint(&self) -> Value {
        let mut endpoint = json!({
            "addresses": [self.address],
            "conditions": {
                "ready": self.serving && !self.terminating,
                "serving": self.serving,
                "terminating": self.terminating,
            },
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": self.name, "uid": format!("uid-{}", self.name) },
            "nodeName": "node-1",
        });
        if let Some(zone) = &self.zone {
            endpoint["zone"] = zone.as_str().into();
        }
        endpoint
    }
}

/// One slice of a Service.
pub fn slice(name: &str, service: &str, port: u16, pods: &[Pod]) -> Value {
    let is_v6 = pods.first().is_some_and(|pod| pod.address.is_ipv6());
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": if is_v6 { "IPv6" } else { "IPv4" },
        "endpoints": pods.iter().map(Pod::endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
    })
}

/// The slices of a Service: so many pods in each.
pub fn slices(service: &str, port: u16, pods: &[Pod], per_slice: usize) -> Vec<Value> {
    let named = |(n, pods): (usize, &[Pod])| slice(&format!("{service}-{n}"), service, port, pods);
    pods.chunks(per_slice).enumerate().map(named).collect()
}
