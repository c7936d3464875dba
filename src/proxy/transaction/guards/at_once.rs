//! The guard that limits the concurrent requests of one key.

use super::{GuardedRequest, Refusal};
use crate::metrics::RouteRefusal;
use crate::proxy::per_client::CountedKey;

impl GuardedRequest<'_> {
    /// Takes a place for a request that already had one in another process.
    pub(super) fn retake_place(&self) -> Option<CountedKey<u64>> {
        let limits = self.rule.limits.as_ref();
        let limit = limits.and_then(|limits| limits.connections.as_ref())?;
        self.plane
            .guards
            .enter(self.counted_as(limit.id, &limit.key), u32::MAX)
    }

    /// Takes a place among the concurrent requests, which is held until the request is over.
    pub(super) fn take_place(&self) -> Result<Option<CountedKey<u64>>, Refusal> {
        let limits = self.rule.limits.as_ref();
        let Some(limit) = limits.and_then(|limits| limits.connections.as_ref()) else {
            return Ok(None);
        };
        let key = self.counted_as(limit.id, &limit.key);
        match self.plane.guards.enter(key, limit.limit.get()) {
            Some(place) => Ok(Some(place)),
            None => {
                let cause = "too many requests at once";
                Err(Refusal::new(RouteRefusal::Connections, 429, cause).after(1))
            }
        }
    }
}
