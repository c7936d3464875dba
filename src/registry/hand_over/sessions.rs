//! Hand-over of the sessions of sticky pools to another registry: on which backends they are, and for how many a
//! drain has to wait.

use std::time::Duration;

use super::HandOverCommand;
use crate::registry::backend_entry::BackendEntry;
use crate::registry::command::RegistryCommand;
use crate::registry::endpoint::{KnownSession, SessionHolders};
use crate::registry::handed::HandedSessions;
use crate::registry::handle::RegistryHandle;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

/// Returns the sessions of a backend, in parts that can each be a message of its own.
pub(super) fn sessions_of<'a>(
    pool: &'a str,
    member: &'a BackendEntry,
) -> impl Iterator<Item = HandedSessions> + 'a {
    let holders = &member.endpoint.holders;
    holders
        .known(clock::now())
        .filter(|known| !known.is_empty())
        .map(move |known| {
            let sessions = known.iter();
            let sessions =
                sessions.map(|one| (one.session, clock::to_machine(one.seen), one.has_returned));
            HandedSessions {
                pool: pool.to_owned(),
                backend: member.base.clone(),
                address: member.endpoint.address.to_string(),
                idle: holders.idle().as_secs(),
                sessions: sessions.collect(),
            }
        })
}

/// Adds sessions that were handed over.
pub(super) fn take_sessions(holders: &SessionHolders, handed: &HandedSessions) {
    let known = handed.sessions.iter();
    let known = known.map(|(session, seen, has_returned)| KnownSession {
        session: *session,
        seen: clock::from_machine(*seen),
        has_returned: *has_returned,
    });
    let known: Vec<_> = known.collect();
    holders.take(&known, Duration::from_secs(handed.idle));
}

impl RegistryHandle {
    /// Returns the sessions of all backends, in parts.
    pub async fn sessions(&self) -> Vec<HandedSessions> {
        let asked =
            self.ask(|reply| RegistryCommand::HandOver(HandOverCommand::GiveSessions { reply }));
        asked.await.unwrap_or_default()
    }

    /// Adds some sessions of a backend that the previous process knew.
    pub fn take_sessions(&self, sessions: HandedSessions) {
        self.hand_over(HandOverCommand::TakeSessions(sessions));
    }
}

impl RegistryWriter {
    pub(super) fn give_sessions(&self) -> Vec<HandedSessions> {
        let pools = self.pools.iter().filter(|pool| !pool.retired);
        let sticky = pools.filter(|pool| pool.config.sticky.is_some());
        let all = sticky.flat_map(|pool| {
            let members = pool.members.values().filter(|member| !member.leaving);
            members.flat_map(|member| sessions_of(&pool.name, member))
        });
        all.collect()
    }

    pub(super) fn take_sessions(&self, handed: &HandedSessions) {
        let pool = self.pools.iter().find(|pool| *pool.name == *handed.pool);
        let mut members = pool.into_iter().flat_map(|pool| pool.members.values());
        let found = members.find(|member| {
            member.base == handed.backend && member.endpoint.address.to_string() == handed.address
        });
        if let Some(member) = found {
            take_sessions(&member.endpoint.holders, handed);
        }
    }
}
