//! Sessions of one pool: to which backend each token refers, and for how many sessions a drain has to wait.

use super::{PoolState, takes_requests};
use crate::config;
use crate::core::backend::BackendEvent;
use crate::registry::endpoint::BackendKey;
use crate::registry::own_key::OwnKeySource;
use crate::registry::sticky::{StickyBackends, StickyPool};
use crate::rt::clock;

/// Creates the session state that a pool's configuration asks for.
pub(super) fn pool(config: &config::PoolConfig, own: &OwnKeySource) -> Option<StickyPool> {
    let sticky = config.sticky.as_ref()?;
    Some(StickyPool::new(sticky, own.key()))
}

impl PoolState {
    /// Applies the session settings of a new configuration, before it is in force.
    pub(super) fn set_sticky(&mut self, new: &config::PoolConfig) {
        if self.config.sticky != new.sticky {
            self.sticky = pool(new, &self.own_key);
        }
    }

    /// Returns the index from tokens to backends, for the data plane. While the pool is paused, sessions may enter no
    /// backend.
    pub(super) fn index_sessions(&mut self) -> Option<Box<StickyBackends>> {
        let mut sticky = self.sticky.take()?;
        let is_open = self.pause.is_none();
        let backends = self.both().map(|(member, backend)| {
            let has_share = member.endpoint.weight() > 0;
            let may_enter = takes_requests((member, backend)) || backend.hands_over() && has_share;
            (&*member.base, &member.endpoint, is_open && may_enter)
        });
        let index = sticky.index(&self.name, backends);
        self.sticky = Some(sticky);
        Some(Box::new(index))
    }

    /// Returns the number of sessions for which a drain of this backend waits, if a drain begins or is in progress;
    /// otherwise 0, without counting.
    pub(super) fn count_sessions(&self, key: BackendKey, event: &BackendEvent) -> u32 {
        let Some(sticky) = &self.config.sticky else {
            return 0;
        };
        let begins = matches!(event, BackendEvent::Drain(_));
        let is_under_way = || {
            self.core
                .get(&key)
                .is_some_and(|backend| backend.hands_over())
        };
        if sticky.on_drain != config::OnDrain::Finish || !(begins || is_under_way()) {
            return 0;
        }
        let member = self.members.get(&key);
        member.map_or(0, |member| member.endpoint.holders.count(clock::now()))
    }
}
