//! Request ids: the client's id if it is valid, otherwise one that is unique over all processes and restarts.

use std::sync::OnceLock;

/// Maximum length of an id that is taken from a client, in bytes.
const LONGEST: usize = 128;

/// A request id, stored inline without an allocation.
#[derive(Debug, Clone)]
pub struct RequestId {
    bytes: [u8; LONGEST],
    length: usize,
}

impl RequestId {
    /// Takes the client's id. The caller has checked that it is ASCII and not too long.
    pub fn given(id: &[u8]) -> Self {
        let length = id.len().min(LONGEST);
        let mut bytes = [0; LONGEST];
        bytes[..length].copy_from_slice(&id[..length]);
        Self { bytes, length }
    }

    /// Generates an id: 32 hexadecimal digits, of which the first half identifies the process.
    pub fn made(number: u64) -> Self {
        static PROCESS: OnceLock<(u64, [u8; 16])> = OnceLock::new();
        let (process, name) = PROCESS.get_or_init(|| {
            let process = fastrand::u64(..);
            (process, hex(process))
        });
        let mut bytes = [0; LONGEST];
        bytes[..16].copy_from_slice(name);
        bytes[16..32].copy_from_slice(&hex(scatter(number ^ process)));
        Self { bytes, length: 32 }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// Returns the id as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Returns a number as sixteen hexadecimal digits. Eight digits are converted at a time: each nibble is spread to a
/// byte, and values from ten on are shifted to the letters.
fn hex(value: u64) -> [u8; 16] {
    let half = |value: u64| {
        let value = (value << 16 | value) & 0x0000_ffff_0000_ffff;
        let value = (value << 8 | value) & 0x00ff_00ff_00ff_00ff;
        let value = (value << 4 | value) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = (value + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        (value + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
    };
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&half(value >> 32));
    digits[8..].copy_from_slice(&half(value & 0xffff_ffff));
    digits
}

/// Scrambles a number with the finalizer of splitmix64: a bijection, so different numbers stay different, and the
/// result can't be guessed at a glance.
fn scatter(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_unique_and_hexadecimal() {
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
    fn request_id_of_the_client_is_kept() {
        assert_eq!(RequestId::given(b"abc-1").as_str(), "abc-1");
    }

    #[test]
    fn numbers_become_hexadecimal() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(hex(value), *format!("{value:016x}").as_bytes());
        }
    }
}
