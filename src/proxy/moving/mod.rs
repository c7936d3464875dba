//! Open connections that continue in another process: their state while they move, and how they are offered.
//!
//! How it goes. [`MoveOut::begin`] (through [`DataPlane::move_out`](super::data_plane::DataPlane::move_out)) asks all
//! connections to move. Each goes on until it comes to a still point: between two requests, or where a tunnel or a
//! stream of events waits for bytes. There its task stops reading and writing, and offers it: copies of its
//! descriptors, and its [`state`]. The hand-over sends both to the next process, which makes an
//! [`AdoptedConnection`](super::accept::adopt::AdoptedConnection) of it, and answers whether it can. Then a single
//! message to the next process, here called *the word*, decides ([`crate::core::moving`]): once it is written,
//! [`MoveClaim::confirm_given`] is called, and the task ends without writing to the sockets; if the claim is dropped
//! instead, the task goes on where it was. The next process serves the connection only when it has read the word.
//!
//! A connection whose request is under way moves when it has been answered. A connection that can't move gives a
//! reason ([`StayReason`]).

mod error;
mod offer;
pub mod state;

use std::os::fd::OwnedFd;

pub use error::AdoptError;
pub(crate) use offer::note_stay;
pub use offer::{
    CountedElsewhere, MoveClaim, MoveCount, MoveOut, MoveUnderWay, OfferedConnection, StayReason,
};
pub use state::MovedState;

/// A connection on its way to another process.
#[derive(Debug)]
pub struct MovedConnection {
    /// Its sockets: the client's first, and then, where there is one, the backend's; of a kept connection to a backend,
    /// that one alone. At most two.
    pub descriptors: Vec<OwnedFd>,
    /// What is known of it.
    pub state: MovedState,
}
