//! Events about sessions that a drain lets finish.

use tracing::info;

use super::endpoint::BackendKey;
use super::writer::RegistryWriter;
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

impl RegistryWriter {
    /// Reports that clients with a session on a draining backend may continue there, or no longer, with the number of
    /// sessions.
    pub(super) fn tell_sessions(&mut self, key: BackendKey, go_on: bool) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let Some(member) = pool.members.get(&key) else {
            return;
        };
        let (name, endpoint) = (pool.name.clone(), member.endpoint.clone());
        let sessions = endpoint.holders.count(clock::now());
        let noun = if sessions == 1 { "session" } else { "sessions" };
        let (to, reason) = match (go_on, sessions) {
            (true, _) => (
                "finishing",
                format!("{sessions} {noun} may be finished there"),
            ),
            (false, 0) => ("over", "no session is left".to_owned()),
            (false, _) => ("over", format!("{sessions} {noun} left for other backends")),
        };
        info!(pool = %name, backend = %endpoint.name, sessions, reason, "sessions at a drain");
        let whom = Some((&*name, &*endpoint.name));
        self.event(EventKind::Sessions, whom, None, Some(to), reason);
    }
}
