//! `lameduck top`: the dashboard's content in a terminal.
//!
//! `answers` asks each proxy once a second, and at once after an event. `model` keeps the answers and their history.
//! `picture` is what can be shown at one moment, `screen` is what the user has selected, and `view` draws the picture
//! accordingly. `live` is the main loop.

#[cfg(feature = "top")]
mod answers;
#[cfg(feature = "top")]
mod change;
#[cfg(feature = "top")]
mod counts;
#[cfg(feature = "top")]
mod history;
#[cfg(feature = "top")]
mod input;
#[cfg(feature = "top")]
mod live;
#[cfg(feature = "top")]
mod model;
#[cfg(feature = "top")]
mod picture;
#[cfg(feature = "top")]
mod plain;
#[cfg(feature = "top")]
#[cfg(test)]
mod sample;
#[cfg(feature = "top")]
mod screen;
#[cfg(feature = "top")]
mod terminal;
#[cfg(feature = "top")]
mod view;
#[cfg(feature = "top")]
mod words;

use clap::Args;

use super::exit::Exit;
use crate::client::admin_args::AdminArgs;

/// Options of `lameduck top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Begin with this as the filter: backends whose pool, name, state or address has it
    pub filter: Option<String>,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
#[cfg(feature = "top")]
pub async fn run_top(args: TopArgs) -> Result<(), Exit> {
    if crate::rt::output::stdout_is_terminal() {
        return live::show_live(args.connect.clients()?, args.filter).await;
    }
    plain::print_once(&args.connect, args.filter).await
}

/// Reports that this build lacks the command.
///
/// # Errors
/// Always.
#[cfg(not(feature = "top"))]
pub async fn run_top(args: TopArgs) -> Result<(), Exit> {
    let _ = (args.filter, args.connect);
    Err(Exit::failed(
        "this lameduck was built without the feature `top`; `lameduck status --watch` shows the same as a table",
    ))
}
