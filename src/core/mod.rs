//! The decisions, pure: `std` only, no async, no socket, no clock. Time and randomness are arguments.
//!
//! [`backend`] is the centre: one backend's health × drains and the single function that derives its state; what goes
//! in and comes out of it is in [`event`] and [`drain`]. [`pool`] holds the backends of one app and their deadlines.
//!
//! A request:
//! * [`split`] shares requests out over pools, and [`split_plan`] moves the shares, and goes back;
//! * [`rate`] says which requests come too fast, [`quiet`] when no more will come;
//! * [`balance`] picks a backend, [`sticky`] keeps sessions with theirs, [`outlier`] leaves one out for a while;
//! * [`retry`] (with its [`budget`]) and [`hold`] judge what becomes of a request that lost its backend or found none, and
//!   [`pause`] what a paused pool does with it;
//! * [`files`] is what a request for a file asks for, [`preference`] what its client likes best (`Accept…`);
//! * [`field_names`] knows a header field in any spelling, [`cookies`] reads `Cookie`, [`uri`] percent-encodes.
//!
//! Beside the proxy:
//! * [`restart`] records what happened in a restart;
//! * [`roll`] restarts backends one after the other;
//! * [`launch`] is what a launcher does about its app;
//! * [`revival`] is what a keeper does about the proxy;
//! * [`supervisor_word`] derives drains of backends from what supervisors report;
//! * [`discovery`] judges which backends external sources name;
//! * [`trace_context`] reads which trace a request is part of, and decides which are recorded;
//! * [`call_status`] names the status of a gRPC call;
//! * [`moving`] decides which process goes on with a connection that moves;
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

/// A point in time: what has passed since an origin of the caller's choosing (the process's start).
///
/// The core never reads a clock; whoever calls it says what time it is.
pub type Time = std::time::Duration;
