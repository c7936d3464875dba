//! Open connections that continue in another process: their state while they move, and how they are offered.
//!
//! The procedure: [`MoveOut::begin`] (through [`DataPlane::move_out`](super::data_plane::DataPlane::move_out)) asks
//! all connections to move. Each continues until it can be paused: between two requests, or when a tunnel or an event
//! stream waits for bytes. There its task stops reading and writing, and offers copies of its descriptors, and its
//! [`state`]. The hand-over sends both to the next process, which creates an
//! [`AdoptedConnection`](super::accept::adopt::AdoptedConnection) from them, and answers whether it can. Then a
//! single message to the next process, here called *the word*, decides ([`crate::core::moving`]): once it is written,
//! [`MoveClaim::confirm_given`] is called, and the task ends without writing to the sockets; if the claim is dropped
//! instead, the task continues as before. The next process serves the connection only after it has read the word.
//!
//! A connection with a request in progress moves after the request has been answered. A connection that can't move
//! returns a reason ([`StayReason`]).

mod error;
mod offer;
pub mod state;

use std::os::fd::OwnedFd;

pub use error::AdoptError;
pub(crate) use offer::note_stay;
pub use offer::{MoveClaim, MoveCount, MoveOut, MoveUnderWay, OfferedConnection, StayReason};
pub use state::MovedState;

/// A connection on its way to another process.
#[derive(Debug)]
pub struct MovedConnection {
    /// Its sockets, at most two: the client's, followed by the backend's if there is one; for an idle connection to a
    /// backend, only that one.
    pub descriptors: Vec<OwnedFd>,
    /// Its state.
    pub state: MovedState,
}
