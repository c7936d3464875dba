//! The registry: the one writer of what is known about backends.
//!
//! Events go in (probes, API, configuration, signals of the data plane); a new [`snapshot::Snapshot`], gate
//! moves, evictions and announcements come out. Everybody else holds a [`handle::Handle`].

mod apply;
pub mod bounds;
mod command;
pub mod counters;
pub mod endpoint;
pub mod handle;
mod kept_drains;
pub mod lease;
mod member;
pub mod names;
pub mod own_listeners;
mod owner;
pub mod persist;
mod pool;
pub mod probing;
mod release;
mod request;
mod restart_watch;
mod roll;
pub mod saves;
pub mod snapshot;
pub mod view;
mod writer;

pub use endpoint::{Endpoint, Key};
pub use handle::{Handle, Refusal};
pub use roll::RollPermit;
pub use writer::{Observer, spawn};
