//! The decisions, pure: `std` only, no async, no sockets, no clock. Time and randomness are arguments.
//!
//! [`backend`] is the centre: one backend's health × drains and the single function that derives its state; its input
//! and output are in [`event`] and [`drain`]. [`pool`] holds the backends of one app and their deadlines.
//!
//! A request:
//! * [`split`] distributes requests over pools, and [`split_plan`] moves the shares, and back if needed;
//! * [`rate`] limits the rate of requests, [`quiet`] decides when no more will come;
//! * [`balance`] picks a backend, [`sticky`] binds sessions to backends, [`outlier`] ejects a backend for a while;
//! * [`retry`] (with its [`budget`]) and [`hold`] decide about a request that lost its backend or found none, and
//!   [`pause`] about requests to a paused pool;
//! * [`files`] judges requests for files, [`preference`] what clients prefer (`Accept…`);
//! * [`field_names`] finds a header field in any spelling, [`cookies`] parses `Cookie`, [`uri`] percent-encodes.
//!
//! Beside the proxy:
//! * [`restart`] records what happened in a restart;
//! * [`roll`] restarts backends one after the other;
//! * [`launch`] is what a launcher does about its app;
//! * [`revival`] is what a keeper does about the proxy;
//! * [`supervisor_word`] derives drains of backends from what supervisors report;
//! * [`discovery`] judges which backends external sources name;
//! * [`trace_context`] parses the trace that a request is part of, and decides which are recorded;
//! * [`call_status`] names the status of a gRPC call;
//! * [`moving`] decides which process continues with a connection that moves;
//! * [`upgrade`] is how one lameduck takes over from another.

pub mod backend;
pub mod balance;
pub mod budget;
pub mod call_status;
mod closing;
pub mod cookies;
pub mod discovery;
pub mod drain;
pub mod event;
pub mod field_names;
pub mod files;
mod health;
pub mod hold;
pub mod launch;
mod losses;
pub mod moving;
pub mod outlier;
pub mod path_outline;
pub mod pause;
pub mod pool;
pub mod preference;
pub mod quiet;
pub mod rate;
pub mod renewal;
pub mod restart;
pub mod retry;
pub mod revival;
pub mod roll;
pub mod split;
pub mod split_plan;
mod state;
pub mod sticky;
pub mod supervisor_word;
pub mod trace_context;
pub mod upgrade;
pub mod uri;

/// A point in time: the time since an origin that the caller chooses (the start of the process).
///
/// The core never reads a clock; the caller passes the time.
pub type Time = std::time::Duration;
