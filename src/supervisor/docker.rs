//! Docker, by its event stream. `kill` comes with the signal that a stop sends, `die` with the end, `start` with the next
//! start.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerStateStatusEnum, EventMessage};
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::place::{PATIENCE, SupervisorPlace};
use super::{SupervisorError, SupervisorSource, WordListener};
use crate::core::supervisor_word::ProcessWord;
use crate::net::docker_signals::{nanoseconds, recent_kills};
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;
use crate::rt::signal_number::signal_number;

/// Events from so long before the look are asked for, too: the daemon's clock may be behind ours.
const OVERLAP: Duration = Duration::from_secs(2);
/// Events that wait to be read. If more come, the daemon has to wait.
const QUEUE: usize = 1024;
/// The longest that a request may take, in seconds; the event stream has no end.
const REQUEST: u64 = 10;

/// Docker's daemon.
pub(super) struct DockerEventSource {
    place: SupervisorPlace,
}

/// A container, as it was when it was looked at.
#[derive(Debug, Clone, Default)]
struct SeenContainer {
    /// When its process was started, as the daemon writes it: what tells it from the next one.
    started: String,
    /// The same, in nanoseconds.
    since: i64,
    /// The signal that stops it.
    stop_signal: String,
}

impl DockerEventSource {
    /// At its socket, or a host and port without TLS.
    pub(super) fn new(address: Option<&str>) -> Self {
        let address = address.unwrap_or("unix:/var/run/docker.sock");
        Self {
            place: SupervisorPlace::parse(address, 2375),
        }
    }

    async fn connect(&self) -> Result<Docker, SupervisorError> {
        // A connection that can't be made says why; the client's own message does not.
        drop(self.place.connect().await?);
        let made = match &self.place {
            SupervisorPlace::Socket(path) => {
                Docker::connect_with_socket(&path.to_string_lossy(), REQUEST, API_DEFAULT_VERSION)
            }
            SupervisorPlace::Http { host, .. } => {
                Docker::connect_with_http(&format!("http://{host}"), REQUEST, API_DEFAULT_VERSION)
            }
        };
        let docker = made.map_err(failed)?;
        let negotiated = timeout(PATIENCE, docker.negotiate_version()).await;
        let late = |_| SupervisorError("Docker has not answered within 5 s".to_owned());
        negotiated.map_err(late)?.map_err(failed)
    }
}

fn failed(error: bollard::errors::Error) -> SupervisorError {
    SupervisorError::of("Docker", error)
}

#[async_trait]
impl SupervisorSource for DockerEventSource {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let docker = self.connect().await?;
        let since = clock::since_1970(clock::wall(clock::now().saturating_sub(OVERLAP)));
        let filters = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::new()
            .since(&since.as_secs().to_string())
            .filters(&filters)
            .build();
        let (sender, mut events) = mpsc::channel(QUEUE);
        let client = docker.clone();
        let _reading = OwnedTask::spawn(async move {
            let mut events = std::pin::pin!(client.events(Some(options)));
            while let Some(event) = events.next().await {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        let mut seen = BTreeMap::new();
        let kills = recent_kills(&docker, None).await;
        for process in listener.processes() {
            report_container(&docker, &process, &mut seen, &kills, listener).await?;
        }
        listener.catch_up();
        loop {
            let Some(event) = events.recv().await else {
                return Err(SupervisorError(
                    "Docker has ended its event stream".to_owned(),
                ));
            };
            let event = event.map_err(failed)?;
            let Some((process, action)) =
                subject(&event).filter(|(name, _)| listener.watches(name))
            else {
                continue;
            };
            match action {
                "kill" => {
                    if let Some(container) = seen.get(&process)
                        && stops(&event, container)
                    {
                        let mark = Some(container.started.clone());
                        listener.hear(&process, ProcessWord::Stopping, mark, clock::now());
                    }
                }
                "start" | "restart" | "die" | "destroy" | "create" | "rename" | "unpause" => {
                    report_container(&docker, &process, &mut seen, &[], listener).await?;
                }
                _ => {}
            }
        }
    }
}

/// The container's name, and what happened to it.
fn subject(event: &EventMessage) -> Option<(String, &str)> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    Some((attributes.get("name")?.clone(), event.action.as_deref()?))
}

/// Whether a `kill` stops this process: by the signal, and not one that was there before.
fn stops(event: &EventMessage, container: &SeenContainer) -> bool {
    let attributes = event
        .actor
        .as_ref()
        .and_then(|actor| actor.attributes.as_ref());
    let signal = attributes.and_then(|attributes| attributes.get("signal"));
    let signal = signal_number(signal.map_or("15", String::as_str));
    let is_stop = [Some(libc::SIGTERM), Some(libc::SIGKILL)].contains(&signal)
        || (signal.is_some() && signal == signal_number(&container.stop_signal));
    is_stop && event.time_nano.is_none_or(|at| at >= container.since)
}

/// Reports the state of a container. Where one of `kills` has signalled its process, it counts as stopping, though it
/// still runs.
async fn report_container(
    docker: &Docker,
    process: &str,
    seen: &mut BTreeMap<String, SeenContainer>,
    kills: &[EventMessage],
    listener: &mut WordListener,
) -> Result<(), SupervisorError> {
    let at = clock::now();
    let looked = timeout(PATIENCE, docker.inspect_container(process, None)).await;
    let late = |_| SupervisorError("Docker has not answered within 5 s".to_owned());
    let container = match looked.map_err(late)? {
        Ok(container) => container,
        Err(bollard::errors::Error::DockerResponseServerError {
            status_code: 404, ..
        }) => {
            seen.remove(process);
            listener.unknown(process, "Docker has no such container", at);
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    };
    let state = container.state.unwrap_or_default();
    let started = state.started_at.unwrap_or_default();
    let stop_signal = container.config.and_then(|config| config.stop_signal);
    let container = SeenContainer {
        since: nanoseconds(&started),
        started: started.clone(),
        stop_signal: stop_signal.unwrap_or_default(),
    };
    let is_signalled = kills.iter().any(|kill| {
        subject(kill).is_some_and(|(name, _)| name == process) && stops(kill, &container)
    });
    let word = match state.status {
        Some(ContainerStateStatusEnum::STOPPING) => ProcessWord::Stopping,
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::PAUSED) => {
            match is_signalled {
                true => ProcessWord::Stopping,
                false => ProcessWord::Running,
            }
        }
        _ => ProcessWord::Ended,
    };
    seen.insert(process.to_owned(), container);
    let mark = (word != ProcessWord::Ended).then_some(started);
    listener.hear(process, word, mark, at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn kill(signal: &str, at: i64) -> EventMessage {
        let attributes = [("name", "app-1"), ("signal", signal)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        EventMessage {
            action: Some("kill".into()),
            actor: Some(EventActor {
                id: None,
                attributes: Some(attributes.into()),
            }),
            time_nano: Some(at),
            ..EventMessage::default()
        }
    }

    #[test]
    fn kill_stops_by_its_signal_and_by_when_it_was_sent() {
        let started = "2026-11-29T16:00:00.5Z";
        let container = |stop_signal: &str| SeenContainer {
            started: started.into(),
            since: nanoseconds(started),
            stop_signal: stop_signal.into(),
        };
        let now = nanoseconds("2026-11-29T16:00:01Z");
        assert!(stops(&kill("15", now), &container("")));
        assert!(stops(&kill("9", now), &container("SIGQUIT")));
        assert!(stops(&kill("3", now), &container("SIGQUIT")));
        assert!(stops(&kill("3", now), &container("QUIT")));
        assert!(!stops(&kill("3", now), &container("")));
        assert!(!stops(&kill("1", now), &container("SIGTERM")), "a reload");
        assert!(stops(&kill("37", now), &container("SIGRTMIN+3")));
        assert!(!stops(&kill("37", now), &container("SIGTERM")));
        let before = nanoseconds("2026-11-29T16:00:00Z");
        assert!(
            !stops(&kill("15", before), &container("")),
            "the one before"
        );
    }
}
