//! The admin API: JSON over HTTP/1 on a unix socket and, where configured, on TCP.
//!
//! Read in this order: `router` is the map of paths; [`problem`] is what every error looks like; [`auth`]
//! says who may do what through which door, `origin` for which host, and `apps` what is left to apps; [`listen`] binds
//! the doors before traffic flows; `server` serves them, `places` says how many at once, `reserve` how when there are
//! no descriptors left. The rest is one file per group of paths. Everything that is known comes from the registry's
//! handle and from [`ProxyProcess`], which the composition root implements.

mod access;
mod apps;
pub mod auth;
mod backends;
mod body;
mod changes;
mod config;
mod dashboard;
mod encrypted;
mod events;
mod leases;
mod lifecycle;
pub mod listen;
mod metrics;
mod openapi;
mod origin;
mod peer;
mod places;
mod pools;
pub mod problem;
pub mod process;
mod reserve;
mod restarts;
mod roll;
mod router;
mod server;
mod shared_answer;
mod split_plans;
mod splits;
pub mod upgrade;
mod write_timeout;

use std::sync::Arc;

use tokio::sync::watch;

use crate::registry::RegistryHandle;
use origin::HostNames;
use shared_answer::SharedAnswer;

pub use auth::AdminToken;
pub use encrypted::load_tls;
pub use listen::{BoundDoors, bind};
pub use process::{ProxyProcess, QuietView};
pub use server::{DoorPhase, DoorSettings, serve};

/// What every handler can reach.
#[derive(Clone)]
struct AdminState {
    registry: RegistryHandle,
    process: Arc<dyn ProxyProcess>,
    token: Option<Arc<AdminToken>>,
    stop: watch::Receiver<bool>,
    door: AdminDoor,
    /// What `admin.http` is asked by, and browsers on the socket (through `ssh -L`, say).
    hosts: Option<Arc<HostNames>>,
    /// `admin.apps_pools`.
    apps_pools: Arc<[String]>,
    /// Of `/metrics`.
    scraped: SharedAnswer,
    /// Of `/v1/pools`.
    listed: SharedAnswer,
}

/// Through which listener a request came. It decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdminDoor {
    /// The unix socket: its file mode says who may connect, and who may connect may do everything.
    Unix,
    /// `admin.apps_socket`: for each user's apps their own instances, nothing else.
    Apps,
    /// `admin.http`.
    Http {
        /// Bound to a loopback address: reading is free.
        loopback: bool,
    },
    /// `admin.probes`: `/-/*` and `/metrics`, nothing else.
    Probes,
}

impl AdminDoor {
    /// Whether reading needs no token.
    fn reads_freely(self) -> bool {
        !matches!(self, AdminDoor::Http { loopback: false })
    }

    fn as_str(self) -> &'static str {
        match self {
            AdminDoor::Unix => "socket",
            AdminDoor::Apps => "apps_socket",
            AdminDoor::Http { .. } => "http",
            AdminDoor::Probes => "probes",
        }
    }
}
