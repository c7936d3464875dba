//! Objects in a file: Ingresses, and the Services and ConfigMaps that they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::IngressReadError;
use super::annotations::PREFIX;
use crate::tools::import::notice::SourcePlace;
use crate::tools::tree::{Node, ValueKind, yaml};

/// Deepest nesting of lists; real files have less.
const MAX_LISTS: usize = 8;

/// Objects in a file.
#[derive(Debug, Default)]
pub(super) struct KubeObjects {
    /// Place of the file.
    pub place: Option<SourcePlace>,
    pub ingresses: Vec<IngressObject>,
    /// Services by namespace and name.
    pub services: BTreeMap<(String, String), ServiceObject>,
    /// Data of ConfigMaps, by namespace and name.
    pub config_maps: BTreeMap<(String, String), Vec<(String, String)>>,
}

/// A Service.
#[derive(Debug, Default)]
pub(super) struct ServiceObject {
    /// Names and numbers of ports.
    pub ports: Vec<(String, String)>,
    /// `externalName`
    pub external: Option<String>,
}

/// An Ingress.
#[derive(Debug)]
pub(super) struct IngressObject {
    pub name: String,
    pub namespace: String,
    pub place: SourcePlace,
    pub class: Option<(String, SourcePlace)>,
    pub annotations: Vec<Annotation>,
    pub rules: Vec<IngressRule>,
    pub tls: Vec<IngressTls>,
    pub default: Option<IngressBackend>,
}

/// An annotation of an Ingress.
#[derive(Debug, Clone)]
pub(super) struct Annotation {
    pub name: String,
    pub value: String,
    pub place: SourcePlace,
}

impl Annotation {
    /// Name without the prefix of ingress-nginx.
    pub(super) fn short(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }

    /// Text in notices; the beginning of the first line is enough to find it.
    pub(super) fn line(&self) -> String {
        let first = self.value.lines().next().unwrap_or_default();
        let short: String = first.chars().take(80).collect();
        let more = if short.len() < self.value.trim_end().len() {
            "…"
        } else {
            ""
        };
        format!("{}: {short}{more}", self.short())
    }
}

/// Rules for the paths of one host.
#[derive(Debug)]
pub(super) struct IngressRule {
    /// Host in lower case; empty: any host.
    pub host: String,
    pub place: SourcePlace,
    pub paths: Vec<IngressPath>,
}

/// Kind of comparison of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathKind {
    Exact,
    Prefix,
    Implementation,
}

/// A path with its backend.
#[derive(Debug)]
pub(super) struct IngressPath {
    pub path: String,
    pub kind: PathKind,
    pub backend: IngressBackend,
    pub place: SourcePlace,
}

/// Destination of requests.
#[derive(Debug, Clone)]
pub(super) struct IngressBackend {
    /// Name of the Service; empty: none (`resource`).
    pub service: String,
    /// Number or name of the port.
    pub port: String,
    pub place: SourcePlace,
}

/// Hosts with a certificate.
#[derive(Debug)]
pub(super) struct IngressTls {
    pub hosts: Vec<String>,
    pub secret: Option<String>,
    pub place: SourcePlace,
}

impl IngressObject {
    /// Annotation of ingress-nginx with this name, trimmed; `None` if it is missing or empty.
    pub(super) fn get(&self, short: &str) -> Option<&Annotation> {
        self.annotations.iter().find(|annotation| {
            annotation.name.strip_prefix(PREFIX) == Some(short)
                && !annotation.value.trim().is_empty()
        })
    }

    /// Value of the annotation; empty if it is missing.
    pub(super) fn text(&self, short: &str) -> &str {
        self.get(short)
            .map_or("", |annotation| annotation.value.trim())
    }

    /// Whether the value of the annotation is `true`.
    pub(super) fn is_on(&self, short: &str) -> bool {
        self.text(short).eq_ignore_ascii_case("true")
    }

    /// Name in notices.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Converts positions in bytes to lines.
struct PlaceFinder {
    file: Arc<str>,
    starts: Vec<usize>,
}

impl PlaceFinder {
    fn new(file: &str, text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        PlaceFinder {
            file: file.into(),
            starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    fn at(&self, byte: usize) -> SourcePlace {
        let line = self.starts.partition_point(|start| *start <= byte);
        SourcePlace {
            file: self.file.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }
}

/// Reads all documents.
///
/// # Errors
/// The text is not YAML.
pub(super) fn read_objects(file: &str, text: &str) -> Result<KubeObjects, IngressReadError> {
    let places = PlaceFinder::new(file, text);
    let documents = yaml::parse(text).map_err(|error| IngressReadError {
        place: places.at(error.span.start),
        message: format!("{}; a template has to be rendered first (`helm template`, `kubectl get ingress -A -o yaml`)", error.message),
    })?;
    let mut objects = KubeObjects {
        place: Some(SourcePlace::new(file, 0)),
        ..KubeObjects::default()
    };
    for document in &documents {
        read_object(document, &places, MAX_LISTS, &mut objects);
    }
    Ok(objects)
}

fn read_object(node: &Node, places: &PlaceFinder, depth: usize, objects: &mut KubeObjects) {
    let kind = node.text_of("kind").unwrap_or_default();
    if let Some(items) = node.get("items").filter(|_| kind.ends_with("List")) {
        if depth > 0 {
            for item in items.items() {
                read_object(item, places, depth - 1, objects);
            }
        }
        return;
    }
    let meta = |key: &str| node.at(&["metadata", key]).and_then(Node::text);
    let name = meta("name").unwrap_or_default().to_owned();
    let namespace = meta("namespace").unwrap_or("default").to_owned();
    match kind {
        "Ingress" => objects
            .ingresses
            .push(read_ingress(node, name, namespace, places)),
        "Service" => {
            let ports = node.at(&["spec", "ports"]).map_or(&[][..], Node::items);
            let named = ports.iter().filter_map(|port| {
                Some((
                    port.text_of("name")?.to_owned(),
                    port.text_of("port")?.to_owned(),
                ))
            });
            let service = ServiceObject {
                ports: named.collect(),
                external: node
                    .at(&["spec", "externalName"])
                    .and_then(Node::text)
                    .map(str::to_owned),
            };
            objects.services.insert((namespace, name), service);
        }
        "ConfigMap" => {
            let data = texts_of(node.get("data"));
            objects.config_maps.insert((namespace, name), data);
        }
        _ => {}
    }
}

/// Texts of a map.
fn texts_of(node: Option<&Node>) -> Vec<(String, String)> {
    let entries = node.map_or(&[][..], Node::entries);
    let texts = entries
        .iter()
        .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())));
    texts.collect()
}

fn read_ingress(
    node: &Node,
    name: String,
    namespace: String,
    places: &PlaceFinder,
) -> IngressObject {
    let annotations = node
        .at(&["metadata", "annotations"])
        .map_or(&[][..], Node::entries);
    let annotations = annotations.iter().map(|entry| Annotation {
        name: entry.key.clone(),
        value: entry.value.text().unwrap_or_default().to_owned(),
        place: places.at(entry.key_span.start),
    });
    let spec = node.get("spec");
    let field = |key: &str| spec.and_then(|spec| spec.get(key));
    let items = |key: &str| field(key).map_or(&[][..], Node::items);
    let class = spec.and_then(|spec| spec.entry("ingressClassName"));
    let rules = items("rules").iter().map(|rule| read_rule(rule, places));
    let tls = items("tls").iter().map(|tls| IngressTls {
        hosts: tls
            .get("hosts")
            .map(Node::texts)
            .unwrap_or_default()
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
        secret: tls.text_of("secretName").map(str::to_owned),
        place: places.at(tls.span.start),
    });
    IngressObject {
        name,
        namespace,
        place: places.at(node.span.start),
        class: class.and_then(|entry| {
            Some((
                entry.value.text()?.to_owned(),
                places.at(entry.key_span.start),
            ))
        }),
        annotations: annotations.collect(),
        rules: rules.collect(),
        tls: tls.collect(),
        default: field("defaultBackend")
            .or_else(|| field("backend"))
            .map(|backend| read_backend(backend, places)),
    }
}

fn read_rule(rule: &Node, places: &PlaceFinder) -> IngressRule {
    let paths = rule.at(&["http", "paths"]).map_or(&[][..], Node::items);
    let paths = paths.iter().map(|path| IngressPath {
        path: match path.text_of("path") {
            None | Some("") => "/".to_owned(),
            Some(path) => path.to_owned(),
        },
        kind: match path.text_of("pathType") {
            Some("Exact") => PathKind::Exact,
            Some("Prefix") => PathKind::Prefix,
            _ => PathKind::Implementation,
        },
        backend: path.get("backend").map_or_else(
            || IngressBackend {
                service: String::new(),
                port: String::new(),
                place: places.at(path.span.start),
            },
            |backend| read_backend(backend, places),
        ),
        place: places.at(path.span.start),
    });
    IngressRule {
        host: rule
            .text_of("host")
            .unwrap_or_default()
            .to_ascii_lowercase(),
        place: places.at(rule.span.start),
        paths: paths.collect(),
    }
}

/// Reads a backend in the form of networking.k8s.io/v1, or of earlier versions.
fn read_backend(backend: &Node, places: &PlaceFinder) -> IngressBackend {
    let port = |node: &Node| {
        let found = node
            .at(&["port", "number"])
            .or_else(|| node.at(&["port", "name"]));
        found.and_then(Node::text).map(str::to_owned)
    };
    let (service, port) = match backend.get("service") {
        Some(service) => (service.text_of("name"), port(service)),
        None => (
            backend.text_of("serviceName"),
            backend.text_of("servicePort").map(str::to_owned),
        ),
    };
    let at = match backend.kind {
        ValueKind::Map(ref entries) => entries
            .first()
            .map_or(backend.span.start, |first| first.key_span.start),
        _ => backend.span.start,
    };
    IngressBackend {
        service: service.unwrap_or_default().to_owned(),
        port: port.unwrap_or_default(),
        place: places.at(at),
    }
}
