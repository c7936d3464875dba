//! Sessions that are bound to one backend: the contents of a client's token and whether it is valid, and how long
//! clients with a session may still use a draining backend.

pub mod hand_over;
pub mod token;
