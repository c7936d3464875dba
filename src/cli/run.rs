//! `lameduck run`: runs the proxy.

use std::path::PathBuf;

use clap::Args;
use clap::builder::FalseyValueParser;

use crate::app::signals::SignalThread;
use crate::app::upgrade::handing_over::ProxyEnd;
use crate::app::{self, RunOptions};
use crate::telemetry;

use crate::rt::output::{self, complain, error_colour, say};
use crate::tools::exec::footprint;
use crate::tools::keeper;
use crate::tools::stand_in::become_stand_in;
use crate::upgrade::taking::refuse_start;

/// Options of `lameduck run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file; by default ./lameduck.toml, then /etc/lameduck/lameduck.toml
    #[arg(short, long, value_name = "FILE", env = "LAMEDUCK_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where to listen, instead of what the file says; without a file, 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", env = "LAMEDUCK_LISTEN")]
    pub listen: Option<String>,
    /// A backend (repeatable): no file is needed then
    #[arg(
        long,
        value_name = "[NAME=]ADDR",
        env = "LAMEDUCK_BACKEND",
        value_delimiter = ','
    )]
    pub backend: Vec<String>,
    /// The path that `--backend`s are probed at; by default /health
    #[arg(long, value_name = "PATH", env = "LAMEDUCK_HEALTH_PATH")]
    pub health_path: Option<String>,
    /// Start a small process that keeps the listening sockets and starts the proxy again when it is killed
    #[arg(long, env = "LAMEDUCK_KEEPER", value_parser = FalseyValueParser::new())]
    pub keeper: bool,
    /// The admin socket, instead of what the file says
    #[arg(long, value_name = "PATH", env = "LAMEDUCK_ADMIN", value_parser = socket_path)]
    pub admin: Option<PathBuf>,
    /// Take over from the lameduck at the other end of standard input: `lameduck upgrade` starts a process with this
    #[arg(long, hide = true, env = "LAMEDUCK_TAKE_OVER", hide_env = true)]
    pub take_over: bool,
}

/// Commands accept a URL in `LAMEDUCK_ADMIN`, too; but the proxy can only create a socket.
fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(
            "write the path of a unix socket; TCP is [admin] http in the configuration".to_owned(),
        );
    }
    Ok(PathBuf::from(text))
}

/// Whether an option's value comes from this variable: it is set, and the option, which has priority, was not given.
fn by_environment(variable: &str) -> bool {
    let flag = variable.strip_prefix("LAMEDUCK_").unwrap_or(variable);
    let flag = format!("--{}", flag.to_lowercase());
    let typed = |argument: std::ffi::OsString| {
        let argument = argument.to_string_lossy();
        argument.split('=').next() == Some(flag.as_str())
    };
    std::env::var_os(variable).is_some() && !std::env::args_os().any(typed)
}

/// Runs the proxy; returns the exit code.
pub fn run_server(args: RunArgs) -> u8 {
    if args.keeper {
        footprint::reexec();
        output::use_no_thread();
        return keeper::run_keeper();
    }
    let signals = match SignalThread::start() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!(
                "can't start the thread that hears signals: {error}"
            ));
            return 1;
        }
    };
    let given = [
        ("LAMEDUCK_ADMIN", args.admin.is_some()),
        ("LAMEDUCK_LISTEN", args.listen.is_some()),
        ("LAMEDUCK_BACKEND", !args.backend.is_empty()),
    ];
    let variables = given
        .into_iter()
        .filter(|(name, given)| *given && by_environment(name));
    let options = RunOptions {
        variables: variables.map(|(name, _)| name).collect(),
        config: args.config,
        listen: args.listen,
        backends: args.backend,
        health_path: args.health_path,
        admin: args.admin,
        take_over: args.take_over,
    };
    let colour = error_colour();
    let loaded = match options.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            if options.take_over {
                refuse_start(&error.render(false));
            }
            say(&error.render(colour));
            return if error.is_usage() { 2 } else { 1 };
        }
    };
    say(&loaded.warnings.render(colour));
    telemetry::tracing::init();
    match app::run_proxy(options, loaded, &signals) {
        Ok(ProxyEnd::Stopped | ProxyEnd::HandedOver) => 0,
        Ok(ProxyEnd::SuccessorEnded(code)) => u8::try_from(code).unwrap_or(1),
        Ok(ProxyEnd::StandIn { pid, channel }) => {
            signals.stop_reading();
            // Pending output is written before this process executes another program.
            let code = crate::rt::output::finish(0);
            let error = become_stand_in(pid, &channel);
            complain(&format!(
                "can't stay for whoever waits for this process: {error}"
            ));
            code
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            1
        }
    }
}
