//! The registry: the only writer of the state of backends.
//!
//! Events go in (from probes, the API, the configuration and the data plane); a new [`snapshot::Snapshot`], changes
//! of gates, evictions and announcements come out. All other code uses a [`handle::RegistryHandle`].
//!
//! Where to make a change:
//! - requests to the registry: the method in [`handle`], its message in `command`, the types of both bodies in
//!   `request`, within the limits of [`bounds`];
//! - their execution: `writer` is the task that processes one message after the other; `apply` adds and removes
//!   pools and backends, as the configuration, [`lease`], `discovery` or [`supervised`] ask for;
//! - state: `pool` and, in it, `backend_entry`; [`persist`] for the part that outlives the process, [`hand_over`]
//!   for the part that another lameduck gets;
//! - what a request reads: [`snapshot`], with [`routes`] and [`splits`]; state that is shared with the data plane, in
//!   atomics: [`endpoint`];
//! - what operators see: [`view`] and the other `…_view`, `changes`, [`restart_board`]; `announcing` answers requests
//!   that wait.

mod announcing;
mod apply;
mod backend_entry;
pub mod bounds;
mod changes;
mod command;
mod discovery;
mod discovery_view;
pub mod endpoint;
mod error;
pub mod event_kind;
pub mod hand_over;
pub mod handed;
pub mod handle;
mod hold_release;
mod in_flight_view;
mod kept_drains;
pub mod lease;
pub mod live_figures;
pub mod names;
mod observer;
mod outliers;
mod own_key;
pub mod own_listeners;
mod owner;
pub mod pause;
pub mod persist;
pub mod plan_view;
mod pool;
mod pool_views;
pub mod probing;
mod request;
pub mod restart_board;
mod restart_latency;
pub mod restart_view;
mod restart_watch;
mod restarts;
mod roll;
pub mod routes;
pub mod saves;
mod sessions;
pub mod snapshot;
mod split_plans;
pub mod splits;
pub mod sticky;
pub mod supervised;
pub mod unattended;
pub mod view;
mod writer;

pub use discovery::AppliedSet;
pub use endpoint::{BackendKey, Endpoint};
pub use handle::{RegistryError, RegistryHandle};
pub use observer::RegistryObserver;
pub use roll::RollPermit;
pub use writer::{spawn, take_over};
