//! Sockets and streams, independent of what they are used for.
//!
//! - Listening: [`activation`] takes sockets that the supervisor has bound; [`unix_socket`] is for sockets with a file;
//!   [`kept_socket`] for those that outlive the process. [`listening`] finds who listens on this host, [`serving`]
//!   which processes accept there, [`accept_queue`] whether a connection was accepted.
//! - One connection: [`keepalive`] finds peers that have vanished, [`socket`] has operations on its descriptor,
//!   [`connect_fault`] the reasons why a connect failed.
//! - Streams: [`plain`] is a socket without layers, [`rewound`] returns bytes that were read already, `hang_up` notices
//!   the end of a stream without reading, [`send_file`] has the kernel send a file; `stream` is what they share.
//! - Small protocols: [`proxy_protocol`] tells whom a connection is for, [`sd_notify`] tells the supervisor how the
//!   process is, [`passing`] hands descriptors to another process; `docker_events` reads Docker's events, and
//!   `docker_signals` which signals Docker has sent.

pub mod accept_queue;
pub mod activation;
pub mod connect_fault;
#[cfg(feature = "docker")]
pub mod docker_events;
#[cfg(feature = "docker")]
pub mod docker_signals;
mod hang_up;
pub mod keepalive;
pub mod kept_socket;
pub mod listening;
pub mod passing;
pub mod plain;
pub mod proxy_protocol;
pub mod rewound;
pub mod sd_notify;
pub mod send_file;
pub mod serving;
pub mod socket;
pub(crate) mod stream;
pub mod unix_socket;
