//! The header in front of a connection that names its client (HAProxy's specification, version 2.2): [`read`] from
//! proxies in front, and [`write`](mod@write) to backends.

pub mod read;
pub mod write;
