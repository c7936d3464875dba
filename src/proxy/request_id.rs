//! Request ids: the client's own where it is sane, else one that is unique over processes and restarts.

use std::sync::OnceLock;

/// Longest id that is taken from a client, in bytes.
const LONGEST: usize = 128;

/// An id, without an allocation.
#[derive(Debug, Clone)]
pub struct RequestId {
    bytes: [u8; LONGEST],
    length: usize,
}

impl RequestId {
    /// The client's. The caller has checked that it is sane: ASCII, and not too long.
    pub fn given(id: &[u8]) -> Self {
        let length = id.len().min(LONGEST);
        let mut bytes = [0; LONGEST];
        bytes[..length].copy_from_slice(&id[..length]);
        Self { bytes, length }
    }

    /// A new one: 32 hexadecimal digits, of which the first half is the process's own.
    pub fn made(number: u64) -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        let process = *PROCESS.get_or_init(|| fastrand::u64(..));
        let mut bytes = [0; LONGEST];
        hex(process, &mut bytes[..16]);
        hex(scatter(number ^ process), &mut bytes[16..32]);
        Self { bytes, length: 32 }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or("")
    }
}

fn hex(value: u64, out: &mut [u8]) {
    for (index, digit) in out.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(value >> (60 - 4 * index)) as usize & 15];
    }
}

/// splitmix64's finaliser: a bijection, so that different numbers stay different, and can't be guessed at a glance.
fn scatter(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ones_are_unique_and_hexadecimal() {
        let ids: std::collections::HashSet<String> = (0..1000)
            .map(|number| RequestId::made(number).as_str().to_owned())
            .collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
        );
    }

    #[test]
    fn a_given_one_is_kept() {
        assert_eq!(RequestId::given(b"abc-1").as_str(), "abc-1");
    }
}
