//! Passwords: the file of users, and what is remembered of those that were right.
//!
//! [`htpasswd`] reads the file and checks a password, [`verified`] spares the check to those who have passed it a moment
//! ago, [`checker`] has the threads on which checks run, and the bounds of what they take.

pub mod checker;
pub mod htpasswd;
pub mod verified;

pub use checker::{CheckRefusal, PasswordChecker};
pub use htpasswd::{UserFile, UserFileError};
pub use verified::VerifiedCredentials;
