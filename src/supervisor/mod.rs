//! Listening to supervisors: `[pool.supervisor]`. One task for each pool follows what its supervisor reports about the
//! backends' processes; [`core::supervisor_word`](crate::core::supervisor_word) decides about the effects, and the
//! registry applies them.
//!
//! A [`SupervisorSource`] handles one connection: it connects, subscribes, reads the state of each process, and then
//! reports events. It subscribes before it reads, so that nothing is missed in between. When the connection is lost,
//! the pool's task reports that, waits, and starts again: reading the state makes up for missed events.

mod axon;
#[cfg(feature = "docker")]
mod docker;
mod listener;
mod oxmgr;
mod place;
mod pm2;
mod service_files;
mod supervisord;
#[cfg(feature = "systemd")]
mod systemd;
mod watch_pools;
mod xml_rpc;

use async_trait::async_trait;
use thiserror::Error;

use crate::config::{SupervisorConfig, SupervisorKind};
pub use listener::WordListener;
pub use watch_pools::watch_supervisors;

/// Reason why a supervisor can't be reached.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SupervisorError(pub String);

impl SupervisorError {
    /// An error that says what was tried, and why it failed.
    fn of(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// A supervisor that reports the state of its processes.
#[async_trait]
pub trait SupervisorSource: Send {
    /// Connects, reports the state of each process of the listener and then that it has caught up, and goes on
    /// reporting events. Ends with its connection.
    ///
    /// # Errors
    /// Why the supervisor can't be reached (any more). It never ends without an error.
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError>;
}

/// The source for a configuration.
fn source_for(config: &SupervisorConfig) -> Box<dyn SupervisorSource> {
    let address = config.address.as_deref();
    match config.kind {
        #[cfg(feature = "systemd")]
        SupervisorKind::Systemd => Box::new(systemd::SystemdSource::new(address)),
        #[cfg(feature = "docker")]
        SupervisorKind::Docker => Box::new(docker::DockerEventSource::new(address)),
        SupervisorKind::Oxmgr => Box::new(oxmgr::OxmgrSource::new(address)),
        SupervisorKind::Pm2 => Box::new(pm2::Pm2Source::new(address)),
        SupervisorKind::Supervisord => Box::new(supervisord::SupervisordSource::new(
            address,
            config.poll_interval,
        )),
        SupervisorKind::S6 => Box::new(service_files::ServiceFiles::s6(address)),
        SupervisorKind::Runit => Box::new(service_files::ServiceFiles::runit(address)),
        #[cfg(not(all(feature = "systemd", feature = "docker")))]
        kind => Box::new(BuiltOut(kind)),
    }
}

/// A supervisor whose feature is not compiled in. Such a configuration is refused earlier.
#[cfg(not(all(feature = "systemd", feature = "docker")))]
struct BuiltOut(SupervisorKind);

#[cfg(not(all(feature = "systemd", feature = "docker")))]
#[async_trait]
impl SupervisorSource for BuiltOut {
    async fn listen(&mut self, _listener: &mut WordListener) -> Result<(), SupervisorError> {
        let kind = self.0.as_str();
        Err(SupervisorError(format!(
            "this lameduck was built without `{kind}`"
        )))
    }
}
