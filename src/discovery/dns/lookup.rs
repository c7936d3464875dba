//! Lookups of records in DNS.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::records::ServiceTarget;
use crate::config::{DiscoverySourceConfig, DnsFamily, duration};
use crate::discovery::SourceError;
use crate::rt::clock;

/// Time for which an answer without records is valid, within the limits of the section.
const EMPTY_TTL: Duration = Duration::from_secs(5);

/// Records of one type.
#[derive(Debug, Clone)]
pub(super) struct FoundRecords<T> {
    pub records: Vec<T>,
    /// Time for which they are valid.
    pub ttl: Duration,
    /// Addresses of hosts that were included in the answer.
    pub given: HashMap<String, Vec<IpAddr>>,
}

impl<T> FoundRecords<T> {
    /// An answer without records.
    pub(super) fn none() -> Self {
        Self {
            records: Vec::new(),
            ttl: Duration::MAX,
            given: HashMap::new(),
        }
    }
}

/// DNS client without a cache.
pub(super) struct RecordClient {
    resolver: TokioResolver,
    server: String,
    patience: Duration,
    family: DnsFamily,
}

impl RecordClient {
    /// A client for the servers of the section, or for those of /etc/resolv.conf, which is read again because it may
    /// have changed.
    pub(super) async fn open(config: &DiscoverySourceConfig) -> Result<Self, SourceError> {
        let (servers, options, shown) = match config.server {
            Some(server) => (
                single_server_config(server),
                ResolverOpts::default(),
                server.to_string(),
            ),
            None => {
                // The disk may be slow.
                let read = tokio::task::spawn_blocking(system_conf::read_system_conf).await;
                let read = read.map_err(SourceError::new)?;
                let (servers, options) =
                    read.map_err(|error| SourceError::new(format!("/etc/resolv.conf: {error}")))?;
                let first = servers.name_servers().first().map(|one| one.ip.to_string());
                (
                    servers,
                    options,
                    first.unwrap_or_else(|| "nobody".to_owned()),
                )
            }
        };
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(servers, provider);
        let patience = config.timeout;
        *builder.options_mut() = options;
        let options = builder.options_mut();
        // Two attempts within the time of a lookup.
        options.timeout = patience.mul_f64(0.45);
        options.attempts = 1;
        // How long an answer is valid is decided by the source, so the client has no cache.
        options.cache_size = 0;
        options.edns0 = true;
        if config.server.is_some() {
            options.use_hosts_file = ResolveHosts::Never;
        }
        let resolver = builder.build().map_err(SourceError::new)?;
        Ok(Self {
            resolver,
            server: shown,
            patience,
            family: config.family,
        })
    }

    /// A records of a name; none if the section wants only the other family.
    pub(super) async fn addresses_v4(
        &self,
        name: &str,
    ) -> Result<FoundRecords<IpAddr>, SourceError> {
        if self.family == DnsFamily::V6 {
            return Ok(FoundRecords::none());
        }
        let found = self.ask(name, RecordType::A).await?;
        Ok(found.map_or_else(no_records, |lookup| addresses(&lookup)))
    }

    /// AAAA records of a name; none if the section wants only the other family.
    pub(super) async fn addresses_v6(
        &self,
        name: &str,
    ) -> Result<FoundRecords<IpAddr>, SourceError> {
        if self.family == DnsFamily::V4 {
            return Ok(FoundRecords::none());
        }
        let found = self.ask(name, RecordType::AAAA).await?;
        Ok(found.map_or_else(no_records, |lookup| addresses(&lookup)))
    }

    /// SRV records of a service.
    pub(super) async fn services(
        &self,
        name: &str,
    ) -> Result<FoundRecords<ServiceTarget>, SourceError> {
        let Some(lookup) = self.ask(name, RecordType::SRV).await? else {
            return Ok(no_records());
        };
        let mut found = FoundRecords::none();
        for record in lookup.answers() {
            let RData::SRV(service) = &record.data else {
                continue;
            };
            found.ttl = found.ttl.min(seconds(record.ttl));
            // A target that is the root means that there is no such service (RFC 2782).
            if service.target.is_root() {
                continue;
            }
            found.records.push(ServiceTarget {
                host: plain_host(&service.target.to_ascii()),
                port: service.port,
                priority: service.priority,
                weight: service.weight,
            });
        }
        for record in lookup.additionals() {
            if let Some(ip) = record.data.ip_addr().filter(|ip| self.wants(*ip)) {
                let host = plain_host(&record.name.to_ascii());
                found.ttl = found.ttl.min(seconds(record.ttl));
                found.given.entry(host).or_default().push(ip);
            }
        }
        Ok(found)
    }

    fn wants(&self, ip: IpAddr) -> bool {
        match self.family {
            DnsFamily::Any => true,
            DnsFamily::V4 => ip.is_ipv4(),
            DnsFamily::V6 => ip.is_ipv6(),
        }
    }

    /// Looks up records; `None`: there are none.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Option<Lookup>, SourceError> {
        let looked = clock::timeout(self.patience, self.resolver.lookup(name, kind)).await;
        let why = match looked {
            Ok(Ok(lookup)) => return Ok(Some(lookup)),
            Ok(Err(error)) if error.is_no_records_found() => return Ok(None),
            Ok(Err(NetError::Timeout)) | Err(clock::TimeoutError) => {
                format!("no answer within {}", duration::format(self.patience))
            }
            Ok(Err(error)) => error.to_string(),
        };
        let server = &self.server;
        Err(SourceError::new(format!(
            "{kind} of {name}, asked of {server}: {why}"
        )))
    }
}

fn single_server_config(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    let connections = connections.map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let mut one = NameServerConfig::udp_and_tcp(server.ip());
    one.connections = connections.into();
    ResolverConfig::from_parts(None, Vec::new(), vec![one])
}

fn no_records<T>() -> FoundRecords<T> {
    FoundRecords {
        ttl: EMPTY_TTL,
        ..FoundRecords::none()
    }
}

fn addresses(lookup: &Lookup) -> FoundRecords<IpAddr> {
    let mut found = FoundRecords::none();
    for record in lookup.answers() {
        // Aliases (CNAME) on the way limit the validity, too.
        found.ttl = found.ttl.min(seconds(record.ttl));
        found.records.extend(record.data.ip_addr());
    }
    found
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

fn plain_host(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}
