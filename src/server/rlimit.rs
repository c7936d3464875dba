//! The limit on open descriptors. A request in flight takes two, so the usual soft limit of 1024 is too low.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the soft limit to the hard one, and warns if that is still low.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = setrlimit(Resource::Nofile, limit).is_ok();
    if !raised || most < 4096 {
        warn!(
            limit = most,
            "few descriptors: a proxied request takes two; raise LimitNOFILE or ulimit -n"
        );
    } else {
        debug!(limit = most, "open descriptors");
    }
}
