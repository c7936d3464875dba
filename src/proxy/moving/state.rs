//! The state of a connection that moves, as it is sent between two processes.
//!
//! Both may be of different releases. Fields that one of them doesn't know are passed over, and those that are missing
//! have their defaults; [`VERSION`] changes only when an older reader would take something for what it isn't. A reader
//! refuses what is newer, and the connection stays where it was.
//!
//! Times are nanoseconds of the machine's monotonic clock, which all of its processes share
//! ([`crate::rt::clock::to_machine`]).

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::proxy::h1::chunked::ChunkPosition;
use crate::proxy::messages::sse::EventTracker;
use crate::proxy::messages::websocket::FrameTracker;

/// The version that is written here. Older ones are read, too.
pub const VERSION: u32 = 1;

/// The most bytes that are carried of one buffer; beyond it, a connection waits until they have gone out. It is what a
/// buffer of a tunnel or an answer can hold; only heads may be larger, where `max_header` is.
pub const MOST_CARRIED: usize = 64 * 1024;

/// Bytes of a buffer. In JSON: base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CarriedBytes(pub Vec<u8>);

impl Serialize for CarriedBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for CarriedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// One connection.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedState {
    /// See [`VERSION`].
    pub version: u32,
    /// What it is.
    pub connection: MovedKind,
}

impl From<MovedKind> for MovedState {
    fn from(connection: MovedKind) -> Self {
        Self {
            version: VERSION,
            connection,
        }
    }
}

/// What moves.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MovedKind {
    /// A client between two requests, or before its first.
    IdleClient(IdleClient),
    /// A client and its backend behind a 101.
    Tunnel(Box<MovedTunnel>),
    /// A client that is sent a stream of events.
    Events(Box<MovedEvents>),
    /// A connection to a backend that is kept for the next request.
    IdleBackend(MovedBackend),
}

/// A client between two requests. Of the next one's head, a part may be in its buffer.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct IdleClient {
    /// Who it is.
    pub client: MovedClient,
    /// Since when it is idle.
    pub since_ns: u64,
    /// When the head began that is in its buffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_began_ns: Option<u64>,
}

/// A client, as far as it is known: its address, the PROXY header's words, and its listener's settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedClient {
    /// Its address; absent: it came by a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Whether that is the client's.
    pub known: bool,
    /// Its IP address as text.
    pub ip: String,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// The listener that it has come to; absent: an older release did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Every request is redirected to this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_https: Option<u16>,
    /// `max-age` of `Strict-Transport-Security`; 0: none.
    pub hsts: u64,
    /// Requests that have come on it.
    pub requests: u64,
    /// What was read of it and not yet used.
    pub buffer: CarriedBytes,
    /// It has finished sending.
    pub finished: bool,
}

/// What follows a 101, both ways.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedTunnel {
    /// The client.
    pub client: MovedClient,
    /// The request that it has begun with.
    pub request: MovedRequest,
    /// The backend's connection.
    pub backend: MovedBackend,
    /// From the client.
    pub up: MovedDirection,
    /// From the backend.
    pub down: MovedDirection,
    /// Since when nothing has passed; absent: nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since_ns: Option<u64>,
}

/// One direction of a tunnel.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedDirection {
    /// What was read and not yet written.
    pub buffer: CarriedBytes,
    /// Where its frames stand behind the buffer; absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<FrameTracker>,
    /// Bytes read so far.
    pub read: u64,
    /// Bytes written so far.
    pub written: u64,
}

/// A stream of events. The client's buffer has the request's head, and behind it what the client has sent since.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedEvents {
    /// The client.
    pub client: MovedClient,
    /// The request.
    pub request: MovedRequest,
    /// The backend's connection.
    pub backend: MovedBackend,
    /// What was read from the backend and not yet looked at.
    #[serde(default)]
    pub incoming: CarriedBytes,
    /// What is written for the client and was not yet sent.
    #[serde(default)]
    pub outgoing: CarriedBytes,
    /// Where the backend's chunks stand; absent: it sends until it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ChunkPosition>,
    /// Where the events stand.
    pub events: EventTracker,
    /// Whether the client's connection may carry another request.
    #[serde(default)]
    pub keep_alive: bool,
    /// Whether the backend's may.
    #[serde(default)]
    pub is_reusable: bool,
    /// Seconds for which the backend keeps an idle connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_timeout: Option<u32>,
}

/// A request, as far as its line in the access log and its counters need it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedRequest {
    /// Its head, as it was sent.
    pub head: CarriedBytes,
    /// Its id.
    pub id: String,
    /// When its first byte was read.
    pub began_ns: u64,
    /// When its head was complete.
    pub complete_ns: u64,
    /// When the backend's answer began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_ns: Option<u64>,
    /// How long it was on hold.
    pub held_ns: u64,
    /// How many backends or connections were tried.
    pub attempts: u32,
    /// Why it was tried again.
    pub retry_reason: String,
    /// What has become of its session.
    pub session: String,
    /// The name of its route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Who it comes from, where a password has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The trace that it belongs to; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// The status that was sent; 0: none yet.
    pub status: u16,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
}

/// A connection to a backend.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedBackend {
    /// The pool's name.
    pub pool: String,
    /// The backend's name as shown.
    pub backend: String,
    /// Its address as configured.
    pub address: String,
    /// Requests that the connection has carried.
    pub requests: u32,
    /// Bytes written on it for these and before them.
    pub sent: u64,
    /// It is known that the backend's process has accepted it.
    pub accepted: bool,
    /// Idle after this it must not be used again; absent: it isn't idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ns: Option<u64>,
    /// Idle after this it may carry only what can be sent twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_until_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_another_release_is_read_by_what_is_known_of_it() {
        let text = r#"{"version":1,"connection":{"kind":"idle_client","since_ns":7,"of_a_later_release":[1],
            "client":{"ip":"127.0.0.1","buffer":"R0VU","speed":3}}}"#;
        let state: MovedState = serde_json::from_str(text).unwrap();
        let MovedKind::IdleClient(idle) = state.connection else {
            panic!("{state:?}");
        };
        assert_eq!((idle.since_ns, &idle.client.buffer.0[..]), (7, &b"GET"[..]));
        assert!(!idle.client.trusted && idle.head_began_ns.is_none());
    }

    #[test]
    fn tunnel_is_the_same_after_the_way_through_json() {
        let mut frames = FrameTracker::new();
        frames.feed(&[0x82, 0xfe, 0x01]);
        let tunnel = MovedTunnel {
            client: MovedClient {
                address: Some("[::1]:80".parse().unwrap()),
                ..MovedClient::default()
            },
            request: MovedRequest::default(),
            backend: MovedBackend::default(),
            up: MovedDirection {
                buffer: CarriedBytes((0..=255).collect()),
                frames: Some(frames),
                read: u64::MAX,
                written: 1,
            },
            down: MovedDirection::default(),
            silent_since_ns: Some(1),
        };
        let state = MovedState::from(MovedKind::Tunnel(Box::new(tunnel)));
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<MovedState>(&text).unwrap(), state);
    }
}
