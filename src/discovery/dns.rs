//! Source `type = "dns"`: A and AAAA records, or SRV records, fetched again when their TTL has passed.
//!
//! An answer without records and NXDOMAIN are answers: there are no backends. Whether to believe them is not decided
//! here. A failed lookup (no answer, SERVFAIL, a malformed answer) is none, and the known backends stay.

mod lookup;
mod records;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;

use lookup::{FoundRecords, RecordClient};
use records::{ServiceTarget, address_backends, service_backends};

use super::backoff::{GrowingPause, jittered_period};
use super::{DiscoverySource, SourceError, SourceReporter};
use crate::config::{Address, DiscoveryPort, DiscoverySourceConfig, DnsRecord};
use crate::core::discovery::DiscoveredSet;
use crate::rt::clock;

/// Most targets of a service whose addresses are looked up at the same time.
const MAX_CONCURRENT: usize = 16;

/// Limit for the lookups of all targets of a service, as a multiple of `timeout`: a silent server must not make a round
/// of thousands of targets last an hour.
const TARGETS_TIMEOUTS: u32 = 4;

/// What is looked up.
enum Question {
    /// Addresses of a host, on which the app listens on this port.
    Addresses { name: String, port: u16 },
    /// Targets of a service (SRV).
    Service { name: String },
}

/// A source of backends in DNS.
pub(super) struct DnsSource {
    question: Question,
    config: DiscoverySourceConfig,
}

/// Results of earlier rounds, used for names that can't be looked up in this round.
#[derive(Default)]
struct KnownRecords {
    own: KnownAddresses,
    /// Addresses of a service's targets.
    targets: HashMap<String, KnownAddresses>,
}

/// Addresses by family: a server may fail for one family and answer for the other.
#[derive(Debug, Clone, Default)]
struct KnownAddresses {
    v4: Option<Vec<IpAddr>>,
    v6: Option<Vec<IpAddr>>,
}

impl KnownAddresses {
    fn all(&self) -> Vec<IpAddr> {
        let both = [&self.v4, &self.v6].into_iter().flatten();
        both.flatten().copied().collect()
    }
}

/// Result of one round.
struct FoundBackends {
    set: DiscoveredSet<Address>,
    ttl: Duration,
    /// Error of a part of it, for which an earlier result is used.
    failure: Option<SourceError>,
}

impl DnsSource {
    /// A source for this section of the configuration.
    ///
    /// # Errors
    /// The section lacks a required key.
    pub(super) fn new(config: &DiscoverySourceConfig) -> Result<Self, SourceError> {
        let lacks = |key: &str| SourceError::new(format!("it has no `{key}`"));
        let name = config.name.clone().ok_or_else(|| lacks("name"))?;
        let question = match (config.record, &config.port) {
            (DnsRecord::Service, _) => Question::Service { name },
            (DnsRecord::Address, Some(DiscoveryPort::Number(port))) => {
                Question::Addresses { name, port: *port }
            }
            (DnsRecord::Address, _) => return Err(lacks("port")),
        };
        Ok(Self {
            question,
            config: config.clone(),
        })
    }

    async fn look_up(&self, known: &mut KnownRecords) -> Result<FoundBackends, SourceError> {
        let client = RecordClient::open(&self.config).await?;
        match &self.question {
            Question::Addresses { name, port } => {
                let (v4, v6) = tokio::join!(client.addresses_v4(name), client.addresses_v6(name));
                let (found, failure) = both_families(v4, v6, &mut known.own)?;
                Ok(FoundBackends {
                    set: address_backends(&found.records, *port),
                    ttl: found.ttl,
                    failure,
                })
            }
            Question::Service { name } => {
                let found = client.services(name).await?;
                self.look_up_targets(&client, found, known).await
            }
        }
    }

    /// Looks up the targets of a service. A target that can't be looked up now keeps its known addresses, and is left
    /// out if none are known.
    async fn look_up_targets(
        &self,
        client: &RecordClient,
        found: FoundRecords<ServiceTarget>,
        known: &mut KnownRecords,
    ) -> Result<FoundBackends, SourceError> {
        let mut hosts: Vec<String> = found.records.iter().map(|one| one.host.clone()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let (given, before) = (&found.given, &known.targets);
        let end = clock::now() + self.config.timeout * TARGETS_TIMEOUTS;
        let asked = stream::iter(hosts).map(|host| async move {
            let mut own = before.get(&host).cloned().unwrap_or_default();
            if let Some(addresses) = given.get(&host) {
                own = KnownAddresses {
                    v4: Some(addresses.clone()),
                    v6: None,
                };
                return (host, own, None, None);
            }
            if clock::now() >= end {
                let why =
                    format!("{host} was not asked for any more: the targets before took too long");
                return (host, own, None, Some(SourceError::new(why)));
            }
            let (v4, v6) = tokio::join!(client.addresses_v4(&host), client.addresses_v6(&host));
            match both_families(v4, v6, &mut own) {
                Ok((found, failure)) => (host, own, Some(found.ttl), failure),
                Err(error) => (host, own, None, Some(error)),
            }
        });
        let mut asked = asked.buffer_unordered(MAX_CONCURRENT);
        let (mut targets, mut addresses) = (HashMap::new(), HashMap::new());
        let (mut ttl, mut failure) = (found.ttl, None);
        while let Some((host, own, own_ttl, error)) = asked.next().await {
            ttl = ttl.min(own_ttl.unwrap_or(ttl));
            failure = error.or(failure);
            addresses.insert(host.clone(), own.all());
            targets.insert(host, own);
        }
        drop(asked);
        if addresses.values().all(Vec::is_empty)
            && let Some(error) = failure
        {
            return Err(error);
        }
        let set = service_backends(&found.records, &addresses);
        known.targets = targets;
        Ok(FoundBackends { set, ttl, failure })
    }
}

/// Joins the addresses of both families. A family whose lookup has failed keeps its known addresses.
fn both_families(
    v4: Result<FoundRecords<IpAddr>, SourceError>,
    v6: Result<FoundRecords<IpAddr>, SourceError>,
    known: &mut KnownAddresses,
) -> Result<(FoundRecords<IpAddr>, Option<SourceError>), SourceError> {
    let (v4, v6) = match (v4, v6) {
        (Err(error), Err(_)) => return Err(error),
        both => both,
    };
    let (mut all, mut failure) = (FoundRecords::none(), None);
    for (found, kept) in [(v4, &mut known.v4), (v6, &mut known.v6)] {
        match found {
            Ok(found) => {
                // A family without addresses does not limit how long the other one's are valid.
                if !found.records.is_empty() {
                    all.ttl = all.ttl.min(found.ttl);
                }
                all.records.extend(&found.records);
                *kept = Some(found.records);
            }
            Err(error) => {
                all.records.extend(kept.iter().flatten());
                failure = Some(error);
            }
        }
    }
    Ok((all, failure))
}

#[async_trait]
impl DiscoverySource for DnsSource {
    async fn follow(&self, reports: &SourceReporter) -> SourceError {
        let mut known = KnownRecords::default();
        let mut pause = GrowingPause::default();
        let (shortest, longest) = (self.config.min_ttl, self.config.max_ttl);
        loop {
            let next = match self.look_up(&mut known).await {
                Ok(found) => {
                    // A failed lookup of one family is no failure of the source, unless there are no addresses at all.
                    let is_whole = found.failure.is_none();
                    let is_empty = found.set.is_empty();
                    match found.failure {
                        Some(error) if is_empty => reports.fail(error).await,
                        _ => reports.answer(found.set).await,
                    }
                    if is_whole && !is_empty {
                        pause.reset();
                        jittered_period(found.ttl.clamp(shortest, longest))
                    } else if is_empty {
                        pause.next(fastrand::f64()).clamp(shortest, longest)
                    } else {
                        jittered_period(found.ttl.clamp(shortest, longest))
                    }
                }
                Err(error) => {
                    reports.fail(error).await;
                    pause.next(fastrand::f64()).clamp(shortest, longest)
                }
            };
            clock::sleep(next).await;
        }
    }
}

#[cfg(test)]
mod tests;
