//! Checks whether a proxy with discovery may read EndpointSlices: the roles in a manifest, and the account of its pod.

use super::checks as check;
use super::finding::DoctorFindings;
use super::model::FindingPlace;
use super::proxy::ProxySide;
use crate::config::{DiscoveryConfig, DiscoveryKind};
use crate::tools::tree::{Node, TreeEntry};

/// Resource that is read, and verbs: the list first, then changes.
const RESOURCE: &str = "endpointslices";
const GROUP: &str = "discovery.k8s.io";
const VERBS: [&str; 2] = ["list", "watch"];

/// The correct rule.
const RULE: &str = "apiGroups: [\"discovery.k8s.io\"]\nresources: [\"endpointslices\"]\nverbs: [\"list\", \"watch\"]";

/// Whether the proxy asks the cluster's API server with its pod's service account.
pub(super) fn asks_cluster(proxy: &ProxySide) -> bool {
    let is_own = |one: &DiscoveryConfig| {
        let source = &one.source;
        source.kind == DiscoveryKind::Kubernetes
            && source.kubeconfig.is_none()
            && source.api_server.is_none()
    };
    let mut sources = proxy.pools().iter().flat_map(|pool| &pool.discovery);
    sources.any(is_own)
}

/// Whether an object is a Role or ClusterRole.
fn is_role(object: &&&Node) -> bool {
    matches!(object.text_of("kind"), Some("Role" | "ClusterRole"))
}

fn has(rule: &Node, key: &str, wanted: &str) -> bool {
    let values = rule.get(key).map_or_else(Vec::new, Node::texts);
    values.iter().any(|value| value == wanted || value == "*")
}

/// Checks the roles of a manifest, if it has any; they may also be in another file.
pub(super) fn judge_roles(
    file: usize,
    objects: &[&Node],
    proxy: &ProxySide,
    found: &mut DoctorFindings,
) {
    if !asks_cluster(proxy) {
        return;
    }
    let roles: Vec<&Node> = objects.iter().filter(is_role).copied().collect();
    let rules: Vec<&Node> = roles
        .iter()
        .flat_map(|role| role.get("rules").map_or(&[][..], Node::items))
        .collect();
    let about: Vec<&Node> = rules
        .into_iter()
        .filter(|rule| has(rule, "resources", RESOURCE))
        .collect();
    let is_right = |rule: &&Node| {
        has(rule, "apiGroups", GROUP) && VERBS.iter().all(|verb| has(rule, "verbs", verb))
    };
    if about.iter().any(is_right) {
        return;
    }
    let mut tell = |entry: &TreeEntry, what: String, instead: &str| {
        let place = FindingPlace {
            file,
            span: entry.place(),
        };
        found.error(check::DISCOVERY_RIGHTS, &place, what, instead);
    };
    let Some(rule) = about.first() else {
        let rules = roles.first().and_then(|role| role.entry("rules"));
        if let Some(rules) = rules {
            let what = "no rule lets lameduck read EndpointSlices".to_owned();
            tell(rules, what, RULE);
        }
        return;
    };
    if !has(rule, "apiGroups", GROUP)
        && let Some(groups) = rule.entry("apiGroups")
    {
        let what = format!("EndpointSlices are of the group {GROUP}");
        tell(groups, what, "apiGroups: [\"discovery.k8s.io\"]");
        return;
    }
    let missing: Vec<_> = VERBS
        .into_iter()
        .filter(|verb| !has(rule, "verbs", verb))
        .collect();
    if let Some(verbs) = rule.entry("verbs") {
        let what = format!("lameduck may not {} EndpointSlices", missing.join(" and "));
        tell(verbs, what, "verbs: [\"list\", \"watch\"]");
    }
}

/// Checks the account of a pod with the proxy.
pub(super) fn judge_account(
    file: usize,
    spec: &Node,
    proxy: &ProxySide,
    found: &mut DoctorFindings,
) {
    // A token may also come from an explicit volume.
    let volumes = spec.get("volumes").map_or(&[][..], Node::items);
    let is_projected = volumes
        .iter()
        .any(|volume| volume.get("projected").is_some());
    let has_none = spec.flag("automountServiceAccountToken") == Some(false) && !is_projected;
    if !has_none || !asks_cluster(proxy) {
        return;
    }
    if let Some(entry) = spec.entry("automountServiceAccountToken") {
        let place = FindingPlace {
            file,
            span: entry.place(),
        };
        found.error(
            check::DISCOVERY_RIGHTS,
            &place,
            "the pod has no token, and lameduck finds its backends by asking the API server",
            "automountServiceAccountToken: true",
        );
    }
}
