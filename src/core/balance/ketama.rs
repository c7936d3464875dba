//! The mapping of nginx's `hash KEY consistent`, point by point, for moving from nginx without remapping keys.
//!
//! nginx gives each server 160 points for each unit of weight: CRC-32 (as in zip) of `HOST`, a zero byte, `PORT`, and
//! the previous point as four bytes in little-endian order, or 0 for the first point. Host and port are taken as
//! written in the configuration; a host name is not resolved for this. For a unix socket, the host is its path and
//! there is no port. A key goes to the first point that is not below its own CRC-32; after the last point comes the
//! first.
//!
//! Here, the sum of weights is at most 13,107 (2^21 points); larger weights are scaled down.
//!
//! A server that takes no requests is skipped, point after point, as in nginx. (nginx gives up after 20 points and
//! uses round robin; here the search continues around the whole circle.)

use std::sync::Arc;

use super::{BalanceCandidate, PickInput};

/// Points for each unit of weight.
const POINTS: u32 = 160;

/// Most points of all servers together, which take 16 MiB. Weights that need more are scaled down, which loses
/// nginx's mapping.
const MOST_POINTS: u64 = 1 << 21;

/// A server as in nginx's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KetamaServer {
    /// `host:port`, or `unix:/path`.
    pub address: Box<str>,
    /// Weight. 0: no points.
    pub weight: u32,
}

/// The points of a pool's servers, kept from one snapshot to the next.
#[derive(Debug, Default)]
pub struct KetamaPoints {
    servers: Vec<KetamaServer>,
    points: Arc<[KetamaPoint]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KetamaPoint {
    hash: u32,
    /// Index of the server in the list.
    server: u32,
}

/// The points, and which servers are ready.
#[derive(Debug, Clone)]
pub struct KetamaRing {
    points: Arc<[KetamaPoint]>,
    /// For each server's index in the list: the index of its candidate, or [`ABSENT`].
    places: Box<[u32]>,
}

/// Marks a server without a candidate.
const ABSENT: u32 = u32::MAX;

impl KetamaPoints {
    /// Returns a ring of these servers. `places`: for each server the index of its candidate, if it may be picked.
    pub fn prepare(&mut self, servers: &[KetamaServer], places: &[Option<u32>]) -> KetamaRing {
        if self.servers != servers {
            self.points = points(servers).into();
            self.servers = servers.to_vec();
        }
        let places = places.iter().map(|place| place.unwrap_or(ABSENT));
        KetamaRing {
            points: self.points.clone(),
            places: places.collect(),
        }
    }
}

impl KetamaRing {
    /// Returns the candidate of the first point from the key on whose server may be picked. The key is a [`hash`].
    pub(super) fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        input: PickInput,
        excluded: &[usize],
    ) -> Option<usize> {
        let key = input.key as u32;
        let start = self.points.partition_point(|point| point.hash < key);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).find_map(|point| {
            let place = self.places.get(point.server as usize).copied();
            let index = place.filter(|place| *place != ABSENT)? as usize;
            let usable = candidates
                .get(index)
                .is_some_and(|candidate| candidate.weight() > 0)
                && !excluded.contains(&index);
            usable.then_some(index)
        })
    }
}

/// Returns nginx's hash of a key.
pub fn hash(key: &[u8]) -> u32 {
    !crc32(!0, key)
}

/// Returns all points in the order of their hashes; of two with the same hash, the first counts.
fn points(servers: &[KetamaServer]) -> Vec<KetamaPoint> {
    let mut all = Vec::new();
    let weights: u64 = servers.iter().map(|one| u64::from(one.weight)).sum();
    let wanted = weights * u64::from(POINTS);
    for (number, server) in servers.iter().enumerate() {
        let mut count = u64::from(server.weight) * u64::from(POINTS);
        if wanted > MOST_POINTS {
            count = (count * MOST_POINTS / wanted).max(u64::from(server.weight > 0));
        }
        let (host, port) = split_address(&server.address);
        let base = crc32(crc32(crc32(!0, host), &[0]), port);
        let mut before = 0_u32;
        for _ in 0..count {
            before = !crc32(base, &before.to_le_bytes());
            all.push(KetamaPoint {
                hash: before,
                server: number as u32,
            });
        }
    }
    all.sort_unstable();
    all.dedup_by_key(|point| point.hash);
    all
}

/// Splits host and port as nginx does: digits after the last colon are a port.
fn split_address(address: &str) -> (&[u8], &[u8]) {
    let is_socket = address
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("unix:"));
    if is_socket {
        return (&address.as_bytes()[5..], b"");
    }
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host.as_bytes(), port.as_bytes())
        }
        _ => (address.as_bytes(), b""),
    }
}

/// CRC-32 of zip, gzip and Ethernet, without the inversions at both ends.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| {
        TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_crc_of_zip() {
        assert_eq!(hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(hash(b""), 0);
    }

    #[test]
    fn addresses_are_split_as_nginx_does_it() {
        for (address, host, port) in [
            ("10.0.0.1:8080", "10.0.0.1", "8080"),
            ("app.example:80", "app.example", "80"),
            ("[::1]:3000", "[::1]", "3000"),
            ("unix:/run/app.sock", "/run/app.sock", ""),
            ("UNIX:/run/a:8", "/run/a:8", ""),
            ("app", "app", ""),
        ] {
            let split = (host.as_bytes(), port.as_bytes());
            assert_eq!(split_address(address), split, "{address}");
        }
    }

    #[test]
    fn server_without_place_is_passed_over_and_weight_counts_in_points() {
        let server = |address: &str, weight| KetamaServer {
            address: address.into(),
            weight,
        };
        let servers = [server("10.0.0.1:80", 1), server("10.0.0.2:80", 3)];
        let mut kept = KetamaPoints::default();
        let ring = kept.prepare(&servers, &[Some(0), Some(1)]);
        assert_eq!(ring.points.len(), 640);
        let again = kept.prepare(&servers, &[None, Some(0)]);
        assert!(
            Arc::ptr_eq(&ring.points, &again.points),
            "nothing is made twice"
        );
        assert!(
            again
                .points
                .is_sorted_by(|one, other| one.hash < other.hash)
        );
    }
}
