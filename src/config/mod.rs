//! Configuration: the file as people write it, what is wrong with it, and the run-time form of it.
//!
//! In reading order: [`runtime`] is what the rest of the program sees; [`schema`] lists every key with its
//! meaning and default; `file` turns TOML into run-time values and `validate` checks how they fit together,
//! both collecting every error on the way; [`mod@load`] is the front door. [`mod@print`] is the way back to TOML,
//! [`mod@diff`] what a reload changes.
//!
//! The TOML is walked as a tree of spanned values rather than through serde: serde stops at the first error,
//! and somebody with three mistakes should see three.

pub mod address;
mod admin;
mod backend_names;
mod declare;
mod defaults;
mod dependent_defaults;
pub mod diagnostics;
pub mod diff;
pub mod duration;
mod environment;
mod excerpt;
mod file;
mod forms;
pub mod from_args;
mod health;
mod keys;
mod later;
mod listener;
pub mod load;
pub mod own_address;
pub(crate) mod plain_file;
mod ports;
pub mod print;
mod reader;
mod routes;
pub mod runtime;
pub mod schema;
mod sections;
pub mod size;
mod suggest;
mod syntax;
mod upstream_tls;
mod validate;
mod values;

pub(crate) use diagnostics::tame;
pub use diagnostics::{ConfigError, Diagnostic, Report, Severity};
pub use diff::{Change, Diff, diff};
pub(crate) use environment::plain;
pub use from_args::{Flags, resolve};
pub use load::{DEFAULT_PATHS, Loaded, load, parse};
pub(crate) use routes::MAX_PREFIX;
pub use runtime::*;
pub use values::check_name;
