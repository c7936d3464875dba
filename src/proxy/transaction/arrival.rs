//! What is noted of a request as it comes: whether it is new traffic, for a lame duck that lasts until none comes,
//! and which trace it is part of.

use super::followed::begin_trace;
use crate::config::{Config, HealthCheck};
use crate::core::Time;
use crate::core::quiet::is_prober;
use crate::proxy::client::ClientConnection;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::RequestHead;

/// A request has come: its first byte then, and its whole head now. Counts it, unless it is a health check, and begins its
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

/// Whether a request is a health check, and no client's: by how it calls itself, or because it asks for what the pools'
/// own health checks ask for.
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
