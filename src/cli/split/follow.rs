//! Follows a plan to its end, with a line for each step and a report. The plan itself runs in the proxy.

use std::time::{Duration, Instant};

use super::super::exit::Exit;
use super::super::fleet::ProxyVoice;
use super::report;
use crate::client::error::ClientError;
use crate::client::http::AdminClient;
use crate::registry::plan_view::{PlanState, PlanView};
use crate::rt::output::printable;

/// Time between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Longest wait for a proxy that restarts.
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);

/// Follows the plan at this path of the API. `begun` is its first view, if it was just started.
///
/// # Errors
/// The plan has not reached its target share, or the proxy can't be reached any more.
pub(super) async fn follow_plan(
    client: &AdminClient,
    voice: &ProxyVoice,
    path: &str,
    begun: Option<PlanView>,
    json: bool,
) -> Result<(), Exit> {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut view = match begun {
        Some(view) => view,
        None => client.get(path).await?,
    };
    if !json {
        voice.print(&format!(
            "{}: {}",
            printable(&view.route),
            report::describe_plan(&view)
        ));
    }
    // Number of steps whose start, and whose end, was printed.
    let (mut begun, mut ended) = (0, 0);
    loop {
        if !json {
            tell_steps(voice, &view, &mut begun, &mut ended);
        }
        if view.state != PlanState::Running {
            return conclude(voice, &view, json);
        }
        tokio::select! {
            _ = &mut interrupt => return Err(interrupted_exit(&view)),
            looked = fetch_plan(client, path) => view = looked?,
        }
    }
}

fn tell_steps(voice: &ProxyVoice, view: &PlanView, begun: &mut usize, ended: &mut usize) {
    let is_over = view.state != PlanState::Running;
    for (index, record) in view.records.iter().enumerate() {
        if index >= *begun {
            voice.print(&report::step_begins(view, record));
            *begun = index + 1;
        }
        let is_last = index + 1 == view.records.len();
        if index >= *ended && (!is_last || is_over) {
            voice.print(&report::step_ends(record));
            *ended = index + 1;
        }
    }
}

async fn fetch_plan(client: &AdminClient, path: &str) -> Result<PlanView, ClientError> {
    tokio::time::sleep(POLL_INTERVAL).await;
    let since = Instant::now();
    loop {
        match client.get(path).await {
            Err(error) if is_away(&error) && since.elapsed() < RESTART_TIMEOUT => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            looked => return looked,
        }
    }
}

fn is_away(error: &ClientError) -> bool {
    error.is_unreachable()
}

/// End of a command that was interrupted while it followed a plan; the plan goes on.
fn interrupted_exit(view: &PlanView) -> Exit {
    let route = printable(&view.route);
    Exit::interrupted(format!(
        "the plan goes on in the proxy: `lameduck split {route} --wait` follows it, `--stop` ends it where it is, \
         `--back` puts {} in force again",
        report::before(view)
    ))
}

fn conclude(voice: &ProxyVoice, view: &PlanView, json: bool) -> Result<(), Exit> {
    match json {
        true => voice.print_json(view),
        false => voice.print(&report::table(view)),
    }
    let route = printable(&view.route);
    match view.state {
        PlanState::Reached => {
            if !json {
                voice.print(&format!(
                    "{route}: {} has {} %",
                    printable(&view.pool),
                    view.to
                ));
            }
            Ok(())
        }
        _ => Err(Exit::went_back(format!(
            "{route}: {}",
            report::describe_plan(view)
        ))),
    }
}
