//! `lameduck reload`: has the proxy read its configuration again.

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AnswerWait};
use crate::rt::output::printable;

/// Options of `lameduck reload`.
#[derive(Debug, Clone, Args)]
pub struct ReloadArgs {
    /// Print what changed as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reloaded {
    changes: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The command failed, for example because the configuration was refused: exit code and message.
pub async fn run_reload(args: ReloadArgs) -> Result<(), Exit> {
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| reload(client, voice, args.json).await,
    )
    .await
}

async fn reload(client: &AdminClient, voice: &ProxyVoice, json: bool) -> Result<(), Exit> {
    let path = "/v1/config/reload";
    let reloaded: Reloaded = client
        .call(Method::POST, path, None::<&Value>, AnswerWait::Short)
        .await?;
    if json {
        voice.print_json(&reloaded);
    } else if reloaded.changes.is_empty() {
        voice.print("reloaded: nothing changed");
    } else {
        let lines: Vec<String> = reloaded
            .changes
            .iter()
            .map(|line| printable(line))
            .collect();
        voice.print(&lines.join("\n"));
    }
    Ok(())
}
