//! `lameduck exec`: runs an app under a lease, and drains it before it is stopped.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{Args, Command, FromArgMatches};

use crate::client::admin_args::AdminArgs;
use crate::client::names::{LameDuckArg, longest_day as time};
use crate::config::check_name;
use crate::core::launch::{DEFAULT_DRAIN, LONGEST_LAME_DUCK, LaunchPlan};
use crate::tools::exec::{self, ExecOptions};

/// Options of `lameduck exec`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: the app's own; 125 the launcher failed, 126 CMD can't be run, 127 CMD is not found. \
                  Where a signal killed the app, the launcher dies of the same one."
)]
pub struct ExecArgs {
    /// The pool that the app's instances are in
    #[arg(long, value_name = "POOL", env = "LAMEDUCK_POOL", value_parser = name, required_unless_present = "no_port")]
    pub pool: Option<String>,
    /// The instance's name [default: as its supervisor calls it, else POOL-PORT]
    #[arg(long, value_name = "NAME", env = "LAMEDUCK_NAME", value_parser = name)]
    pub name: Option<String>,
    /// The port that the app is told: a number, or a free one
    #[arg(long, value_name = "auto|N", env = "LAMEDUCK_PORT", default_value = "auto", value_parser = port)]
    pub port: PortArg,
    /// The variable that tells it
    #[arg(long, value_name = "VARIABLE", env = "LAMEDUCK_PORT_ENV", default_value = "PORT", value_parser = variable)]
    pub port_env: String,
    /// The app listens on no port: it is not registered, and its signals are passed on at once
    #[arg(long, env = "LAMEDUCK_NO_PORT", value_parser = FalseyValueParser::new())]
    pub no_port: bool,
    /// What is in flight at a stop gets this long; keep it below the supervisor's kill timeout
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_DRAIN_TIMEOUT", default_value = DEFAULT_DRAIN, value_parser = time)]
    pub drain_timeout: Duration,
    /// At a stop, make the proxy lame duck for this long first, or until nothing new comes: for a proxy that serves
    /// this app alone, and stops with it
    #[arg(
        long,
        value_name = "DURATION|auto",
        env = "LAMEDUCK_LAME_DUCK",
        default_value = "0s"
    )]
    pub lame_duck: LameDuckArg,
    /// The longest `--lame-duck auto`
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_LAME_DUCK_MAX", default_value = LONGEST_LAME_DUCK, value_parser = time)]
    pub lame_duck_max: Duration,
    /// Give the app up (exit 125) if it is not ready within this time [default: never]
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_READY_TIMEOUT", value_parser = time)]
    pub ready_timeout: Option<Duration>,
    /// Its share of the requests [default: 1]
    #[arg(long, value_name = "N", env = "LAMEDUCK_WEIGHT", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub weight: Option<u32>,
    /// It is a backup: it gets requests only while no other instance is ready
    #[arg(long, env = "LAMEDUCK_BACKUP", value_parser = FalseyValueParser::new())]
    pub backup: bool,
    /// Where it is, such as a data centre: backends in the proxy's own zone come first
    #[arg(long, value_name = "ZONE", env = "LAMEDUCK_ZONE")]
    pub zone: Option<String>,
    /// The host under which the proxy reaches the app [default: loopback; for a proxy on another host, the
    /// address that it sees us by]
    #[arg(long, value_name = "HOST", env = "LAMEDUCK_ADVERTISE")]
    pub advertise: Option<String>,
    /// Write a newline to this descriptor when the app is ready (s6's notification-fd)
    #[arg(long, value_name = "N", env = "LAMEDUCK_NOTIFY_FD", value_parser = clap::value_parser!(i32).range(3..))]
    pub notify_fd: Option<i32>,
    /// The app and its arguments
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Value of `--port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortArg {
    /// A free one.
    Auto,
    /// This one.
    Number(u16),
}

fn port(text: &str) -> Result<PortArg, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(PortArg::Auto),
        (_, Ok(number)) if number > 0 => Ok(PortArg::Number(number)),
        _ => Err("write `auto`, or a number from 1 to 65535".to_owned()),
    }
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn variable(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("write the name of an environment variable, such as PORT".to_owned()),
    }
}

/// Runs the command with these arguments; the first one is `exec`.
pub fn run_words(words: impl Iterator<Item = OsString>) -> u8 {
    exec::footprint::reexec();
    crate::rt::output::use_no_thread();
    let command = ExecArgs::augment_args(Command::new("exec"))
        .bin_name("lameduck exec")
        .about("Run an app so that it is drained before it is stopped");
    let matches = match command.try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return super::exit::explain(&error),
    };
    let chosen = matches.value_source("drain_timeout") != Some(ValueSource::DefaultValue);
    match ExecArgs::from_arg_matches(&matches) {
        Ok(args) => run_exec(args, chosen),
        Err(error) => super::exit::explain(&error),
    }
}

/// Runs the command without a runtime. `chosen`: the user has set the drain's time-out.
pub fn run_exec(args: ExecArgs, chosen: bool) -> u8 {
    let remotes = match args.connect.remotes() {
        Ok(remotes) => remotes,
        Err(exit) => {
            crate::rt::output::complain(&exit.message);
            return 125;
        }
    };
    exec::run_launcher(ExecOptions {
        remotes,
        pool: args.pool.unwrap_or_default(),
        name: args.name,
        weight: args.weight,
        backup: args.backup,
        zone: args.zone,
        port: match args.port {
            PortArg::Auto => None,
            PortArg::Number(port) => Some(port),
        },
        port_env: args.port_env,
        advertise: args.advertise,
        notify_fd: args.notify_fd,
        plan: LaunchPlan {
            port: !args.no_port,
            drain_timeout: args.drain_timeout,
            lame_duck: match args.lame_duck {
                LameDuckArg::For(time) => time,
                LameDuckArg::Auto => args.lame_duck_max,
            },
            until_quiet: args.lame_duck == LameDuckArg::Auto,
            ready_timeout: args.ready_timeout,
        },
        default_timeout: !chosen,
        command: args.command,
    })
}
