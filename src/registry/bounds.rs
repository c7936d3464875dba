//! Limits on what one caller can make the registry keep: every text and every number that comes from outside has its
//! limit here.

use super::endpoint::BackendKey;
use super::handle::RegistryError;
use super::writer::RegistryWriter;
use crate::core::drain::DrainSpec;

/// Longest reason of a drain, a lame duck or a roll, in characters: it is shown in a line of `status`.
pub const MAX_REASON: usize = 500;
/// Longest ID of a drain and longest nonce of a lease, in bytes.
pub const MAX_ID: usize = 128;
/// Longest address of a registration, in bytes: a host name with its port, or a socket's path.
pub const MAX_ADDRESS: usize = 300;
/// Most open drains of one backend.
pub const MAX_DRAINS: usize = 64;
/// Most backends that may be registered, besides those of the configuration. Each is probed and takes some 10 KiB.
/// Real set-ups need far fewer; a client that makes up names must not fill the memory.
pub const MAX_BACKENDS: usize = 100_000;
/// Most backends that one user may have registered through the socket for apps.
pub const MAX_OWNED: usize = 4096;
/// Most drains that are kept for names whose backends are gone.
pub(super) const MAX_KEPT: usize = 10_000;

/// Refuses a reason that is too long.
///
/// # Errors
/// States the longest permitted length.
pub fn check_reason(reason: Option<&str>) -> Result<(), RegistryError> {
    let length = reason.unwrap_or_default().chars().count();
    match length > MAX_REASON {
        true => Err(RegistryError::Invalid(format!(
            "the reason has {length} characters; use at most {MAX_REASON}"
        ))),
        false => Ok(()),
    }
}

/// Refuses an ID or nonce that is too long or contains a control character.
pub(super) fn check_id(what: &str, id: Option<&str>) -> Result<(), RegistryError> {
    let id = id.unwrap_or_default();
    if id.len() > MAX_ID {
        let length = id.len();
        return Err(RegistryError::Invalid(format!(
            "the {what} has {length} bytes; use at most {MAX_ID}"
        )));
    }
    match id.chars().any(char::is_control) {
        true => Err(RegistryError::Invalid(format!(
            "the {what} has a control character in it; use plain text"
        ))),
        false => Ok(()),
    }
}

/// Refuses an address that can be neither a host name nor a path.
pub(super) fn check_address(address: &str) -> Result<(), RegistryError> {
    let length = address.len();
    match length > MAX_ADDRESS {
        true => Err(RegistryError::Invalid(format!(
            "the address has {length} bytes; write HOST:PORT or unix:/path, at most {MAX_ADDRESS}"
        ))),
        false => Ok(()),
    }
}

impl RegistryWriter {
    /// Refuses a drain if the backend has the most it may have. A drain that replaces an earlier one does not count
    /// as new.
    pub(super) fn check_drains(
        &self,
        key: BackendKey,
        order: &DrainSpec,
    ) -> Result<(), RegistryError> {
        let Some(backend) = self
            .homes
            .get(&key)
            .and_then(|index| self.pools[*index].core.get(&key))
        else {
            return Ok(());
        };
        let replaces = |(actor, id): &(_, String)| *actor == order.actor && *id == order.id;
        let mut open = backend.drains();
        if backend.drains().count() < MAX_DRAINS || open.any(|(key, _)| replaces(key)) {
            return Ok(());
        }
        Err(RegistryError::Full(format!(
            "it has {MAX_DRAINS} open drains, and that is the most: lift those that are not needed (`lameduck resume`), \
             or use one id for all drains of one kind"
        )))
    }

    /// Refuses a registration if there are too many registered backends, in total or of one user.
    pub(super) fn check_room(&self, owner: Option<u32>) -> Result<(), RegistryError> {
        let configured = self.config.pools.iter().map(|pool| pool.backends.len());
        let here = self.homes.len();
        if here >= MAX_BACKENDS + configured.sum::<usize>() {
            return Err(RegistryError::Full(format!(
                "there are {here} backends, and no more can be registered: deregister those that are gone"
            )));
        }
        let owned = owner.and_then(|owner| self.owned.get(&owner)).copied();
        match owned.unwrap_or_default() >= MAX_OWNED {
            true => Err(RegistryError::Full(format!(
                "user {} has {MAX_OWNED} backends registered through this socket, and that is the most: deregister \
                 those that are gone",
                owner.unwrap_or_default()
            ))),
            false => Ok(()),
        }
    }
}
