//! `lameduck register`: adds a running backend, or changes its address.

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;

use super::exit::Exit;
use super::fleet::{AbsentProxy, ask_all};
use super::resume::{ReadyWait, ready_wait, report, say_what_holds_up};
use crate::client::admin_args::AdminArgs;
use crate::client::http::AdminRequest;
use crate::client::names::{BackendName, backend};
use crate::registry::view::{BackendView, RegisterRequest};

/// Options of `lameduck register`.
#[derive(Debug, Clone, Args)]
pub struct RegisterArgs {
    /// The backend, for example app/app-1
    #[arg(value_name = "POOL/NAME", value_parser = backend)]
    pub backend: BackendName,
    /// Where it listens: HOST:PORT or unix:/PATH
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Its share of the requests [default: 1]
    #[arg(long, value_name = "N", env = "LAMEDUCK_WEIGHT", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub weight: Option<u32>,
    /// It is a backup: it gets requests only while no other is ready
    #[arg(long, env = "LAMEDUCK_BACKUP", value_parser = FalseyValueParser::new())]
    pub backup: bool,
    /// Where it is, such as a data centre: backends in the proxy's own zone come first
    #[arg(long, value_name = "ZONE", env = "LAMEDUCK_ZONE")]
    pub zone: Option<String>,
    #[command(flatten)]
    ready: ReadyWait,
    /// Print the backend as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_register(args: RegisterArgs) -> Result<(), Exit> {
    let asked = args.ready.asked();
    let request = RegisterRequest {
        address: args.address,
        weight: args.weight,
        backup: args.backup,
        zone: args.zone,
        wait: None,
    };
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| {
            let call = client.call_across_upgrades(|after| {
                let (left, wait) = ready_wait(asked.as_deref(), after);
                let request = RegisterRequest {
                    wait: left,
                    ..request.clone()
                };
                AdminRequest::with_body(Method::PUT, args.backend.path(), &request, wait)
            });
            let view: BackendView = say_what_holds_up(client, voice, &args.backend, call).await?;
            report(voice, &args.backend, &view, args.json);
            Ok(())
        },
    )
    .await
}
