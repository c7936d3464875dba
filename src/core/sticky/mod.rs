//! Sessions that stay with one backend: what a client's token says and whether it is believed, and how long clients
//! with a session may still go to a backend that drains.

pub mod hand_over;
pub mod token;
