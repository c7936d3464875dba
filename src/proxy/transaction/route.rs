//! A request's route: which configuration it is answered by, and which pool it is for.

use std::sync::Arc;

use crate::config::Config;
use crate::proxy::client::ClientConnection;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::RequestHead;
use crate::registry::snapshot::PoolSnapshot;

/// Finds the pool that the request at the start of the client's buffer is for, by the newest snapshot, and the
/// configuration that says so. `None`: no route matches.
pub(super) fn find_pool(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
) -> (Arc<Config>, Option<Arc<PoolSnapshot>>) {
    let buffer = client.buffer.bytes();
    let snapshot = plane.registry.snapshot();
    let route = snapshot
        .routes
        .lookup(head.host.of(buffer), head.path.of(buffer));
    let pool = route.and_then(|index| snapshot.pools.get(index).cloned());
    (snapshot.config.clone(), pool)
}
