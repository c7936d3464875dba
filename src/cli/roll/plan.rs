//! Preparation of a roll: which backends are restarted, whether that is possible, and the output of `--dry-run`.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::exit::Exit;
use super::{RollArgs, parse_time};
use crate::client::http::AdminClient;
use crate::core::roll::{PoolRoll, RollPlan, RollRefusal};
use crate::registry::view::PoolView;
use crate::rt::output::{print_answer as say, print_json, printable};
use crate::tools::roll::command::CommandTemplate;
use crate::tools::roll::driver::{address, base, is_leaving, seen};

/// Time that is added to a backend's longest replacement before its drain expires, in case the proxy can't notice that
/// the roll has ended.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// Settings of the pool that matter for a roll.
#[derive(Debug, Clone)]
pub(super) struct RollSettings {
    /// Deadline of a drain.
    pub drain: Duration,
    /// Time after which a drain expires by itself.
    pub expires: Duration,
    /// Whether requests wait while no backend is ready, and for how long.
    pub hold: Option<String>,
}

/// Reads the configuration that the proxy uses.
pub(super) async fn settings(client: &AdminClient, args: &RollArgs) -> Result<RollSettings, Exit> {
    let config: Value = client.get("/v1/config").await?;
    let pools = config["pool"].as_array();
    let pool = pools.and_then(|pools| pools.iter().find(|pool| pool["name"] == *args.pool));
    let text = |section: &str, key: &str| pool.and_then(|pool| pool[section][key].as_str());
    let drain = match &args.drain_timeout {
        Some(timeout) => parse_time(timeout),
        None => parse_time(text("drain", "deadline").unwrap_or("30s")),
    };
    let holds = text("hold", "on_empty") == Some("hold");
    let hold = text("hold", "timeout").filter(|_| holds);
    let whole = drain.saturating_add(parse_time(&args.command_timeout));
    let whole = whole.saturating_add(parse_time(&args.ready_timeout));
    Ok(RollSettings {
        drain,
        expires: whole.saturating_add(EXPIRY_MARGIN),
        hold: hold.map(str::to_owned),
    })
}

/// Backends to restart, by name; an error for what can't end well.
pub(super) fn targets(
    args: &RollArgs,
    pool: &PoolView,
    template: &CommandTemplate,
) -> Result<Vec<String>, Exit> {
    let mut targets: Vec<String> = Vec::new();
    for backend in pool.backends.iter().filter(|one| !is_leaving(one)) {
        let name = base(&backend.name);
        let foreign = backend.drains.iter();
        let mut foreign = foreign.filter(|drain| drain.actor != "app" && drain.actor != "config");
        match foreign.next() {
            Some(_) if args.skip_drained => targets.retain(|known| known != name),
            Some(drain) => {
                return Err(Exit::failed(format!(
                    "{}/{name} is drained by {} ({}) and would not come back: `lameduck resume {}/{name}{}` it \
                     first, or leave it out with --skip-drained",
                    args.pool,
                    drain.actor,
                    printable(&drain.reason),
                    args.pool,
                    if drain.actor == "operator" {
                        ""
                    } else {
                        " --all"
                    },
                )));
            }
            None if targets.iter().any(|known| known == name) => {}
            None => targets.push(name.to_owned()),
        }
    }
    if targets.len() > 1 && !template.names_a_backend() {
        return Err(Exit::usage(format!(
            "the command is the same for all {} backends of {}: say which one it is to restart, with {{name}}, \
             {{address}}, {{host}} or {{port}}, for example `-- systemctl restart api@{{name}}`",
            targets.len(),
            args.pool
        )));
    }
    for name in &targets {
        let at = address(pool, name).unwrap_or_default();
        template
            .for_backend(&args.pool, name, at)
            .map_err(Exit::usage)?;
    }
    Ok(targets)
}

/// The roll, if there is enough capacity for it.
pub(super) fn roll(
    plan: RollPlan,
    targets: &[String],
    pool: &PoolView,
    settings: &RollSettings,
) -> Result<PoolRoll, Exit> {
    let name = &pool.name;
    let out = plan.max_unavailable;
    // Other backends count for the capacity, but are not restarted.
    let all = pool.backends.iter().map(seen).collect();
    PoolRoll::new(plan, targets, all).map_err(|refusal| {
        Exit::failed(match refusal {
            RollRefusal::Empty => format!(
                "there is nothing to roll in {name}: it has no backend that stays (`lameduck status {name}`)"
            ),
            RollRefusal::Capacity { ready } => {
                let held = match &settings.hold {
                    Some(timeout) => format!("requests then wait in the proxy for up to {timeout}"),
                    None => "requests then fail, as this pool does not hold them ([pool.hold] on_empty)".to_owned(),
                };
                let fewer = if out > 1 { "a smaller --max-unavailable, or " } else { "" };
                format!(
                    "not enough is ready in {name}: {ready} now, and with {out} out none would be left. Add or mend \
                     backends (`lameduck status {name}`), or use {fewer}--allow-empty: {held}"
                )
            }
        })
    })
}

/// Prints the plan for `--dry-run`.
pub(super) fn print(
    args: &RollArgs,
    roll: Result<PoolRoll, Exit>,
    pool: &PoolView,
    template: &CommandTemplate,
    settings: &RollSettings,
) -> Result<(), Exit> {
    let roll = roll?;
    let steps = roll.names().map(|name| {
        let at = address(pool, name).unwrap_or_default();
        let words = template.for_backend(&args.pool, name, at);
        (name, at, words.unwrap_or_default())
    });
    let drain = humantime::format_duration(settings.drain).to_string();
    if args.json {
        let backends: Vec<_> = steps
            .map(|(name, at, words)| json!({ "backend": name, "address": at, "command": words }))
            .collect();
        print_json(&json!({
            "pool": args.pool, "max_unavailable": args.max_unavailable, "drain_timeout": drain,
            "command_timeout": args.command_timeout, "ready_timeout": args.ready_timeout, "backends": backends,
        }));
        return Ok(());
    }
    say(&format!(
        "would restart {} of {}, {} at a time:",
        super::count(roll.names().count() as u64, "backend"),
        args.pool,
        args.max_unavailable
    ));
    for (n, (name, at, words)) in steps.enumerate() {
        say(&format!(
            "{:>3}. {name} at {}: drain (up to {drain}), `{}` (up to {}), wait until a new process is ready (up to {})",
            n + 1,
            printable(at),
            printable(&words.join(" ")),
            args.command_timeout,
            args.ready_timeout
        ));
    }
    Ok(())
}
