//! The admin API: JSON over HTTP/1 on a unix socket and, where configured, on TCP.
//!
//! Read in this order: `router` is the map of paths; [`problem`] is what every error looks like; [`auth`]
//! says who may do what through which door; [`listen`] binds the doors before traffic flows; `server`
//! serves them. The rest is one file per group of paths. Everything that is known comes from the registry's
//! handle and from [`Process`], which the composition root implements.

pub mod auth;
mod backends;
mod body;
mod config;
mod events;
mod leases;
mod lifecycle;
pub mod listen;
mod metrics;
mod openapi;
mod pools;
pub mod problem;
pub mod process;
mod roll;
mod router;
mod server;
mod stall;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::registry::Handle;

pub use auth::Token;
pub use listen::{Bound, bind};
pub use process::Process;
pub use server::serve;

/// What every handler can reach.
#[derive(Clone)]
struct Admin {
    registry: Handle,
    process: Arc<dyn Process>,
    token: Option<Arc<Token>>,
    stop: watch::Receiver<bool>,
    /// Leases have places of their own: each takes a connection for as long as its app runs.
    leases: Arc<Semaphore>,
}

/// Through which listener a request came. It decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The unix socket: its file mode says who may connect, and who may connect may do everything.
    Unix,
    /// `admin.http`.
    Http {
        /// Bound to a loopback address: reading is free.
        loopback: bool,
    },
    /// `admin.probes`: `/-/*` and `/metrics`, nothing else.
    Probes,
}
