//! The admin API: JSON over HTTP/1 on a unix socket and, where configured, on TCP.
//!
//! Read in this order: `router` maps paths to handlers; [`problem`] is the format of errors; [`auth`] decides what a
//! caller may do through which listener (called a door), `origin` for which host names, and `apps` what apps may do;
//! [`listen`] binds the listeners before traffic arrives; `server` serves them, `places` limits their connections,
//! and `reserve` keeps descriptors for them. The rest is one file per group of paths. All data comes from the
//! registry's handle and from [`ProxyProcess`], which the composition root implements.

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

/// The state that every handler can use.
#[derive(Clone)]
struct AdminState {
    registry: RegistryHandle,
    process: Arc<dyn ProxyProcess>,
    token: Option<Arc<AdminToken>>,
    stop: watch::Receiver<bool>,
    door: AdminDoor,
    /// The host names under which `admin.http` may be addressed, and, for requests from browsers, the socket (for
    /// example through `ssh -L`).
    hosts: Option<Arc<HostNames>>,
    /// `admin.apps_pools`.
    apps_pools: Arc<[String]>,
    /// The shared response of `/metrics`.
    scraped: SharedAnswer,
    /// The shared response of `/v1/pools`.
    listed: SharedAnswer,
}

/// The listener through which a request came. It decides what the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdminDoor {
    /// The unix socket: its file mode decides who may connect, and everybody who may connect may do everything.
    Unix,
    /// `admin.apps_socket`: each user may manage the instances of their own apps, and nothing else.
    Apps,
    /// `admin.http`.
    Http {
        /// Whether it is bound to a loopback address: then reading needs no token.
        loopback: bool,
    },
    /// `admin.probes`: `/-/*` and `/metrics`, nothing else.
    Probes,
}

impl AdminDoor {
    /// Returns whether reading needs no token.
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
