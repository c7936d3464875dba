//! `lameduck import`: other proxies' configurations, read and written as lameduck's.

pub mod nginx;
pub mod notice;
