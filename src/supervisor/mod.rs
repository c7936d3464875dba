//! What faces supervisors: what lameduck tells the one above it, and what it does with the ones of the apps.
//!
//! [`notify`] speaks sd_notify(3). [`roll`] restarts the backends of a pool through their supervisor's own
//! command.

pub mod notify;
pub mod roll;
