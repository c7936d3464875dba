//! Notes the arrival of a request: whether it counts as new traffic, on which the end of the lame-duck phase depends,
//! and which trace it belongs to.

use super::followed::begin_trace;
use crate::config::{Config, HealthCheck};
use crate::core::Time;
use crate::core::quiet::is_prober;
use crate::proxy::client::ClientConnection;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::RequestHead;

/// Notes a request whose head has been received completely: counts it, unless it is a health check, and begins its
/// trace.
#[cold]
#[inline(never)]
pub(super) fn note_arrival(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    began: Time,
    now: Time,
) {
    begin_trace(plane, client, head, began);
    if !plane.arrivals.are_counted() {
        return;
    }
    let config = plane.registry.snapshot().config.clone();
    if !is_health_check(&config, client.buffer.bytes(), head) {
        plane.arrivals.note(now);
    }
}

/// Returns whether a request is a health check rather than a client's request. Recognized by its `User-Agent`, or by
/// a path that the pools' own health checks use.
fn is_health_check(config: &Config, buffer: &[u8], head: &RequestHead) -> bool {
    let is_agent = |name: &[u8]| name.eq_ignore_ascii_case(b"user-agent");
    let mut fields = head.fields.iter();
    let agent = fields.find(|field| is_agent(field.name.of(buffer)));
    if agent.is_some_and(|agent| is_prober(agent.value.of(buffer))) {
        return true;
    }
    let asked = head.path.of(buffer);
    config.pools.iter().any(|pool| match &pool.health.check {
        HealthCheck::Http { path, .. } => {
            let path = path.split('?').next().unwrap_or_default();
            path.as_bytes() == asked
        }
        HealthCheck::Tcp | HealthCheck::Grpc { .. } => false,
    })
}
