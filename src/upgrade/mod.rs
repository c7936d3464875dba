//! The hand-over from one lameduck to another: `lameduck upgrade`, USR2, and a reload with another binary.
//!
//! The old process spawns the new one with a socket as its standard input. [`protocol`] is what is said over it,
//! [`channel`] how; [`giving`] is the old one's end, [`taking`] the new one's. Both decide in
//! [`core::upgrade`](crate::core::upgrade). What there is to give, and what becomes of it, is known to the composition root
//! alone, which implements [`giving::OldProcess`] and reads what [`taking::Predecessor`] got.

pub mod channel;
pub mod giving;
pub mod protocol;
pub mod taking;
