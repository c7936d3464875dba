//! `lameduck roll`, behind its command line: [`driver`] does what [`crate::core::roll`] decides, and [`command`]
//! runs the supervisor's own command for one backend.

pub mod command;
pub mod driver;
