//! Docker, by its event stream. `kill` is sent with the signal of a stop, `die` at the end of the process, and `start`
//! at the next start.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerStateStatusEnum, EventMessage};
use bollard::{API_DEFAULT_VERSION, Docker};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::place::{ANSWER_TIMEOUT, SupervisorPlace};
use super::{SupervisorError, SupervisorSource, WordListener};
use crate::core::supervisor_word::ProcessWord;
use crate::net::docker_events::{DockerEvents, WantedEvents};
use crate::net::docker_signals::{is_stop, nanoseconds, recent_kills, subject_of};
use crate::rt::clock;
use crate::rt::owned_task::OwnedTask;

/// Events from this long before the list of containers are requested, too, because the daemon's clock may be behind.
const OVERLAP: Duration = Duration::from_secs(2);
/// Most events that wait to be read. If there are more, the daemon has to wait.
const MAX_QUEUED_EVENTS: usize = 1024;
/// Longest time for a request, in seconds; the event stream itself has no end.
const REQUEST_TIMEOUT: u64 = 10;

/// Docker's daemon.
pub(super) struct DockerEventSource {
    place: SupervisorPlace,
}

/// A container, as it was when it was inspected.
#[derive(Debug, Clone, Default)]
struct SeenContainer {
    /// Start time of its process, as the daemon writes it; a later process has another one.
    started: String,
    /// Start time in nanoseconds since 1970.
    since: i64,
    /// Stop signal of its image, if that names one.
    stop_signal: Option<String>,
}

impl DockerEventSource {
    /// A source for this socket, or for a host and port without TLS.
    pub(super) fn new(address: Option<&str>) -> Self {
        let address = address.unwrap_or("unix:/var/run/docker.sock");
        Self {
            place: SupervisorPlace::parse(address, 2375),
        }
    }

    async fn connect(&self) -> Result<Docker, SupervisorError> {
        // This connection is for its error, which says why it fails; the library's does not.
        drop(self.place.connect().await?);
        let made = match &self.place {
            SupervisorPlace::Socket(path) => Docker::connect_with_socket(
                &path.to_string_lossy(),
                REQUEST_TIMEOUT,
                API_DEFAULT_VERSION,
            ),
            SupervisorPlace::Http { host, .. } => Docker::connect_with_http(
                &format!("http://{host}"),
                REQUEST_TIMEOUT,
                API_DEFAULT_VERSION,
            ),
        };
        let docker = made.map_err(failed)?;
        let negotiated = timeout(ANSWER_TIMEOUT, docker.negotiate_version()).await;
        let late = |_| SupervisorError("Docker has not answered within 5 s".to_owned());
        negotiated.map_err(late)?.map_err(failed)
    }
}

fn failed(error: bollard::errors::Error) -> SupervisorError {
    SupervisorError::of("Docker", error)
}

fn unheard(why: String) -> SupervisorError {
    SupervisorError::of("Docker's events", why)
}

#[async_trait]
impl SupervisorSource for DockerEventSource {
    async fn listen(&mut self, listener: &mut WordListener) -> Result<(), SupervisorError> {
        let docker = self.connect().await?;
        let since = clock::since_1970(clock::wall(clock::now().saturating_sub(OVERLAP)));
        let wanted = WantedEvents {
            since: since.as_secs(),
            until: None,
            filters: HashMap::from([("type", vec!["container".to_owned()])]),
        };
        let stream = self.place.connect().await?;
        let opened = DockerEvents::open(stream, &wanted).await;
        let mut stream = opened.map_err(unheard)?;
        let (sender, mut events) = mpsc::channel(MAX_QUEUED_EVENTS);
        let _reading = OwnedTask::spawn(async move {
            while let Some(event) = stream.next().await {
                let is_end = event.is_err();
                if sender.send(event).await.is_err() || is_end {
                    return;
                }
            }
        });
        let mut seen = BTreeMap::new();
        let kills = recent_kills(self.place.connect().await?, None).await;
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
            let event = event.map_err(unheard)?;
            let Some((process, action)) =
                subject_of(&event).filter(|(name, _)| listener.watches(name))
            else {
                continue;
            };
            match action {
                "kill" => {
                    if let Some(container) = seen.get(&process)
                        && stops_process(&event, container)
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

/// Whether a `kill` event stops this process, and not an earlier one.
fn stops_process(kill: &EventMessage, container: &SeenContainer) -> bool {
    is_stop(kill, container.stop_signal.as_deref())
        && kill.time_nano.is_none_or(|at| at >= container.since)
}

/// Reports the state of a container. If one of `kills` has signalled its process, it counts as stopping, although it
/// still runs.
async fn report_container(
    docker: &Docker,
    process: &str,
    seen: &mut BTreeMap<String, SeenContainer>,
    kills: &[EventMessage],
    listener: &mut WordListener,
) -> Result<(), SupervisorError> {
    let at = clock::now();
    let looked = timeout(ANSWER_TIMEOUT, docker.inspect_container(process, None)).await;
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
        stop_signal,
    };
    let is_signalled = kills.iter().any(|kill| {
        subject_of(kill).is_some_and(|(name, _)| name == process) && stops_process(kill, &container)
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
    fn kill_from_before_the_process_was_started_is_about_another_one() {
        let started = "2026-11-29T16:00:00.5Z";
        let container = SeenContainer {
            started: started.into(),
            since: nanoseconds(started),
            stop_signal: None,
        };
        let now = nanoseconds("2026-11-29T16:00:01Z");
        assert!(stops_process(&kill("15", now), &container));
        assert!(!stops_process(&kill("1", now), &container), "a reload");
        let before = nanoseconds("2026-11-29T16:00:00Z");
        assert!(!stops_process(&kill("15", before), &container));
    }
}
