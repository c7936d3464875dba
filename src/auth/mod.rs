//! Passwords: the file of users, and credentials that were verified recently.
//!
//! [`htpasswd`] reads the file and checks a password. [`verified`] skips the check for credentials that have passed it
//! recently. [`under_way`] shares one check among several requests. [`checker`] has the threads on which checks run,
//! and their limits.

pub mod checker;
pub mod htpasswd;
pub mod under_way;
pub mod verified;

pub use checker::{CheckRefusal, PasswordChecker};
pub use htpasswd::{UserFile, UserFileError};
pub use under_way::{CheckOutcome, CheckTurn, ChecksUnderWay};
pub use verified::VerifiedCredentials;
