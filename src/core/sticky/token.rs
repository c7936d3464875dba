//! The token of a session. Every proxy that has the pool's keys can write and read it.
//!
//! ```text
//! 1 BASE64URL( backend: 8 | issued: 6 | session: 8 | tag: 20 )
//! ```
//!
//! `backend` is a keyed digest of the pool's and the backend's name, so that a token reveals neither an address nor
//! the number of backends; `issued` is Unix time in seconds; `tag` signs all of it for one pool. All tokens have the
//! same length: a value of another length is no token.

/// Length of a token, in characters.
pub const TOKEN_LENGTH: usize = 57;
/// Length of a signature, in bytes, truncated from HMAC-SHA-256 (RFC 2104, section 5).
pub const TAG_LENGTH: usize = 20;

/// Version of the token's format.
const VERSION: u8 = b'1';
/// Number of signed bytes, besides the pool's name.
const SIGNED: usize = 22;
const BYTES: usize = SIGNED + TAG_LENGTH;
/// Most seconds that a token's time may be in the future, because the clocks of several proxies differ.
const SKEW: u64 = 300;

/// Keys for signatures. The first one signs, all verify.
pub trait TokenKeys {
    /// Returns the number of keys; at least one.
    fn count(&self) -> usize;
    /// Returns the signature of the concatenated parts with the key of this index.
    fn sign(&self, key: usize, parts: &[&[u8]]) -> [u8; TAG_LENGTH];
    /// Whether `tag` is the signature of the parts. Takes the same time for every wrong one.
    fn verify(&self, key: usize, parts: &[&[u8]], tag: &[u8]) -> bool;
}

/// The contents of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionToken {
    /// ID of the backend: [`backend_id`].
    pub backend: u64,
    /// Time at which it was written, in seconds of Unix time.
    pub issued: u64,
    /// Number of the session; it stays the same when the session moves.
    pub session: u64,
}

/// A token with a valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BelievedToken {
    /// The contents.
    pub token: SessionToken,
    /// Whether to renew it: half of its lifetime is over, or it was signed with a key that no longer signs.
    pub is_to_be_renewed: bool,
}

/// Returns the opaque ID of a backend, by the key of this index. It depends on the name: an instance that comes back
/// at another address has the same ID.
pub fn backend_id(keys: &impl TokenKeys, key: usize, pool: &str, backend: &str) -> u64 {
    let parts: [&[u8]; 4] = [
        b"lameduck backend\0",
        pool.as_bytes(),
        b"\0",
        backend.as_bytes(),
    ];
    let tag = keys.sign(key, &parts);
    first_number(&tag)
}

/// Writes a token, signed with the first key.
pub fn write_token(keys: &impl TokenKeys, pool: &str, token: &SessionToken) -> [u8; TOKEN_LENGTH] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&token.backend.to_be_bytes());
    bytes[8..14].copy_from_slice(&token.issued.to_be_bytes()[2..]);
    bytes[14..SIGNED].copy_from_slice(&token.session.to_be_bytes());
    let tag = keys.sign(0, &signed_parts(&bytes[..SIGNED], pool));
    bytes[SIGNED..].copy_from_slice(&tag);
    let mut text = [VERSION; TOKEN_LENGTH];
    encode(&bytes, &mut text[1..]);
    text
}

/// Parses and verifies a client's token. `None`: it is malformed, not of this pool, expired, or from the future.
/// `now` is in seconds of Unix time, `lifetime` in seconds.
pub fn read_token(
    keys: &impl TokenKeys,
    pool: &str,
    text: &[u8],
    now: u64,
    lifetime: u64,
) -> Option<BelievedToken> {
    let (&VERSION, text) = text.split_first()? else {
        return None;
    };
    let mut bytes = [0; BYTES];
    decode(text, &mut bytes)?;
    let (signed, tag) = bytes.split_at(SIGNED);
    let parts = signed_parts(signed, pool);
    let key = (0..keys.count()).find(|key| keys.verify(*key, &parts, tag))?;
    let mut issued = [0; 8];
    issued[2..].copy_from_slice(&signed[8..14]);
    let token = SessionToken {
        backend: first_number(signed),
        issued: u64::from_be_bytes(issued),
        session: first_number(&signed[14..]),
    };
    if token.issued > now.saturating_add(SKEW) {
        return None;
    }
    let age = now.saturating_sub(token.issued);
    (age <= lifetime).then_some(BelievedToken {
        token,
        is_to_be_renewed: key > 0 || age > lifetime / 2,
    })
}

/// Returns the signed parts, those of fixed length first, so that no two tokens have the same signed text.
fn signed_parts<'a>(signed: &'a [u8], pool: &'a str) -> [&'a [u8]; 3] {
    [b"lameduck session\0", signed, pool.as_bytes()]
}

fn first_number(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(first)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Encodes whole triples as base64url (RFC 4648, section 5).
fn encode(bytes: &[u8; BYTES], text: &mut [u8]) {
    for (triple, four) in bytes.chunks_exact(3).zip(text.chunks_exact_mut(4)) {
        let bits = u32::from_be_bytes([0, triple[0], triple[1], triple[2]]);
        for (place, letter) in four.iter_mut().enumerate() {
            *letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
        }
    }
}

fn decode(text: &[u8], bytes: &mut [u8; BYTES]) -> Option<()> {
    if text.len() != TOKEN_LENGTH - 1 {
        return None;
    }
    for (four, triple) in text.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let mut bits = 0_u32;
        for letter in four {
            bits = bits << 6 | letter_value(*letter)?;
        }
        triple.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(())
}

fn letter_value(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signs by mixing: enough to tell keys and texts apart.
    struct MixingKeys(Vec<u64>);

    impl TokenKeys for MixingKeys {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn sign(&self, key: usize, parts: &[&[u8]]) -> [u8; TAG_LENGTH] {
            let mut tag = [0; TAG_LENGTH];
            for (place, out) in tag.iter_mut().enumerate() {
                let mut mixed = self.0[key] ^ (place as u64) << 32 ^ 0x9e37_79b9_7f4a_7c15;
                for byte in parts.iter().flat_map(|part| part.iter()) {
                    mixed = (mixed ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                    mixed ^= mixed >> 29;
                }
                *out = (mixed >> 40) as u8;
            }
            tag
        }

        fn verify(&self, key: usize, parts: &[&[u8]], tag: &[u8]) -> bool {
            self.sign(key, parts) == tag
        }
    }

    const NOW: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn token() -> SessionToken {
        SessionToken {
            backend: 0x0123_4567_89ab_cdef,
            issued: NOW,
            session: u64::MAX - 5,
        }
    }

    #[test]
    fn written_token_is_read_again_until_its_time_is_over() {
        let keys = MixingKeys(vec![7]);
        let text = write_token(&keys, "app", &token());
        let read = |now| read_token(&keys, "app", &text, now, HOUR);
        let fresh = BelievedToken {
            token: token(),
            is_to_be_renewed: false,
        };
        assert_eq!(read(NOW), Some(fresh));
        assert_eq!(read(NOW + HOUR / 2), Some(fresh));
        assert!(read(NOW + HOUR / 2 + 1).is_some_and(|read| read.is_to_be_renewed));
        assert!(read(NOW + HOUR).is_some());
        assert_eq!(read(NOW + HOUR + 1), None);
    }

    #[test]
    fn token_from_a_time_to_come_is_believed_within_the_skew_only() {
        let keys = MixingKeys(vec![7]);
        let text = write_token(&keys, "app", &token());
        let read = |now| read_token(&keys, "app", &text, now, HOUR);
        assert!(read(NOW - SKEW).is_some_and(|read| !read.is_to_be_renewed));
        assert_eq!(read(NOW - SKEW - 1), None);
        assert_eq!(read(0), None);
    }

    #[test]
    fn token_of_another_pool_or_key_is_refused() {
        let keys = MixingKeys(vec![7]);
        let text = write_token(&keys, "app", &token());
        assert_eq!(read_token(&keys, "app2", &text, NOW, HOUR), None);
        assert_eq!(read_token(&keys, "ap", &text, NOW, HOUR), None);
        let others = MixingKeys(vec![8, 9]);
        assert_eq!(read_token(&others, "app", &text, NOW, HOUR), None);
    }

    #[test]
    fn token_of_a_former_key_is_believed_and_renewed() {
        let text = write_token(&MixingKeys(vec![7]), "app", &token());
        let rotated = MixingKeys(vec![8, 7]);
        let read = read_token(&rotated, "app", &text, NOW, HOUR);
        assert!(read.is_some_and(|read| read.is_to_be_renewed && read.token == token()));
    }

    #[test]
    fn token_with_any_letter_changed_added_or_missing_is_refused() {
        let keys = MixingKeys(vec![7]);
        let text = write_token(&keys, "app", &token());
        let read = |text: &[u8]| read_token(&keys, "app", text, NOW, HOUR);
        for place in 0..TOKEN_LENGTH {
            for letter in [b'A', b'z', b'9', b'-', b'=', b' ', 0, 0xff] {
                let mut changed = text;
                changed[place] = letter;
                if changed != text {
                    assert_eq!(read(&changed), None, "{place} {letter}");
                }
            }
            assert_eq!(read(&text[..place]), None);
        }
        assert_eq!(read(&[&text[..], b"A"].concat()), None);
        assert_eq!(read(&[b'1'; 8192]), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn backend_id_goes_by_key_pool_and_name() {
        let keys = MixingKeys(vec![7, 8]);
        let id = |key, pool, name| backend_id(&keys, key, pool, name);
        let one = id(0, "app", "app-1");
        assert_eq!(one, id(0, "app", "app-1"));
        for other in [
            id(1, "app", "app-1"),
            id(0, "app", "app-2"),
            id(0, "ap", "papp-1"),
            id(0, "app2", "app-1"),
        ] {
            assert_ne!(one, other);
        }
    }
}
