#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
//! The registry with everything real but the probes, whose results the tests make up.

mod crowd;
mod discovered;
mod drains;
mod faults;
mod hand_over;
mod held;
mod kept;
mod leases;
mod lifted;
mod outliers;
mod pauses;
mod registered;
mod reload;
mod rig;
mod together;
mod worlds;
