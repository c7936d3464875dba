//! The limit on open descriptors: two for each request in flight, so the soft limit of 1024 is no limit to serve with.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the soft limit to the hard one, and warns where that is still few.
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
