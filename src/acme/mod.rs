//! Certificates by ACME (RFC 8555): ordered, renewed and kept on the disk, apart from everything that serves. What is due,
//! and what a failure means, is decided in [`core::renewal`](crate::core::renewal).
//!
//! Nothing here delays a client. `[listener.tls]` reads the files that this folder writes, as it reads any others,
//! and [`tls::challenge`](crate::tls::challenge) answers authorities from the files in the directory. So it does not
//! matter which of several proxies orders: the others see challenge and certificate in the directory they share.
//!
//! - [`account_plan`]: the configuration as accounts and certificates;
//! - [`manager`]: the loop that checks what is due, and starts one order at a time for each account;
//! - `certificate_state`: a certificate as it is; `order_task`: one try, under the lease and with its note;
//! - `order`: from the account to the certificate; each step is on the disk before the next one;
//! - `authority`: requests to the authority; `renewal_info`: when it wants a renewal (ARI);
//! - `store`, `record`, `order_lease`: the directory, and which of several proxies may order;
//! - `challenge_files`: challenges in the directory, as what is answered.

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

/// What went wrong with an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; {}", fault.remedy())]
struct AcmeError {
    fault: AuthorityFault,
    why: String,
    /// What the authority asked for, in seconds (`Retry-After`).
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

    /// The disk's fault.
    fn local(what: &str, error: &std::io::Error) -> Self {
        let why = format!("{what}: {}", crate::config::plain(error));
        Self::new(AuthorityFault::Local, why)
    }
}

/// The wall clock as Unix time: what is kept on the disk, and what certificates say.
fn unix_now() -> i64 {
    crate::rt::clock::unix_seconds(SystemTime::now())
}
