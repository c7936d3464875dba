//! What Docker's daemon still knows of the signals that it has sent to containers.
//!
//! A container that was told to stop looks like every other one until its process has ended: the event alone says it.
//! So after a broken connection or a restart of lameduck, the events of the last minutes are read again.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;

use crate::rt::clock;

/// Longer than containers are given to stop. The daemon keeps its last 256 events.
const LOOK_BACK: Duration = Duration::from_secs(600);
/// The most events that are read, whatever answers.
const MOST_EVENTS: usize = 1024;
/// An answer that does not end, such as that of a proxy of the socket, is left after this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// The `kill` events of the last minutes, the oldest first; of containers with this label, where there is one. Those that
/// can't be read are missing.
pub async fn recent_kills(docker: &Docker, label: Option<&str>) -> Vec<EventMessage> {
    let now = clock::since_1970(clock::wall(clock::now()));
    let mut filters = HashMap::from([("type", vec!["container"]), ("event", vec!["kill"])]);
    if let Some(label) = label {
        filters.insert("label", vec![label]);
    }
    let since = now.saturating_sub(LOOK_BACK).as_secs().to_string();
    let options = EventsOptionsBuilder::new()
        .since(&since)
        .until(&now.as_secs().to_string())
        .filters(&filters)
        .build();
    let mut events = std::pin::pin!(docker.events(Some(options)));
    let mut kills = Vec::new();
    let reading = async {
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

/// A time of the daemon's, in nanoseconds since 1970.
pub fn nanoseconds(time: &str) -> i64 {
    let time = humantime::parse_rfc3339_weak(time).ok();
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as i64)
}
