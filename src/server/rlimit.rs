//! The limit on open descriptors: two for each request in flight, so the soft limit of 1024 is no limit to serve with.

use tracing::{debug, warn};

/// How many descriptors this process may open now; `None`: as many as it likes, or nobody knows.
pub fn limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: the call takes a pointer to a live `rlimit` of ours and nothing else.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 };
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Raises the soft limit to the hard one, and warns where that is still few.
pub fn raise_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    #[allow(unsafe_code)]
    // SAFETY: both calls take a pointer to a live `rlimit` of ours and nothing else.
    let raised = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
    };
    if !raised || limit.rlim_max < 4096 {
        warn!(
            limit = limit.rlim_max,
            "few descriptors: a proxied request takes two; raise LimitNOFILE or ulimit -n"
        );
    } else {
        debug!(limit = limit.rlim_max, "open descriptors");
    }
}
