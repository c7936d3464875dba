//! Backends from external sources (a file, DNS, Docker, Kubernetes). Sources are followed, and their answers go to the
//! registry.
//!
//! A source is a [`DiscoverySource`]: it follows the file or service that knows the backends, and reports each complete
//! answer through a [`SourceReporter`]. It decides nothing. `follow` judges the answers
//! ([`core::discovery`](crate::core::discovery)), hands the set in force to the registry, and restarts sources that
//! have failed or panicked; meanwhile known backends stay. `sources` starts and stops sources as configured.

mod backoff;
#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "docker")]
mod docker;
pub mod file;
mod follow;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod names;
mod reporter;
mod sources;

use async_trait::async_trait;
use thiserror::Error;

pub use reporter::{SourceReport, SourceReporter};
pub use sources::keep_sources;

use crate::config::{DiscoveryConfig, DiscoveryKind};

/// Longest reason of a source that is kept and shown, in characters, because it may contain text from an untrusted
/// peer.
const MAX_REASON: usize = 500;

/// Reason why a source can't report backends: what, where and why, in one line for users.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SourceError(String);

impl SourceError {
    /// An error with this reason.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        let plain = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self(plain.take(MAX_REASON).collect())
    }
}

/// A source of backends.
#[async_trait]
pub trait DiscoverySource: Send + Sync {
    /// Follows the source for as long as possible, and reports each answer, always with all backends. If the source
    /// can't be asked for a moment, it reports that with [`SourceReporter::fail`], and asks again.
    ///
    /// Returns only if it can't go on, with the reason; it is called again after a pause that grows, with jitter. It is
    /// dropped when the source is no longer configured, so it may end at every await. A panic has the same effect as a
    /// return.
    async fn follow(&self, reports: &SourceReporter) -> SourceError;
}

/// The source for this section of the pool with this name.
///
/// # Errors
/// The section can't be used, or this kind of source is not compiled in.
pub fn open_source(
    pool: &str,
    config: &DiscoveryConfig,
) -> Result<Box<dyn DiscoverySource>, SourceError> {
    let _ = pool;
    match config.source.kind {
        DiscoveryKind::File => {
            let path = config.source.path.clone();
            let path = path.ok_or_else(|| SourceError::new("it has no `path`"))?;
            Ok(Box::new(file::FileSource::new(path)))
        }
        #[cfg(feature = "dns")]
        DiscoveryKind::Dns => Ok(Box::new(dns::DnsSource::new(&config.source)?)),
        #[cfg(not(feature = "dns"))]
        DiscoveryKind::Dns => Err(not_built(config)),
        #[cfg(feature = "kubernetes")]
        DiscoveryKind::Kubernetes => Ok(Box::new(kubernetes::KubernetesSource::open(
            &config.source,
        )?)),
        #[cfg(not(feature = "kubernetes"))]
        DiscoveryKind::Kubernetes => Err(not_built(config)),
        #[cfg(feature = "docker")]
        DiscoveryKind::Docker => Ok(Box::new(docker::DockerSource::new(pool, &config.source)?)),
        #[cfg(not(feature = "docker"))]
        DiscoveryKind::Docker => Err(not_built(config)),
    }
}

/// Never called, because such a configuration is refused.
#[cfg(not(all(feature = "dns", feature = "docker", feature = "kubernetes")))]
fn not_built(config: &DiscoveryConfig) -> SourceError {
    let kind = config.source.kind;
    SourceError::new(format!(
        "this lameduck was built without `type = \"{kind}\"`"
    ))
}
