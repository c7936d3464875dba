//! `lameduck import`: other proxies' configurations, read and written as lameduck's.
//!
//! Each of them is planned into a [`draft`], which [`writer`] writes down. [`offered`] says which keys there are.

pub mod draft;
pub mod nginx;
pub mod notice;
pub mod offered;
pub mod writer;
