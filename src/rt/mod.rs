//! What every thread and task of the process uses.
//!
//! - [`children`]: processes that this one starts, and those that become its own.
//! - [`clock`]: the one clock, and timers that work on every thread.
//! - [`owned_task`]: a task that ends with its owner.
//! - [`worker`]: which data thread this is. `coop`: how the connections of a thread take turns.
//! - [`shutdown_signal`]: how open connections are asked to end.
//! - [`panics`]: limits the damage of a panic. [`vitals`]: whether the process is alive.
//! - [`output`]: the standard streams, which no other module uses. [`html`]: escaping of text for HTML pages.
//! - [`files`]: files in places where other users can write, [`empty_file`]: a file that is always empty. [`groups`]:
//!   groups of users. [`rooted`]: files that clients may name; [`page_cache`]: which parts of them are in memory.
//! - [`process_signals`]: signals that control the proxy. [`signal_number`]: signals as other programs write them.
//!   [`syscall`]: what neither std nor tokio offers.

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
