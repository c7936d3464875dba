//! Credentials that were right recently: a slow hash should be computed once, and not for each request.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;

use super::UserFile;
use crate::core::Time;

/// Time for which credentials are remembered. A changed file counts as another file, so that a removed user is locked
/// out by the reload.
const LIFETIME: Duration = Duration::from_secs(300);

/// Number of locks among which the credentials are spread.
const SHARDS: usize = 16;

/// Most credentials for each lock; the tags of all of them take 64 KiB.
const SHARD_CAPACITY: usize = 256;

/// A keyed hash of a file, a user and a password.
pub type CredentialTag = [u8; 16];

/// User of the credentials, and until when they are remembered.
type Verified = (Time, Arc<str>);

/// Credentials that were right. No password is stored, and nothing from which one could be guessed without the key,
/// which only this process has.
pub struct VerifiedCredentials {
    /// `None`: the system has no random bytes, and nothing is remembered.
    key: Option<hmac::Key>,
    shards: [Mutex<HashMap<CredentialTag, Verified>>; SHARDS],
}

impl Default for VerifiedCredentials {
    fn default() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl VerifiedCredentials {
    /// Tag under which these credentials are remembered; `None`: they can't be.
    pub fn tag(&self, file: &UserFile, user: &[u8], password: &[u8]) -> Option<CredentialTag> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        context.update(file.text_digest());
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user);
        context.update(password);
        let mut tag = [0; 16];
        tag.copy_from_slice(&context.sign().as_ref()[..16]);
        Some(tag)
    }

    /// User of these credentials, if they are remembered.
    pub fn find(&self, tag: &CredentialTag, now: Time) -> Option<Arc<str>> {
        let shard = self.shard(tag).lock();
        let (until, user) = shard.get(tag)?;
        (*until > now).then(|| user.clone())
    }

    /// Remembers credentials. If there is no room, expired ones are removed, or else all of them; their next requests
    /// are checked again.
    pub fn remember(&self, tag: CredentialTag, user: Arc<str>, now: Time) {
        let mut shard = self.shard(&tag).lock();
        if shard.len() >= SHARD_CAPACITY {
            shard.retain(|_, (until, _)| *until > now);
        }
        if shard.len() >= SHARD_CAPACITY {
            shard.clear();
        }
        shard.insert(tag, (now + LIFETIME, user));
    }

    fn shard(&self, tag: &CredentialTag) -> &Mutex<HashMap<CredentialTag, Verified>> {
        &self.shards[usize::from(tag[0]) % SHARDS]
    }
}

impl fmt::Debug for VerifiedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifiedCredentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_credentials_are_bounded_and_end() {
        let all = VerifiedCredentials::default();
        let file = UserFile::parse(b"a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=").unwrap();
        let now = Time::from_secs(1);
        for n in 0..20_000u32 {
            let tag = all.tag(&file, b"a", &n.to_le_bytes()).unwrap();
            all.remember(tag, "a".into(), now);
            assert!(all.find(&tag, now).is_some());
        }
        let kept: usize = all.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * SHARD_CAPACITY, "{kept}");
        let tag = all.tag(&file, b"b", b"c").unwrap();
        all.remember(tag, "b".into(), now);
        assert!(
            all.find(&tag, now + LIFETIME - Duration::from_nanos(1))
                .is_some()
        );
        assert!(all.find(&tag, now + LIFETIME).is_none());
    }

    /// Bytes can't be moved between user, password and file without changing the tag.
    #[test]
    fn other_credentials_have_other_tags() {
        let all = VerifiedCredentials::default();
        let one = UserFile::parse(b"a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=").unwrap();
        let other = UserFile::parse(b"b:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=").unwrap();
        let tag = all.tag(&one, b"ab", b"c");
        assert_eq!(tag, all.tag(&one, b"ab", b"c"));
        assert_ne!(tag, all.tag(&one, b"a", b"bc"));
        assert_ne!(tag, all.tag(&other, b"ab", b"c"));
        assert_ne!(tag, VerifiedCredentials::default().tag(&one, b"ab", b"c"));
    }
}
