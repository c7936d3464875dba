//! `lameduck resume`: lift drains.

use clap::Args;
use clap::builder::FalseyValueParser;
use hyper::Method;

use super::drain::{backends_of, warn};
use super::exit::Exit;
use crate::client::http::{Client, Connect, Wait};
use crate::client::names::{Actor, BackendName, Target, backend_or_pool, duration};
use crate::registry::view::{BackendView, ResumeRequest};
use crate::rt::output::{print, print_json, printable};

/// Options of `lameduck resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// The backend, for example app/app-1, or a pool, for all of its backends
    #[arg(value_name = "POOL[/NAME]", value_parser = backend_or_pool)]
    pub target: Target,
    /// Lift everybody's drains, not only those of operators
    #[arg(long, env = "LAMEDUCK_ALL", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Whose drains to lift: every person's (by default), or that of a supervisor's hook
    #[arg(long, value_enum, env = "LAMEDUCK_ACTOR")]
    pub actor: Option<Actor>,
    /// Wait up to this long until it is ready
    #[arg(long, value_name = "DURATION", env = "LAMEDUCK_WAIT", value_parser = duration)]
    pub wait: Option<String>,
    /// Wait until it is ready, up to 60 s
    #[arg(long, env = "LAMEDUCK_WAIT_READY", value_parser = FalseyValueParser::new())]
    pub wait_ready: bool,
    /// Print the backend as JSON
    #[arg(long, env = "LAMEDUCK_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Runs it.
///
/// # Errors
/// How it ended, if not well.
pub async fn run(args: ResumeArgs) -> Result<(), Exit> {
    let client = Client::new(&args.connect)?;
    let asked = asked(args.wait, args.wait_ready);
    let wait = patience(asked.as_deref());
    let actor = args.actor.filter(|actor| *actor == Actor::Supervisor);
    let request = ResumeRequest {
        all: args.all,
        actor: actor.map(|actor| actor.as_str().to_owned()),
        wait: asked,
        ..ResumeRequest::default()
    };
    let backends = match args.target {
        Target::Backend(backend) => vec![backend],
        Target::Pool(pool) => backends_of(&client, &pool).await?,
    };
    let resumed = backends.iter().map(async |backend| {
        let path = format!("{}/resume", backend.path());
        let view: BackendView = client
            .call(Method::POST, &path, Some(&request), wait)
            .await?;
        report(backend, &view, args.json);
        Ok(())
    });
    let ended = futures_util::future::join_all(resumed).await;
    ended.into_iter().collect()
}

/// What `--wait-ready` means.
const READY: &str = "60s";

/// How long to wait, by `--wait` or `--wait-ready`.
pub(super) fn asked(wait: Option<String>, ready: bool) -> Option<String> {
    wait.or_else(|| ready.then(|| READY.to_owned()))
}

/// How long the answer may take.
pub(super) fn patience(wait: Option<&str>) -> Wait {
    match wait.and_then(|wait| crate::config::duration::parse(wait).ok()) {
        Some(time) => Wait::For(time),
        None => Wait::Short,
    }
}

/// Prints what the backend is now.
pub(super) fn report(backend: &BackendName, view: &BackendView, json: bool) {
    if json {
        print_json(view);
    } else {
        print(&describe(backend, view));
    }
    warn(view.warning.as_deref());
}

fn describe(backend: &BackendName, view: &BackendView) -> String {
    let mut text = format!("{backend}: {} at {}", view.state, printable(&view.address));
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
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_still_holds_it_is_named() {
        let view: BackendView = serde_json::from_value(serde_json::json!({
            "name": "app-1", "address": "127.0.0.1:1", "weight": 1, "incarnation": 1,
            "state": "draining", "health": "up", "source": "config", "last_probe": null,
            "in_flight": 0, "connections": 0, "requests": 0,
            "drains": [{"actor": "supervisor", "id": "x", "reason": "restart", "since": "",
                        "deadline": null, "until": "resumed", "expires": null}],
        }))
        .unwrap();
        let text = describe(&"app/app-1".parse().unwrap(), &view);
        assert_eq!(
            text,
            "app/app-1: draining at 127.0.0.1:1\n  still drained by supervisor: restart\n  \
             `lameduck resume app/app-1 --all` lifts these too"
        );
    }
}
