//! What is known of a connection that moves, as it stands on the wire between two processes.
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
