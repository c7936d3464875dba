//! `[[pool.discovery]]`.

use crate::config::declare::{section, words};
use crate::config::discovery::{
    misplaced_keys, print_port, read_api_server, read_label, read_names, read_port, read_selector,
    read_server,
};
use crate::config::forms::{FilePath, custom, integer, some_time};
use crate::config::print;
use crate::config::reader::{ConfigFindings, ConfigTable};
use crate::config::schema::KeySchema;
use crate::config::section_traits::{ConfigSection as _, KeyGroup, StandInValue, TomlEntries};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// Where [backends come from by themselves](discovery.md), besides those of the file. A pool may have several sources;
    /// each changes its own backends only.
    [[pool.discovery]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct DiscoveryConfig {
        /// An answer that names fewer backends takes away none that it does not mention, however often it comes: fewer are
        /// left only where the source says itself that they stop. `0`: an empty answer is taken, too, once it is confirmed.
        min_healthy: u32 = 1, integer(0..=100_000).told();
        /// An answer with less than half of the backends is doubted: what it lacks stays until all answers have lacked it
        /// for so long. `0s`: it is believed at once.
        confirm_after: Duration = "30s";
    }
    group {
        /// Who is asked.
        source: DiscoverySourceConfig;
    }
}

words! {
    /// The kinds of discovery sources.
    pub enum DiscoveryKind {
        /// A file.
        File = "file",
        /// The domain name system.
        Dns = "dns",
        /// Docker containers.
        Docker = "docker",
        /// EndpointSlices.
        Kubernetes = "kubernetes",
    }
}

words! {
    /// The DNS records to query.
    pub enum DnsRecord {
        /// A and AAAA: addresses.
        Address = "a",
        /// SRV: hosts with their ports and weights.
        Service = "srv",
    }
}

words! {
    /// The addresses of a name that are backends.
    pub enum DnsFamily {
        /// Both.
        Any = "any",
        /// Addresses of A records.
        V4 = "ipv4",
        /// Addresses of AAAA records.
        V6 = "ipv6",
    }
}

impl StandInValue for DiscoveryKind {
    fn stand_in() -> Self {
        Self::File
    }
}

/// A port of a discovery source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryPort {
    /// By number.
    Number(u16),
    /// By the name that the source gives it.
    Name(String),
}

section! {
    /// The keys of all kinds of sources. `DiscoveryKind::keys` has those that a kind knows.
    [[pool.discovery]]
    #[derive(Debug, Clone, PartialEq)]
    pub struct DiscoverySourceConfig {
        /// Who knows them: a file, DNS, Docker, or Kubernetes' EndpointSlices.
        #[key = "type"]
        #[no_default(needed)]
        kind: DiscoveryKind = "file";
        /// The file (file): JSON, a list of `{ "name": …, "address": … }`; or TOML, with `[[backend]]` as in a pool. It is
        /// read again when it changes.
        path: Option<PathBuf> = "", FilePath;
        /// The host's name, or that of the service such as `_http._tcp.app.internal` (dns).
        name: Option<String> = "", custom("text", read_names, |name| print::maybe(name.as_ref())).public();
        /// What is asked for (dns): `"a"` for addresses, AAAA included, or `"srv"`.
        record: DnsRecord = "a";
        /// Which addresses are asked for (dns): `"ipv4"` for A records alone, `"ipv6"` for AAAA records alone.
        family: DnsFamily = "any";
        /// Who is asked (dns): IP address and port. `""`: whoever /etc/resolv.conf names.
        server: Option<SocketAddr> = "", custom("IP address and port", read_server, |server| print::maybe(server.as_ref())).public();
        /// How long to wait for an answer (dns).
        timeout: Duration = "5s", some_time();
        /// An answer is kept for so long at least, whatever its TTL says (dns)…
        min_ttl: Duration = "1s", some_time();
        /// …and for so long at most.
        max_ttl: Duration = "1m", some_time();
        /// The port of the backends: a number, and in Kubernetes also the name of a port (kubernetes, docker, and dns with
        /// `record = "a"`). `""`: the only one of the service, the first of the container.
        port: Option<DiscoveryPort> = "", custom("port", read_port, print_port).public();
        /// The namespace (kubernetes). `""`: lameduck's own.
        namespace: Option<String> = "", custom("text", read_names, |name| print::maybe(name.as_ref())).public();
        /// The service whose EndpointSlices are followed (kubernetes).
        service: Option<String> = "", custom("text", read_names, |name| print::maybe(name.as_ref())).public();
        /// In the place of `service`: labels of EndpointSlices, such as `app=shop,tier!=test` (kubernetes).
        selector: Option<String> = "", custom("text", read_selector, |selector| print::maybe(selector.as_ref())).public();
        /// The API server's URL, from outside of a cluster without a `kubeconfig` (kubernetes). `""`: the cluster's own, or
        /// the kubeconfig's.
        api_server: Option<String> = "", custom("URL", read_api_server, |url| print::maybe(url.as_ref())).public();
        /// The file that says how to reach the API server from outside (kubernetes). `""`: lameduck runs in the cluster.
        kubeconfig: Option<PathBuf> = "", FilePath;
        /// Docker's socket (docker).
        socket: Option<PathBuf> = "/var/run/docker.sock", FilePath;
        /// Containers with this label are backends, such as `com.example.app` or `com.example.app=shop` (docker). `""`:
        /// `lameduck.pool=` and the pool's name.
        label: Option<String> = "", custom("text", read_label, |label| print::maybe(label.as_ref())).public();
        /// The network whose addresses of theirs are used (docker). `""`: the first that a container has.
        network: Option<String> = "", custom("text", read_names, |name| print::maybe(name.as_ref())).public();
    }
}

impl DiscoveryKind {
    /// Returns the keys that a source of this kind knows besides the common ones, in the order in which they are
    /// printed.
    pub(in crate::config) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::File => &["type", "path"],
            Self::Dns => &[
                "type", "name", "record", "family", "port", "server", "timeout", "min_ttl",
                "max_ttl",
            ],
            Self::Docker => &["type", "socket", "label", "network", "port"],
            Self::Kubernetes => &[
                "type",
                "namespace",
                "service",
                "selector",
                "port",
                "api_server",
                "kubeconfig",
            ],
        }
    }

    /// Whether this lameduck was built with support for it.
    pub fn is_built(self) -> bool {
        match self {
            Self::File => true,
            Self::Dns => cfg!(feature = "dns"),
            Self::Docker => cfg!(feature = "docker"),
            Self::Kubernetes => cfg!(feature = "kubernetes"),
        }
    }
}

impl KeyGroup for DiscoverySourceConfig {
    fn keys() -> &'static [KeySchema] {
        Self::section().keys
    }

    fn unwritten() -> Self {
        <Self as crate::config::section_traits::ConfigSection>::unwritten().clone()
    }

    fn read(table: &ConfigTable<'_>, found: &mut ConfigFindings) -> Self {
        let keys = <Self as crate::config::section_traits::ConfigSection>::read(table, found);
        misplaced_keys(table, &keys, found);
        keys
    }

    fn entries(&self) -> TomlEntries {
        let all = crate::config::section_traits::ConfigSection::entries(self);
        let known = self.kind.keys().iter();
        known
            .filter_map(|known| all.iter().find(|(key, _)| key == known).cloned())
            .collect()
    }
}

impl DiscoveryConfig {
    /// Returns the label by which this source is told from the pool's others, for display, logs and metrics:
    /// `file /etc/lameduck/app.json`, `dns app.internal`. Two sources of one pool can't have the same label.
    pub fn label(&self) -> String {
        let DiscoverySourceConfig {
            kind,
            path,
            name,
            port,
            namespace,
            service,
            selector,
            label,
            ..
        } = &self.source;
        let port = match port {
            Some(DiscoveryPort::Number(port)) => format!(":{port}"),
            Some(DiscoveryPort::Name(port)) => format!(":{port}"),
            None => String::new(),
        };
        let what = match kind {
            DiscoveryKind::File => path.as_ref().map(|path| path.display().to_string()),
            DiscoveryKind::Dns => name.as_ref().map(|name| format!("{name}{port}")),
            DiscoveryKind::Docker => label.as_ref().map(|label| format!("{label}{port}")),
            DiscoveryKind::Kubernetes => {
                let which = service.as_ref().or(selector.as_ref());
                let namespace = namespace.as_ref().map(|space| format!("{space}/"));
                which.map(|which| format!("{}{which}{port}", namespace.unwrap_or_default()))
            }
        };
        match what {
            Some(what) => format!("{kind} {what}"),
            None => kind.to_string(),
        }
    }
}
