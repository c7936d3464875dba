//! What every thread and task of the process uses.
//!
//! - [`children`]: processes that this one starts, and those that become its own.
//! - [`clock`]: the one clock, and timers that work on every thread.
//! - [`owned_task`]: a task that ends with its owner.

pub mod children;
pub mod clock;
pub(crate) mod coop;
pub mod empty_file;
pub mod files;
pub mod groups;
pub mod html;
mod known_files;
pub mod output;
pub mod owned_task;
pub mod page_cache;
pub mod panics;
pub mod process_signals;
pub mod rooted;
pub mod shutdown_signal;
pub mod signal_number;
pub mod syscall;
pub mod vitals;
pub mod worker;
