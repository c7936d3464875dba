//! Signals that Docker has sent to containers, as its events report them, and which of them stop a container.
//!
//! A container that was told to stop looks like any other until its process has ended; only the event tells. So the
//! events of the last minutes are read again after a broken connection and after a restart of lameduck.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use bollard::models::EventMessage;
use tokio::io::{AsyncRead, AsyncWrite};

use super::docker_events::{DockerEvents, WantedEvents};
use crate::rt::clock;
use crate::rt::signal_number::signal_number;

/// Signals that stop any container, whatever its image says: the two of `docker stop`, and that of Ctrl-C. QUIT is not
/// among them: a JVM answers it with a thread dump, and goes on.
const STOP_SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGKILL, libc::SIGINT];

/// How far back events are read: longer than containers usually get to stop. The daemon keeps its last 256 events.
const HISTORY: Duration = Duration::from_secs(600);
/// Most events that are read, even if there are more.
const MAX_EVENTS: usize = 1024;
/// Longest time to read them: a proxy of Docker's socket may send a response without an end.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The `kill` events of the last minutes, the oldest first. With a label, only those of containers that have it.
/// Reading ends at the first event that can't be read. `stream` is a connection to the daemon that is used for nothing
/// else.
pub async fn recent_kills<S>(stream: S, label: Option<&str>) -> Vec<EventMessage>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let now = clock::since_1970(clock::wall(clock::now()));
    let one = |value: &str| vec![value.to_owned()];
    let mut filters = HashMap::from([("type", one("container")), ("event", one("kill"))]);
    if let Some(label) = label {
        filters.insert("label", one(label));
    }
    let wanted = WantedEvents {
        since: now.saturating_sub(HISTORY).as_secs(),
        until: Some(now.as_secs()),
        filters,
    };
    let mut kills = Vec::new();
    let reading = async {
        let Ok(mut events) = DockerEvents::open(stream, &wanted).await else {
            return;
        };
        while let Some(Ok(event)) = events.next().await {
            if event.action.as_deref() == Some("kill") {
                kills.push(event);
            }
            if kills.len() >= MAX_EVENTS {
                return;
            }
        }
    };
    let _ = clock::timeout(READ_TIMEOUT, reading).await;
    kills
}

/// Name of the container, and the event's action.
pub fn subject_of(event: &EventMessage) -> Option<(String, &str)> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    Some((attributes.get("name")?.clone(), event.action.as_deref()?))
}

/// Whether a `kill` event stops a container whose image has this `StopSignal`. An event without a signal means TERM.
pub fn is_stop(kill: &EventMessage, stop_signal: Option<&str>) -> bool {
    let actor = kill.actor.as_ref();
    let attributes = actor.and_then(|actor| actor.attributes.as_ref());
    let signal = attributes.and_then(|attributes| attributes.get("signal"));
    let signal = signal_number(signal.map_or("TERM", String::as_str));
    let own = stop_signal.and_then(signal_number);
    signal.is_some_and(|signal| STOP_SIGNALS.contains(&signal) || own == Some(signal))
}

/// Parses a time of Docker's API; the result is Unix time in nanoseconds, or 0 if it is malformed.
pub fn nanoseconds(time: &str) -> i64 {
    let time = humantime::parse_rfc3339_weak(time).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn kill(signal: Option<&str>) -> EventMessage {
        let attributes = signal.map(|signal| ("signal".to_owned(), signal.to_owned()));
        EventMessage {
            actor: Some(EventActor {
                id: None,
                attributes: Some(attributes.into_iter().collect()),
            }),
            ..EventMessage::default()
        }
    }

    #[test]
    fn kill_stops_by_dockers_own_signals_ctrl_c_and_the_images_stop_signal() {
        for (signal, own, stops) in [
            (Some("15"), None, true),
            (Some("9"), Some("SIGQUIT"), true),
            (Some("2"), None, true),
            (None, None, true),
            // QUIT is a thread dump for most, but a stop for nginx and php-fpm, whose images say so.
            (Some("3"), None, false),
            (Some("3"), Some("SIGQUIT"), true),
            (Some("3"), Some("QUIT"), true),
            (Some("1"), Some("SIGTERM"), false),
            (Some("10"), Some("SIGUSR1"), true),
            (Some("10"), None, false),
            (Some("37"), Some("SIGRTMIN+3"), true),
            (Some("37"), Some(""), false),
            (Some("nonsense"), None, false),
        ] {
            assert_eq!(is_stop(&kill(signal), own), stops, "{signal:?} {own:?}");
        }
    }
}
