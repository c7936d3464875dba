//! Beside the proxy: [`exec`] launches an app and drains it before it stops, [`roll`] restarts a pool, [`keeper`] keeps the proxy's sockets when it is killed, [`doctor`] reads
//! supervisors' configurations, [`import`] other proxies', and [`demo`] shows what all of it is for.

pub mod demo;
pub mod doctor;
pub mod exec;
pub mod import;
pub mod keeper;
pub mod roll;
mod tree;
