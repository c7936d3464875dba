//! What the test binaries share. One module, one concept:
//!
//! * [`proxy`]: a proxy process between scripted clients ([`wire`]) and scripted backends ([`backend`]);
//! * [`broken_streams`]: standard streams that nobody reads, or that are closed or full;
//! * [`h2_client`]: a client of HTTP/2 that keeps its rules; [`frames`] and [`hpack`]: one that can break each of them;
//! * [`certificates`]: authorities and what they sign; [`collector`]: a receiver of traces;
//! * [`peers`]: nginx and HAProxy; [`results`]: the figures of `make prove`;
//! * [`ports`]: addresses for programs that can't bind to port 0;
//! * [`oracle`]: instances of the demo's app, and the account of a load on them or on apps that somebody else started;
//! * [`kubernetes`]: an API server with EndpointSlices, and what goes wrong with one;
//! * [`process`]: what `/proc` says of a process; [`descriptors`]: what one is started with;
//! * [`test`](macro@test): the attribute of tests; [`standstill`]: what it does about a machine that stands still;
//! * [`setting`]: whether the run is a short one or for the figures, and what to do about what is missing;
//! * [`place`]: the binary under test, and what `tests/setup.sh` has fetched;
//! * [`wait`]: waits for what nothing announces.
//!
//! A test that needs a proxy with the demo's apps and the oracle takes `lameduck::tools::demo`, which this crate adds to.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_errors_doc,
    reason = "it is how a test fails"
)]

pub mod backend;
pub mod broken_streams;
pub mod certificates;
pub mod collector;
pub mod descriptors;
pub mod frames;
pub mod h2_client;
pub mod hpack;
pub mod kubernetes;
pub mod oracle;
pub mod pages;
pub mod peers;
pub mod place;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod results;
pub mod setting;
pub mod standstill;
pub mod wait;
pub mod wire;

pub use lameduck_rig_macros::test;
