//! Sockets and streams, independent of what they are used for.
//!

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
