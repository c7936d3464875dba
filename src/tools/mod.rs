//! Beside the proxy, each with a command of its own in [`cli`](crate::cli):
//! - [`exec`] launches an app and drains it before it stops, [`roll`] restarts a pool;
//! - [`doctor`] reads supervisors' configurations, [`import`] other proxies', both with `tree`;
//! - [`report`] is the account of restarts, [`demo`] shows what all of it is for;
//! - [`keeper`] keeps the proxy's sockets when it is killed, [`stand_in`] a process id after an upgrade.

pub mod demo;
pub mod doctor;
pub mod exec;
pub mod import;
pub mod keeper;
pub mod report;
pub mod roll;
pub mod stand_in;
mod tree;
