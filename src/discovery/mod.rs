//! Backends from external sources: a file, DNS, Docker and Kubernetes are followed, and what they say goes to the
//! registry.
//!
//! A source is a [`DiscoverySource`]: it follows the file or service that knows the backends, and reports each answer
//! as a whole, through a [`SourceReporter`]. It decides nothing. `follow` judges the answers
//! ([`core::discovery`](crate::core::discovery)), hands what is in force to the registry, and starts a source again
//! that has failed or panicked; what was known stays. `sources` starts and stops them as the configuration has it.

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

/// Longest reason of a source that is kept and shown, in characters: it may contain text from an untrusted peer.
const MAX_REASON: usize = 500;

/// Why a source can't say which backends there are: what, where and why, in one line for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SourceError(String);

impl SourceError {
    /// With this reason.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        let plain = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self(plain.take(MAX_REASON).collect())
    }
}

/// A source of backends.
#[async_trait]
pub trait DiscoverySource: Send + Sync {
    /// Follows the source for as long as it can be followed, and reports each answer: all backends that there are, each
    /// time. What can't be asked for a moment is reported with [`SourceReporter::fail`], and asked again.
    ///
    /// Returns only when it can't go on, with the reason; it is called again after a pause that grows, with jitter. It is
    /// dropped when the configuration no longer has it: every await is a place where it may end. A panic is as good as a
    /// return.
    async fn follow(&self, reports: &SourceReporter) -> SourceError;
}

/// The source that a section names, in the pool of this name.
///
/// # Errors
/// When it can't be made of what the section says, or is not built in.
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

/// Never reached: such a configuration is refused.
#[cfg(not(all(feature = "dns", feature = "docker", feature = "kubernetes")))]
fn not_built(config: &DiscoveryConfig) -> SourceError {
    let kind = config.source.kind;
    SourceError::new(format!(
        "this lameduck was built without `type = \"{kind}\"`"
    ))
}
