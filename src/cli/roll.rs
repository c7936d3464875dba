//! `lameduck roll`: restarts the backends of a pool one after the other, with a command of the user.

mod fleet;
mod plan;
mod remote;
mod show;

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::exit::Exit;
use crate::client::admin_args::AdminArgs;
use crate::client::http::AdminClient;
use crate::client::names::{RestartedWhen, duration, segment};
use crate::core::roll::{PoolRoll, RollEnd, RollFailure, RollPlan};
use crate::registry::view::{BackendView, PoolView};
use crate::rt::output::{complain, count, printable};
use crate::tools::roll::command::CommandTemplate;
use crate::tools::roll::driver::{self, RollJob, RollProxy, RollReport, RollWatch, base};
use fleet::RollFleet;
use remote::RollRemote;
use show::RollScreen;

/// Options of `lameduck roll`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  lameduck roll api -- systemctl restart api@{name}
  lameduck roll api -- oxmgr restart {name}
  lameduck roll api --drain-timeout 2m -- ssh {host} sudo systemctl restart api")]
pub struct RollArgs {
    /// The pool, for example app
    #[arg(value_name = "POOL")]
    pub pool: String,
    /// Backends that are out at the same time, at most
    #[arg(long, value_name = "N", env = "LAMEDUCK_MAX_UNAVAILABLE", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_unavailable: u32,
    /// Go on even if that leaves no backend ready: requests wait in the proxy then, as [pool.hold] allows
    #[arg(long, env = "LAMEDUCK_ALLOW_EMPTY", value_parser = FalseyValueParser::new())]
    pub allow_empty: bool,
    /// Leave out backends that somebody else has drained, instead of refusing
    #[arg(long, env = "LAMEDUCK_SKIP_DRAINED", value_parser = FalseyValueParser::new())]
    pub skip_drained: bool,
    /// The longest that one drain may take; then it stops [default: the pool's drain.deadline]
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_DRAIN_TIMEOUT", value_parser = duration)]
    pub drain_timeout: Option<String>,
    /// The longest that one command may take
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_COMMAND_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub command_timeout: String,
    /// The longest from a command's end until a new process is ready
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_READY_TIMEOUT", default_value = "60s", value_parser = duration)]
    pub ready_timeout: String,
    /// What shows that a backend has restarted. The last two are for restarts that keep the listening socket
    /// (gunicorn's HUP, socket activation)
    #[arg(long, value_name = "WHEN", env = "LAMEDUCK_RESTARTED_WHEN", value_enum, default_value_t = RestartedWhen::NewProcess)]
    pub restarted_when: RestartedWhen,
    /// Print what would be done, and do nothing
    #[arg(long, env = "LAMEDUCK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub dry_run: bool,
    /// Print one JSON object for each step
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: AdminArgs,
    /// What restarts one backend; {name}, {address}, {host}, {port} and {pool} are replaced. No shell is involved
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_roll(args: RollArgs) -> Result<(), Exit> {
    // First of all, so that an interrupt always finds its handler.
    let interrupts = interrupts()?;
    let clients = args.connect.clients()?;
    let first = first_alive(&clients).await?;
    let settings = plan::settings(first, &args).await?;
    let path = format!("/v1/pools/{}", segment(&args.pool));
    if args.dry_run {
        let pool: PoolView = first.get(&path).await?;
        let template = template(&args);
        let roll = planned(&args, &pool, &template, &settings)?;
        return plan::print(&args, roll, &pool, &template, &settings);
    }
    // The right to roll is taken first, so that nobody else can change the pool after the plan was made.
    if let [only] = clients.as_slice() {
        let (proxy, watch) = RollRemote::open(only.clone(), &args.pool, &settings).await?;
        let pool: PoolView = only.get(&path).await?;
        let id = proxy.id().to_owned();
        return roll(&args, &settings, (&proxy, watch, &id), pool, interrupts).await;
    }
    let (proxy, watch) = RollFleet::open(&clients, &args.pool, &settings).await?;
    let seen = proxy.fetch_pool().await;
    let pool = seen.map_err(|trouble| Exit::unreachable(trouble.text))?;
    let id = proxy.id().to_owned();
    roll(&args, &settings, (&proxy, watch, &id), pool, interrupts).await
}

/// The first proxy that answers; a single one is not checked here, because the next call reports its failure.
async fn first_alive(clients: &[AdminClient]) -> Result<&AdminClient, Exit> {
    let mut away = None;
    for client in clients {
        if clients.len() == 1 {
            return Ok(client);
        }
        match super::fleet::check_alive(client).await {
            Ok(()) => return Ok(client),
            Err(exit) => drop(away.get_or_insert(exit)),
        }
    }
    Err(away.unwrap_or_else(|| Exit::unreachable("no proxy is named")))
}

fn template(args: &RollArgs) -> CommandTemplate {
    let template = CommandTemplate::new(args.command.clone());
    if let Some(placeholder) = template.in_scripts().first() {
        complain(&format!(
            "warning: {placeholder} is put into a shell's script, which reads it as a part of itself; pass it as an \
             argument: sh -c '… \"$1\"' sh {placeholder}"
        ));
    }
    template
}

/// The plan, or why there can be none: first errors of the command, then of the pool.
fn planned(
    args: &RollArgs,
    pool: &PoolView,
    template: &CommandTemplate,
    settings: &plan::RollSettings,
) -> Result<Result<PoolRoll, Exit>, Exit> {
    let targets = plan::targets(args, pool, template)?;
    let plan = RollPlan {
        max_unavailable: args.max_unavailable as usize,
        allow_empty: args.allow_empty,
        command_timeout: parse_time(&args.command_timeout),
        ready_timeout: parse_time(&args.ready_timeout),
        sign: args.restarted_when.into(),
    };
    Ok(plan::roll(plan, &targets, pool, settings))
}

/// Rolls the pool at the proxies whose right to roll was taken.
async fn roll<P: RollProxy, W: RollWatch>(
    args: &RollArgs,
    settings: &plan::RollSettings,
    (proxy, mut watch, id): (&P, W, &str),
    pool: PoolView,
    interrupts: mpsc::UnboundedReceiver<()>,
) -> Result<(), Exit> {
    let template = template(args);
    let roll = planned(args, &pool, &template, settings)??;
    let names: Vec<String> = roll.names().map(str::to_owned).collect();
    let mut show = RollScreen::new(&args.pool, &names, args.json);
    show.begin(args, settings);
    let report = driver::drive_roll(RollJob {
        roll,
        pool,
        proxy,
        watch: &mut watch,
        id,
        template: &template,
        teller: &mut show,
        interrupts,
    })
    .await;
    let end = conclude(args, &report);
    show.end(&report, names.len(), end.as_ref().err());
    end
}

/// A channel with one message for each signal that means "stop".
fn interrupts() -> Result<mpsc::UnboundedReceiver<()>, Exit> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signals =
            signal(kind).map_err(|error| Exit::failed(format!("can't catch signals: {error}")))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let _ = sender.send(());
            }
        });
    }
    Ok(receiver)
}

/// Parses a duration that the command line has checked.
fn parse_time(text: &str) -> Duration {
    crate::config::duration::parse(text).unwrap_or_default()
}

/// Exit code and message for the end of a roll.
fn conclude(args: &RollArgs, report: &RollReport) -> Result<(), Exit> {
    let pool = &args.pool;
    let failure = match &report.end {
        RollEnd::Done => return Ok(()),
        RollEnd::Interrupted => {
            return Err(match &report.trouble {
                Some(trouble) => Exit::interrupted(format!("interrupted; {}", trouble.text)),
                None => Exit::interrupted(
                    "interrupted; nothing is left drained. Run it again to restart the rest",
                ),
            });
        }
        RollEnd::Failed(failure) => failure,
    };
    let last = |name: &str| {
        let mut meant = report.pool.backends.iter().rev();
        let meant = meant.find(|backend| base(&backend.name) == name);
        meant.map_or_else(|| "it is gone".to_owned(), describe)
    };
    Err(match failure {
        RollFailure::Cut(name, cut) => Exit::late(format!(
            "{pool}/{name}: the drain's deadline passed, {} cut; it was not restarted. A longer --drain-timeout \
             lets more of them finish",
            count((*cut).into(), "request")
        )),
        RollFailure::Died(name, lost) => Exit::died(format!(
            "{pool}/{name}: its process died while draining, with {} in flight; its own logs say why",
            count((*lost).into(), "request")
        )),
        RollFailure::Lifted(name) => Exit::failed(format!(
            "{pool}/{name}: somebody lifted its drain, so it was not restarted"
        )),
        RollFailure::Command(name) => {
            let (how, output) = describe_failure(report, name);
            Exit::failed(format!("{pool}/{name}: the command failed ({how}){output}"))
        }
        RollFailure::CommandTimeout(name) => {
            let (_, output) = describe_failure(report, name);
            Exit::late(format!(
                "{pool}/{name}: the command did not end within {} and was stopped; see --command-timeout{output}",
                args.command_timeout
            ))
        }
        RollFailure::NotRestarted(name) => Exit::late(format!(
            "{pool}/{name}: the command ended well, but within {} nothing showed that a new process is behind it \
             ({}). Does the command restart this backend? Where it keeps the listening socket (gunicorn's HUP, socket \
             activation), use --restarted-when probe, or exit if the command returns when the old process is gone",
            args.ready_timeout,
            last(name)
        )),
        RollFailure::NotReady(name) => Exit::late(format!(
            "{pool}/{name}: its new process was not ready within {} ({}); see its logs, or --ready-timeout",
            args.ready_timeout,
            last(name)
        )),
        RollFailure::Capacity(name) => Exit::failed(format!(
            "{pool}/{name} is the only backend that is ready, and no other became so within {}; `lameduck status \
             {pool}` says why. --allow-empty would go on",
            args.ready_timeout
        )),
        RollFailure::Broke(why) => match &report.trouble {
            Some(trouble) if trouble.gone => Exit::unreachable(format!(
                "the proxy is gone in the middle of the roll: {why}. What it had drained ends by itself: with its \
                 restart, or when the drain expires"
            )),
            _ => Exit::failed(why.clone()),
        },
    })
}

fn describe(backend: &BackendView) -> String {
    let probe = backend.last_probe.as_deref().unwrap_or("none yet");
    format!("{}, last probe: {}", backend.state, printable(probe))
}

/// Reason why the command failed, and its output, indented.
fn describe_failure(report: &RollReport, name: &str) -> (String, String) {
    match &report.failed {
        Some((whose, ran)) if whose == name => {
            let lines = ran.output.lines().map(printable);
            let output: String = lines.map(|line| format!("\n  | {line}")).collect();
            let output = match output.as_str() {
                "" => "; it wrote nothing".to_owned(),
                _ => format!("; it wrote:{output}"),
            };
            (ran.describe(), output)
        }
        _ => ("unknown".to_owned(), String::new()),
    }
}
