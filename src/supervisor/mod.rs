//! What faces supervisors: what lameduck tells the one above it, and what it does for the ones of the apps.
//!
//! [`notify`] speaks sd_notify(3); [`exec`] is the launcher.

pub mod exec;
pub mod notify;
