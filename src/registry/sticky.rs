//! Sticky pools: the keys with which their tokens are signed, and the backends to which tokens refer.

use std::collections::HashMap;
use std::sync::Arc;

use ring::hmac;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::endpoint::{BackendKey, Endpoint};
use crate::config::StickyConfig;
use crate::core::sticky::token::{
    BelievedToken, SessionToken, TAG_LENGTH, TOKEN_LENGTH, TokenKeys, backend_id, read_token,
    write_token,
};

/// Lifetime of a token whose cookie has no maximum age, in seconds.
const DAY: u64 = 86_400;

/// A proxy's own key, for pools without a configured key.
#[derive(Clone)]
pub struct OwnKey(Arc<[u8; 32]>);

/// Error: the system has no random bytes for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "the kernel gives no random bytes (getrandom(2), /dev/urandom), and a key that can be guessed would let clients \
     choose their instance; let lameduck use getrandom in its sandbox or seccomp filter"
)]
pub struct NoRandomBytesError;

impl OwnKey {
    /// Uses this key.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(bytes))
    }

    /// Generates a key that nobody can guess.
    ///
    /// # Errors
    /// The system has no random bytes. A key that can be guessed would be worse than none.
    pub fn random() -> Result<Self, NoRandomBytesError> {
        use ring::rand::SecureRandom as _;
        let mut bytes = [0; 32];
        let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
        filled.map_err(|_| NoRandomBytesError)?;
        Ok(Self::new(bytes))
    }

    /// Returns the bytes, for the file in which the key is kept.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OwnKey")
    }
}

/// The keys of one pool: HMAC-SHA-256, truncated to [`TAG_LENGTH`].
pub struct StickyKeys(Vec<hmac::Key>);

impl std::fmt::Debug for StickyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StickyKeys")
    }
}

impl StickyKeys {
    /// Returns the keys of the configuration; without any, this proxy's own key.
    pub fn new(config: &StickyConfig, own: &OwnKey) -> Self {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let configured = config.configured_keys();
        Self(match configured.is_empty() {
            true => vec![key(own.bytes())],
            false => configured.iter().map(|text| key(text.as_bytes())).collect(),
        })
    }
}

impl TokenKeys for StickyKeys {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn sign(&self, key: usize, parts: &[&[u8]]) -> [u8; TAG_LENGTH] {
        let mut context = hmac::Context::with_key(&self.0[key]);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; TAG_LENGTH];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_LENGTH]);
        tag
    }

    fn verify(&self, key: usize, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.sign(key, parts).ct_eq(tag).into()
    }
}

/// State that a sticky pool keeps from one snapshot to the next.
#[derive(Debug)]
pub struct StickyPool {
    keys: Arc<StickyKeys>,
    /// For each backend name, its ID under each key.
    ids: HashMap<String, Vec<u64>>,
}

impl StickyPool {
    /// Creates the state for this configuration.
    pub fn new(config: &StickyConfig, own: &OwnKey) -> Self {
        Self {
            keys: Arc::new(StickyKeys::new(config, own)),
            ids: HashMap::new(),
        }
    }

    /// Returns the index from IDs to backends. `backends`: each with its name without `~2`, and whether sessions may
    /// enter it.
    pub fn index<'a>(
        &mut self,
        pool: &str,
        backends: impl Iterator<Item = (&'a str, &'a Arc<Endpoint>, bool)>,
    ) -> StickyBackends {
        let mut entries = Vec::new();
        for (name, endpoint, may_enter) in backends {
            if !self.ids.contains_key(name) {
                let keys = 0..self.keys.count();
                let ids = keys.map(|key| backend_id(&*self.keys, key, pool, name));
                self.ids.insert(name.to_owned(), ids.collect());
            }
            let ids = self.ids.get(name).into_iter().flatten();
            entries.extend(ids.map(|id| StickyBackend {
                id: *id,
                endpoint: endpoint.clone(),
                may_enter,
            }));
        }
        // Removes names of backends that have left for good.
        if self.ids.len() > 2 * entries.len() + 64 {
            self.ids.clear();
        }
        entries.sort_by_key(|entry| entry.id);
        StickyBackends {
            keys: self.keys.clone(),
            entries,
        }
    }
}

/// A backend under one of its IDs.
#[derive(Debug)]
struct StickyBackend {
    id: u64,
    endpoint: Arc<Endpoint>,
    may_enter: bool,
}

/// A pool's backends by their IDs in tokens, at one moment.
#[derive(Debug)]
pub struct StickyBackends {
    keys: Arc<StickyKeys>,
    /// Sorted by ID.
    entries: Vec<StickyBackend>,
}

impl StickyBackends {
    fn of(&self, id: u64) -> &[StickyBackend] {
        let from = self.entries.partition_point(|entry| entry.id < id);
        let rest = &self.entries[from..];
        &rest[..rest.partition_point(|entry| entry.id == id)]
    }

    /// Returns all backends with this ID: an instance and its predecessor have the same.
    pub fn named(&self, id: u64) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.of(id).iter().map(|entry| &entry.endpoint)
    }

    /// Returns the backend to which a session belongs. If an instance and its predecessor have the same name, that is
    /// the one that has seen the session, otherwise the newest one that takes requests.
    pub fn home_of(&self, id: u64, session: u64) -> Option<&Arc<Endpoint>> {
        match self.of(id) {
            [] => None,
            [one] => Some(one).filter(|one| one.may_enter),
            several => {
                let open = || several.iter().filter(|entry| entry.may_enter);
                let known = open().find(|entry| entry.endpoint.holders.has(session));
                known.or_else(|| {
                    let new = open().filter(|entry| !entry.endpoint.gate.is_closed());
                    new.max_by_key(|entry| entry.endpoint.key)
                })
            }
        }
        .map(|entry| &entry.endpoint)
    }

    /// Whether a token with this ID refers to this backend.
    pub fn means(&self, id: u64, backend: BackendKey) -> bool {
        self.named(id).any(|endpoint| endpoint.key == backend)
    }

    /// Returns the contents of a client's token, if its signature is valid.
    pub fn read(
        &self,
        pool: &str,
        config: &StickyConfig,
        text: &[u8],
        now: u64,
    ) -> Option<BelievedToken> {
        read_token(&*self.keys, pool, text, now, lifetime(config))
    }

    /// Creates a token for this backend. `name`: the name as shown.
    pub fn write(&self, pool: &str, name: &str, session: u64, now: u64) -> [u8; TOKEN_LENGTH] {
        let base = name.split('~').next().unwrap_or(name);
        let token = SessionToken {
            backend: backend_id(&*self.keys, 0, pool, base),
            issued: now,
            session,
        };
        write_token(&*self.keys, pool, &token)
    }
}

/// Returns the lifetime of a token, in seconds.
fn lifetime(config: &StickyConfig) -> u64 {
    match config.max_age.as_secs() {
        0 => DAY,
        seconds => seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> StickyKeys {
        let config = StickyConfig {
            keys: texts.iter().map(|text| (*text).to_owned()).collect(),
            ..StickyConfig::default()
        };
        StickyKeys::new(&config, &OwnKey::new([1; 32]))
    }

    /// RFC 4231, test case 2, truncated to the length in use.
    #[test]
    fn tag_is_hmac_sha_256() {
        let keys = keys(&["Jefe"]);
        let tag = keys.sign(0, &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(tag[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
        assert!(keys.verify(0, &[b"what do ya want for nothing?"], &tag));
        assert!(!keys.verify(0, &[b"what do ya want for nothing"], &tag));
        assert!(!keys.verify(0, &[b"what do ya want for nothing?"], &tag[..8]));
    }

    #[test]
    fn own_key_signs_where_none_is_configured() {
        let token = SessionToken {
            backend: 1,
            issued: 1000,
            session: 2,
        };
        let own = write_token(&keys(&[]), "app", &token);
        let read = |keys: &StickyKeys| read_token(keys, "app", &own, 1000, 60);
        assert!(read(&keys(&[])).is_some());
        assert!(read(&keys(&["another key, a long one"])).is_none());
        let random = || OwnKey::random().unwrap();
        assert_ne!(random().bytes(), random().bytes());
    }
}
