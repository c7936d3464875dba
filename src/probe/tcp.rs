//! The TCP check: whoever accepts is well.

use tokio::time::{Instant, timeout_at};

use super::Target;
use super::answer::Answer;
use super::connect::{connect, speaks_http2};
use super::resolve::Resolver;
use super::sentinel::Sentinel;
use crate::core::backend::Probe;
use crate::tls::upstream::Alpn;

/// One probe, on a connection of its own: an open one says nothing about who would accept the next.
pub(super) async fn probe(
    target: &Target,
    resolver: &Resolver,
    sentinel: Option<Sentinel>,
    keep: bool,
) -> Answer {
    let began = Instant::now();
    let deadline = began + target.health.timeout;
    let alpn = match speaks_http2(target) {
        true => Alpn::H2,
        false => Alpn::Http1,
    };
    let connecting = connect(target, alpn, resolver);
    let Ok(connected) = timeout_at(deadline, connecting).await else {
        return Answer::timeout(target.health.timeout);
    };
    match connected {
        Err(failed) => failed,
        Ok((connection, listener)) => Answer {
            listener,
            kept: keep.then(|| match sentinel {
                // The older one goes on watching the process that it was opened to.
                Some(sentinel) if sentinel.is_open() && sentinel.listener == listener => sentinel,
                _ => Sentinel::tcp(connection, listener),
            }),
            ..Answer::new(
                Probe::Pass,
                format!("connected in {}", super::http::took(began)),
            )
        },
    }
}
