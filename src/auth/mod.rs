//! Passwords: the file of users, and what is remembered of those that were right.
//!
//! [`htpasswd`] reads the file and checks a password, [`verified`] spares the check to those who have passed it a moment
//! ago, [`under_way`] to those who bring what is being checked already, [`checker`] has the threads on which checks run, and the
//! bounds of what they take.

pub mod checker;
pub mod htpasswd;
pub mod under_way;
pub mod verified;

pub use checker::{CheckRefusal, PasswordChecker};
pub use htpasswd::{UserFile, UserFileError};
pub use under_way::{CheckOutcome, CheckTurn, ChecksUnderWay};
pub use verified::VerifiedCredentials;
