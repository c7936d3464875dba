//! What faces supervisors: what lameduck tells the one above it, and what it does with the ones of the apps.
//!
//! [`notify`] speaks sd_notify(3). [`roll`] restarts the backends of a pool through their supervisor's own
//! command. [`exec`] is the launcher. [`service`] is the proxy as a service itself; [`reap`] are the duties of process 1.

pub mod exec;
pub mod notify;
pub mod reap;
pub mod roll;
pub mod service;
