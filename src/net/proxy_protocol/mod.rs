//! The PROXY protocol (HAProxy's specification, version 2.2): a header at the start of a connection that names its
//! client. [`read`] is for headers from proxies in front, [`write`](mod@write) for those to backends.

pub mod read;
pub mod write;
