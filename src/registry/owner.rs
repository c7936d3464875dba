//! Access control for apps: an app may change the instances that its user has registered through the socket for apps,
//! and no others. The user is the one that the kernel reports for the connection (`SO_PEERCRED`).

use super::backend_entry::{BackendEntry, BackendSource};
use super::command::RegistryCommand;
use super::endpoint::BackendKey;
use super::handle::{RegistryError, RegistryHandle};
use super::lease::LeaseRecord;
use super::request::ResumeScope;
use super::view::{DrainRequest, ResumeRequest};
use super::writer::RegistryWriter;
use crate::core::drain::DrainActor;

/// Returns the ID of a user's drain: no other user, operator or supervisor can have the same ID.
fn drain_id(owner: u32, id: Option<&str>) -> String {
    match id {
        None => format!("uid-{owner}"),
        Some(id) => format!("uid-{owner}/{id}"),
    }
}

/// Whether a supervisor's drain with this ID belongs to this user.
pub(super) fn is_drain_of(owner: u32, id: &str) -> bool {
    let own = drain_id(owner, None);
    id.strip_prefix(&own)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Converts a user's drain request into a drain of its own: never an operator's, whatever the request says.
pub(super) fn own_drain(owner: u32, asked: DrainRequest) -> DrainRequest {
    DrainRequest {
        actor: Some(DrainActor::Supervisor.as_str().to_owned()),
        id: Some(drain_id(owner, asked.id.as_deref())),
        reason: asked
            .reason
            .or_else(|| Some(format!("asked by an app of user {owner}"))),
        ..asked
    }
}

/// Returns which drains a user's request lifts: all its own, or its own with the given ID.
pub(super) fn own_resume(owner: u32, asked: &ResumeRequest) -> Result<ResumeScope, RegistryError> {
    if asked.all {
        return Err(RegistryError::NotYours(
            "drains of others can't be lifted through the socket for apps: ask whoever runs the proxy".to_owned(),
        ));
    }
    Ok(match &asked.id {
        None => ResumeScope::Owner(owner),
        Some(id) => ResumeScope::One(DrainActor::Supervisor, drain_id(owner, Some(id))),
    })
}

impl RegistryHandle {
    /// Returns a handle for the apps of one user: it can see and change only their instances.
    pub fn for_owner(&self, uid: u32) -> Self {
        Self {
            owner: Some(uid),
            ..self.clone()
        }
    }

    /// Whether the lease belongs to this handle's owner.
    ///
    /// # Errors
    /// The proxy is exiting.
    pub async fn owns_lease(&self, lease: &str) -> Result<bool, RegistryError> {
        let (lease, owner) = (lease.to_owned(), self.owner);
        self.ask(|reply| RegistryCommand::OwnsLease {
            lease,
            owner,
            reply,
        })
        .await
    }
}

impl BackendEntry {
    /// Whether this owner may change the backend; `None` may change everything.
    pub(super) fn is_of(&self, owner: Option<u32>) -> bool {
        owner.is_none() || (self.owner == owner && self.source != BackendSource::Config)
    }
}

impl RegistryWriter {
    /// Returns those of this owner's backends that a name refers to.
    pub(super) fn find_own(
        &self,
        pool: &str,
        name: &str,
        owner: Option<u32>,
    ) -> Result<(usize, Vec<BackendKey>), RegistryError> {
        if owner.is_none() {
            return self.find(pool, name);
        }
        let index = self.index_for(pool, owner)?;
        let state = &self.pools[index];
        let mut keys = state.keys_meant(name);
        let is_own = |key: &BackendKey| state.members.get(key).is_some_and(|one| one.is_of(owner));
        keys.retain(is_own);
        match keys.is_empty() {
            true => Err(not_yours(pool, name)),
            false => Ok((index, keys)),
        }
    }

    /// Returns the index of the pool with this name. An owner with restricted rights doesn't learn the names of other
    /// pools.
    pub(super) fn index_for(&self, pool: &str, owner: Option<u32>) -> Result<usize, RegistryError> {
        self.index(pool).map_err(|refusal| match refusal {
            RegistryError::UnknownPool { name, .. } if owner.is_some() => {
                RegistryError::UnknownPool {
                    name,
                    known: "not told here".to_owned(),
                }
            }
            other => other,
        })
    }

    /// Refuses a name that a backend of another owner has.
    pub(super) fn check_name_is_free(
        &self,
        index: usize,
        name: &str,
        owner: Option<u32>,
    ) -> Result<(), RegistryError> {
        let state = &self.pools[index];
        if owner.is_none() || !state.has_name(name) {
            return Ok(());
        }
        let others =
            |member: &BackendEntry| member.base == name && !member.leaving && !member.is_of(owner);
        match state.members.values().any(others) {
            true => Err(not_yours(&state.name, name)),
            false => Ok(()),
        }
    }

    pub(super) fn owns_lease(&self, lease: &str, owner: Option<u32>) -> bool {
        let mut members = self.pools.iter().flat_map(|pool| pool.members.values());
        members.any(|member| {
            let is_it = member.tenure.as_ref().map(LeaseRecord::id) == Some(lease);
            is_it && member.is_of(owner)
        })
    }
}

fn not_yours(pool: &str, name: &str) -> RegistryError {
    RegistryError::NotYours(format!(
        "`{pool}/{name}` is not an instance that this user has registered through the socket for apps; only such ones \
         can be seen and changed here. The admin socket can change all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drains_are_told_apart_by_user() {
        assert!(is_drain_of(100, &drain_id(100, None)));
        assert!(is_drain_of(100, &drain_id(100, Some("deploy"))));
        assert!(!is_drain_of(100, &drain_id(1000, None)));
        assert!(!is_drain_of(100, &drain_id(1000, Some("uid-100"))));
        assert!(!is_drain_of(100, "supervisor"));
        assert!(!is_drain_of(100, "0123456789abcdef"));
    }
}
