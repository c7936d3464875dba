//! The hand-over from one lameduck process to another: `lameduck upgrade`, USR2, and a reload with a new binary.
//!
//! The old process starts the new one with a socket as its standard input. [`protocol`] has the messages, [`channel`]
//! sends them; [`giving`] is the old process's part, [`taking`] the new one's. Both decide in
//! [`core::upgrade`](crate::core::upgrade). Only the composition root knows what there is to hand over and what to do
//! with it: it implements [`giving::OldProcess`] and reads what [`taking::Predecessor`] has received.

pub mod channel;
pub mod giving;
pub mod protocol;
pub mod taking;
