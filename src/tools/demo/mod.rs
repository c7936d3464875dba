//! `lameduck demo`, in pieces that the end-to-end tests use too.
//!
//! In reading order: [`app`] is restarted; [`load`] sends a steady stream of requests to it, each by [`client`];
//! [`journal`] is the app's record of requests that reached it; [`oracle`] compares both sides and finds lost requests.
//! [`process`] and [`instance`] start and stop real processes, [`proxy`] starts lameduck before them, [`admin`] calls
//! its admin API, and [`roll`] restarts one instance after the other.

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
