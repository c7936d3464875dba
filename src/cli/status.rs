//! `lameduck status`: pools and backends as a table, once or continuously.

mod certificates;
mod in_flight;
mod sources;

use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::FalseyValueParser;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use hyper::Method;
use serde_json::Value;

use self::certificates::certificates;
use self::in_flight::{in_flight, oldest_in_flight};
use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use super::supervised;
use super::upgrade::describe_upgrade;
use crate::admin::upgrade::UpgradeView;
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AdminEvents, AnswerWait};
use crate::client::names::segment;
use crate::registry::view::{
    BackendView, DrainView, EjectionView, PauseView, PoolShareView, PoolView,
};
use crate::rt::output::{answer, colour, count, printable, stdout_is_terminal};

/// Time between two updates without an event: numbers change without events.
const MAX_UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two updates.
const MIN_UPDATE_INTERVAL: Duration = Duration::from_millis(50);

/// Options of `lameduck status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Only this pool
    pub pool: Option<String>,
    /// Stay and redraw at every change, until Ctrl-C
    #[arg(long, short, env = "LAMEDUCK_WATCH", value_parser = FalseyValueParser::new())]
    pub watch: bool,
    /// Print JSON; with --watch, a line for each change
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Show the listeners instead, with their certificates and how many days those have left
    #[arg(long, env = "LAMEDUCK_LISTENERS", value_parser = FalseyValueParser::new(), conflicts_with_all = ["pool", "watch"])]
    pub listeners: bool,
    #[command(flatten)]
    connect: AdminArgs,
}

/// Runs the command.
///
/// # Errors
/// The command failed: its exit code and message.
pub async fn run_status(args: StatusArgs) -> Result<(), Exit> {
    if args.watch {
        return watch(&args.connect.clients()?, &args).await;
    }
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| status(client, voice, &args).await,
    )
    .await
}

async fn status(client: &AdminClient, voice: &ProxyVoice, args: &StatusArgs) -> Result<(), Exit> {
    if args.listeners {
        return listeners(client, voice, args.json).await;
    }
    let pools = pools(client, args.pool.as_deref()).await?;
    if args.json {
        return Exit::answered(voice.answer_json(&pools));
    }
    Exit::answered(voice.answer(&shown(client, args, &pools).await?))
}

async fn listeners(client: &AdminClient, voice: &ProxyVoice, json: bool) -> Result<(), Exit> {
    let listeners: Value = client.get("/v1/listeners").await?;
    if json {
        return Exit::answered(voice.answer_json(&listeners));
    }
    let all = listeners.as_array().into_iter().flatten();
    let addresses = all.map(|listener| printable(listener["address"].as_str().unwrap_or("?")));
    let addresses: Vec<_> = addresses.collect();
    Exit::answered(voice.answer(&(addresses.join("\n") + &certificates(&listeners))))
}

async fn pools(client: &AdminClient, only: Option<&str>) -> Result<Vec<PoolView>, Exit> {
    match only {
        Some(pool) => Ok(vec![
            client.get(&format!("/v1/pools/{}", segment(pool))).await?,
        ]),
        None => Ok(client.get("/v1/pools").await?),
    }
}

/// Reason why the proxy itself is not ready, if it isn't.
async fn unready(client: &AdminClient) -> Result<Option<String>, Exit> {
    let (status, body) = client
        .raw(Method::GET, "/-/ready", None::<&Value>, AnswerWait::Short)
        .await?;
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let why = problem["detail"].as_str().map(printable);
    Ok(why.filter(|_| !status.is_success()))
}

async fn watch(clients: &[AdminClient], args: &StatusArgs) -> Result<(), Exit> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut events = None;
    let mut last = None;
    loop {
        let looked = match clients {
            [only] => fetch_pools(only, args, &mut events).await,
            several => Ok(fetch_all(several, args).await),
        };
        let text = match looked {
            Ok(text) => text,
            // The first failure ends the command; later ones may be temporary, as when the proxy restarts.
            Err(exit) if last.is_none() => return Err(exit),
            Err(exit) if args.json => return Err(exit),
            Err(exit) => exit.message,
        };
        let drawing = drawing(&text, last.as_ref(), args.json);
        last = Some(text);
        // Printing has its own thread, because a stopped reader must not block the handling of an interrupt.
        let drawn = drawing.map(|text| tokio::task::spawn_blocking(move || answer(&text)));
        if let Some(drawn) = drawn {
            let drawn = tokio::select! {
                _ = &mut interrupt => return Err(Exit::interrupted("")),
                drawn = drawn => drawn.unwrap_or_else(|error| Err(std::io::Error::other(error))),
            };
            // The reader has closed the pipe, which is how watching normally ends.
            if drawn.is_err() {
                return Exit::answered(drawn);
            }
        }
        tokio::select! {
            _ = &mut interrupt => return Err(Exit::interrupted("")),
            () = tokio::time::sleep(MAX_UPDATE_INTERVAL) => {}
            ended = changed(&mut events) => {
                if ended.is_err() {
                    events = None;
                }
                tokio::time::sleep(MIN_UPDATE_INTERVAL).await;
            }
        }
    }
}

async fn fetch_pools(
    client: &AdminClient,
    args: &StatusArgs,
    events: &mut Option<AdminEvents>,
) -> Result<String, Exit> {
    // The subscription comes before the fetch, so that no change is missed.
    if events.is_none() {
        *events = client.events(args.pool.as_deref()).await.ok();
    }
    let pools = pools(client, args.pool.as_deref()).await?;
    if args.json {
        return serde_json::to_string(&pools).map_err(|error| Exit::failed(error.to_string()));
    }
    shown(client, args, &pools).await
}

/// Fetches several proxies, each below its name; one that can't be reached has its error in that place.
async fn fetch_all(clients: &[AdminClient], args: &StatusArgs) -> String {
    let looks = clients.iter().map(async |client| {
        let looked = fetch_once(client, args).await;
        (client.name(), looked)
    });
    let looks = futures_util::future::join_all(looks).await.into_iter();
    if args.json {
        let each = looks.map(|(proxy, looked)| match looked {
            Ok(pools) => serde_json::json!({ "proxy": proxy, "answer": pools }),
            Err(exit) => serde_json::json!({ "proxy": proxy, "error": exit.message }),
        });
        return each.collect::<Value>().to_string();
    }
    let mut blocks = Vec::new();
    for ((proxy, looked), client) in looks.zip(clients) {
        let text = match looked {
            Ok(pools) => shown(client, args, &pools).await,
            Err(exit) => Err(exit),
        };
        let text = text.unwrap_or_else(|exit| exit.message);
        blocks.push(format!("{proxy}\n{text}"));
    }
    blocks.join("\n\n")
}

async fn fetch_once(client: &AdminClient, args: &StatusArgs) -> Result<Vec<PoolView>, Exit> {
    super::fleet::check_alive(client).await?;
    pools(client, args.pool.as_deref()).await
}

/// Pools, and remarks about the proxy itself.
async fn shown(
    client: &AdminClient,
    args: &StatusArgs,
    pools: &[PoolView],
) -> Result<String, Exit> {
    let unready = unready(client).await?;
    let mut text = render(pools, unready.as_deref(), SystemTime::now(), colour());
    if args.pool.is_none() {
        let listeners: Value = client.get("/v1/listeners").await?;
        text.push_str(&certificates(&listeners));
        // An older proxy has no such path.
        let upgrade = client.get::<UpgradeView>("/v1/upgrade").await;
        text.push_str(&upgrade.map_or_else(|_| String::new(), |view| describe_upgrade(&view)));
    }
    Ok(text)
}

async fn changed(events: &mut Option<AdminEvents>) -> Result<(), Exit> {
    match events {
        Some(events) => Ok(events.changed().await?),
        None => std::future::pending().await,
    }
}

/// Output that updates the terminal to `text`; `None` if nothing has changed and drawing again would have no effect.
fn drawing(text: &str, last: Option<&String>, json: bool) -> Option<String> {
    let terminal = stdout_is_terminal() && !json;
    if !terminal {
        let same = last.is_some_and(|last| last == text);
        return (!same).then(|| text.to_owned());
    }
    // The old text is overwritten instead of cleared, to avoid flicker.
    let lines = text.replace('\n', "\x1b[K\n");
    let clear = if last.is_none() { "\x1b[2J" } else { "" };
    Some(format!("{clear}\x1b[H{lines}\x1b[K\n\x1b[J"))
}

/// Text of the table for people.
fn render(pools: &[PoolView], unready: Option<&str>, now: SystemTime, colour: bool) -> String {
    let mut blocks = Vec::new();
    if let Some(why) = unready {
        blocks.push(format!("Proxy not ready: {why}"));
    }
    // This concerns the whole proxy, although each pool reports it.
    if let Some(why) = pools.iter().find_map(|pool| pool.unsaved.as_deref()) {
        blocks.push(format!(
            "Drains and registrations are {}; a restart of lameduck would forget the latest of them. It goes on trying.",
            printable(why)
        ));
    }
    blocks.extend(pools.iter().map(|pool| render_pool(pool, now, colour)));
    if pools.is_empty() {
        blocks.push("no pools".to_owned());
    }
    blocks.join("\n\n")
}

fn render_pool(pool: &PoolView, now: SystemTime, colour: bool) -> String {
    let mut text = format!(
        "{} ({}): {} of {} eligible, {} held",
        printable(&pool.name),
        pool.balance,
        pool.eligible,
        count(pool.backends.len() as u64, "backend"),
        count(pool.held as u64, "request"),
    );
    if let Some(pause) = &pool.pause {
        text.push_str(&format!("\n {}", describe_pause(pause, now)));
    }
    for share in &pool.splits {
        text.push_str(&format!("\n {}", describe_share(share, now)));
    }
    for line in sources::source_lines(&pool.discovery, now) {
        text.push_str(&format!("\n {line}"));
    }
    if let Some(supervisor) = &pool.supervisor {
        for line in supervised::lines(supervisor) {
            text.push_str(&format!("\n {line}"));
        }
    }
    if pool.backends.is_empty() {
        return text;
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "NAME",
            "STATE",
            "HEALTH",
            "IN-FLIGHT",
            "CONNS",
            "REQS",
            "WEIGHT",
            "ADDRESS",
        ]);
    // Whether there is colour is decided in one place.
    match colour {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    for backend in &pool.backends {
        table.add_row([
            Cell::new(printable(&backend.name)),
            state_cell(shown_state(backend)),
            state_cell(&backend.health),
            Cell::new(in_flight(backend)),
            Cell::new(backend.connections),
            Cell::new(backend.requests),
            Cell::new(backend.weight),
            Cell::new(address(backend)),
        ]);
    }
    let mut lines = table.lines();
    text.extend(
        lines
            .next()
            .map(|header| format!("\n {}", header.trim_end())),
    );
    for (line, backend) in lines.zip(&pool.backends) {
        text.push_str(&format!("\n {}", line.trim_end()));
        for note in notes(backend, now) {
            text.push_str(&format!("\n    - {note}"));
        }
    }
    text
}

/// Share of a pool in a route.
fn describe_share(share: &PoolShareView, now: SystemTime) -> String {
    let (route, weight, of) = (printable(&share.route), share.weight, share.of);
    let moved = match weight == share.configured {
        true => String::new(),
        false => format!(" (configured: {})", share.configured),
    };
    format!(
        "split of route {route}: {weight} of {of}{moved}{}",
        planned(share, now)
    )
}

/// The plan that changes the share.
fn planned(share: &PoolShareView, now: SystemTime) -> String {
    let Some(plan) = &share.plan else {
        return String::new();
    };
    let ends = left(Some(&plan.ends), now);
    let ends = ends.map_or_else(String::new, |left| format!(", ends in {left}"));
    let (to, step, steps) = (plan.to, plan.step, plan.steps);
    format!("; plan: to {to} %, step {step} of {steps}{ends}")
}

/// What a pause does, and for how long.
fn describe_pause(pause: &PauseView, now: SystemTime) -> String {
    let what = match pause.status {
        Some(status) => format!("answers with a page, {status}"),
        None => "requests wait".to_owned(),
    };
    let ends = match left(pause.until.as_deref(), now) {
        Some(left) => format!("ends in {left}"),
        None => "until resumed".to_owned(),
    };
    format!("paused: {what} ({ends}): {}", printable(&pause.reason))
}

/// Address of a backend, with a mark for a backup.
fn address(backend: &BackendView) -> String {
    let address = printable(&backend.address);
    let zone = backend.zone.as_deref().map(printable);
    match (zone, backend.backup) {
        (Some(zone), true) => format!("{address} (zone {zone}, backup)"),
        (Some(zone), false) => format!("{address} (zone {zone})"),
        (None, true) => format!("{address} (backup)"),
        (None, false) => address,
    }
}

/// State for the balancer: an ejected backend is ready, but gets no new requests.
pub(super) fn shown_state(backend: &BackendView) -> &str {
    match (&*backend.state, &backend.ejected) {
        ("ready", Some(_)) => "ejected",
        (state, _) => state,
    }
}

fn state_cell(state: &str) -> Cell {
    let colour = match state {
        "ready" | "up" => Color::Green,
        "starting" | "draining" | "drained" | "ejected" => Color::Yellow,
        _ => Color::Red,
    };
    Cell::new(printable(state)).fg(colour)
}

fn notes(backend: &BackendView, now: SystemTime) -> Vec<String> {
    let mut notes: Vec<String> = backend
        .drains
        .iter()
        .map(|drain| note(drain, &backend.state, now))
        .collect();
    if let Some(oldest) = &backend.oldest {
        notes.push(oldest_in_flight(oldest));
    }
    if let Some(sessions) = backend.sessions.filter(|number| *number > 0) {
        notes.push(count(sessions.into(), "session"));
    }
    if let Some(ejection) = &backend.ejected {
        let back = back_in(ejection, now);
        let often = match ejection.times {
            0 | 1 => String::new(),
            2 => ", for the second time".to_owned(),
            times => format!(", {times} times now"),
        };
        notes.push(format!(
            "ejected{often}: {}, {back}",
            printable(&ejection.reason)
        ));
    }
    if let ("starting" | "down", Some(probe)) = (&*backend.state, &backend.last_probe) {
        notes.push(format!("last probe: {}", printable(probe)));
    }
    notes
}

/// Time until an ejected backend gets requests again.
pub(super) fn back_in(ejection: &EjectionView, now: SystemTime) -> String {
    let left = left(Some(&ejection.until), now);
    left.map_or_else(|| "back soon".to_owned(), |left| format!("back in {left}"))
}

fn note(drain: &DrainView, state: &str, now: SystemTime) -> String {
    let mut parts = Vec::new();
    // Once the backend is drained there is nothing left to cut.
    if let Some(left) = left(drain.deadline.as_deref(), now).filter(|_| state != "drained") {
        parts.push(format!("cuts in {left}"));
    }
    match (drain.until.as_str(), drain.actor.as_str()) {
        ("restarted", _) => match drain.restarted_when.as_deref() {
            // The sign of a restart is named only if one was chosen.
            None | Some("new-process") => parts.push("until restarted".to_owned()),
            Some(sign) => parts.push(format!("until restarted, seen by {}", printable(sign))),
        },
        (_, "operator" | "supervisor") => parts.push("until resumed".to_owned()),
        // An app's own drain ends with passed probes, one by the configuration ends with the backend.
        _ => {}
    }
    if let Some(left) = left(drain.expires.as_deref(), now) {
        parts.push(format!("expires in {left}"));
    }
    let ends = match parts.join(", ") {
        empty if empty.is_empty() => empty,
        ends => format!(" ({ends})"),
    };
    let reason = match drain.reason.as_str() {
        "" => "no reason given".to_owned(),
        reason => printable(reason),
    };
    let warning = drain.warning.as_deref().map(printable);
    let warning = warning.map(|why| format!("\n      warning: {why}"));
    format!(
        "drain by {}: {reason}{ends}{}",
        printable(&drain.actor),
        warning.unwrap_or_default()
    )
}

/// Time left until then, in whole seconds; `None` once it has passed.
fn left(until: Option<&str>, now: SystemTime) -> Option<humantime::FormattedDuration> {
    let until = humantime::parse_rfc3339(until?).ok()?;
    let left = until.duration_since(now).ok()?;
    // Rounded up, because "0s" would mean that it has happened.
    let seconds = left.as_millis().div_ceil(1000) as u64;
    Some(humantime::format_duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
#[path = "status_test.rs"]
mod tests;
