//! Sockets and streams, independent of what they are used for.
//!
//! - Listening: [`activation`] has the sockets that a supervisor has bound, [`unix_socket`] those that have a file,
//!   [`kept_socket`] those that outlive the process;
//!   [`listening`] finds who listens on this host,
//!   [`accept_queue`] which connections still wait there.
//! - A connection's own: [`keepalive`] finds peers that have vanished, [`socket`] is done to a descriptor directly,
//!   [`connect_fault`] says why a connect failed.
//! - Streams: [`plain`] is a socket as Pingora wants it, [`rewound`] gives back what was read too far, `hang_up`
//!   notices a stream's end without reading, [`send_file`] has the kernel send a file, `stream` is what they share.
//! - Small protocols: [`proxy_protocol`] says in front of a connection who it is for, [`sd_notify`] tells a supervisor how
//!   the process is, [`passing`] hands descriptors to another process, `docker_events` reads what
//!   Docker says, and `docker_signals` which signals it has sent.

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
