//! Backends from Kubernetes' EndpointSlices: the source against an API server with everything that goes wrong with one
//! (`lameduck_rig::kubernetes`) and against PyPI's kmock, and the whole proxy in front of pods.
#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod cluster;
mod faults;
mod following;
mod kmock;
mod listener;
mod real_apps;
mod shown;
mod thousand;
