//! The TCP health check: a backend that accepts a connection is healthy.

use tokio::time::{Instant, timeout_at};

use super::ProbeTarget;
use super::connect::{connect, speaks_http2};
use super::resolve::AddressResolver;
use super::verdict::ProbeAnswer;
use crate::core::backend::ProbeResult;
use crate::tls::upstream::Alpn;

/// Makes one probe on a connection of its own, which is closed at once. An open connection without any request would
/// block an app that serves one connection at a time (gunicorn's default worker, wsgiref). The end of such a process is
/// noticed by traffic and by the next probe.
pub(super) async fn probe(target: &ProbeTarget, resolver: &AddressResolver) -> ProbeAnswer {
    let began = Instant::now();
    let deadline = began + target.health.timeout;
    let alpn = match speaks_http2(target) {
        true => Alpn::H2,
        false => Alpn::Http1,
    };
    let connecting = connect(target, alpn, resolver);
    let Ok(connected) = timeout_at(deadline, connecting).await else {
        return ProbeAnswer::timeout(target.health.timeout);
    };
    match connected {
        Err(failed) => failed,
        Ok((_closed_on_drop, listener)) => ProbeAnswer {
            listener,
            ..ProbeAnswer::new(
                ProbeResult::Pass,
                format!("connected in {}", super::http::took(began)),
            )
        },
    }
}
