//! What Docker's daemon says of the signals that it has sent to containers, and which of them stop one.
//!
//! A container that was told to stop looks like every other one until its process has ended: the event alone says it.
//! So after a broken connection or a restart of lameduck, the events of the last minutes are read again.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use bollard::models::EventMessage;
use tokio::io::{AsyncRead, AsyncWrite};

use super::docker_events::{DockerEvents, WantedEvents};
use crate::rt::clock;
use crate::rt::signal_number::signal_number;

/// Signals that stop a container, whatever its image says: the two of `docker stop`, and Ctrl-C. QUIT is not one of them:
/// it has a JVM write its threads to its log, and go on.
const STOPS: [i32; 3] = [libc::SIGTERM, libc::SIGKILL, libc::SIGINT];

/// Longer than containers are given to stop. The daemon keeps its last 256 events.
const LOOK_BACK: Duration = Duration::from_secs(600);
/// The most events that are read, whatever answers.
const MOST_EVENTS: usize = 1024;
/// An answer that does not end, such as that of a proxy of the socket, is left after this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The `kill` events of the last minutes, the oldest first; of containers with this label, where there is one. Those that
/// can't be read are missing. `stream`: a connection to the daemon of its own.
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
        since: now.saturating_sub(LOOK_BACK).as_secs(),
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
            if kills.len() >= MOST_EVENTS {
                return;
            }
        }
    };
    let _ = clock::timeout(PATIENCE, reading).await;
    kills
}

/// The container's name, and what happened to it.
pub fn subject_of(event: &EventMessage) -> Option<(String, &str)> {
    let attributes = event.actor.as_ref()?.attributes.as_ref()?;
    Some((attributes.get("name")?.clone(), event.action.as_deref()?))
}

/// Whether a `kill` is one that stops a container of this `StopSignal`. One without a signal is TERM.
pub fn is_stop(kill: &EventMessage, stop_signal: Option<&str>) -> bool {
    let actor = kill.actor.as_ref();
    let attributes = actor.and_then(|actor| actor.attributes.as_ref());
    let signal = attributes.and_then(|attributes| attributes.get("signal"));
    let signal = signal_number(signal.map_or("TERM", String::as_str));
    let own = stop_signal.and_then(signal_number);
    signal.is_some_and(|signal| STOPS.contains(&signal) || own == Some(signal))
}

/// A time of the daemon's, in nanoseconds since 1970.
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
            // A thread dump; for nginx and php-fpm, whose images say so, the stop.
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
