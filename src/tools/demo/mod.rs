//! `lameduck demo`, in pieces that the end-to-end tests use too.
//!
//! Read in this order: [`app`] is what gets restarted; [`load`] is its steady stream of users, each request
//! sent by [`client`]; [`journal`] is what an app writes down about what reached it; [`oracle`] puts both
//! sides together and says what was lost. [`process`] and [`instance`] start and stop real processes,
//! [`proxy`] puts lameduck in front of them, [`admin`] talks to it, and [`roll`] restarts one after the other.

pub mod admin;
pub mod app;
pub mod client;
pub mod instance;
pub mod journal;
pub mod load;
pub mod oracle;
pub mod process;
pub mod proxy;
pub mod roll;
pub mod scratch;
pub mod screen;
