//! Beside the proxy: [`exec`] launches an app and drains it before it stops, [`roll`] restarts a pool, [`keeper`] keeps the proxy's sockets when it is killed, [`doctor`] reads
//! supervisors' configurations, [`import`] other proxies', [`report`] is the account of restarts, [`demo`] shows what all of it is for, and [`stand_in`]
//! keeps a process id after an upgrade.

pub mod demo;
pub mod doctor;
pub mod exec;
pub mod import;
pub mod keeper;
pub mod report;
pub mod roll;
pub mod stand_in;
mod tree;
