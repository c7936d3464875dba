//! Reports about restarts: [`document`] makes them from a proxy's answers, [`text`], [`markdown`] and [`html`] render
//! them, and [`condition`] tells whether a build should fail. [`verify`] recomputes a report from access logs:
//! [`log_file`] reads them, [`log_line`] parses their lines, and [`ledger`] adds them up.

pub mod condition;
pub mod document;
pub mod html;
pub mod ledger;
pub mod log_file;
pub mod log_line;
pub mod markdown;
mod shown;
pub mod text;
pub mod verify;
