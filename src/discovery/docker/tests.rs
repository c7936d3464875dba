use super::*;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::discovery::SourceReport;

fn source(network: Option<&str>, port: Option<u16>) -> DockerSource {
    DockerSource {
        socket: "/run/none.sock".into(),
        label: "lameduck.pool=app".into(),
        network: network.map(str::to_owned),
        port,
        signalled: Mutex::default(),
    }
}

fn found(
    source: &DockerSource,
    terminating: &[&str],
) -> Vec<(String, String, u32, DiscoveredState)> {
    let network = |ip: &str| json!({ "IPAddress": ip });
    let containers: Vec<ContainerSummary> = serde_json::from_value(json!([
        { "Names": ["/other/alias", "/app-1"], "State": "running", "Labels": { "lameduck.weight": "5" },
          "Ports": [{ "PrivatePort": 9000, "Type": "tcp" }, { "PrivatePort": 8080, "Type": "tcp" }],
          "NetworkSettings": { "Networks": { "front": network("10.1.0.2"), "back": network("10.0.0.2") } } },
        { "Names": ["/app-2"], "State": "running", "Labels": { "lameduck.port": "7000" },
          "NetworkSettings": { "Networks": { "front": network("10.1.0.3") } } },
        { "Names": ["/in-the-hosts"], "State": "running", "NetworkSettings": { "Networks": { "host": network("") } } },
    ]))
    .unwrap();
    let terminating = terminating.iter().map(|name| (*name).to_owned()).collect();
    let set = source.backends(&containers, &terminating, &mut BTreeSet::new());
    let backends = set.iter();
    backends
        .map(|(name, one)| {
            (
                name.to_owned(),
                one.address.to_string(),
                one.weight,
                one.state,
            )
        })
        .collect()
}

#[test]
fn containers_are_backends_at_their_own_addresses() {
    let serving = DiscoveredState::Serving;
    let one =
        |name: &str, address: &str, weight| (name.to_owned(), address.to_owned(), weight, serving);
    let all = [
        one("app-1", "10.0.0.2:8080", 5),
        one("app-2", "10.1.0.3:7000", 1),
    ];
    assert_eq!(found(&source(None, None), &[]), all);
    let front = [
        one("app-1", "10.1.0.2:80", 5),
        one("app-2", "10.1.0.3:7000", 1),
    ];
    assert_eq!(found(&source(Some("front"), Some(80)), &[]), front);
    let back = [one("app-1", "10.0.0.2:8080", 5)];
    assert_eq!(found(&source(Some("back"), None), &[]), back);
}

#[test]
fn container_that_was_signalled_terminates() {
    let states: Vec<_> = found(&source(None, None), &["app-2"])
        .into_iter()
        .map(|one| one.3)
        .collect();
    assert_eq!(
        states,
        [DiscoveredState::Serving, DiscoveredState::Terminating]
    );
}

/// A daemon with one container, `app-1`, that was told to stop and still runs. It ends its event streams at once, so
/// that a client has to connect again and again. The event `kill` is sent live once, if it is set, and is in the
/// history if that has it.
struct StoppingDaemon {
    kill: Mutex<Option<String>>,
    history: Option<String>,
}

async fn answer(State(daemon): State<Arc<StoppingDaemon>>, request: Request) -> Response {
    let uri = request.uri();
    let body = match uri.path() {
        path if path.ends_with("/events") => {
            let is_history = uri.query().is_some_and(|query| query.contains("until="));
            let told = match is_history {
                true => daemon.history.clone(),
                false => daemon.kill.lock().take(),
            };
            return told.unwrap_or_default().into_response();
        }
        path if path.ends_with("/containers/json") => {
            let networks = json!({ "front": { "IPAddress": "10.1.0.2" } });
            json!([{ "Names": ["/app-1"], "State": "running", "Labels": {},
                     "NetworkSettings": { "Networks": networks } }])
        }
        path if path.ends_with("/app-1/json") => {
            json!({ "State": { "Status": "running", "StartedAt": "2026-11-29T16:00:00Z" } })
        }
        _ => json!({ "Version": "28.2.2", "ApiVersion": "1.50", "MinAPIVersion": "1.24" }),
    };
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    (json, body.to_string()).into_response()
}

/// States of the container in the first answers to a source that connects again after each failure.
async fn states_told(kill: Option<String>, history: Option<String>) -> Vec<DiscoveredState> {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let daemon = StoppingDaemon {
        kill: Mutex::new(kill),
        history,
    };
    let app = axum::Router::new()
        .fallback(answer)
        .with_state(Arc::new(daemon));
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let source = DockerSource {
        socket,
        ..source(None, Some(80))
    };
    let (reporter, mut reports) = SourceReporter::new();
    let follow = async {
        loop {
            drop(source.follow(&reporter).await);
        }
    };
    let collect = async {
        let mut states = Vec::new();
        while states.len() < 4 {
            if let Some(SourceReport::Answer(answer)) = reports.recv().await {
                states.extend(answer.set.get("app-1").map(|backend| backend.state));
            }
        }
        states
    };
    let states = tokio::select! {
        states = collect => states,
        () = follow => unreachable!(),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("nothing was told"),
    };
    serving.abort();
    states
}

#[tokio::test]
async fn stop_reported_before_a_broken_connection_holds_after_it() {
    use DiscoveredState::{Serving, Terminating};
    let kill = |at: &str| {
        let attributes = json!({ "name": "app-1", "signal": "15" });
        let event = json!({ "Type": "container", "Action": "kill", "timeNano": nanoseconds(at),
                            "Actor": { "ID": "a", "Attributes": attributes } });
        Some(format!("{event}\n"))
    };
    let now = "2026-11-29T16:05:00Z";
    // The event came live, and the daemon has forgotten it. The first answer is from before it.
    let told = states_told(kill(now), None).await;
    assert_eq!(told, [Serving, Terminating, Terminating, Terminating]);
    // The event was sent before lameduck was started.
    assert_eq!(states_told(None, kill(now)).await, [Terminating; 4]);
    let before_its_start = kill("2026-11-29T15:59:00Z");
    assert_eq!(states_told(None, before_its_start).await, [Serving; 4]);
}
