//! The keys of session tickets (RFC 5077, section 4): made here, changed every six hours, and handed to the process that takes
//! over, so that clients go on resuming.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use crate::rt::clock;

/// A key encrypts for this long…
const FRESH: Duration = Duration::from_secs(6 * 3600);
/// …and decrypts for as long again.
const GOOD: Duration = Duration::from_secs(12 * 3600);
/// Bytes of a key's name, in front of its tickets.
const NAME: usize = 16;

/// The keys of one listener's tickets, the newest first.
pub struct TicketKeys(Mutex<Vec<TicketKey>>);

struct TicketKey {
    name: [u8; NAME],
    secret: [u8; 32],
    key: LessSafeKey,
    /// Since when, by the wall clock: another process has to know it.
    since: SystemTime,
}

/// A listener's keys, on their way to another process.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedTickets {
    /// What its sessions were let in by: where that is another now, they don't resume.
    pub admission: [u8; 32],
    /// The newest first.
    pub keys: Vec<HandedTicketKey>,
}

/// One key.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedTicketKey {
    name: [u8; NAME],
    secret: [u8; 32],
    /// Unix time, in seconds.
    since: u64,
}

impl std::fmt::Debug for HandedTickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandedTickets")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

impl TicketKey {
    fn make(now: SystemTime) -> Option<Self> {
        let random = SystemRandom::new();
        let (mut name, mut secret) = ([0; NAME], [0; 32]);
        random.fill(&mut name).ok()?;
        random.fill(&mut secret).ok()?;
        Self::of(name, secret, now)
    }

    fn of(name: [u8; NAME], secret: [u8; 32], since: SystemTime) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).ok()?);
        Some(Self {
            name,
            secret,
            key,
            since,
        })
    }

    fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.since).unwrap_or_default()
    }
}

impl TicketKeys {
    /// A first key.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new() -> Result<Arc<Self>, String> {
        let key = TicketKey::make(SystemTime::now());
        let key = key.ok_or("the system has no random bytes for session tickets")?;
        Ok(Arc::new(Self(Mutex::new(vec![key]))))
    }

    /// For the process that takes over.
    pub fn hand(&self) -> Vec<HandedTicketKey> {
        let keys = self.0.lock();
        let handed = keys.iter().map(|key| HandedTicketKey {
            name: key.name,
            secret: key.secret,
            since: clock::since_1970(key.since).as_secs(),
        });
        handed.collect()
    }

    /// Goes on with the keys of the process before this one.
    pub fn adopt(&self, handed: &[HandedTicketKey]) {
        let keys = handed.iter().filter_map(|key| {
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(key.since))?;
            TicketKey::of(key.name, key.secret, since)
        });
        let keys: Vec<_> = keys.collect();
        if !keys.is_empty() {
            *self.0.lock() = keys;
        }
    }

    fn seal(&self, plain: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let mut keys = self.0.lock();
        if keys.first().is_none_or(|key| key.age(now) >= FRESH)
            && let Some(key) = TicketKey::make(now)
        {
            keys.insert(0, key);
            keys.retain(|key| key.age(now) < GOOD);
        }
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let sealing = key
            .key
            .seal_in_place_append_tag(unique, Aad::from(key.name), &mut sealed);
        sealing.ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.0.lock();
        let key = keys.iter().find(|key| key.name == *name)?;
        if key.age(now) >= GOOD {
            return None;
        }
        let mut opened = sealed.to_vec();
        let unique = Nonce::assume_unique_for_key(*nonce);
        let length = key.key.open_in_place(unique, Aad::from(*name), &mut opened);
        let length = length.ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl std::fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        FRESH.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, SystemTime::now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_of_the_process_before_is_opened_and_another_key_s_is_not() {
        let (old, new) = (TicketKeys::new().unwrap(), TicketKeys::new().unwrap());
        let ticket = old.encrypt(b"a session").unwrap();
        assert_eq!(new.decrypt(&ticket), None);
        new.adopt(&old.hand());
        assert_eq!(new.decrypt(&ticket).unwrap(), b"a session");
        // And the other way round: both serve at once for a while.
        let ticket = new.encrypt(b"another").unwrap();
        assert_eq!(old.decrypt(&ticket).unwrap(), b"another");
        let mut forged = ticket.clone();
        forged[NAME + NONCE_LEN] ^= 1;
        assert_eq!(old.decrypt(&forged), None);
        assert_eq!(old.decrypt(&ticket[..20]), None);
        assert!(!format!("{:?}", HandedTickets::default()).contains("secret"));
    }

    #[test]
    fn key_is_changed_and_the_one_before_still_opens_its_tickets() {
        let keys = TicketKeys::new().unwrap();
        let now = SystemTime::now();
        let ticket = keys.seal(b"x", now).unwrap();
        let later = now + FRESH;
        let next = keys.seal(b"y", later).unwrap();
        assert_ne!(ticket[..NAME], next[..NAME]);
        assert!(keys.open(&ticket, later).is_some());
        assert!(keys.open(&ticket, now + GOOD + FRESH).is_none());
        keys.seal(b"z", later + FRESH).unwrap();
        assert_eq!(keys.hand().len(), 2);
    }
}
