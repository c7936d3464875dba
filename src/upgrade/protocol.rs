//! Messages between the two processes: frames of JSON, some with descriptors.
//!
//! Rules for changes: a missing field has a default; an unknown field is ignored, and so is a frame of an unknown kind.
//! A change that an end must know about raises [`NEWEST_PROTOCOL`](crate::core::upgrade::NEWEST_PROTOCOL).

use serde::{Deserialize, Serialize};

use crate::core::upgrade::ProtocolRange;
use crate::registry::handed::{HandedRegistry, HandedRequests, HandedSessions};
use crate::registry::persist::KeptPause;
use crate::registry::restart_view::RestartView;
use crate::telemetry::prometheus::carried::CarriedCounters;
use crate::tls::tickets::HandedTickets;

/// A message. Each variant says which process sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum UpgradeFrame {
    /// Both: greeting.
    Hello(UpgradeGreeting),
    /// New: its configuration is valid.
    Checked {},
    /// Both: this process can't go on.
    Refused {
        /// Reason, for users.
        why: String,
    },
    /// Old: its whole state, with a descriptor for each of `sockets`.
    State(Box<HandedState>),
    /// New: everything is prepared.
    Ready {},
    /// Old: the new process may accept.
    Accept {},
    /// New: it accepts connections.
    Accepting {
        /// Indexes of the `sockets` that its configuration does not use, and that it has closed.
        #[serde(default)]
        unused: Vec<usize>,
    },
    /// Old: it has stopped accepting.
    HandedOver {},
    /// Old: a client's connection, with its descriptors.
    Connection {
        /// Number that the old process has given to the connection.
        number: u64,
        /// State of the connection.
        state: serde_json::Value,
    },
    /// New: it can take this connection, and waits for [`UpgradeFrame::Moved`].
    Adopted {
        /// Number of the connection.
        number: u64,
    },
    /// New: it can't take this connection, so the old process keeps it.
    Declined {
        /// Number of the connection.
        number: u64,
        /// Reason, for the log.
        #[serde(default)]
        why: String,
    },
    /// Old: it has finished with this connection, which the new process serves from now on.
    Moved {
        /// Number of the connection.
        number: u64,
    },
    /// Old: counts of clients whose request rates are limited. One of many such frames, because there may be a quarter
    /// of a million clients; all are sent before the first connection.
    Rates {
        /// Check value that tells whether both processes hash clients to the same numbers.
        witness: u64,
        /// Hash of each client, and the time at which its bucket is full, by the machine's clock in nanoseconds.
        buckets: Vec<(u64, u64)>,
    },
    /// Old: some of the sticky sessions of one backend.
    Sessions(HandedSessions),
    /// Old: number of requests that it has sent so far; replaces earlier counts.
    Requests {
        /// Counts by backend.
        counted: Vec<HandedRequests>,
    },
    /// Old: restarts that its requests have met, with the counts so far; replaces earlier counts.
    Restarts {
        /// Restarts, the oldest first.
        #[serde(default)]
        restarts: Vec<RestartView>,
    },
    /// Old: progress of finishing its connections.
    Progress(Finishing),
    /// Old: its counters so far; replaces earlier ones.
    Counters(CarriedCounters),
    /// New: send no more requests to this backend, and answer [`UpgradeFrame::Quiet`] when none is left.
    Drain {
        /// Number of this request, for the answer.
        number: u64,
        /// Name of the pool.
        pool: String,
        /// Name of the backend without `~2`.
        backend: String,
        /// Address of the backend.
        address: String,
        /// Milliseconds until the rest is cut; `None`: never.
        #[serde(default)]
        deadline_ms: Option<u64>,
    },
    /// New: it sends requests to this backend; held requests of the old process may go there, too.
    Opened {
        /// Name of the pool.
        pool: String,
        /// Name of the backend without `~2`.
        backend: String,
        /// Address of the backend.
        address: String,
        /// Weight of the backend.
        weight: u32,
        /// Whether the backend gets requests only while no other one is ready.
        #[serde(default)]
        backup: bool,
    },
    /// New: this pool is paused, or no longer; requests that the old process holds for it wait as long.
    Paused {
        /// Name of the pool.
        pool: String,
        /// The pause; `None`: it has ended.
        #[serde(default)]
        pause: Option<KeptPause>,
    },
    /// Old: it has nothing in flight on this backend any more.
    Quiet {
        /// Number of the request that this answers.
        number: u64,
    },
    /// Old: it ends now.
    Farewell {
        /// Whether a stand-in keeps the process id for a supervisor that watches it. When the stand-in is killed, this
        /// process has to stop.
        #[serde(default)]
        stand_in: bool,
    },
    /// Old: a descriptor of the channel to the stand-in that keeps the first process's id comes with this.
    StandIn {},
    /// New, to the process before it or its stand-in: a further process has taken over.
    Successor {
        /// Process id of the further process.
        pid: u32,
    },
    /// A message that only another release knows.
    #[serde(other)]
    Unknown,
}

/// Greeting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeGreeting {
    /// Release, for users.
    pub version: String,
    /// Oldest protocol version that it supports…
    pub oldest: u32,
    /// …and the newest.
    pub newest: u32,
    /// Its process id.
    pub pid: u32,
    /// Whether its supervisor starts another process when it dies.
    pub is_supervised: bool,
}

impl UpgradeGreeting {
    /// The greeting of this process.
    pub fn of_this_process(is_supervised: bool) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            oldest: ProtocolRange::OWN.oldest,
            newest: ProtocolRange::OWN.newest,
            pid: std::process::id(),
            is_supervised,
        }
    }

    /// Range of protocol versions that it supports.
    pub fn range(&self) -> ProtocolRange {
        ProtocolRange {
            oldest: self.oldest,
            newest: self.newest,
        }
    }
}

/// State of a process that another one needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedState {
    /// Its sockets, in the order of the descriptors.
    pub sockets: Vec<HandedSocket>,
    /// Backends, drains, leases, pauses, splits.
    pub registry: HandedRegistry,
    /// Its counters.
    pub counters: CarriedCounters,
    /// Keys of TLS session tickets, with which clients resume.
    pub tickets: Vec<HandedTickets>,
    /// Set if it is lame duck.
    pub lame_duck: Option<HandedLameDuck>,
    /// Secret with which clients are hashed for counting.
    pub counting_secret: Option<[u64; 2]>,
    /// How the supervisor follows the process id.
    pub parent: HandedParent,
}

/// A socket that is handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedSocket {
    /// Use of the socket.
    pub role: SocketUse,
    /// Its configured address, or the name that a supervisor has given it.
    pub name: String,
}

/// Use of a socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketUse {
    /// A public address.
    Listener,
    /// The admin socket.
    Admin,
    /// The second unix socket of the admin API, for apps.
    Apps,
    /// Address of `admin.http`.
    Http,
    /// Address of `admin.probes`.
    Probes,
    /// A socket that a supervisor has bound, for any use.
    Supervisor,
    /// A use that only another release knows.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Reason why a process is lame duck.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedLameDuck {
    /// Reason, for users.
    pub reason: String,
    /// Lease that has requested it, if any.
    pub lease: Option<String>,
}

/// Kind of supervisor that watches the process id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedParent {
    /// systemd, which can be told the new process id.
    Systemd,
    /// A supervisor that can't be told, so that a stand-in keeps the old id.
    #[default]
    #[serde(other)]
    StandIn,
}

/// Progress of the old process's finishing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finishing {
    /// Its process id.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Number of client connections that are left.
    pub connections: u32,
    /// Deadline in RFC 3339, at which the rest is cut.
    pub until: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> UpgradeFrame {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn frame_of_another_release_is_read_as_far_as_it_is_known() {
        assert_eq!(
            read(r#"{"kind":"teleport","to":"mars"}"#),
            UpgradeFrame::Unknown
        );
        let hello = read(r#"{"kind":"hello","version":"9.1","newest":4,"mood":"good"}"#);
        let UpgradeFrame::Hello(greeting) = hello else {
            panic!("{hello:?}");
        };
        assert_eq!((greeting.oldest, greeting.newest), (0, 4));
        let state = read(r#"{"kind":"state","sockets":[{"role":"quic","name":"x"}],"new":{}}"#);
        let UpgradeFrame::State(state) = state else {
            panic!("{state:?}");
        };
        assert_eq!(state.sockets[0].role, SocketUse::Unknown);
        assert_eq!(state.parent, HandedParent::StandIn);
        assert!(state.registry.restarts.is_empty(), "an older one has none");
        assert_eq!(read(r#"{"kind":"ready","at":1}"#), UpgradeFrame::Ready {});
    }

    #[test]
    fn every_frame_is_the_same_after_encoding_and_decoding() {
        for frame in [
            UpgradeFrame::Hello(UpgradeGreeting::of_this_process(true)),
            UpgradeFrame::Checked {},
            UpgradeFrame::State(Box::default()),
            UpgradeFrame::Accepting { unused: vec![2] },
            UpgradeFrame::Drain {
                number: 1,
                pool: "app".into(),
                backend: "a".into(),
                address: "127.0.0.1:1".into(),
                deadline_ms: None,
            },
            UpgradeFrame::Opened {
                pool: "app".into(),
                backend: "a".into(),
                address: "127.0.0.1:1".into(),
                weight: 2,
                backup: true,
            },
            UpgradeFrame::Paused {
                pool: "app".into(),
                pause: None,
            },
            UpgradeFrame::Farewell { stand_in: true },
            UpgradeFrame::Progress(Finishing::default()),
            UpgradeFrame::Rates {
                witness: u64::MAX,
                buckets: vec![(u64::MAX, 1)],
            },
            UpgradeFrame::Requests {
                counted: vec![HandedRequests::default()],
            },
            UpgradeFrame::Sessions(HandedSessions::default()),
            UpgradeFrame::Restarts {
                restarts: vec![RestartView::default()],
            },
        ] {
            let text = serde_json::to_string(&frame).unwrap();
            assert_eq!(read(&text), frame, "{text}");
        }
    }
}
