//! What the two processes say to each other: frames of JSON, some with descriptors beside them.
//!
//! Rules for changes: a field that is missing has a default, one that is unknown is ignored, and so is a frame of an unknown
//! kind. What an end must know to do the right thing raises [`NEWEST_PROTOCOL`](crate::core::upgrade::NEWEST_PROTOCOL).

use serde::{Deserialize, Serialize};

use crate::core::upgrade::ProtocolRange;
use crate::registry::handed::{HandedRegistry, HandedRequests, HandedSessions};
use crate::registry::persist::KeptPause;
use crate::registry::restart_view::RestartView;
use crate::telemetry::prometheus::carried::CarriedCounters;
use crate::tls::tickets::HandedTickets;

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum UpgradeFrame {
    /// Both: the first words.
    Hello(UpgradeGreeting),
    /// New: its configuration is good.
    Checked {},
    /// Both: this end can't go on.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// Old: everything that it knows, with a descriptor for each of `sockets`.
    State(Box<HandedState>),
    /// New: everything is built.
    Ready {},
    /// Old: accept.
    Accept {},
    /// New: it accepts.
    Accepting {
        /// Those of `sockets`, by place, that its configuration has no use for: it has closed them.
        #[serde(default)]
        unused: Vec<usize>,
    },
    /// Old: it has stopped accepting.
    HandedOver {},
    /// Old: a client's connection, with its descriptors.
    Connection {
        /// Counted by the old one.
        number: u64,
        /// What is known of it.
        state: serde_json::Value,
    },
    /// New: it can take that connection, and waits for [`UpgradeFrame::Moved`].
    Adopted {
        /// The connection's number, as it was given.
        number: u64,
    },
    /// New: it can't take that connection; the old one keeps it.
    Declined {
        /// The connection's number, as it was given.
        number: u64,
        /// Why, for the log.
        #[serde(default)]
        why: String,
    },
    /// Old: it is done with that connection, which is to be served from now on.
    Moved {
        /// The connection's number, as it was given.
        number: u64,
    },
    /// Old: what it has counted of clients whose requests are limited. Some of many: there may be a quarter of a million, and
    /// they come before the first connection does.
    Rates {
        /// What tells whether both count by the same numbers.
        witness: u64,
        /// Whose bucket, and when it is full, as the machine's clock has it, in nanoseconds.
        buckets: Vec<(u64, u64)>,
    },
    /// Old: sessions of clients, some of one backend's.
    Sessions(HandedSessions),
    /// Old: requests that it has sent so far; takes the place of what it said before.
    Requests {
        /// By backend.
        counted: Vec<HandedRequests>,
    },
    /// Old: restarts that its requests have to do with, with what it has counted so far; takes the place of what it said
    /// before.
    Restarts {
        /// The oldest first.
        #[serde(default)]
        restarts: Vec<RestartView>,
    },
    /// Old: how its finishing goes.
    Progress(Finishing),
    /// Old: what it has counted so far; takes the place of what it said before.
    Counters(CarriedCounters),
    /// New: no more requests to this backend; [`UpgradeFrame::Quiet`] when none is left.
    Drain {
        /// For the answer.
        number: u64,
        /// The pool.
        pool: String,
        /// The backend's name without `~2`.
        backend: String,
        /// Where it listens.
        address: String,
        /// Milliseconds until what is left is cut; `None`: never.
        #[serde(default)]
        deadline_ms: Option<u64>,
    },
    /// New: it sends requests to this backend; those that the old one holds may go there, too.
    Opened {
        /// The pool.
        pool: String,
        /// The backend's name without `~2`.
        backend: String,
        /// Where it listens.
        address: String,
        /// Its share.
        weight: u32,
        /// It gets requests only while no other is ready.
        #[serde(default)]
        backup: bool,
    },
    /// New: this pool is paused, or no longer; what the old one holds for that waits as long.
    Paused {
        /// The pool.
        pool: String,
        /// `None`: its pause has ended.
        #[serde(default)]
        pause: Option<KeptPause>,
    },
    /// Old: nothing of its own is left on that backend.
    Quiet {
        /// Which question this answers.
        number: u64,
    },
    /// Old: it ends now.
    Farewell {
        /// A stand-in keeps its process id for a supervisor that watches it. When the stand-in is killed, this
        /// process has to stop.
        #[serde(default)]
        stand_in: bool,
    },
    /// Old: the channel to the stand-in that keeps the first process's id is beside this.
    StandIn {},
    /// New, to the process before it or its stand-in: another process has taken over.
    Successor {
        /// Its id.
        pid: u32,
    },
    /// Something that another release says.
    #[serde(other)]
    Unknown,
}

/// The first words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeGreeting {
    /// The release, for people.
    pub version: String,
    /// The oldest protocol that it understands…
    pub oldest: u32,
    /// …and the newest.
    pub newest: u32,
    /// Its process.
    pub pid: u32,
    /// When it dies, its supervisor starts another one.
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

    /// What it understands.
    pub fn range(&self) -> ProtocolRange {
        ProtocolRange {
            oldest: self.oldest,
            newest: self.newest,
        }
    }
}

/// Everything that a process knows and another one needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedState {
    /// Its sockets, in the order of the descriptors.
    pub sockets: Vec<HandedSocket>,
    /// Backends, drains, leases, pauses, splits.
    pub registry: HandedRegistry,
    /// What it has counted.
    pub counters: CarriedCounters,
    /// What lets clients resume their TLS sessions.
    pub tickets: Vec<HandedTickets>,
    /// It is lame duck.
    pub lame_duck: Option<HandedLameDuck>,
    /// What clients are counted by.
    pub counting_secret: Option<[u64; 2]>,
    /// Which process id the supervisor watches.
    pub parent: HandedParent,
}

/// One socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedSocket {
    /// What it is for.
    pub role: SocketUse,
    /// Its address in the configuration; the name that a supervisor has given it.
    pub name: String,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketUse {
    /// A public address.
    Listener,
    /// The admin socket.
    Admin,
    /// The one for apps.
    Apps,
    /// `admin.http`.
    Http,
    /// `admin.probes`.
    Probes,
    /// One that a supervisor has bound, whatever it is used for.
    Supervisor,
    /// Something that another release knows.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Why a process is lame duck.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedLameDuck {
    /// For people.
    pub reason: String,
    /// The lease that asked for it.
    pub lease: Option<String>,
}

/// Which supervisor watches the process id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandedParent {
    /// systemd, which can be told to watch another process id.
    Systemd,
    /// A supervisor that can't be told: a stand-in keeps the id.
    #[default]
    #[serde(other)]
    StandIn,
}

/// How the old process's finishing goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finishing {
    /// Its id.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// Client connections that are left.
    pub connections: u32,
    /// What is left then is cut; RFC 3339.
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
    fn every_frame_is_what_it_was_after_its_way() {
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
