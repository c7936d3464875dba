//! `lameduck resume`: lifts drains and ends pauses.

use std::time::{Duration, SystemTime};

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;
use serde_json::Value;

use super::drain::{backends_of, print_warning, time_left};
use super::exit::Exit;
use super::fleet::{AbsentProxy, ProxyVoice, ask_all};
use super::status::{back_in, shown_state};
use crate::client::admin_args::AdminArgs;
use crate::client::http::{AdminClient, AdminRequest, AnswerWait};
use crate::client::names::{ActorArg, BackendName, TargetName, backend_or_pool, duration, segment};
use crate::core::drain::UNSEEN_AFTER;
use crate::registry::view::{BackendView, PauseResponse, PoolView, ResumeRequest};
use crate::rt::output::printable;

/// Whether a command waits until the backend is ready.
#[derive(Debug, Clone, Args)]
pub struct ReadyWait {
    /// Wait up to this long until it is ready
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_WAIT", value_parser = duration)]
    pub wait: Option<String>,
    /// Wait until it is ready, up to 60 s
    #[arg(long, env = "LAMEDUCK_WAIT_READY", value_parser = FalseyValueParser::new())]
    pub wait_ready: bool,
}

/// Options of `lameduck resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// The backend, for example app/app-1, or a pool: ends its pause if it has one, else lifts the drains of all its backends
    #[arg(value_name = "POOL[/NAME]", value_parser = backend_or_pool)]
    pub target: TargetName,
    /// Lift everybody's drains, not only those of operators
    #[arg(long, env = "LAMEDUCK_ALL", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Whose drains to lift: every person's (by default), or that of a supervisor's hook
    #[arg(long, value_enum, env = "LAMEDUCK_ACTOR")]
    pub actor: Option<ActorArg>,
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
pub async fn run_resume(args: ResumeArgs) -> Result<(), Exit> {
    ask_all(
        &args.connect,
        AbsentProxy::Failed,
        args.json,
        async |client, voice| resume(client, voice, args.clone()).await,
    )
    .await
}

async fn resume(client: &AdminClient, voice: &ProxyVoice, args: ResumeArgs) -> Result<(), Exit> {
    let asked = args.ready.asked();
    let actor = args.actor.filter(|actor| *actor == ActorArg::Supervisor);
    let request = ResumeRequest {
        all: args.all,
        actor: actor.map(|actor| actor.as_str().to_owned()),
        ..ResumeRequest::default()
    };
    let backends = match args.target {
        TargetName::Backend(backend) => vec![backend],
        TargetName::Pool(pool) => {
            // A hook lifts only its own drains; a pause was set by an operator.
            let may_end = actor.is_none();
            if may_end && end_pause(client, voice, &pool, args.all, args.json).await? {
                return Ok(());
            }
            backends_of(client, &pool).await?
        }
    };
    let resumed = backends.iter().map(async |backend| {
        let call = client.call_across_upgrades(|after| {
            let (left, wait) = ready_wait(asked.as_deref(), after);
            let request = ResumeRequest {
                wait: left,
                ..request.clone()
            };
            let path = format!("{}/resume", backend.path());
            AdminRequest::with_body(Method::POST, path, &request, wait)
        });
        let view: BackendView = say_what_holds_up(client, voice, backend, call).await?;
        report(voice, backend, &view, args.json);
        Ok(())
    });
    let ended = futures_util::future::join_all(resumed).await;
    ended.into_iter().collect()
}

/// Ends a pool's pause, if it has one; returns whether nothing else is to be done. Ending a pause lifts drains only
/// with `--all`.
async fn end_pause(
    client: &AdminClient,
    voice: &ProxyVoice,
    pool: &str,
    all: bool,
    json: bool,
) -> Result<bool, Exit> {
    let path = format!("/v1/pools/{}", segment(pool));
    let view: PoolView = client.get(&path).await?;
    if view.pause.is_none() {
        return Ok(false);
    }
    let path = format!("{path}/pause");
    let response: PauseResponse = client
        .call(Method::DELETE, &path, None::<&Value>, AnswerWait::Short)
        .await?;
    let drained = |backend: &BackendView| backend.drains.iter().any(|drain| drain.actor != "app");
    let is_all = !all || view.backends.is_empty();
    if is_all || !json {
        super::pause::report(voice, pool, &response, json);
    }
    if is_all && view.backends.iter().any(drained) {
        voice.complain(&format!(
            "drains of its backends stay; `lameduck resume {pool}` once more lifts those of operators"
        ));
    }
    Ok(is_all)
}

/// Time that `--wait-ready` stands for.
const READY: &str = "60s";

impl ReadyWait {
    /// Time to wait, in the form of the API.
    pub(super) fn asked(self) -> Option<String> {
        let ready = self.wait_ready;
        self.wait.or_else(|| ready.then(|| READY.to_owned()))
    }
}

/// Returns what is left of the wait until a backend is ready after some time has passed, and the longest wait for the
/// answer to such a request.
pub(super) fn ready_wait(asked: Option<&str>, after: Duration) -> (Option<String>, AnswerWait) {
    let left = time_left(asked, after);
    let time = left.as_deref().map(crate::config::duration::parse);
    let wait = match time {
        Some(Ok(time)) => AnswerWait::For(time),
        _ => AnswerWait::Short,
    };
    (left, wait)
}

/// Waits for a call that returns when a backend is ready. If it takes long, prints what the backend still waits for.
pub(super) async fn say_what_holds_up<T>(
    client: &AdminClient,
    voice: &ProxyVoice,
    backend: &BackendName,
    call: impl Future<Output = T>,
) -> T {
    let mut call = std::pin::pin!(call);
    if let Ok(answer) = tokio::time::timeout(UNSEEN_AFTER, call.as_mut()).await {
        return answer;
    }
    let path = format!("/v1/pools/{}", segment(&backend.pool));
    // If this can't be fetched either, the call itself will say why.
    if let Ok(pool) = client.get::<PoolView>(&path).await {
        let meant = pool.backends.iter();
        let meant: Vec<_> = meant
            .filter(|view| backend.matches_name(&view.name))
            .collect();
        if meant.is_empty() {
            voice.complain(&format!(
                "waiting: there is no {backend} yet; `lameduck status` lists those that have come"
            ));
        }
        for view in meant.into_iter().filter(|view| view.state != "ready") {
            voice.complain(&held_up(&backend.pool, view));
        }
    }
    call.await
}

fn held_up(pool: &str, view: &BackendView) -> String {
    let mut text = format!(
        "waiting: {pool}/{} is {}",
        printable(&view.name),
        view.state
    );
    for drain in &view.drains {
        let (actor, reason) = (printable(&drain.actor), printable(&drain.reason));
        text.push_str(&format!("; drained by {actor}: {reason}"));
        if let Some(warning) = &drain.warning {
            text.push_str(&format!(" ({})", printable(warning)));
        }
    }
    if let ("starting" | "down", Some(probe)) = (&*view.state, &view.last_probe) {
        text.push_str(&format!("; last probe: {}", printable(probe)));
    }
    text
}

/// Prints the backend's state.
pub(super) fn report(voice: &ProxyVoice, backend: &BackendName, view: &BackendView, json: bool) {
    if json {
        voice.print_json(view);
    } else {
        voice.print(&describe(backend, view, SystemTime::now()));
    }
    print_warning(voice, view.warning.as_deref());
}

fn describe(backend: &BackendName, view: &BackendView, now: SystemTime) -> String {
    let state = shown_state(view);
    let mut text = format!("{backend}: {state} at {}", printable(&view.address));
    for drain in &view.drains {
        text.push_str(&format!(
            "\n  still drained by {}: {}",
            printable(&drain.actor),
            printable(&drain.reason)
        ));
    }
    if view.drains.iter().any(|drain| drain.actor != "operator") {
        text.push_str(&format!(
            "\n  `lameduck resume {backend} --all` lifts these too"
        ));
    }
    if let Some(ejection) = &view.ended_ejection {
        text.push_str(&format!(
            "\n  it was ejected ({}) and gets requests again",
            printable(&ejection.reason)
        ));
    }
    if let Some(ejection) = &view.ejected {
        text.push_str(&format!(
            "\n  still ejected: {}, {}\n  `lameduck resume {backend}` takes it back at once",
            printable(&ejection.reason),
            back_in(ejection, now)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_names_drains_and_the_last_probe() {
        let mut view: BackendView = serde_json::from_value(serde_json::json!({
            "name": "app-1", "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
            "state": "drained", "health": "up", "source": "config", "last_probe": "503 in 1ms",
            "in_flight": 0, "connections": 0, "requests": 0,
            "drains": [{"actor": "supervisor", "id": "x", "reason": "restart", "since": "",
                        "deadline": null, "until": "restarted", "expires": null, "warning": "not seen"}],
        }))
        .unwrap();
        assert_eq!(
            held_up("app", &view),
            "waiting: app/app-1 is drained; drained by supervisor: restart (not seen)"
        );
        view.drains.clear();
        view.state = "starting".into();
        assert_eq!(
            held_up("app", &view),
            "waiting: app/app-1 is starting; last probe: 503 in 1ms"
        );
    }

    #[test]
    fn remaining_drains_are_named() {
        let view: BackendView = serde_json::from_value(serde_json::json!({
            "name": "app-1", "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
            "state": "draining", "health": "up", "source": "config", "last_probe": null,
            "in_flight": 0, "connections": 0, "requests": 0,
            "drains": [{"actor": "supervisor", "id": "x", "reason": "restart", "since": "",
                        "deadline": null, "until": "resumed", "expires": null}],
        }))
        .unwrap();
        let text = describe(&"app/app-1".parse().unwrap(), &view, SystemTime::now());
        assert_eq!(
            text,
            "app/app-1: draining at 127.0.0.1:1\n  still drained by supervisor: restart\n  \
             `lameduck resume app/app-1 --all` lifts these too"
        );
    }

    #[test]
    fn ended_and_lasting_ejections_are_described() {
        let now = humantime::parse_rfc3339("2025-01-01T00:00:00Z").unwrap();
        let ejection = serde_json::json!({
            "reason": "5 errors in a row (the last: status 500)", "cause": "consecutive_errors",
            "since": "2024-12-31T23:59:54Z", "until": "2025-01-01T00:00:23.100Z", "times": 1,
        });
        let mut view: BackendView = serde_json::from_value(serde_json::json!({
            "name": "app-1", "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
            "state": "ready", "health": "up", "source": "config", "last_probe": null,
            "in_flight": 0, "connections": 0, "requests": 0, "drains": [],
            "ended_ejection": ejection,
        }))
        .unwrap();
        let backend = "app/app-1".parse().unwrap();
        assert_eq!(
            describe(&backend, &view, now),
            "app/app-1: ready at 127.0.0.1:1\n  it was ejected (5 errors in a row (the last: status 500)) and gets \
             requests again"
        );
        // A supervisor's hook lifts only its own drain.
        view.ejected = view.ended_ejection.take();
        assert_eq!(
            describe(&backend, &view, now),
            "app/app-1: ejected at 127.0.0.1:1\n  still ejected: 5 errors in a row (the last: status 500), back in \
             24s\n  `lameduck resume app/app-1` takes it back at once"
        );
    }
}
