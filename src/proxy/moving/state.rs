//! The state of a connection that moves, as it is sent between two processes.
//!
//! The processes may be of different releases. Fields that one of them doesn't know are ignored, and missing ones
//! have their defaults; [`VERSION`] changes only if an older reader would misunderstand something. A reader refuses a
//! newer version, and the connection stays in the other process.
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

/// The version that is written here. Older ones are accepted too.
pub const VERSION: u32 = 1;

/// Maximum number of bytes carried from one buffer; with more, a connection waits until they have been sent. It is
/// the capacity of the buffer of a tunnel or a response; only heads may be larger, depending on `max_header`.
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

/// The state of one connection.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedState {
    /// See [`VERSION`].
    pub version: u32,
    /// The kind of connection, with its state.
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

/// The kinds of connections that move.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum MovedKind {
    /// A client between two requests, or before its first.
    IdleClient(IdleClient),
    /// A client and its backend after a 101.
    Tunnel(Box<MovedTunnel>),
    /// A client that receives an event stream.
    Events(Box<MovedEvents>),
    /// An idle connection to a backend, kept for the next request.
    IdleBackend(MovedBackend),
}

/// A client between two requests. Its buffer may contain a part of the next head.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct IdleClient {
    /// The client.
    pub client: MovedClient,
    /// Start of its idle time.
    pub since_ns: u64,
    /// Arrival of the first byte of the head in its buffer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_began_ns: Option<u64>,
}

/// The known properties of a client: its address, the information in its PROXY header, and its listener's settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedClient {
    /// Its address; absent: it uses a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Whether the address is the client's own.
    pub known: bool,
    /// Its IP address as text.
    pub ip: String,
    /// Whether its `X-Forwarded-*` header fields are trusted.
    pub trusted: bool,
    /// Its listener; absent: an older release did not send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The port that all of its requests are redirected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_https: Option<u16>,
    /// `max-age` of `Strict-Transport-Security`; 0: none.
    pub hsts: u64,
    /// Number of requests received on it.
    pub requests: u64,
    /// Bytes read from it and not yet used.
    pub buffer: CarriedBytes,
    /// Whether it has finished sending.
    pub finished: bool,
}

/// A tunnel after a 101, with both directions.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedTunnel {
    /// The client.
    pub client: MovedClient,
    /// The request that started it.
    pub request: MovedRequest,
    /// The backend's connection.
    pub backend: MovedBackend,
    /// The direction from the client.
    pub up: MovedDirection,
    /// The direction from the backend.
    pub down: MovedDirection,
    /// Time of the last transfer; absent: there is no timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_since_ns: Option<u64>,
}

/// One direction of a tunnel.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedDirection {
    /// Bytes read and not yet written.
    pub buffer: CarriedBytes,
    /// Position in the WebSocket frames after the buffer; absent: another protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<FrameTracker>,
    /// Bytes read so far.
    pub read: u64,
    /// Bytes written so far.
    pub written: u64,
}

/// An event stream. The client's buffer has the request head, followed by what the client has sent since.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct MovedEvents {
    /// The client.
    pub client: MovedClient,
    /// The request.
    pub request: MovedRequest,
    /// The backend's connection.
    pub backend: MovedBackend,
    /// Bytes read from the backend and not yet processed.
    #[serde(default)]
    pub incoming: CarriedBytes,
    /// Bytes for the client that were not yet sent.
    #[serde(default)]
    pub outgoing: CarriedBytes,
    /// Position in the backend's chunks; absent: it sends until it closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ChunkPosition>,
    /// Position in the events.
    pub events: EventTracker,
    /// Whether the client's connection may carry another request.
    #[serde(default)]
    pub keep_alive: bool,
    /// Whether the backend's connection may carry another request.
    #[serde(default)]
    pub is_reusable: bool,
    /// Seconds for which the backend keeps an idle connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_timeout: Option<u32>,
}

/// A request, with the data for its line in the access log and its counters.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(default)]
pub struct MovedRequest {
    /// Its head, as it was sent.
    pub head: CarriedBytes,
    /// Its id.
    pub id: String,
    /// Time of its first byte.
    pub began_ns: u64,
    /// Time at which its head was complete.
    pub complete_ns: u64,
    /// Time at which the backend's response began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_ns: Option<u64>,
    /// Total time on hold.
    pub held_ns: u64,
    /// Number of backends or connections tried.
    pub attempts: u32,
    /// Why it was retried.
    pub retry_reason: String,
    /// State of its session.
    pub session: String,
    /// The name of its route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Its user, if a password was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of its trace; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace_id: String,
    /// The status sent to the client; 0: none yet.
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
    /// Bytes written on it for these requests and before them.
    pub sent: u64,
    /// Whether the backend's process is known to have accepted it.
    pub accepted: bool,
    /// Time after which it must not be reused; absent: it isn't idle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ns: Option<u64>,
    /// Time after which it may only carry requests that can be sent twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_until_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_another_release_is_read_by_its_known_fields() {
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
    fn tunnel_round_trips_through_json() {
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
