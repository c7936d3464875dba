#![allow(clippy::unwrap_used)]
//! The registry with everything real but the probes, whose results the tests make up.

mod drains;
mod faults;
mod held;
mod kept;
mod leases;
mod lifted;
mod registered;
mod reload;
mod rig;
mod worlds;
