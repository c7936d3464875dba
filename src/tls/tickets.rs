//! Keys of session tickets (RFC 5077, section 4): made here, changed every six hours, and handed to the process that
//! takes over, so that clients can still resume their sessions.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use crate::rt::clock;

/// How long a key encrypts new tickets.
const ENCRYPTS_FOR: Duration = Duration::from_secs(6 * 3600);
/// How long a key decrypts tickets, from the time when it was made.
const DECRYPTS_FOR: Duration = Duration::from_secs(12 * 3600);
/// Length of a key's name in bytes; every ticket begins with it.
const NAME_LENGTH: usize = 16;

/// Keys of one listener's tickets, the newest first.
pub struct TicketKeys(Mutex<Vec<TicketKey>>);

struct TicketKey {
    name: [u8; NAME_LENGTH],
    secret: [u8; 32],
    key: LessSafeKey,
    /// Time when it was made, by the wall clock, because another process has to understand it.
    since: SystemTime,
}

/// A listener's keys, in the form in which another process receives them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedTickets {
    /// Digest of the rules for clients' certificates. Where the other process has different rules, these sessions can't
    /// resume.
    pub admission: [u8; 32],
    /// Keys, the newest first.
    pub keys: Vec<HandedTicketKey>,
}

/// One key, in the form in which another process receives it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedTicketKey {
    name: [u8; NAME_LENGTH],
    secret: [u8; 32],
    /// Time when it was made, as Unix time in seconds.
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
    fn generate(now: SystemTime) -> Option<Self> {
        let random = SystemRandom::new();
        let (mut name, mut secret) = ([0; NAME_LENGTH], [0; 32]);
        random.fill(&mut name).ok()?;
        random.fill(&mut secret).ok()?;
        Self::of(name, secret, now)
    }

    fn of(name: [u8; NAME_LENGTH], secret: [u8; 32], since: SystemTime) -> Option<Self> {
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
    /// A set with one new key.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn new() -> Result<Arc<Self>, String> {
        let key = TicketKey::generate(SystemTime::now());
        let key = key.ok_or("the system has no random bytes for session tickets")?;
        Ok(Arc::new(Self(Mutex::new(vec![key]))))
    }

    /// Copies of the keys, for the process that takes over.
    pub fn hand(&self) -> Vec<HandedTicketKey> {
        let keys = self.0.lock();
        let handed = keys.iter().map(|key| HandedTicketKey {
            name: key.name,
            secret: key.secret,
            since: clock::since_1970(key.since).as_secs(),
        });
        handed.collect()
    }

    /// Replaces the keys by those of the process before this one.
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
        if keys.first().is_none_or(|key| key.age(now) >= ENCRYPTS_FOR)
            && let Some(key) = TicketKey::generate(now)
        {
            keys.insert(0, key);
            keys.retain(|key| key.age(now) < DECRYPTS_FOR);
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
        let (name, rest) = ticket.split_first_chunk::<NAME_LENGTH>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.0.lock();
        let key = keys.iter().find(|key| key.name == *name)?;
        if key.age(now) >= DECRYPTS_FOR {
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
        ENCRYPTS_FOR.as_secs() as u32
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
    fn ticket_of_the_previous_process_is_opened_and_that_of_another_key_is_not() {
        let (old, new) = (TicketKeys::new().unwrap(), TicketKeys::new().unwrap());
        let ticket = old.encrypt(b"a session").unwrap();
        assert_eq!(new.decrypt(&ticket), None);
        new.adopt(&old.hand());
        assert_eq!(new.decrypt(&ticket).unwrap(), b"a session");
        // Both processes serve for a while, so the old one has to open tickets of the new one, too.
        let ticket = new.encrypt(b"another").unwrap();
        assert_eq!(old.decrypt(&ticket).unwrap(), b"another");
        let mut forged = ticket.clone();
        forged[NAME_LENGTH + NONCE_LEN] ^= 1;
        assert_eq!(old.decrypt(&forged), None);
        assert_eq!(old.decrypt(&ticket[..20]), None);
        assert!(!format!("{:?}", HandedTickets::default()).contains("secret"));
    }

    #[test]
    fn key_is_changed_and_the_one_before_still_opens_its_tickets() {
        let keys = TicketKeys::new().unwrap();
        let now = SystemTime::now();
        let ticket = keys.seal(b"x", now).unwrap();
        let later = now + ENCRYPTS_FOR;
        let next = keys.seal(b"y", later).unwrap();
        assert_ne!(ticket[..NAME_LENGTH], next[..NAME_LENGTH]);
        assert!(keys.open(&ticket, later).is_some());
        assert!(
            keys.open(&ticket, now + DECRYPTS_FOR + ENCRYPTS_FOR)
                .is_none()
        );
        keys.seal(b"z", later + ENCRYPTS_FOR).unwrap();
        assert_eq!(keys.hand().len(), 2);
    }
}
