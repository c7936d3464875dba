//! The set of public addresses, kept in agreement with the configuration.

use std::net::SocketAddr;
use std::sync::Arc;

use super::listener::{BindError, Bound, Listener};
use super::threads::Threads;
use crate::activation::Inherited;
use crate::config;
use crate::proxy::plane::Plane;

/// The public addresses that are served.
pub struct Listeners {
    threads: Arc<Threads>,
    plane: Arc<Plane>,
    open: Vec<Listener>,
    inherited: Arc<Inherited>,
}

/// What a configuration adds, bound already, and what it drops.
pub struct Change {
    add: Vec<Bound>,
    keep: Vec<SocketAddr>,
}

impl Listeners {
    /// None yet; they will run on these threads.
    pub fn new(threads: Arc<Threads>, plane: Arc<Plane>) -> Self {
        Self {
            threads,
            plane,
            open: Vec::new(),
            inherited: Arc::default(),
        }
    }

    /// The same, with sockets that the supervisor has bound: they are used where they fit.
    pub fn inheriting(mut self, inherited: Arc<Inherited>) -> Self {
        self.inherited = inherited;
        self
    }

    /// Binds what is new, without touching what is there: a bad configuration changes nothing.
    pub fn prepare(&self, wanted: &[config::Listener]) -> Result<Change, BindError> {
        // By address: other options of an address that is listened on need a restart.
        let has = |listener: &&config::Listener| {
            let mut open = self.open.iter();
            open.any(|open| open.config().address == listener.address)
        };
        let add = wanted
            .iter()
            .filter(|listener| !has(listener))
            .map(|listener| match self.inherited.tcp(listener.address) {
                Some(socket) => Ok(Bound::inherit(listener, socket)),
                None => Bound::bind(listener),
            });
        Ok(Change {
            add: add.collect::<Result<_, _>>()?,
            keep: wanted.iter().map(|listener| listener.address).collect(),
        })
    }

    /// Serves what is new, and stops what is no longer wanted.
    pub async fn apply(&mut self, change: Change) -> std::io::Result<()> {
        for bound in change.add {
            self.open.push(bound.start(&self.threads, &self.plane)?);
        }
        let (keep, drop): (Vec<_>, Vec<_>) = self
            .open
            .drain(..)
            .partition(|open| change.keep.contains(&open.config().address));
        self.open = keep;
        for listener in drop {
            listener.stop().await;
        }
        Ok(())
    }

    /// Where they listen, with the real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.open.iter().map(Listener::address).collect()
    }

    /// Whether the data plane's threads still have tasks: connections.
    pub fn have_tasks(&self) -> bool {
        self.threads.have_tasks()
    }

    /// Stops accepting everywhere.
    pub async fn stop(&mut self) {
        for listener in self.open.drain(..) {
            listener.stop().await;
        }
    }
}
