//! Certificates by ACME (RFC 8555): ordered, renewed and stored on the disk, apart from everything that serves
//! requests. What is due, and what a failure means, is decided in [`core::renewal`](crate::core::renewal).
//!
//! Nothing here delays a client. `[listener.tls]` reads the files that this module writes, like any other files, and
//! [`tls::challenge`](crate::tls::challenge) answers authorities from files in the directory. So any of several proxies
//! may order: the others find challenge and certificate in the directory that they share.
//!
//! - [`account_plan`]: the configuration as accounts and certificates;
//! - [`manager`]: the loop that checks what is due, and starts one order at a time for each account;
//! - `certificate_state`: the state of a certificate on the disk; `order_task`: one attempt to order it, under the
//!   lease and with a record of the result;
//! - `order`: from the account to the certificate; each step is on the disk before the next one;
//! - `authority`: requests to the authority; `renewal_info`: when it wants a renewal (ARI);
//! - `store`, `record`, `order_lease`: the directory, and which of several proxies may order;
//! - `challenge_files`: challenges in the directory, and how they are answered.

pub mod account_plan;
mod authority;
mod certificate_state;
mod challenge_files;
pub mod manager;
mod order;
mod order_lease;
mod order_task;
mod record;
mod renewal_info;
mod store;

pub use manager::keep_certificates;

use std::time::SystemTime;

use crate::core::renewal::AuthorityFault;

/// A problem with an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {}", fault.remedy())]
struct AcmeError {
    fault: AuthorityFault,
    why: String,
    /// Seconds of the authority's `Retry-After` field.
    asked: Option<i64>,
}

impl AcmeError {
    fn new(fault: AuthorityFault, why: impl Into<String>) -> Self {
        Self {
            fault,
            why: why.into(),
            asked: None,
        }
    }

    /// An error of the disk.
    fn local(what: &str, error: &std::io::Error) -> Self {
        let why = format!("{what}: {}", crate::config::plain(error));
        Self::new(AuthorityFault::Local, why)
    }
}

/// Current Unix time in seconds, by the wall clock; files and certificates use it.
fn unix_now() -> i64 {
    crate::rt::clock::unix_seconds(SystemTime::now())
}
