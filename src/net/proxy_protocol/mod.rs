//! The header in front of a connection that says who it is for (HAProxy's specification, version 2.2): [`read`] from
//! proxies in front, and [`write`](mod@write) to backends.

pub mod read;
pub mod write;
