//! The account of restarts, as a document: [`document`] makes it of what a proxy tells, [`text`], [`markdown`] and
//! [`html`] show it, [`condition`] says whether a build should fail for it. [`verify`] recomputes it from access logs:
//! [`log_file`] reads them and [`log_line`] takes their lines apart, [`ledger`] adds up what they say.

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
