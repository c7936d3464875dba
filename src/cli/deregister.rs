//! `lameduck deregister`: drain a registered backend, then remove it.

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;

use super::drain::{DrainCall, drain_answer_wait, reason_by_default, time_left};
use super::exit::Exit;
use super::fleet::{AbsentProxy, ask_all, check_alive};
use crate::client::admin_args::AdminArgs;
use crate::client::http::AdminRequest;
use crate::client::names::{BackendName, backend, duration, segment};

/// Options of `lameduck deregister`.
#[derive(Debug, Clone, Args)]
pub struct DeregisterArgs {
    /// The backend, for example app/app-1
    #[arg(value_name = "POOL/NAME", value_parser = backend)]
    pub backend: BackendName,
    /// Cut what is still in flight after this long [default: the pool's drain.deadline]
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_TIMEOUT", value_parser = duration)]
    pub timeout: Option<String>,
    /// Print the answer as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_deregister(args: DeregisterArgs) -> Result<(), Exit> {
    let asked = |after| {
        let timeout = time_left(args.timeout.as_deref(), after);
        let wait = drain_answer_wait(timeout.as_deref());
        let query: Vec<String> = [("timeout", timeout), ("reason", reason_by_default())]
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", segment(&value?))))
            .collect();
        AdminRequest {
            method: Method::DELETE,
            path: format!("{}?{}", args.backend.path(), query.join("&")),
            body: None,
            wait,
        }
    };
    ask_all(
        &args.connect,
        AbsentProxy::Warned,
        args.json,
        async |client, voice| {
            check_alive(client).await?;
            let call = DrainCall {
                client,
                voice,
                backend: &args.backend,
                verb: "deregister",
                json: args.json,
            };
            let answer = call.wait(asked).await?;
            call.conclude(&answer)
        },
    )
    .await
}
